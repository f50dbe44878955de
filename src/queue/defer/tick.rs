//! Deferring a tick of a periodic task, or running its task on request.

use crate::database::connection::run::Run;
use crate::database::statements::periodic::{DeferPeriodicJob, DeferPeriodicJobs, DeferredOrNot};
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
    /// The schedule is paused, or was at the time of the tick.
    Paused,
    /// The last job of the schedule is pending or running.
    Overlaps,
    /// The schedule was changed or removed since it was read.
    Changed,
    /// The schedule is in the code, and one in the database has the same task and `periodic_id`.
    Conflict,
    /// Another transaction is changing the schedule.
    Locked,
}

/// Defers a tick once, even if several programs try. It raises no error that would abort a transaction.
pub(crate) async fn defer_periodic_job<R: Run>(tick: DeferPeriodicJob, run: &mut R) -> Result<TickOutcome, Error> {
    let names = JobNames::of(&tick);
    let found = run.load_one(tick).await?;
    Ok(names.outcome(found))
}

/// Defers one tick of each of several schedules in one statement, all or none. The schedules must be sorted by task and
/// `periodic_id`, and their jobs must have no queueing lock.
pub(crate) async fn defer_periodic_jobs<R: Run>(
    ticks: Vec<DeferPeriodicJob>,
    run: &mut R,
) -> Result<Vec<TickOutcome>, Error> {
    let names: Vec<_> = ticks.iter().map(JobNames::of).collect();
    let found = run.load(ticks.into_iter().collect::<DeferPeriodicJobs>()).await?;
    Ok(names.into_iter().zip(found).map(|(names, found)| names.outcome(found)).collect())
}

/// What the outcome says about the job.
struct JobNames {
    queue: String,
    queueing_lock: Option<String>,
    count: JobsToCount,
}

impl JobNames {
    fn of(tick: &DeferPeriodicJob) -> Self {
        let count = JobsToCount::new([(tick.job.task_name.as_str(), tick.job.queue.as_str())]);
        Self { queue: tick.job.queue.clone(), queueing_lock: tick.job.queueing_lock.clone(), count }
    }

    /// Reads the outcome, and counts the job if it was deferred.
    fn outcome(self, (job_id, outcome): DeferredOrNot) -> TickOutcome {
        match (job_id, outcome.as_str()) {
            (Some(job_id), _) => {
                self.count.deferred();
                TickOutcome::Deferred { job_id, queue: self.queue }
            }
            (None, "queueing_lock_taken") => TickOutcome::QueueingLockTaken { queueing_lock: self.queueing_lock },
            (None, "paused") => TickOutcome::Paused,
            (None, "overlaps") => TickOutcome::Overlaps,
            (None, "changed") => TickOutcome::Changed,
            (None, "conflict") => TickOutcome::Conflict,
            (None, "locked") => TickOutcome::Locked,
            (None, _) => TickOutcome::AlreadyDeferred,
        }
    }
}
