//! The operations of the contract and of the crate as statements.

use diesel::PgConnection;
use procrastinate::job_manager::{delete_job, reschedule_job};
use serde_json::{Value, json};

use super::model::{NewJob, Retry, Schedule};
use super::tables::ERRORS;
use crate::support::try_rows;

/// Whose function is called, where both have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Contract,
    Crate,
}

/// How an attempt ended, as a worker stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Finish { status: &'static str, with_error: bool },
    Delete,
    Retry { retry: Retry, counts: Option<bool>, is_deleted_if_failed: bool, with_error: bool },
}

/// The outcome of a job, in the attempt that began with so many before; `None`: in any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub id: i64,
    pub attempts: Option<i32>,
    pub ending: Ending,
}

/// What a rescuer decides for a job of a dead worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescue {
    pub id: i64,
    pub attempts: i32,
    pub retry: Option<Retry>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Defer(NewJob),
    DeferJobs(By, Vec<NewJob>),
    DeferEach(Vec<NewJob>),
    /// What happens to pending jobs with the same queueing locks is `keep`, `replace` or `replace_except_schedule`.
    DeferOrReplace(&'static str, Vec<NewJob>),
    Tick {
        by: By,
        periodic_id: &'static str,
        tick: i64,
        lock: Option<&'static str>,
        queueing_lock: Option<&'static str>,
    },
    Fetch {
        worker: i64,
        queues: Option<Vec<&'static str>>,
    },
    FinishAndFetch {
        worker: i64,
        outcomes: Vec<Outcome>,
        queues: Option<Vec<&'static str>>,
        slots: usize,
        one_by_one: bool,
    },
    Finish {
        by: By,
        id: i64,
        status: &'static str,
        delete: bool,
    },
    Cancel {
        id: i64,
        abort: bool,
        delete: bool,
    },
    /// By the function of the contract of this version, or by the crate's.
    Retry {
        version: Option<u8>,
        id: i64,
        retry: Retry,
    },
    Register,
    Unregister {
        by: By,
        worker: i64,
    },
    Heartbeat {
        by: By,
        worker: i64,
    },
    Prune,
    ReleaseStalled,
    RemoveWorker {
        worker: i64,
    },
    HeldJobs {
        worker: i64,
    },
    JobsOfWorker {
        worker: i64,
        ids: Vec<i64>,
    },
    DrawId,
    Reregister {
        former: i64,
        new: i64,
        jobs: Vec<(i64, i32)>,
    },
    JobsWithoutWorker,
    Rescue(Vec<Rescue>),
    DeleteOld {
        statuses: Vec<&'static str>,
        queue: Option<&'static str>,
    },
    Reschedule {
        id: i64,
        at: Schedule,
    },
    DeleteJob {
        id: i64,
    },
    /// Not a function: time passes for a worker without a heartbeat.
    Silence {
        worker: i64,
    },
    /// Not a function: ten days pass for all events.
    Age,
}

/// Why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl Failure {
    /// Whether the transaction can be run again, and others are the reason.
    pub fn is_of_concurrency(&self) -> bool {
        ["could not serialize access", "deadlock detected", "due to lock timeout"]
            .iter()
            .any(|why| self.0.contains(why))
    }
}

pub fn array_or_null(queues: Option<&[&str]>) -> String {
    queues.map_or("NULL".to_owned(), |queues| format!("'{{{}}}'", queues.join(",")))
}

pub fn quoted(value: Option<impl ToString>) -> String {
    value.map_or("NULL".to_owned(), |value| format!("'{}'", value.to_string()))
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or("NULL".to_owned(), |value| value.to_string())
}

fn array<T: ToString>(values: impl Iterator<Item = T>) -> String {
    format!("'{{{}}}'", values.map(|value| value.to_string()).collect::<Vec<_>>().join(","))
}

fn columns(job: &NewJob) -> String {
    let NewJob { queue, priority, lock, queueing_lock, schedule } = *job;
    let (lock, queueing_lock, at) = (quoted(lock), quoted(queueing_lock), quoted(schedule.at()));
    format!("'{queue}', 'walk', {priority}, {lock}, {queueing_lock}, '{{}}', {at}")
}

