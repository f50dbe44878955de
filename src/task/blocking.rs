//! Code that blocks its thread, on a thread where that is allowed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::clock;
use crate::support::panics::{set_location, take_location};

tokio::task_local! {
    /// How many calls of [`blocking`] a job is waiting for. Written by the job's own task, read by who would cancel it.
    pub(crate) static CALLS: BlockingCalls;
}

/// Counts the calls of [`blocking`] that a job is waiting for: it cannot be cancelled meanwhile, since the thread would
/// run on.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockingCalls(Arc<AtomicUsize>);

impl BlockingCalls {
    pub(crate) fn are_running(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn start(&self) -> Running {
        self.0.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }
}

struct Running(BlockingCalls);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs code that blocks its thread on one of the runtime's threads for that, and waits for it. A panic comes through.
///
/// A job that is to be aborted, or that has used up its time, is not cancelled while it waits here: its thread would run
/// on, beside the next attempt. The code can ask [`JobContext::should_abort`](crate::JobContext::should_abort) now and
/// then, and return early.
///
/// # Example
///
/// ```
/// use procrastinate::{JobContext, Task};
/// # use serde::{Deserialize, Serialize};
///
/// # #[derive(Serialize, Deserialize)]
/// struct Resize { picture: i64 }
///
/// impl Task for Resize {
///     const NAME: &'static str = "resize";
///     type Output = ();
///
///     async fn run(self, _context: JobContext) {
///         procrastinate::blocking(move || println!("resizing picture {}", self.picture)).await
///     }
/// }
/// ```
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _running = CALLS.try_with(BlockingCalls::start).ok();
    let span = tracing::Span::current();
    // A panic is caught on its thread, where its place is known.
    let time = clock::time_of_test();
    let caught = move || {
        let work = || clock::at_blocking(time, work);
        span.in_scope(|| catch_unwind(AssertUnwindSafe(work)).map_err(|panic| (panic, take_location())))
    };
    match tokio::task::spawn_blocking(caught).await {
        Ok(Ok(value)) => value,
        Ok(Err((panic, place))) => {
            set_location(place);
            resume_unwind(panic)
        }
        // Only a runtime that is shutting down cancels blocking work, and it polls nothing any more.
        Err(_) => std::future::pending().await,
    }
}
