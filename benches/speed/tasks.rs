//! The tasks that are run. They do nothing, so that the queue is all that is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use procrastinate::{Error, JobContext, WorkerHandle, task};
use tokio::sync::mpsc::UnboundedSender;

/// The short string that every job has among its arguments.
pub(crate) const TEXT: &str = "a short string";

/// The arguments as the raw side writes them.
pub(crate) fn arguments(a: i64) -> String {
    format!(r#"{{"a": {a}, "b": "{TEXT}"}}"#)
}

#[task(queue = "work")]
pub(crate) async fn no_op(a: i64, b: String) {
    drop((a, b));
}

/// Says when it was started.
#[task(queue = "quick", pass_context)]
pub(crate) async fn timed(context: JobContext, a: i64, b: String) -> Result<(), Error> {
    let now = Instant::now();
    drop(b);
    // Nobody waits for the last ones.
    let _ = context.state::<Starts>()?.0.send((a, now));
    Ok(())
}

/// Where `timed` says it.
pub(crate) struct Starts(pub(crate) UnboundedSender<(i64, Instant)>);

/// Stops its worker once so many have run.
#[task(queue = "work-0", pass_context)]
pub(crate) async fn counted(context: JobContext, a: i64, b: String) -> Result<(), Error> {
    drop((a, b));
    let limit = context.state::<Arc<Limit>>()?;
    if limit.ran.fetch_add(1, Ordering::Relaxed) + 1 == limit.jobs {
        limit.handle.stop();
    }
    Ok(())
}

/// What `counted` counts.
pub(crate) struct Limit {
    pub(crate) jobs: u32,
    pub(crate) ran: AtomicU32,
    pub(crate) handle: WorkerHandle,
}
