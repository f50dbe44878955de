//! Inserts one job, or finds or replaces the pending job that holds its queueing lock.

use crate::database::connection::run::{Run, no_row};
use crate::database::statements::defer::{
    DeferOrReplaceJobs, DeferUniqueJobs, DeferWithOptions, EffectOrTaken, ExtraOptions, InsertJob,
    InsertJobUnlessEnqueued, LivingHolders, NewJob, UniqueKey,
};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::if_enqueued::{Deferred, IfEnqueued};
use crate::queue::metrics::JobsToCount;

/// How often a job is inserted if the holder of its queueing lock starts each time before it is found.
pub(super) const TRIES: usize = 10;

/// A valid job, what happens if its queueing lock is taken, and its further options.
pub(crate) struct CheckedJob {
    pub(crate) row: NewJob,
    pub(crate) if_enqueued: IfEnqueued,
    pub(crate) extras: ExtraOptions,
}

impl CheckedJob {
    /// Whether the job needs the statement for jobs that may replace others or that have further options.
    pub(super) fn is_special(&self) -> bool {
        self.if_enqueued.is_replacing() || !self.extras.is_empty()
    }
}

/// Inserts the job, or finds or replaces the pending one, and logs it.
pub(crate) async fn insert_or_find<R: Run>(job: CheckedJob, run: &mut R) -> Result<Deferred, Error> {
    let names = NamesOfJob::of(&job.row);
    let deferred = insert_or_find_silently(job, run).await?;
    names.conclude(deferred)
}

/// Inserts the job, or finds or replaces the pending one. It returns nothing if the queueing lock is taken.
pub(super) async fn insert_or_find_silently<R: Run>(job: CheckedJob, run: &mut R) -> Result<Option<Deferred>, Error> {
    if job.is_special() {
        return Ok(insert_or_replace(vec![job], run).await?.ok().and_then(|deferred| deferred.first().copied()));
    }
    let CheckedJob { row, if_enqueued, .. } = job;
    for _ in 0..TRIES {
        if let Some(id) = insert(row.clone(), run).await? {
            return Ok(Some(Deferred::New(id)));
        }
        let queueing_locks = row.queueing_lock.clone().into_iter().collect();
        if let Some((_, id)) = run.load(LivingHolders { queueing_locks }).await?.first() {
            return Ok((if_enqueued == IfEnqueued::Keep).then_some(Deferred::Kept(*id)));
        }
    }
    Ok(None)
}

/// Inserts the row, and returns no ID if its queueing lock is taken.
async fn insert<R: Run>(row: NewJob, run: &mut R) -> Result<Option<JobId>, Error> {
    Ok(match row.queueing_lock {
        Some(_) => run.load(InsertJobUnlessEnqueued(row)).await?.first().copied(),
        None => run.load(InsertJob(row)).await?.first().copied(),
    })
}

/// Defers jobs of which some may replace a pending one or have further options, in one statement, as if one after the
/// other. Returns what was done with each, or else the queueing lock at which a job failed.
pub(super) async fn insert_or_replace<R: Run>(
    jobs: Vec<CheckedJob>,
    run: &mut R,
) -> Result<Result<Vec<Deferred>, String>, Error> {
    let if_enqueued: Vec<_> = jobs.iter().map(|job| job.if_enqueued.label()).collect();
    let (jobs, extras): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.row, job.extras)).unzip();
    let task_names: Vec<_> = jobs.iter().map(|job| job.task_name.clone()).collect();
    let jobs = jobs.into_iter().collect();
    let rows = if extras.iter().all(ExtraOptions::is_empty) {
        run.load(DeferOrReplaceJobs { jobs, if_enqueued }).await?
    } else {
        let options = extras.iter().map(|extras| (extras.start_before, extras.limit_key.clone()));
        let (start_before, limit_keys) = options.unzip();
        let jobs = DeferWithOptions { jobs, if_enqueued, start_before, limit_keys };
        let unique: Vec<_> = extras.into_iter().map(|extras| extras.unique).collect();
        if unique.iter().all(Option::is_none) {
            run.load(jobs).await?
        } else {
            insert_unique(jobs, unique, &task_names, run).await?
        }
    };
    if let Some(queueing_lock) = rows.iter().find_map(|(.., taken)| taken.clone()) {
        return Ok(Err(queueing_lock));
    }
    rows.into_iter().map(deferred).collect::<Option<_>>().map(Ok).ok_or_else(no_row::<DeferOrReplaceJobs>)
}

