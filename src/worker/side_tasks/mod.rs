//! Side tasks of a worker. The panic of a side task is logged, and the task starts again. Its statements have a time
//! limit.
//!
//! | file | contents |
//! |---|---|
//! | `mod` | supervision |
//! | `rescuer` | rescues the jobs of dead workers |
//! | `deadlines` | cancels jobs that have not started in time, for the rescuer |
//! | `periodic` | defers periodic tasks |
//! | `retention` | deletes old jobs, if configured |
//! | `ageing` | raises the priorities of jobs that have waited |
//! | `signals` | stops the worker on SIGINT and SIGTERM |

pub(crate) mod ageing;
mod deadlines;
pub(crate) mod periodic;
pub(crate) mod rescuer;
pub(crate) mod retention;
pub(crate) mod signals;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::support::backoff::Backoff;
use crate::support::panics;
use crate::worker::settings::Settings;

/// After running for so long without a panic, a task starts again without a long delay.
const HEALTHY: Duration = Duration::from_secs(60);

/// The least time that the server has for a statement outside of the loop, if workers are soon considered stalled.
const SHORTEST_TIME_LIMIT: Duration = Duration::from_secs(5);

impl Settings {
    /// How long the server may take to respond to a statement outside of the loop.
    pub(crate) fn time_limit(&self) -> Duration {
        self.stalled_worker_timeout.max(SHORTEST_TIME_LIMIT)
    }
}

/// What a worker does besides its loop.
pub(crate) trait SideTask: Send {
    /// What the task does, for the log.
    const NAME: &'static str;

    /// Runs the task until it has nothing more to do, or until it is dropped. After a panic it runs again.
    fn run(&mut self) -> impl Future<Output = ()> + Send;

    /// Prepares the task for running again.
    fn recover(&mut self) {}
}

/// Runs the task until it ends without a panic.
pub(crate) async fn supervise(mut task: impl SideTask) {
    run_supervised(&mut task).await;
}

/// Does the same with a task that is borrowed.
pub(crate) async fn run_supervised<T: SideTask>(task: &mut T) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        // Creating the future is part of the attempt.
        let Err(panic) = AssertUnwindSafe(async { task.run().await }).catch_unwind().await else { return };
        if started.elapsed() >= HEALTHY {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        tracing::error!(
            action = "side_task_panicked",
            "the side task for {} {}; restarting it in {wait:?}",
            T::NAME,
            panics::describe(&*panic),
        );
        task.recover();
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsTwice(u32);

    impl SideTask for PanicsTwice {
        const NAME: &'static str = "panicking";

        #[allow(clippy::panic, reason = "a panic is what is tested")]
        async fn run(&mut self) {
            tokio::task::yield_now().await;
            if self.0 % 10 < 2 {
                panic!("once more");
            }
        }

        fn recover(&mut self) {
            self.0 += 11;
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_runs_again_until_it_ends() {
        let mut task = PanicsTwice(0);
        run_supervised(&mut task).await;
        assert_eq!(task.0, 22);
    }
}
