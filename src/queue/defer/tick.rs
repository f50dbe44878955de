//! Deferring a tick of a periodic task.

use crate::database::connection::run::Run;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::job::JobId;
use crate::queue::metrics::JobsToCount;

/// The result of deferring a tick.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TickOutcome {
    Deferred {
        job_id: JobId,
        queue: String,
    },
    /// This tick, or a later tick of the same schedule, was already deferred.
    AlreadyDeferred,
    /// Another pending job holds the queueing lock.
    QueueingLockTaken {
        queueing_lock: Option<String>,
    },
}

/// Defers a tick once, even if several programs try. It raises no error that would abort a transaction.
pub(crate) async fn defer_periodic_job<R: Run>(tick: DeferPeriodicJob, run: &mut R) -> Result<TickOutcome, Error> {
    let count = JobsToCount::new([(tick.job.task_name.as_str(), tick.job.queue.as_str())]);
    let (queue, queueing_lock) = (tick.job.queue.clone(), tick.job.queueing_lock.clone());
    match run.load_one(tick).await? {
        (Some(job_id), _) => {
            count.deferred();
            Ok(TickOutcome::Deferred { job_id, queue })
        }
        (None, true) => Ok(TickOutcome::QueueingLockTaken { queueing_lock }),
        (None, false) => Ok(TickOutcome::AlreadyDeferred),
    }
}
