//! Random statements, each run in PostgreSQL and in memory. They include statements that only a worker runs, and the
//! effects of dead workers and lost responses.

mod ageing;
mod choices;
mod explain;
mod keys;
mod options;
mod rare;
mod schedules;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::expression::QueryMetadata;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_dsl::CompatibleType;
use diesel::result::Error::DatabaseError;
use fastrand::Rng;
use throwaway_postgres::{Database, Server};

use self::choices::{any_extras, any_job, any_queues, maybe};
use self::options::defer_or_replace;
use super::{Memory, MemoryConnection};
use crate::database::connection::run::{Blocking, Executable, Run, complete};
use crate::database::migrations::{MIGRATIONS, run_pending_migrations};
use crate::database::models::{ProcrastinateEvent, ProcrastinateFlowControl, ProcrastinateJob};
use crate::database::statements::cli::{
    CountOfJobs, CountOfOldJobs, ErrorsOfJob, EventsOfJob, NamesInUse, PageOfJobs, RetryJobByContract,
};
use crate::database::statements::defer::{InsertEachJob, InsertJobUnlessEnqueued, NewJob};
use crate::database::statements::explain::{HolderOfLock, JobsAhead, LastStart, NewestEventsOfJob, RegisteredWorkers};
use crate::database::statements::finish_and_fetch::{FinishAndFetchJobs, FinishedOrFetched, JobsOfWorker};
use crate::database::statements::flow_control::{ListFlowControlsQuery, PauseQuery, ResumeQuery, SetLimitQuery};
use crate::database::statements::inspect::{JobFilter, ListJobsQuery};
use crate::database::statements::manage::{CancelJobQuery, DeleteOldJobsQuery};
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::database::statements::rescue::JobsWithoutWorker;
use crate::database::statements::workers::{
    DrawWorkerId, HeldJobs, RegisterWorkerQuery, ReleaseStalledWorkers, ReleaseWorker, RemoveWorker,
    UnregisterWorkerQuery, UpdateHeartbeatQuery,
};
use crate::error::Error;
use crate::job::{Job, JobId};

const QUEUES: [&str; 2] = ["one", "two"];
const TASKS: [&str; 2] = ["task", "other"];
const LOCKS: [&str; 3] = ["a", "b", "c"];
const FUTURE: &str = "2100-01-01T00:00:00Z";

/// A connection to each of the two.
struct Both {
    postgres: PgConnection,
    memory: MemoryConnection,
    _database: Database,
    /// Everything that the rows contained.
    told: BTreeSet<String>,
}

/// The state after the last step.
#[derive(Default)]
struct Known {
    jobs: Vec<ProcrastinateJob>,
    workers: Vec<i64>,
}

impl Both {
    fn new() -> Self {
        let database = Server::shared().unwrap().create_database("statements").unwrap();
        let mut postgres = PgConnection::establish(database.url()).unwrap();
        run_pending_migrations(&mut postgres, MIGRATIONS).unwrap();
        Self { postgres, memory: Memory::default().connect(), _database: database, told: BTreeSet::new() }
    }

