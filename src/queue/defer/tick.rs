//! A tick of a periodic task on its way to being a job.

use crate::database::connection::run::Run;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::job::JobId;
use crate::queue::metrics::JobsToCount;

/// What became of a tick.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TickOutcome {
    Deferred(JobId),
    /// This tick, or a later one of the same schedule.
    AlreadyDeferred,
    /// A job with its queueing lock is waiting.
    QueueingLockTaken,
}

/// Defers a tick of a periodic task once, whoever else tries. Nothing is raised that would spoil a transaction.
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
