//! A worker process.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;
use crate::ledger::{Ledger, OWN};
use crate::tasks::{QUEUES, app, pool};

/// After how long without a heartbeat workers consider another one stalled.
pub(crate) const STALLED_WORKER_TIMEOUT: Duration = Duration::from_secs(3);

const RESTART_DELAY: Duration = Duration::from_millis(500);

/// What the rig tells a worker process on its command line.
#[derive(Debug, Clone)]
pub(crate) struct WorkerArguments {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) ledger: PathBuf,
    pub(crate) concurrency: usize,
    pub(crate) local_buffer: usize,
    /// How many of the queues it serves. If all: every queue of the database.
    pub(crate) queues: usize,
}

/// Runs a worker until SIGTERM. A worker that cannot start is started again, as a service manager would.
pub(crate) async fn run(arguments: WorkerArguments) -> Result<(), Failure> {
    end_with_the_rig();
    let _ = OWN.set(Ledger::open(&arguments.ledger)?);
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
        if arguments.queues < QUEUES.len() {
            worker = worker.queues(QUEUES[..arguments.queues].iter().copied());
        }
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