fn retry_args(id: i64, retry: Retry) -> String {
    let Retry { at, priority, queue, lock } = retry;
    format!("{id}, {}, {}, {}, {}", quoted(at.at()), or_null(priority), quoted(queue), quoted(lock))
}

fn retry_json(retry: Retry) -> Value {
    let Retry { at, priority, queue, lock } = retry;
    json!({ "retry_at": at.at(), "priority": priority, "queue_name": queue, "lock": lock })
}

impl Call {
    /// The statement, in a form that can be run in psql.
    pub fn sql(&self) -> String {
        match self {
            Self::Defer(job) => format!(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at) \
                 VALUES ({}) ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING RETURNING id",
                columns(job)
            ),
            Self::Reschedule { id, at } => format!(
                "UPDATE procrastinate_jobs SET scheduled_at = {} WHERE id = {id} AND status = 'todo'",
                quoted(at.at())
            ),
            Self::DeleteJob { id } => format!("DELETE FROM procrastinate_jobs WHERE id = {id} AND status <> 'doing'"),
            Self::Silence { worker } => format!(
                "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' \
                 WHERE id = {worker} AND last_heartbeat > 'epoch'"
            ),
            Self::Age => "UPDATE procrastinate_events SET at = at - interval '10 days'".to_owned(),
            _ => self.query(),
        }
    }

    /// The query, if it is one.
    fn query(&self) -> String {
        match self {
            Self::DeferJobs(By::Contract, jobs) => defer_jobs(jobs),
            Self::DeferJobs(By::Crate, jobs) => {
                format!("SELECT * FROM procrastinate_diesel_defer_jobs_v1({})", parallel_arrays(jobs))
            }
            Self::DeferEach(jobs) => {
                format!("SELECT * FROM procrastinate_diesel_defer_each_job_v1({})", parallel_arrays(jobs))
            }
            Self::DeferOrReplace(choice, jobs) => defer_or_replace(choice, jobs),
            Self::Tick { by, periodic_id, tick, lock, queueing_lock } => {
                let args = format!(
                    "'a', {}, {}, 'tick', 0, '{periodic_id}', {tick}, '{{}}'",
                    quoted(*lock),
                    quoted(*queueing_lock)
                );
                match by {
                    By::Contract => format!("SELECT procrastinate_defer_periodic_job_v2({args}) AS id"),
                    By::Crate => format!("SELECT * FROM procrastinate_diesel_defer_periodic_job_v1({args})"),
                }
            }
            Self::Fetch { worker, queues } => {
                format!("SELECT id FROM procrastinate_fetch_job_v2({}, {worker})", array_or_null(queues.as_deref()))
            }
            Self::FinishAndFetch { worker, outcomes, queues, slots, one_by_one } => {
                finish_and_fetch(*worker, outcomes, queues.as_deref(), *slots, *one_by_one)
            }
            Self::Finish { by: By::Contract, id, status, delete } => {
                format!("SELECT procrastinate_finish_job_v1({id}, '{status}', {delete}) AS returned")
            }
            Self::Finish { by: By::Crate, id, status, delete } => {
                format!("SELECT * FROM procrastinate_diesel_finish_job_v1({id}, '{status}', {delete})")
            }
            Self::Cancel { id, abort, delete } => {
                format!("SELECT procrastinate_cancel_job_v1({id}, {abort}, {delete}) AS id")
            }
            Self::Retry { version: Some(version), id, retry } => {
                format!("SELECT procrastinate_retry_job_v{version}({}) AS returned", retry_args(*id, *retry))
            }
            Self::Retry { version: None, id, retry } => {
                format!("SELECT * FROM procrastinate_diesel_retry_job_v1({})", retry_args(*id, *retry))
            }
            Self::Rescue(rescues) => {
                let rescues = rescues.iter().map(|Rescue { id, attempts, retry }| {
                    let mut rescue = retry.map_or(json!({}), retry_json);
                    rescue["job_id"] = json!(id);
                    rescue["attempts"] = json!(attempts);
                    rescue["is_retried"] = json!(retry.is_some());
                    rescue["error"] = json!(ERRORS[1]);
                    rescue
                });
                format!("SELECT * FROM procrastinate_diesel_rescue_jobs_v1('{}')", Value::from_iter(rescues))
            }
            Self::DeleteOld { statuses, queue } => format!(
                "SELECT deleted, has_more FROM procrastinate_diesel_delete_old_jobs_v1({}, '1 day', {}, NULL, NULL)",
                array(statuses.iter()),
                quoted(*queue)
            ),
            _ => self.query_of_workers(),
        }
    }

    fn query_of_workers(&self) -> String {
        match self {
            Self::Register => "SELECT worker_id FROM procrastinate_register_worker_v1()".to_owned(),
            Self::Unregister { by: By::Contract, worker } => {
                format!("SELECT procrastinate_unregister_worker_v1({worker}) AS returned")
            }
            Self::Unregister { by: By::Crate, worker } => {
                format!("SELECT * FROM procrastinate_diesel_unregister_worker_v1({worker}, 1000)")
            }
            Self::Heartbeat { by: By::Contract, worker } => {
                format!("SELECT procrastinate_update_heartbeat_v1({worker}) AS returned")
            }
            Self::Heartbeat { by: By::Crate, worker } => {
                format!("SELECT procrastinate_diesel_update_heartbeat_v1({worker}) AS workers")
            }
            Self::Prune => "SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(60)".to_owned(),
            Self::ReleaseStalled => "SELECT * FROM procrastinate_diesel_release_stalled_workers_v1(60)".to_owned(),
            Self::RemoveWorker { worker } => {
                format!("SELECT * FROM procrastinate_diesel_remove_worker_v1({worker}, 1000)")
            }
            Self::HeldJobs { worker } => format!("SELECT * FROM procrastinate_diesel_held_jobs_v1({worker})"),
            Self::JobsOfWorker { worker, ids } => {
                format!("SELECT id FROM procrastinate_diesel_jobs_of_worker_v1({worker}, {})", array(ids.iter()))
            }
            Self::Reregister { former, new, jobs } => {
                let (ids, attempts) = (array(jobs.iter().map(|job| job.0)), array(jobs.iter().map(|job| job.1)));
                format!("SELECT * FROM procrastinate_diesel_reregister_worker_v1({former}, {new}, {ids}, {attempts})")
            }
            Self::DrawId => "SELECT procrastinate_diesel_draw_worker_id_v1() AS id".to_owned(),
            _ => "SELECT id FROM procrastinate_diesel_jobs_without_worker_v1('{walk, tick}')".to_owned(),
        }
    }

    /// Runs the statement, and returns its rows.
    pub fn run(&self, connection: &mut PgConnection) -> Result<Vec<String>, Failure> {
        let failure = |error: &dyn ToString| Failure(error.to_string());
        match self {
            Self::Defer(job) => {
                let deferred = job.to_defer("walk").defer_unless_enqueued_blocking(connection);
                deferred.map(|id| id.map(|id| id.to_string()).into_iter().collect()).map_err(|error| failure(&error))
            }
            Self::Reschedule { id, at } => {
                let operation = reschedule_job(*id);
                let operation = at.at().map_or(operation.clone(), |at| operation.schedule_at(at));
                changed(operation.execute_blocking(connection))
            }
            Self::DeleteJob { id } => changed(delete_job(*id).execute_blocking(connection)),
            Self::Silence { .. } | Self::Age => {
                let done = diesel::connection::SimpleConnection::batch_execute(connection, &self.sql());
                done.map(|()| Vec::new()).map_err(|error| failure(&error))
            }
            _ => {
                let query = self.query();
                let found = try_rows(connection, &query).map_err(|error| failure(&error))?;
                // Nothing is NULL or empty, as the language of the function has it.
                Ok(if query.ends_with(" AS returned") { Vec::new() } else { found })
            }
        }
    }
}