/// Defers jobs of which some have unique keys. A taken key is an error.
async fn insert_unique<R: Run>(
    jobs: DeferWithOptions,
    unique: Vec<Option<UniqueKey>>,
    task_names: &[String],
    run: &mut R,
) -> Result<Vec<EffectOrTaken>, Error> {
    let unique_seconds =
        unique.iter().map(|unique| unique.as_ref().map_or(0.0, |unique| unique.period_seconds)).collect();
    let unique_keys: Vec<_> = unique.into_iter().map(|unique| unique.map(|unique| unique.key)).collect();
    let fails: Vec<_> = jobs.if_enqueued.iter().map(|label| *label == IfEnqueued::Fail.label()).collect();
    let keys = unique_keys.clone();
    let rows = run.load(DeferUniqueJobs { jobs, unique_keys, unique_seconds }).await?;
    if let Some((job_id, key)) = rows.iter().find_map(|(id, .., key)| Some((*id, key.clone()?))) {
        let of_key =
            keys.iter().zip(fails).zip(task_names).find(|((of_job, fails), _)| *fails && **of_job == Some(key.clone()));
        let task_name = of_key.map(|(_, task_name)| task_name.clone()).unwrap_or_default();
        return Err(Error::NotUnique { task_name, key, job_id });
    }
    Ok(rows.into_iter().map(|(id, effect, queueing_lock, _)| (id, effect, queueing_lock)).collect())
}

fn deferred((id, effect, _): EffectOrTaken) -> Option<Deferred> {
    match (id?, effect?.as_str()) {
        (id, "new") => Some(Deferred::New(id)),
        (id, "replaced") => Some(Deferred::Replaced(id)),
        (id, "kept") => Some(Deferred::Kept(id)),
        _ => None,
    }
}

/// The names that a log line or error about a job needs.
pub(crate) struct NamesOfJob {
    task_name: String,
    queue: String,
    queueing_lock: Option<String>,
}

impl NamesOfJob {
    pub(super) fn of(job: &NewJob) -> Self {
        let NewJob { task_name, queue, queueing_lock, .. } = job;
        Self { task_name: task_name.clone(), queue: queue.clone(), queueing_lock: queueing_lock.clone() }
    }

    /// Counts and logs the job. There is none if its queueing lock was taken.
    pub(super) fn conclude(self, deferred: Option<Deferred>) -> Result<Deferred, Error> {
        match deferred {
            Some(Deferred::New(id)) => self.log_new(id),
            Some(Deferred::Replaced(id)) => self.log_replaced(id),
            Some(Deferred::Kept(id)) => self.log_kept(id),
            None => {}
        }
        let Self { task_name, queueing_lock, .. } = self;
        deferred.ok_or_else(|| match queueing_lock {
            Some(queueing_lock) => Error::AlreadyEnqueued { task_name, queueing_lock },
            None => no_row::<InsertJob>(),
        })
    }

    fn log_new(&self, id: JobId) {
        let Self { task_name, queue, .. } = self;
        JobsToCount::new([(task_name.as_str(), queue.as_str())]).deferred();
        tracing::info!(
            action = "jobs_deferred",
            job.id = i64::from(id),
            job.task_name = %task_name,
            job.queue = %queue,
            "deferred job {id} of task {task_name} to the queue {queue}",
        );
    }

    fn log_replaced(&self, id: JobId) {
        let Self { task_name, queue, queueing_lock } = self;
        tracing::info!(
            action = "job_replaced",
            job.id = i64::from(id),
            job.task_name = %task_name,
            job.queue = %queue,
            queueing_lock,
            "replaced the pending job {id} by a job of task {task_name} with the same queueing lock",
        );
    }

    fn log_kept(&self, id: JobId) {
        let Self { task_name, queue, queueing_lock } = self;
        tracing::info!(
            action = "job_already_enqueued",
            job.id = i64::from(id),
            job.task_name = %task_name,
            job.queue = %queue,
            queueing_lock,
            "did not defer a job of task {task_name}: job {id} has the same queueing lock or unique key",
        );
    }
}

pub(crate) fn none_if_enqueued(result: Result<JobId, Error>) -> Result<Option<JobId>, Error> {
    match result {
        Ok(id) => Ok(Some(id)),
        Err(error) if error.is_already_enqueued() => Ok(None),
        Err(error) => Err(error),
    }
}
