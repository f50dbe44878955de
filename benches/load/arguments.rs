//! The command line.

use std::time::Duration;

use crate::Measured;

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Chaos,
    Pressure,
    Fleet,
    Backlog,
    Scale,
    Day,
}

impl Group {
    const ALL: [(&'static str, Self); 6] = [
        ("chaos", Self::Chaos),
        ("pressure", Self::Pressure),
        ("fleet", Self::Fleet),
        ("backlog", Self::Backlog),
        ("scale", Self::Scale),
        ("day", Self::Day),
    ];
}

/// The arguments.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) groups: Vec<Group>,
    is_quick: bool,
    minutes: u64,
}

impl Arguments {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Measured<Self> {
        let mut arguments = Self { groups: Vec::new(), is_quick: false, minutes: 30 };
        while let Some(word) = words.next() {
            match &*word {
                "--quick" => arguments.is_quick = true,
                // Cargo adds it.
                "--bench" => {}
                "--minutes" => arguments.minutes = words.next().ok_or("--minutes needs a number")?.parse()?,
                name => {
                    let group = Group::ALL.into_iter().find(|(of_group, _)| *of_group == name);
                    arguments.groups.push(group.ok_or_else(|| format!("`{name}` is neither an option nor a group"))?.1);
                }
            }
        }
        if arguments.groups.is_empty() {
            arguments.groups = vec![Group::Chaos, Group::Pressure, Group::Fleet, Group::Backlog, Group::Scale];
        }
        Ok(arguments)
    }

    /// How often `scale` measures each setting.
    pub(crate) fn rounds(&self) -> usize {
        if self.is_quick { 1 } else { 3 }
    }

    /// How many jobs `scale` processes each time.
    pub(crate) fn processed(&self) -> u32 {
        if self.is_quick { 20_000 } else { 100_000 }
    }

    /// How long a phase takes.
    pub(crate) fn phase(&self) -> Duration {
        Duration::from_secs(if self.is_quick { 10 } else { 45 })
    }

    /// How many jobs are pending in the group `backlog`.
    pub(crate) fn backlog(&self) -> u32 {
        if self.is_quick { 200_000 } else { 1_000_000 }
    }

    /// How long the group `day` takes.
    pub(crate) fn day(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }
}
