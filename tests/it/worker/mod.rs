//! The worker: what it runs, when, and what it makes of failures.

mod endings;
mod faults;
mod order;
mod retries;
mod waiting;

use std::future::Future;
use std::time::Duration;

use diesel::prelude::*;
use procrastinate::schema::procrastinate_workers;
use procrastinate::{Error, ProcrastinateWorker, Worker};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::PATIENCE;

/// A worker that runs in the background until it is told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    result: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start(worker: Worker) -> Self {
        let (stop, stopped) = oneshot::channel();
        let worker = worker.with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        Self { stop, result: tokio::spawn(worker.run()) }
    }

    /// Asks it to stop, without waiting.
    fn ask_to_stop(self) -> JoinHandle<Result<(), Error>> {
        self.stop.send(()).unwrap();
        self.result
    }

    /// Stops it, and waits until it has.
    async fn stop(self) -> Result<(), Error> {
        within_patience(self.ask_to_stop()).await.unwrap()
    }
}

/// What the future comes to; a test fails that waits too long.
async fn within_patience<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this did not happen in time")
}

/// Waits until the question is answered with yes.
async fn until(mut question: impl FnMut() -> bool) {
    within_patience(async {
        while !question() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The workers that are registered, by id.
fn workers(connection: &mut PgConnection) -> Vec<ProcrastinateWorker> {
    ProcrastinateWorker::query().order(procrastinate_workers::id).load(connection).unwrap()
}