/// Whether an operation of the job manager has changed its job, and if not, what it found.
fn changed(result: Result<(), procrastinate::Error>) -> Result<Vec<String>, Failure> {
    match result {
        Ok(()) => Ok(vec!["changed".to_owned()]),
        Err(procrastinate::Error::WrongStatus { status, .. }) => Ok(vec![status.to_string()]),
        Err(procrastinate::Error::JobNotFound { .. }) => Ok(vec!["not found".to_owned()]),
        Err(error) => Err(Failure(error.to_string())),
    }
}

fn defer_jobs(jobs: &[NewJob]) -> String {
    let row = |job: &NewJob| format!("ROW({})::procrastinate_job_to_defer_v1", columns(job));
    let list = jobs.iter().map(row).collect::<Vec<_>>().join(", ");
    let call = format!("procrastinate_defer_jobs_v1(ARRAY[{list}]::procrastinate_job_to_defer_v1[])");
    format!("SELECT id FROM unnest({call}) AS id")
}

fn defer_or_replace(choice: &str, jobs: &[NewJob]) -> String {
    let (jobs, choices) = (parallel_arrays(jobs), array(jobs.iter().map(|_| choice)));
    format!("SELECT job_id, effect FROM procrastinate_diesel_defer_or_replace_jobs_v1({jobs}, {choices})")
}

