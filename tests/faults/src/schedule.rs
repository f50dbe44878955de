//! The schedule of faults: everything that a seed decides before the run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A kind of fault. The README of the rig describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillWorker,
    KillDeferrer,
    ShutDownWorker,
    PauseBriefly,
    PauseLong,
    TerminateSessions,
    CrashServer,
    RestartFast,
    RestartImmediately,
    RefuseConnections,
    DelayNetwork,
    BlackHoleBriefly,
    BlackHoleLong,
    ArriveLate,
    ReadOnly,
    LockTable,
    ShortTimeouts,
    HogPool,
    FillDisk,
    Migrate,
    PromoteReplica,
    DumpAndRestore,
    StepClock,
}

impl Kind {
    pub(crate) const ALL: [Self; 23] = [
        Self::KillWorker,
        Self::KillDeferrer,
        Self::ShutDownWorker,
        Self::PauseBriefly,
        Self::PauseLong,
        Self::TerminateSessions,
        Self::CrashServer,
        Self::RestartFast,
        Self::RestartImmediately,
        Self::RefuseConnections,
        Self::DelayNetwork,
        Self::BlackHoleBriefly,
        Self::BlackHoleLong,
        Self::ArriveLate,
        Self::ReadOnly,
        Self::LockTable,
        Self::ShortTimeouts,
        Self::HogPool,
        Self::FillDisk,
        Self::Migrate,
        Self::PromoteReplica,
        Self::DumpAndRestore,
        Self::StepClock,
    ];

    /// About how long a fault of this kind takes.
    fn duration(self, random: &mut fastrand::Rng) -> Duration {
        let milliseconds = match self {
            Self::PauseBriefly => 1_000,
            Self::PauseLong => 6_000,
            Self::BlackHoleBriefly | Self::HogPool | Self::TerminateSessions => 2_000,
            Self::BlackHoleLong => 8_000,
            Self::ArriveLate => random.u64(500..9_000),
            Self::LockTable => random.u64(1_000..8_000),
            Self::ReadOnly | Self::ShortTimeouts | Self::FillDisk | Self::StepClock => random.u64(2_000..5_000),
            Self::PromoteReplica => random.u64(1_500..4_000),
            Self::RefuseConnections | Self::DelayNetwork => random.u64(1_000..5_000),
            _ => 500,
        };
        Duration::from_millis(milliseconds)
    }

    /// Whether the fault can happen together with another one. A process that is paused when it should abort its jobs
    /// breaks a promise for which only a long pause is an excuse. A wait for a standby that is cancelled acknowledges a
    /// transaction that the standby may not have.
    fn is_combined(self) -> bool {
        !matches!(
            self,
            Self::PauseBriefly
                | Self::PauseLong
                | Self::Migrate
                | Self::FillDisk
                | Self::PromoteReplica
                | Self::DumpAndRestore
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        for (index, letter) in name.char_indices() {
            if letter.is_uppercase() && index > 0 {
                formatter.write_str(" ")?;
            }
            write!(formatter, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// One fault.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Which process, connection or table. The fault takes it modulo the number of them.
    pub(crate) target: usize,
    pub(crate) duration: Duration,
    /// For what the fault decides while it happens.
    pub(crate) seed: u64,
}

/// One or two faults that happen together, after a pause.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
    pub(crate) other: Option<Fault>,
}

/// Returns the schedule of a seed, which takes about this long. Each of these kinds occurs once before any occurs again.
pub(crate) fn schedule(seed: u64, length: Duration, kinds: &[Kind]) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut steps, mut deck, mut planned) = (Vec::new(), Vec::new(), Duration::ZERO);
    while planned < length && !kinds.is_empty() {
        let pause = Duration::from_millis(random.u64(300..2_500));
        let fault = draw(&mut deck, kinds, &mut random);
        let mut other = None;
        if fault.kind.is_combined() && random.u8(0..3) == 0 {
            let drawn = draw(&mut deck, kinds, &mut random);
            if drawn.kind.is_combined() {
                other = Some(drawn);
            } else {
                deck.insert(0, drawn.kind);
            }
        }
        planned += pause + fault.duration.max(other.as_ref().map_or(Duration::ZERO, |other| other.duration));
        steps.push(Step { pause, fault, other });
    }
    steps
}

fn draw(deck: &mut Vec<Kind>, kinds: &[Kind], random: &mut fastrand::Rng) -> Fault {
    if deck.is_empty() {
        deck.extend_from_slice(kinds);
        random.shuffle(deck);
    }
    let kind = deck.pop().unwrap_or(kinds[0]);
    Fault { kind, target: random.usize(..1_000), duration: kind.duration(random), seed: random.u64(..) }
}

/// How often each kind has happened.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<Kind, usize>);

impl Counts {
    pub(crate) fn add(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.0.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        formatter.write_str(&counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_schedule_and_every_kind_occurs() {
        let [first, second] = [(); 2].map(|()| schedule(7, Duration::from_secs(300), &Kind::ALL));
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        for kind in Kind::ALL {
            assert!(
                first
                    .iter()
                    .any(|step| step.fault.kind == kind || step.other.as_ref().is_some_and(|other| other.kind == kind)),
                "{kind}"
            );
        }
    }

    #[test]
    fn kinds_are_shown_as_words() {
        assert_eq!(Kind::BlackHoleLong.to_string(), "black hole long");
    }
}
