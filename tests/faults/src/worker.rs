//! A worker process.

use std::io::Read as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use procrastinate::{DeleteJobs, JobStatus};
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;
use crate::ledger::{Ledger, Line, OWN};
use crate::tasks::{QUEUES_BESIDE_PYTHON, app, pool};

/// After how long without a heartbeat workers consider another one stalled.
pub(crate) const STALLED_WORKER_TIMEOUT: Duration = Duration::from_secs(3);

/// How old successful jobs are when a worker that deletes old ones deletes them.
pub(crate) const AGE_OF_OLD_JOBS: Duration = Duration::from_secs(20);

const RESTART_DELAY: Duration = Duration::from_millis(500);

/// Which jobs a worker deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletes {
    Nothing,
    /// Each job that succeeds, immediately.
    Successful,
    /// Those that succeeded some time ago.
    Old,
}

impl Deletes {
    /// Returns the word for the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Successful => "successful",
            Self::Old => "old",
        }
    }
}

impl FromStr for Deletes {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = [Self::Nothing, Self::Successful, Self::Old].into_iter();
        known.into_iter().find(|deletes| deletes.word() == word).ok_or("--deletes has an unknown word")
    }
}

/// What the rig tells a worker process on its command line.
#[derive(Debug, Clone)]
pub(crate) struct WorkerArguments {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) ledger: PathBuf,
    pub(crate) concurrency: usize,
    pub(crate) local_buffer: usize,
    /// How many of the queues it serves. 0: every queue of the database.
    pub(crate) queues: usize,
    pub(crate) deletes: Deletes,
}

/// Runs a worker until SIGTERM. A worker that cannot start is started again, as a service manager would.
pub(crate) async fn run(arguments: WorkerArguments) -> Result<(), Failure> {
    end_with_the_rig();
    let ledger = Ledger::open(&arguments.ledger)?;
    if arguments.deletes == Deletes::Successful {
        ledger.write(&Line::DeletesSuccessful { pid: std::process::id() });
    }
    let _ = OWN.set(ledger);
    let pool = pool(&arguments.url);
    let app = app(&pool)?;
    // The worker receives the signal, too. But nothing else does while no worker runs.
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let mut worker = app
            .worker()
            .name(&arguments.name)
            .concurrency(arguments.concurrency)
            .local_buffer(arguments.local_buffer)
            .fetch_job_polling_interval(Duration::from_secs(1))
            .abort_job_polling_interval(Duration::from_secs(1))
            .update_heartbeat_interval(Duration::from_millis(500))
            .stalled_worker_timeout(STALLED_WORKER_TIMEOUT)
            .shutdown_graceful_timeout(Duration::from_secs(1));
        let queues = QUEUES_BESIDE_PYTHON.iter().take(arguments.queues).copied();
        worker = match (arguments.queues, arguments.local_buffer) {
            (0, _) => worker,
            // Each queue with a concurrency of its own.
            (_, 0) => queues.fold(worker, |worker, queue| worker.queue(queue, arguments.concurrency)),
            _ => worker.queues(queues),
        };
        worker = match arguments.deletes {
            Deletes::Nothing => worker,
            Deletes::Successful => worker.delete_jobs(DeleteJobs::Successful),
            Deletes::Old => worker.delete_jobs_older_than(JobStatus::Succeeded, AGE_OF_OLD_JOBS),
        };
        match worker.run().await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::error!("the worker ended: {error}"),
        }
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            () = tokio::time::sleep(RESTART_DELAY) => {}
        }
    }
}

/// Ends this process when the rig has ended, which holds the other end of standard input.
fn end_with_the_rig() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}
