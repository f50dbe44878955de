//! Statements that store the outcomes of jobs and fetch new ones. Their SQL functions are in the migrations
//! `…_procrastinate_finish`, `…_procrastinate_fetch` and `…_procrastinate_finish_and_fetch`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::deserialize::Queryable;
use diesel::pg::Pg;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz};
use serde_json::json;

use crate::database::models::stored::{StoredArgs, StoredTimeOrNone};
use crate::database::statements::statement;
use crate::job::{Job, JobId};
use crate::retry::RetryDecision;
use crate::support::text::{storable, to_ascii};

/// The maximum length of a stored error, in bytes.
pub(crate) const LONGEST_ERROR: usize = 10_000;

/// What can follow an error that has this length, in bytes.
const LONGEST_ADDITION: usize = 1_000;

/// A fetched job.
#[derive(Debug)]
pub(crate) struct FetchedJob {
    pub(crate) job: Job,
    /// The reason why the arguments could not be read, if so. A task must not run with other arguments than those that
    /// were deferred.
    pub(crate) unreadable_args: Option<String>,
}

/// The columns of a [`FinishedOrFetched`].
pub(super) const FETCHED: &str = "kind, id, queue_name, task_name, priority, lock, queueing_lock, args, \
     scheduled_at, attempts, abort_requested, worker_id, problem, wait_seconds";

/// Those of the given jobs that the worker holds. It recovers jobs that were fetched with a lost response.
pub(crate) struct JobsOfWorker {
    pub(crate) worker_id: i64,
    pub(crate) job_ids: Vec<JobId>,
}

statement!(
    "load the worker's jobs": JobsOfWorker -> FinishedOrFetched: FinishedOrFetchedColumns,
    select FETCHED from "procrastinate_diesel_jobs_of_worker_v1"(worker_id: BigInt, job_ids: Array<BigInt>)
);

/// Stores the outcomes of a worker's finished jobs, and fetches new ones for its free slots.
#[derive(Debug)]
pub(crate) struct FinishAndFetchJobs {
    pub(crate) worker_id: i64,
    pub(crate) finished: Vec<JobId>,
    /// Parallel to `finished`: the labels of their statuses.
    pub(crate) end_statuses: Vec<&'static str>,
    /// Parallel to `finished`: the number of previous attempts. An outcome is stored only for its own attempt.
    pub(crate) finished_attempts: Vec<i32>,
    /// Jobs to retry, as the function takes them. NULL if there are none.
    pub(crate) retries: Option<serde_json::Value>,
    /// Whether jobs to retry are deleted if they fail instead.
    pub(crate) deletes_failed: bool,
    /// Jobs to delete when they finish. `None` if there are none.
    pub(crate) deleted: Option<Vec<JobId>>,
    /// Parallel to `deleted`: the number of previous attempts.
    pub(crate) deleted_attempts: Option<Vec<i32>>,
    /// The errors of attempts, as the function takes them. NULL if there are none.
    pub(crate) errors: Option<serde_json::Value>,
    /// The queues to fetch from. `None` means all queues.
    pub(crate) queues: Option<Vec<String>>,
    pub(crate) free_slots: i32,
    /// Whether each outcome is stored in a subtransaction. An outcome that the database refuses is then returned as
    /// [`FinishedOrFetched::Refused`], and the others are stored. Jobs to delete are among the finished ones, too.
    pub(crate) one_by_one: bool,
    /// The time with which scheduled jobs are compared. `None` means the time of the database.
    pub(crate) due_at: Option<DateTime<Utc>>,
}

impl FinishAndFetchJobs {
    /// Creates a statement without outcomes.
    pub(crate) fn new(worker_id: i64, queues: Option<Vec<String>>, free_slots: usize) -> Self {
        Self {
            worker_id,
            finished: Vec::new(),
            end_statuses: Vec::new(),
            finished_attempts: Vec::new(),
            retries: None,
            deletes_failed: false,
            deleted: None,
            deleted_attempts: None,
            errors: None,
            queues,
            free_slots: i32::try_from(free_slots).unwrap_or(i32::MAX),
            one_by_one: false,
            due_at: None,
        }
    }

    /// Adds a job that finishes and is deleted. If the database refuses to delete it, it keeps this status.
    pub(crate) fn delete(&mut self, job_id: JobId, attempts: i32, end_status: &'static str) {
        self.deleted.get_or_insert_default().push(job_id);
        self.deleted_attempts.get_or_insert_default().push(attempts);
        if self.one_by_one {
            self.finish(job_id, attempts, end_status);
        }
    }

    /// Adds the error of an attempt. `attempts` is the number of attempts that had finished before it.
    pub(crate) fn keep_error(
        &mut self,
        job_id: JobId,
        attempts: i32,
        error: &str,
        worker_name: &str,
        duration: Duration,
    ) {
        let error = json!({
            "job_id": job_id,
            "attempts": attempts,
            "error": storable(error, LONGEST_ERROR + LONGEST_ADDITION),
            "worker_name": storable(worker_name, LONGEST_ERROR),
            "duration_seconds": duration.as_secs_f64(),
        });
        push(&mut self.errors, error);
    }

    /// Writes the errors with characters that every encoding of a database has.
    pub(crate) fn write_errors_in_ascii(&mut self) {
        let errors = self.errors.as_mut().and_then(serde_json::Value::as_array_mut);
        let objects = errors.into_iter().flatten().filter_map(serde_json::Value::as_object_mut);
        for value in objects.flat_map(|object| object.values_mut()) {
            if let serde_json::Value::String(text) = value {
                *text = to_ascii(text);
            }
        }
    }

