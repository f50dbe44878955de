//! A tick of a periodic task on its way to being a job.

use crate::database::connection::run::Run;
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::job::JobId;
use crate::queue::metrics::JobsOnTheirWay;

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
    const ACTION: &str = "defer the periodic task";
    let on_its_way = JobsOnTheirWay::new([(tick.job.task_name.as_str(), tick.job.queue.as_str())]);
    let rows = run.load(tick).await.map_err(|source| Error::database(ACTION, source))?;
    match rows.first() {
        Some((Some(id), _)) => {
            on_its_way.are_deferred();
            Ok(TickOutcome::Deferred(*id))
        }
        Some((None, true)) => Ok(TickOutcome::QueueingLockTaken),
        Some((None, false)) => Ok(TickOutcome::AlreadyDeferred),
        None => Err(Error::Database { action: ACTION, source: diesel::NotFound }),
    }
}