/// The columns of the jobs, each as an array.
fn parallel_arrays(jobs: &[NewJob]) -> String {
    let list = |column: fn(&NewJob) -> String| array(jobs.iter().map(column));
    let text = |value: Option<&str>| value.unwrap_or("NULL").to_owned();
    [
        list(|job| job.queue.to_owned()),
        list(|_| "walk".to_owned()),
        list(|job| job.priority.to_string()),
        array(jobs.iter().map(|job| text(job.lock))),
        array(jobs.iter().map(|job| text(job.queueing_lock))),
        list(|_| "\"{}\"".to_owned()),
        array(jobs.iter().map(|job| job.schedule.at().map_or("NULL".to_owned(), |at| format!("\"{at}\"")))),
    ]
    .join(", ")
}

fn finish_and_fetch(
    worker: i64,
    outcomes: &[Outcome],
    queues: Option<&[&str]>,
    slots: usize,
    one_by_one: bool,
) -> String {
    let mut finished = Vec::new();
    let mut deleted = Vec::new();
    let mut retries = Vec::new();
    let mut errors = Vec::new();
    for Outcome { id, attempts, ending } in outcomes {
        let has_error = match ending {
            Ending::Finish { status, with_error } => {
                finished.push((id, status, or_null(*attempts)));
                *with_error
            }
            Ending::Delete => {
                deleted.push((id, or_null(*attempts)));
                false
            }
            Ending::Retry { retry, counts, is_deleted_if_failed, with_error } => {
                let mut retry = retry_json(*retry);
                retry["job_id"] = json!(id);
                retry["attempts"] = json!(attempts);
                retry["counts_as_attempt"] = json!(counts);
                retry["is_deleted_if_failed"] = json!(is_deleted_if_failed);
                retries.push(retry);
                *with_error
            }
        };
        if has_error {
            let error = ERRORS[0];
            errors.push(json!({ "job_id": id, "attempts": attempts, "error": error, "worker_name": "w", "duration_seconds": 1 }));
        }
    }
    format!(
        "SELECT kind, id FROM procrastinate_diesel_finish_and_fetch_jobs_v1({worker}, {}, {}, {}, {slots}, '{}', {}, \
         '{}', {one_by_one}, NULL, {}, {})",
        array(finished.iter().map(|job| job.0)),
        array(finished.iter().map(|job| job.1)),
        array_or_null(queues),
        Value::from(retries),
        array(deleted.iter().map(|job| job.0)),
        Value::from(errors),
        array(finished.iter().map(|job| &job.2)),
        array(deleted.iter().map(|job| &job.1)),
    )
}
