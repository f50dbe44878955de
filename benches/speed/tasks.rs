//! The tasks. They do nothing, so that only the queue is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use procrastinate::{Error, JobContext, WorkerHandle, task};
use tokio::sync::mpsc::UnboundedSender;

/// A short string in the arguments of every job.
pub(crate) const TEXT: &str = "a short string";

/// Returns the arguments as raw SQL writes them.
pub(crate) fn arguments(a: i64) -> String {
    format!(r#"{{"a": {a}, "b": "{TEXT}"}}"#)
}

#[task(queue = "work")]
pub(crate) async fn no_op(a: i64, b: String) {
    drop((a, b));
}

/// Reports when it started.
#[task(queue = "quick", pass_context)]
pub(crate) async fn timed(context: JobContext, a: i64, b: String) -> Result<(), Error> {
    let now = Instant::now();
    drop(b);
    // Nothing receives the last ones.
    let _ = context.state::<Starts>()?.0.send((a, now));
    Ok(())
}

/// The channel to which `timed` reports.
pub(crate) struct Starts(pub(crate) UnboundedSender<(i64, Instant)>);

/// Stops its worker after this many jobs.
#[task(queue = "work-0", pass_context)]
pub(crate) async fn counted(context: JobContext, a: i64, b: String) -> Result<(), Error> {
    drop((a, b));
    let limit = context.state::<Arc<Limit>>()?;
    if limit.ran.fetch_add(1, Ordering::Relaxed) + 1 == limit.jobs {
        limit.handle.stop();
    }
    Ok(())
}

/// The counter of `counted`.
pub(crate) struct Limit {
    pub(crate) jobs: u32,
    pub(crate) ran: AtomicU32,
    pub(crate) handle: WorkerHandle,
}
