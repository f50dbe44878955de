//! An application on PostgreSQL or in memory, and what can be observed of it.

use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::PgConnection;
use diesel::prelude::*;
use diesel::result::Error::DatabaseError;
use procrastinate::job_manager::Operation;
use procrastinate::models::{
    ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinateJobOptions, ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
};
use procrastinate::testing::InMemoryConnector;
use procrastinate::{App, Error};
use throwaway_postgres::Database;

use crate::support::connect;

/// Where the tables are.
enum Tables {
    InMemory(InMemoryConnector),
    InPostgres { connection: Box<PgConnection>, _database: Database },
}

pub struct Side {
    pub app: App,
    tables: Tables,
    /// What was written down.
    pub notes: Vec<String>,
}

impl Side {
    pub fn in_memory(app: App, memory: InMemoryConnector) -> Self {
        Self { app, tables: Tables::InMemory(memory), notes: Vec::new() }
    }

    pub fn in_postgres(app: App, database: Database) -> Self {
        let connection = Box::new(connect(&database));
        Self { app, tables: Tables::InPostgres { connection, _database: database }, notes: Vec::new() }
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Writes down what was answered.
    pub fn answer<T: Debug>(&mut self, to: &str, answer: Result<T, Error>) -> Option<T> {
        let note = match &answer {
            Ok(answer) => format!("{to}: {answer:?}"),
            Err(error) => format!("{to} is refused: {}", refusal(error)),
        };
        self.note(note);
        answer.ok()
    }

    /// Executes an operation of the job manager, and writes down what was answered.
    pub async fn execute<O: Operation<Output: Debug>>(&mut self, to: &str, operation: O) {
        let answer = self.app.perform(operation).await;
        self.answer(to, answer);
    }

    /// Writes down which jobs were answered.
    pub fn jobs_answer(&mut self, to: &str, answer: Result<Vec<ProcrastinateJob>, Error>) {
        let answer = answer.map(|jobs| jobs.iter().map(job_line).collect::<Vec<_>>());
        self.answer(to, answer);
    }

    /// All jobs, by number.
    pub fn jobs(&mut self) -> Vec<ProcrastinateJob> {
        match &mut self.tables {
            Tables::InMemory(memory) => memory.jobs(),
            Tables::InPostgres { connection, .. } => {
                ProcrastinateJob::query().order(ProcrastinateJob::oldest_first()).load(&mut **connection).unwrap()
            }
        }
    }

    /// All workers, by number.
    pub fn workers(&mut self) -> Vec<ProcrastinateWorker> {
        match &mut self.tables {
            Tables::InMemory(memory) => memory.workers(),
            Tables::InPostgres { connection, .. } => crate::support::workers(connection),
        }
    }

    fn events(&mut self) -> Vec<ProcrastinateEvent> {
        match &mut self.tables {
            Tables::InMemory(memory) => memory.events(),
            Tables::InPostgres { connection, .. } => {
                ProcrastinateEvent::query().order(ProcrastinateEvent::oldest_first()).load(&mut **connection).unwrap()
            }
        }
    }

    fn errors(&mut self) -> Vec<ProcrastinateJobError> {
        match &mut self.tables {
            Tables::InMemory(memory) => memory.job_errors(),
            Tables::InPostgres { connection, .. } => {
                let mut errors: Vec<ProcrastinateJobError> =
                    ProcrastinateJobError::query().load(&mut **connection).unwrap();
                errors.sort_by_key(|error| (error.job_id, error.attempt));
                errors
            }
        }
    }

    fn job_options(&mut self) -> Vec<ProcrastinateJobOptions> {
        match &mut self.tables {
            Tables::InMemory(memory) => memory.job_options(),
            Tables::InPostgres { connection, .. } => {
                let mut options: Vec<ProcrastinateJobOptions> =
                    ProcrastinateJobOptions::query().load(&mut **connection).unwrap();
                options.sort_by_key(|options| options.job_id);
                options
            }
        }
    }

    fn periodic_defers(&mut self) -> Vec<ProcrastinatePeriodicDefer> {
        match &mut self.tables {
            Tables::InMemory(memory) => memory.periodic_defers(),
            Tables::InPostgres { connection, .. } => {
                let mut defers: Vec<ProcrastinatePeriodicDefer> =
                    ProcrastinatePeriodicDefer::query().load(&mut **connection).unwrap();
                defers.sort_by_key(|defer| defer.id);
                defers
            }
        }
    }

    /// Writes down how all tables look: of each job its row, and its events in their order.
    pub fn look(&mut self) {
        let mut events = self.events();
        // Of one statement those of different jobs have no order.
        events.sort_by_key(|event| (event.job_id, event.id));
        for job in self.jobs() {
            let its_events = events.iter().filter(|event| event.job_id == job.id).map(event_text);
            let its_events = its_events.collect::<Vec<_>>().join(", ");
            self.note(format!("{} with {its_events}", job_line(&job)));
        }
        let belong_to_jobs = events.iter().all(|event| self.jobs().iter().any(|job| job.id == event.job_id));
        assert!(belong_to_jobs, "an event is left behind");
        for error in self.errors() {
            let ProcrastinateJobError { job_id, attempt, error, worker_id, worker_name, duration_seconds, at, .. } =
                error;
            let is_measured = duration_seconds.is_some();
            self.note(format!(
                "error of job {job_id}, attempt {attempt}: {error:?} of {worker_id:?} {worker_name:?}, \
                 measured: {is_measured}, {}",
                time_text(Some(at))
            ));
        }
        for options in self.job_options() {
            let ProcrastinateJobOptions { job_id, start_before, limit_key, checked_at, is_expired, .. } = options;
            let time = time_text(start_before);
            let is_checked = checked_at.is_some();
            self.note(format!("options {job_id}: {time}, {limit_key:?}, checked: {is_checked}, expired: {is_expired}"));
        }
        for worker in self.workers() {
            self.note(format!("worker {}, {}", worker.id, time_text(Some(worker.last_heartbeat))));
        }
        for defer in self.periodic_defers() {
            let ProcrastinatePeriodicDefer { id, task_name, defer_timestamp, job_id, periodic_id, .. } = defer;
            self.note(format!("tick {id}: {task_name} {periodic_id:?} at {defer_timestamp:?} as {job_id:?}"));
        }
    }
}

fn job_line(job: &ProcrastinateJob) -> String {
    let ProcrastinateJob { id, queue_name, task_name, priority, lock, queueing_lock, args, status, .. } = job;
    let ProcrastinateJob { scheduled_at, attempts, abort_requested, worker_id, .. } = job;
    let at = time_text(*scheduled_at);
    format!(
        "job {id}: {task_name}{args} in {queue_name:?}, {priority}, {lock:?}, {queueing_lock:?}, {status}, {at}, \
         {attempts} attempts, abort: {abort_requested}, worker {worker_id:?}"
    )
}

fn event_text(event: &ProcrastinateEvent) -> String {
    let label = event.event_type.as_ref().map_or("none".to_owned(), ToString::to_string);
    format!("{label} ({})", time_text(event.at))
}

/// Both take some time. So a time near now is shown relative to now, rounded to half an hour; any other exactly.
pub fn time_text(time: Option<DateTime<Utc>>) -> String {
    let Some(time) = time else { return "no time".to_owned() };
    let from_now = time - Utc::now();
    if from_now.abs() > TimeDelta::days(30) {
        return time.to_rfc3339();
    }
    format!("now + {} h", (from_now.num_milliseconds() as f64 / 1_800_000.0).round() / 2.0 + 0.0)
}

/// An error with all that Diesel knows of it.
fn refusal(error: &Error) -> String {
    match error.as_diesel() {
        Some(DatabaseError(kind, information)) => format!(
            "{error} ({kind:?}, {:?}, {:?}, {:?})",
            information.table_name(),
            information.constraint_name(),
            information.details()
        ),
        _ => error.to_string(),
    }
}
