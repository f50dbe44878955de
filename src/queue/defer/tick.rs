//! Deferring a tick of a periodic task.

use crate::database::connection::run::Run;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::job::JobId;
use crate::queue::metrics::JobsToCount;

/// The result of deferring a tick.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TickOutcome {
    Deferred(JobId),
    /// This tick, or a later tick of the same schedule, was already deferred.
    AlreadyDeferred,
    /// Another pending job holds the queueing lock.
    QueueingLockTaken,
}

/// Defers a tick once, even if several programs try. It raises no error that would abort a transaction.
pub(crate) async fn defer_periodic_job<R: Run>(tick: DeferPeriodicJob, run: &mut R) -> Result<TickOutcome, Error> {
    let count = JobsToCount::new([(tick.job.task_name.as_str(), tick.job.queue.as_str())]);
    match run.load_one(tick).await? {
        (Some(id), _) => {
            count.deferred();
            Ok(TickOutcome::Deferred(id))
        }
        (None, true) => Ok(TickOutcome::QueueingLockTaken),
        (None, false) => Ok(TickOutcome::AlreadyDeferred),
    }
}