    /// Runs a statement in both, compares the texts of their rows in any order, and returns the rows of the memory.
    #[track_caller]
    fn ask<S>(&mut self, statement: impl Fn() -> S, told: impl Fn(&S::Row) -> String) -> Vec<S::Row>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        let expected = complete(Blocking(&mut self.postgres).load(statement()));
        let found = complete(self.memory.load(statement()));
        let sql = diesel::debug_query::<Pg, _>(&statement()).to_string();
        let (found_told, expected_told) = (told_of(&found, &told), told_of(&expected, &told));
        assert_eq!(found_told, expected_told, "in memory, and in PostgreSQL, for {sql}");
        self.told.extend(found_told.unwrap_or_else(|error| vec![error]));
        found.unwrap_or_default()
    }

    /// Compares all tables.
    fn look(&mut self, step: &str) -> Known {
        let jobs = self.ask(
            || ListJobsQuery { filter: JobFilter::default(), limit: None },
            |job| format!("after {step}: {}", job_text(job)),
        );
        for job_id in jobs.iter().map(|job| JobId::from(job.id)) {
            let event_text = |event: &ProcrastinateEvent| format!("{:?} {}", event.event_type, time_text(event.at));
            let events_of = |events: Result<Vec<_>, Error>| events.unwrap().iter().map(event_text).collect::<Vec<_>>();
            let (run, newest) = (&mut Blocking(&mut self.postgres), || NewestEventsOfJob { job_id });
            let expected = [complete(run.load(EventsOfJob { job_id })), complete(run.load(newest()))];
            let found = [complete(self.memory.load(EventsOfJob { job_id })), complete(self.memory.load(newest()))];
            assert_eq!(found.map(events_of), expected.map(events_of), "the events of job {job_id} after {step}");
            self.ask(
                || ErrorsOfJob { job_id },
                |error| {
                    let (attempt, text, worker) = (error.attempt, &error.error, error.worker_id);
                    format!("{attempt} {text} {worker:?} {:?} {:?}", error.worker_name, error.duration_seconds)
                },
            );
        }
        self.look_at_options(jobs.last().map_or(0, |job| job.id));
        let workers = self.ask(|| RegisteredWorkers, |worker| format!("worker {} after {step}", worker.id));
        Known { jobs, workers: workers.into_iter().map(|worker| worker.id).collect() }
    }
}

/// The texts of the rows, or of the error.
fn told_of<R>(answer: &Result<Vec<R>, Error>, told: impl Fn(&R) -> String) -> Result<Vec<String>, String> {
    match answer {
        Ok(rows) => {
            let mut rows: Vec<String> = rows.iter().map(told).collect();
            rows.sort();
            Ok(rows)
        }
        Err(error) => match error.as_diesel() {
            Some(DatabaseError(kind, information)) => {
                Err(format!("{kind:?} {} {:?}", information.message(), information.constraint_name()))
            }
            _ => Err(error.to_string()),
        },
    }
}

fn debug<R: Debug>(row: &R) -> String {
    format!("{row:?}")
}

fn time_text(time: Option<DateTime<Utc>>) -> String {
    match time {
        Some(time) if (time - Utc::now()).abs() < TimeDelta::hours(1) => "now".to_owned(),
        time => format!("{time:?}"),
    }
}

fn job_text(job: &ProcrastinateJob) -> String {
    let at = time_text(job.scheduled_at);
    format!("{at} {:?}", ProcrastinateJob { scheduled_at: None, ..job.clone() })
}

fn fetched_text(row: &FinishedOrFetched) -> String {
    match row {
        FinishedOrFetched::Lost(id) => format!("{id} is lost"),
        FinishedOrFetched::NotRetried(id) => format!("{id} is not retried"),
        FinishedOrFetched::Refused(id, problem) => format!("{id:?} is refused: {problem}"),
        FinishedOrFetched::Incomplete(id, missing, problem) => format!("{id} lacks {missing:?}: {problem}"),
        // A start counts a hundredth of the period too long at most.
        FinishedOrFetched::Wait(wait) if wait.as_secs() >= 3_500 => "wait for an hour".to_owned(),
        FinishedOrFetched::Wait(wait) => format!("wait for {} s", wait.as_secs_f64().round()),
        FinishedOrFetched::Fetched(fetched) => {
            let job = &fetched.job;
            format!("{} {:?}", time_text(job.scheduled_at), Job { scheduled_at: None, ..job.clone() })
        }
    }
}

