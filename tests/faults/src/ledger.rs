//! The ledger: what each process did, in a file of its own outside of the database.
//!
//! A line is written with one system call in append mode, so it survives the death of its process. All times are
//! nanoseconds of `CLOCK_MONOTONIC`, which all processes of the machine share.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use nix::time::{ClockId, clock_gettime};
use procrastinate::JobContext;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// One line of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    /// A task began. `run` is a random number.
    Begin { run: u64, job: i64, attempts: i32, lock: Option<String>, token: String, at: i64, pid: u32 },
    /// A task ended, or was dropped.
    End { run: u64, job: i64, ending: Ending, at: i64, pid: u32 },
    /// A deferrer learnt that this job is committed.
    Acknowledged { token: String, job: i64 },
    /// A deferrer rolled the job's transaction back, or never sent its commit.
    RolledBack { token: String },
    /// A deferrer learnt that its request to retry a failed job was done.
    RetriedManually { job: i64 },
    /// The rig stopped a process with SIGSTOP, and continued it.
    Stopped { pid: u32, from: i64, to: i64 },
    /// A worker began that deletes jobs when they succeed.
    DeletesSuccessful { pid: u32 },
    /// A worker of Python's Procrastinate began.
    Python { pid: u32 },
    /// A process has ended.
    Gone { pid: u32, at: i64 },
}

/// How a run ended, as its task sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Succeeded,
    Failed,
    Snoozed,
    /// The task saw a request to abort.
    Aborted,
    /// The task's future was dropped.
    Dropped,
}

/// The ledger of one process.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// Appends a line. A process that cannot write its ledger proves nothing, so it ends.
    pub(crate) fn write(&self, line: &Line) {
        let written = serde_json::to_string(line).map(|text| (&self.0).write_all(format!("{text}\n").as_bytes()));
        if !matches!(written, Ok(Ok(()))) {
            std::process::abort();
        }
    }

    /// Reads all ledgers of a directory. The last line of a killed process can be cut off.
    pub(crate) fn read_all(directory: &Path) -> Result<Vec<Line>, Failure> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                lines.push(serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display()))?);
            }
        }
        Ok(lines)
    }
}

/// Returns the time of `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn now() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// The ledger of a worker process, for its tasks.
pub(crate) static OWN: OnceLock<Ledger> = OnceLock::new();

fn write_own(line: &Line) {
    match OWN.get() {
        Some(ledger) => ledger.write(line),
        None => std::process::abort(),
    }
}

/// A run of a task. Writes its end when it is dropped, at the latest.
#[derive(Debug)]
pub(crate) struct Run {
    run: u64,
    job: i64,
    ending: Ending,
}

impl Run {
    /// Writes that the task begins.
    pub(crate) fn begin(context: &JobContext, token: &str) -> Self {
        let run = fastrand::u64(..);
        let job = i64::from(context.job().id);
        write_own(&Line::Begin {
            run,
            job,
            attempts: context.job().attempts,
            lock: context.job().lock.clone(),
            token: token.to_owned(),
            at: now(),
            pid: std::process::id(),
        });
        Self { run, job, ending: Ending::Dropped }
    }

    /// Writes how the task ends. The task returns right afterwards.
    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let (run, job, ending) = (self.run, self.job, self.ending);
        write_own(&Line::End { run, job, ending, at: now(), pid: std::process::id() });
    }
}