    /// Adds a job that finishes with this status.
    pub(crate) fn finish(&mut self, job_id: JobId, attempts: i32, end_status: &'static str) {
        self.finished.push(job_id);
        self.finished_attempts.push(attempts);
        self.end_statuses.push(end_status);
    }

    /// Adds a job to retry. `attempts` is the number of attempts that had finished before. The finished attempt is only
    /// counted if `counts` is true.
    pub(crate) fn retry(&mut self, job_id: JobId, attempts: i32, decision: &RetryDecision, counts: bool) {
        let (retry_at, retry_in) = decision.time_or_delay();
        let retry = json!({
            "job_id": job_id,
            "attempts": attempts,
            "retry_at": retry_at,
            "retry_in": retry_in,
            "priority": decision.priority,
            "queue_name": decision.queue,
            "lock": decision.lock,
            "counts_as_attempt": counts,
            "is_deleted_if_failed": self.deletes_failed,
        });
        push(&mut self.retries, retry);
    }
}

fn push(array: &mut Option<serde_json::Value>, value: serde_json::Value) {
    match array {
        Some(serde_json::Value::Array(values)) => values.push(value),
        array => *array = Some(json!([value])),
    }
}

/// A row of [`FinishAndFetchJobs`], or of a statement that only finds jobs.
pub(crate) enum FinishedOrFetched {
    /// A finished job that this worker had lost. It was left as it is.
    Lost(JobId),
    /// A job that could not be retried, because its abort was requested or its queueing lock is taken. It failed.
    NotRetried(JobId),
    /// A job whose outcome the database refused to store, and the reason. `None` means that it refused to hand out
    /// jobs.
    Refused(Option<JobId>, String),
    /// A job whose outcome is stored without a part that the database refused, and the reason.
    Incomplete(JobId, MissingPart, String),
    /// When there may be room for jobs that a limit keeps from being fetched.
    Wait(Duration),
    /// A job that the worker has fetched.
    Fetched(Box<FetchedJob>),
}

/// The part of an outcome that the database refused to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingPart {
    /// The job was not deleted.
    Deletion,
    /// The error is not stored, and the job was not deleted.
    Error,
    /// The event is not stored, nor is the error, and the job was not deleted.
    Event,
}

impl MissingPart {
    fn from_kind(kind: &str) -> Option<Self> {
        match kind {
            "not_deleted" => Some(Self::Deletion),
            "without_error" => Some(Self::Error),
            "without_event" => Some(Self::Event),
            _ => None,
        }
    }
}

/// The kind is always set, the ID nearly always, the problem for a refused job, and the seconds for a wait. The rest is
/// set for a fetched job.
pub(crate) type FinishedOrFetchedColumns = (
    Text,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Integer>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Jsonb>,
    Nullable<Timestamptz>,
    Nullable<Integer>,
    Nullable<Bool>,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Double>,
);

/// One job with unreadable values must not fail the whole response, because its jobs are fetched already.
type FinishedOrFetchedRow = (
    String,
    Option<JobId>,
    Option<String>,
    Option<String>,
    Option<i32>,
    Option<String>,
    Option<String>,
    Option<StoredArgs>,
    StoredTimeOrNone,
    Option<i32>,
    Option<bool>,
    Option<i64>,
    Option<String>,
    Option<f64>,
);

impl Queryable<FinishedOrFetchedColumns, Pg> for FinishedOrFetched {
    type Row = FinishedOrFetchedRow;

    fn build(row: FinishedOrFetchedRow) -> diesel::deserialize::Result<Self> {
        match row {
            (kind, Some(id), ..) if kind == "lost" => Ok(Self::Lost(id)),
            (kind, Some(id), ..) if kind == "failed" => Ok(Self::NotRetried(id)),
            (kind, .., Some(seconds)) if kind == "wait" => {
                Ok(Self::Wait(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
            }
            (kind, id, .., Some(problem), None) if kind == "refused" => Ok(Self::Refused(id, problem)),
            (kind, Some(id), .., Some(problem), None) => match MissingPart::from_kind(&kind) {
                Some(missing) => Ok(Self::Incomplete(id, missing, problem)),
                None => Err(format!("the row of job {id} has the unknown kind {kind}").into()),
            },
            (
                _,
                Some(id),
                Some(queue),
                Some(task_name),
                Some(priority),
                lock,
                queueing_lock,
                Some(args),
                scheduled_at,
                Some(attempts),
                Some(abort_requested),
                worker_id,
                None,
                None,
            ) => {
                let StoredArgs { args, problem: unreadable_args } = args;
                let job = Job {
                    id,
                    queue,
                    task_name,
                    priority,
                    lock,
                    queueing_lock,
                    args,
                    scheduled_at: scheduled_at.into(),
                    attempts,
                    abort_requested,
                    worker_id,
                };
                Ok(Self::Fetched(Box::new(FetchedJob { job, unreadable_args })))
            }
            (kind, id, ..) => Err(format!("the {kind} job {id:?} lacks a column").into()),
        }
    }
}

statement!(
    "store outcomes and fetch jobs": FinishAndFetchJobs -> FinishedOrFetched: FinishedOrFetchedColumns,
    select FETCHED from "procrastinate_diesel_finish_and_fetch_jobs_v1"(
        worker_id: BigInt, finished: Array<BigInt>, end_statuses: Array<Text> as "text[]::procrastinate_job_status[]",
        queues: Nullable<Array<Text>> as "varchar[]", free_slots: Integer, retries: Nullable<Jsonb>,
        deleted: Nullable<Array<BigInt>>, errors: Nullable<Jsonb>, one_by_one: Bool, due_at: Nullable<Timestamptz>,
        finished_attempts: Array<Integer>, deleted_attempts: Nullable<Array<Integer>>)
);
