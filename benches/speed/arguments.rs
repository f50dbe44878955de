//! The command line: what to measure, and how much.

use clap::{Parser, ValueEnum};

/// The groups of measurements, each with one or two tables.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Deferring: one at a time, ten and a hundred producers, batches of 1,000
    Defer,
    /// Processing, with one worker
    Work,
    /// The time from the defer to the start of the task
    Latency,
    /// The cost of a job in the database
    Cost,
    /// The contract's own functions, with this crate's migrations and without
    Contract,
    /// Processing with many other jobs in the table
    Growth,
    /// Processing with a pause or limit
    Limits,
    /// Maintenance with many finished jobs
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
            Self::Limits => "limits",
            Self::Upkeep => "upkeep",
        }
    }
}

/// Compares the queue with raw SQL on the same tables.
#[derive(Parser)]
#[command(name = "speed")]
pub(crate) struct Arguments {
    /// The groups to measure. Default: all
    groups: Vec<Group>,
    /// The number of rounds. Default: 5, with --quick 3; for growth and latency 3, with --quick 2. Deferring one at a
    /// time has three times as many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..1_000))]
    rounds: Option<u32>,
    /// The number of jobs that are processed and deferred in batches per round; a tenth or less for one at a time.
    /// Default: 20,000, with --quick 5,000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..))]
    jobs: Option<u32>,
    /// The number of other rows in growth and upkeep; in limits half as many. Default: 1,000,000, with --quick 100,000
    #[arg(long, value_parser = clap::value_parser!(u32).range(50_000..))]
    rows: Option<u32>,
    /// Set `synchronous_commit` to off; a crash of the server then loses the latest commits
    #[arg(long)]
    synchronous_commit_off: bool,
    /// Use smaller numbers
    #[arg(long)]
    quick: bool,
    /// An argument that `cargo bench` passes to every benchmark
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

    /// Returns the server's setting `synchronous_commit`.
    pub(crate) fn synchronous_commit(&self) -> &'static str {
        if self.synchronous_commit_off { "off" } else { "on" }
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    fn or(&self, set: Option<u32>, full: u32, quick: u32) -> u32 {
        set.unwrap_or(if self.quick { quick } else { full })
    }

    /// Returns the number of rounds.
    pub(crate) fn rounds(&self) -> u32 {
        self.or(self.rounds, 5, 3)
    }

    /// Returns the number of rounds for groups that take long.
    pub(crate) fn long_rounds(&self) -> u32 {
        self.or(self.rounds, 3, 2)
    }

    /// Returns the number of jobs that are processed, and deferred in batches.
    pub(crate) fn jobs(&self) -> u32 {
        self.or(self.jobs, 20_000, 5_000)
    }

    /// Returns the number of jobs that are deferred one at a time.
    pub(crate) fn single_jobs(&self) -> u32 {
        self.jobs() / 10
    }

    /// Returns the number of jobs for latencies.
    pub(crate) fn latency_jobs(&self) -> u32 {
        self.or(None, 300, 100)
    }

    /// Returns the number of other rows.
    pub(crate) fn rows(&self) -> u32 {
        self.or(self.rows, 1_000_000, 100_000)
    }
}
