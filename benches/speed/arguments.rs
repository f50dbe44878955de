//! What to measure, and how much of it.

use clap::{Parser, ValueEnum};

/// One table or two each.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Deferring: one at a time, ten producers, batches of 1,000.
    Defer,
    /// Working off, with one worker.
    Work,
    /// From the defer to the start of the task.
    Latency,
    /// What a job writes.
    Cost,
    /// The contract's own functions, with the crate's migrations and without.
    Contract,
    /// Beside many jobs that are not to be started.
    Growth,
    /// What is done once in a while, on a large history.
    Upkeep,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Defer => "defer",
            Self::Work => "work",
            Self::Latency => "latency",
            Self::Cost => "cost",
            Self::Contract => "contract",
            Self::Growth => "growth",
            Self::Upkeep => "upkeep",
        }
    }
}

/// Measures the queue beside plain SQL on the same tables.
#[derive(Parser)]
#[command(name = "speed")]
pub(crate) struct Arguments {
    /// The groups to measure; all of them unless some are named.
    groups: Vec<Group>,
    /// How often everything is measured. Unless set: 5, with --quick 3; growth and latency 3, with --quick 2. One at
    /// a time it is three times as often.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..1_000))]
    rounds: Option<u32>,
    /// How many jobs are worked off and deferred in bulk in a round; one at a time it is a tenth or less. Unless set: 20,000,
    /// with --quick 5,000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..))]
    jobs: Option<u32>,
    /// How many other rows there are in growth and upkeep. Unless set: 1,000,000, with --quick 100,000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(50_000..))]
    rows: Option<u32>,
    /// Sets `synchronous_commit` to off: what was committed in the last moments is lost if the server crashes.
    #[arg(long)]
    synchronous_commit_off: bool,
    /// Everything smaller.
    #[arg(long)]
    quick: bool,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub(crate) fn read() -> Self {
        Self::parse()
    }

    pub(crate) fn groups(&self) -> Vec<Group> {
        Group::value_variants()
            .iter()
            .copied()
            .filter(|group| self.groups.is_empty() || self.groups.contains(group))
            .collect()
    }

    /// The server's setting `synchronous_commit`.
    pub(crate) fn synchronous_commit(&self) -> &'static str {
        if self.synchronous_commit_off { "off" } else { "on" }
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    fn or(&self, set: Option<u32>, full: u32, quick: u32) -> u32 {
        set.unwrap_or(if self.quick { quick } else { full })
    }

    /// How often everything is measured.
    pub(crate) fn rounds(&self) -> u32 {
        self.or(self.rounds, 5, 3)
    }

    /// How often what takes long is measured.
    pub(crate) fn long_rounds(&self) -> u32 {
        self.or(self.rounds, 3, 2)
    }

    /// How many jobs are worked off, and deferred in bulk.
    pub(crate) fn jobs(&self) -> u32 {
        self.or(self.jobs, 20_000, 5_000)
    }

    /// How many are deferred one at a time.
    pub(crate) fn single_jobs(&self) -> u32 {
        self.jobs() / 10
    }

    /// How many jobs are waited for, one after the other.
    pub(crate) fn latency_jobs(&self) -> u32 {
        self.or(None, 300, 100)
    }

    /// How many other rows there are.
    pub(crate) fn rows(&self) -> u32 {
        self.or(self.rows, 1_000_000, 100_000)
    }
}