/// Runs one statement in both.
fn step(both: &mut Both, known: &Known, random: &mut Rng) {
    // So that the statement can be made twice.
    let seed = random.u64(..);
    let again = || Rng::with_seed(seed);
    match random.u8(..27) {
        0..=3 => drop(both.ask(|| InsertJobUnlessEnqueued(any_job(&mut again())), debug)),
        4 => {
            let jobs = |random: &mut Rng| (0..3).map(|_| any_job(random)).collect();
            drop(both.ask(|| InsertEachJob { jobs: Arc::new(jobs(&mut again())) }, debug));
        }
        5..=10 => {
            both.ask(|| known.finish_and_fetch(&mut again()), fetched_text);
            both.tend();
        }
        11 => drop(both.ask(|| RegisterWorkerQuery, debug)),
        12 => remove_worker(both, known, random),
        13 => reregister(both, known, &again),
        14 => {
            both.ask(|| UpdateHeartbeatQuery { worker_id: known.worker(&mut again()) }, debug);
            both.ask(|| HeldJobs { worker_id: known.worker(&mut again()) }, debug);
        }
        15 => {
            let asked = |random: &mut Rng| JobsOfWorker { worker_id: known.worker(random), job_ids: known.ids(random) };
            drop(both.ask(|| asked(&mut again()), fetched_text));
        }
        16 => drop(both.ask(
            || JobsWithoutWorker { task_names: vec!["task".to_owned()], after: known.id(&mut again()) },
            fetched_text,
        )),
        17 => drop(both.ask(|| known.rescue(&mut again()), debug)),
        18 => {
            let abort = random.u8(..3) > 0;
            drop(both.ask(|| CancelJobQuery { job_id: known.id(&mut again()), abort, delete_job: false }, debug));
        }
        19 => drop(both.ask(|| RetryJobByContract(known.retry(&mut again())), |_| String::new())),
        20 => {
            let now = if random.bool() { FUTURE.parse().unwrap() } else { Utc::now() };
            let asked = |random: &mut Rng| FinishAndFetchJobs {
                due_at: Some(now),
                ..FinishAndFetchJobs::new(known.worker(random), any_queues(random), 1)
            };
            both.ask(|| asked(&mut again()), fetched_text);
            both.tend();
        }
        21 => defer_tick(both, random),
        22 => clear_away(both, random),
        23..=24 => control(both, random),
        25 => defer_or_replace(both, random),
        _ => browse(both, known, random),
    }
}

/// A worker re-registers, twice, as if the first response had been lost.
fn reregister(both: &mut Both, known: &Known, again: &impl Fn() -> Rng) {
    let new_id = both.ask(|| DrawWorkerId, debug)[0];
    for _ in 0..2 {
        both.ask(|| known.reregister(&mut again(), new_id), debug);
    }
}

fn remove_worker(both: &mut Both, known: &Known, random: &mut Rng) {
    let (worker_id, most) = (known.worker(random), 1_000);
    match random.u8(..5) {
        0 => drop(both.ask(|| UnregisterWorkerQuery { worker_id }, debug)),
        1 => drop(both.ask(|| ReleaseWorker { worker_id, most }, debug)),
        2 => drop(both.ask(|| ReleaseStalledWorkers { seconds_since_heartbeat: 3_600.0 }, debug)),
        _ => drop(both.ask(|| RemoveWorker { worker_id, most }, debug)),
    }
}

/// A tick of the next or last minutes, by both clocks.
fn defer_tick(both: &mut Both, random: &mut Rng) {
    let defer_timestamp = Utc::now().timestamp() / 100 * 100 + 50 * random.i64(-4..5);
    let job = NewJob { scheduled_at: None, ..any_job(random) };
    let extras = any_extras(random);
    let periodic_id = maybe(random, &["evening"]).unwrap_or_default();
    both.ask(
        || DeferPeriodicJob {
            job: job.clone(),
            extras: extras.clone(),
            periodic_id: periodic_id.clone(),
            defer_timestamp,
            version: None,
            run_requested_at: None,
        },
        debug,
    );
}

