//! Runs blocking code on threads where it is allowed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::clock;
use crate::support::panics::{set_location, take_location};

tokio::task_local! {
    /// Counts the [`blocking`] calls that a job awaits. Written by the job's own task, read by the code that would
    /// cancel it.
    pub(crate) static CALLS: BlockingCalls;
}

/// Counts the [`blocking`] calls that a job awaits. The job cannot be cancelled while there are any, because the thread
/// would continue.
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

/// Runs blocking code on one of the runtime's threads for blocking work, and waits for its result. Resumes its panics.
///
/// A job is not cancelled while it waits here, even if it should abort or has timed out. Otherwise the thread would
/// continue and could overlap with the next attempt. The code should check
/// [`JobContext::should_abort`](crate::JobContext::should_abort) regularly and return early.
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
    // Catch the panic on its own thread, where its location is known.
    let time = clock::time_of_test();
    let caught = move || {
        let work = || clock::at_blocking(time, work);
        span.in_scope(|| catch_unwind(AssertUnwindSafe(work)).map_err(|panic| (panic, take_location())))
    };
    match tokio::task::spawn_blocking(caught).await {
        Ok(Ok(value)) => value,
        Ok(Err((panic, location))) => {
            set_location(location);
            resume_unwind(panic)
        }
        // Blocking work is cancelled only if the runtime shuts down, which polls no futures any more.
        Err(_) => std::future::pending().await,
    }
}