/// In steps. Where each of the two stops depends on the IDs of events, which have no order within a statement.
fn clear_away(both: &mut Both, random: &mut Rng) {
    let labels = ["succeeded", "failed", "cancelled", "aborted"];
    let statuses: Vec<_> = labels.into_iter().filter(|_| random.bool()).collect();
    let queue = maybe(random, &QUEUES);
    let statement = |start_after| DeleteOldJobsQuery {
        statuses: statuses.clone(),
        older_than_seconds: 0.0,
        queue: queue.clone(),
        max_events: Some(3),
        start_after,
    };
    let mut deleted = [0, 0];
    let mut start_after = [None, None];
    loop {
        let [of_postgres, of_memory] = start_after;
        let postgres = complete(Blocking(&mut both.postgres).load(statement(of_postgres))).unwrap().remove(0);
        let memory = complete(both.memory.load(statement(of_memory))).unwrap().remove(0);
        deleted = [deleted[0] + postgres.0, deleted[1] + memory.0];
        start_after = [Some(postgres.2), Some(memory.2)];
        assert_eq!(memory.1, postgres.1, "whether there are more events");
        if !memory.1 {
            break;
        }
    }
    assert_eq!(deleted[1], deleted[0], "the number of deleted jobs");
}

/// Pauses, resumes or limits a queue or task.
fn control(both: &mut Both, random: &mut Rng) {
    let (kind, names) = if random.bool() { ("queue", QUEUES) } else { ("task", TASKS) };
    let name = random.choice(names).unwrap().to_owned();
    let resume = || ResumeQuery { kind, name: name.clone() };
    let (paused_by, reason, skips_ticks) = (maybe(random, &["anna"]), maybe(random, &["why"]), random.bool());
    let set_limit = |max_running: Option<i32>, max_starts: Option<i32>| SetLimitQuery {
        kind,
        name: name.clone(),
        max_running,
        max_starts,
        start_period_seconds: max_starts.map(|_| 3_600.0),
    };
    match random.u8(..7) {
        0 => {
            let (paused_by, reason) = (|| paused_by.clone(), || reason.clone());
            let pause =
                || PauseQuery { kind, name: name.clone(), paused_by: paused_by(), reason: reason(), skips_ticks };
            drop(both.ask(pause, debug));
        }
        1..=2 => drop(both.ask(resume, debug)),
        3 => {
            let jobs = random.i32(1..4);
            drop(both.ask(|| set_limit(Some(jobs), None), debug));
        }
        4 => {
            let jobs = random.i32(1..20);
            drop(both.ask(|| set_limit(None, Some(jobs)), debug));
        }
        _ => drop(both.ask(|| set_limit(None, None), debug)),
    }
    both.ask(
        || ListFlowControlsQuery,
        |control| {
            let (since, changed_at) = (time_text(control.paused_at), Utc::now());
            format!(
                "{since} {:?}",
                ProcrastinateFlowControl {
                    paused_at: None,
                    changed_at,
                    keys_changed_at: changed_at,
                    ..control.clone()
                }
            )
            .replace(&format!("{changed_at:?}"), "")
        },
    );
}

fn browse(both: &mut Both, known: &Known, random: &mut Rng) {
    let meant = known.meant(random);
    let newest_first = random.bool();
    let beyond = random.bool().then(|| known.id(random));
    let limit = random.i64(0..5);
    let page = || PageOfJobs { meant: meant.clone(), newest_first, beyond, limit };
    both.ask(page, job_text);
    both.ask(|| CountOfJobs(meant.clone()), debug);
    let (job_id, priority) = (known.id(random), random.i32(0..3));
    let lock = random.choice(LOCKS).unwrap().to_owned();
    both.ask(|| HolderOfLock { job_id, lock: lock.clone(), priority }, job_text);
    let queue = random.choice(QUEUES).unwrap().to_owned();
    both.ask(|| JobsAhead { job_id, queue: queue.clone(), priority }, debug);
    let statuses = || vec!["succeeded".to_owned(), "failed".to_owned()];
    let old = |queue| CountOfOldJobs { statuses: statuses(), older_than_seconds: 0.0, queue };
    both.ask(|| old(Some(queue.clone())), debug);
    both.ask(|| old(None), debug);
    both.ask(|| LastStart { queue: queue.clone() }, |at| time_text(*at));
    both.ask(|| NamesInUse, debug);
    if let Some(job) = random.choice(&known.jobs) {
        both.explain(job);
    }
}
