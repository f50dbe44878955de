//! One client at a time: after each random step the database and the model are in the same state.

use diesel::prelude::*;
use procrastinate::{JobId, batch_defer_blocking};
use serde_json::{Value, json};

use super::model::{Functions, LOCKS, Model, NewJob, QUEUES, Refused, Retry, Schedule};
use super::{Random, connect};
use crate::support::{database, rows, sql, try_rows};

/// A job, and the status with which it ended.
type Ended = (i64, &'static str);

/// Something that a client does.
#[derive(Debug)]
enum Step {
    Defer(NewJob),
    BatchDefer(Vec<NewJob>),
    /// By the contract's own function.
    DeferJobs(Vec<NewJob>),
    Fetch {
        worker: i64,
        queues: Option<Vec<&'static str>>,
    },
    FinishAndFetch {
        worker: i64,
        finished: Vec<Ended>,
        retried: Vec<(i64, Retry)>,
        queues: Option<Vec<&'static str>>,
        slots: usize,
    },
    Finish {
        id: i64,
        end_status: &'static str,
        delete: bool,
    },
    Cancel {
        id: i64,
        abort: bool,
        delete: bool,
    },
    Retry {
        version: u8,
        id: i64,
        retry: Retry,
    },
    ReplaceWorker(i64),
}

struct Walk<'a> {
    random: Random,
    model: Model,
    workers: Vec<i64>,
    connection: &'a mut PgConnection,
}

#[test]
fn the_database_does_what_the_model_does() {
    let database = database();
    walk(&mut connect(&database), Functions::Ours, 0..40);
}

/// Takes random steps with each of these seeds.
pub fn walk(connection: &mut PgConnection, functions: Functions, seeds: std::ops::Range<u64>) {
    const STEPS: usize = 150;
    const TABLES: &str =
        "procrastinate_jobs, procrastinate_workers, procrastinate_events, procrastinate_periodic_defers";
    for random in Random::each(seeds) {
        sql(connection, &format!("TRUNCATE {TABLES} RESTART IDENTITY CASCADE"));
        let workers = (0..3).map(|_| register(connection)).collect();
        let mut walk = Walk { random, model: Model::of(functions), workers, connection };
        for number in 0..STEPS {
            let step = walk.choose();
            walk.take(&step);
            assert_same(&walk.found(), &walk.expected(), &format!("after step {number}, {step:?}"));
        }
        assert_same(&walk.found_events(), &walk.expected_events(), "the events at the end");
    }
}

fn register(connection: &mut PgConnection) -> i64 {
    rows(connection, "SELECT * FROM procrastinate_register_worker_v1()")[0].parse().unwrap()
}

impl Walk<'_> {
    fn choose(&mut self) -> Step {
        match self.random.below(20) {
            0..=3 => Step::Defer(NewJob::any(&mut self.random)),
            4 => Step::BatchDefer(self.any_jobs()),
            5 => Step::DeferJobs(self.any_jobs()),
            6..=8 => Step::Fetch { worker: self.any_worker(), queues: self.any_queues() },
            9..=12 => {
                let worker = self.any_worker();
                let (finished, retried) = self.any_endings(worker);
                Step::FinishAndFetch {
                    worker,
                    finished,
                    retried,
                    queues: self.any_queues(),
                    slots: self.random.below(5),
                }
            }
            13..=14 => Step::Finish { id: self.any_id(), end_status: self.any_end(), delete: self.random.once_in(4) },
            15..=16 => {
                Step::Cancel { id: self.any_id(), abort: self.random.once_in(2), delete: self.random.once_in(4) }
            }
            17..=18 => {
                let retry = self.any_retry();
                Step::Retry { version: self.random.pick(&[1, 2]), id: self.any_id(), retry }
            }
            _ => Step::ReplaceWorker(self.any_worker()),
        }
    }

    fn any_jobs(&mut self) -> Vec<NewJob> {
        (0..self.random.below(6)).map(|_| NewJob::any(&mut self.random)).collect()
    }

    fn any_worker(&mut self) -> i64 {
        self.random.pick(&self.workers)
    }

    fn any_queues(&mut self) -> Option<Vec<&'static str>> {
        if self.random.once_in(3) {
            return None;
        }
        Some(QUEUES.into_iter().filter(|_| !self.random.once_in(3)).collect())
    }

    fn any_end(&mut self) -> &'static str {
        self.random.pick(&["succeeded", "succeeded", "failed", "failed", "aborted"])
    }

    /// A job's number, more often that of a running one; now and then one that does not exist.
    fn any_id(&mut self) -> i64 {
        let running = |id: &i64| self.model.jobs[id].status == "doing";
        let mut ids: Vec<i64> = self.model.jobs.keys().copied().filter(running).collect();
        if ids.is_empty() || self.random.once_in(2) {
            ids = self.model.jobs.keys().copied().collect();
            ids.push(1_000_000);
        }
        self.random.pick(&ids)
    }

    fn any_retry(&mut self) -> Retry {
        Retry {
            at: Schedule::any(&mut self.random),
            priority: self.random.once_in(2).then(|| self.random.pick(&[-1, 0, 1])),
            queue: self.random.once_in(2).then(|| self.random.pick(&QUEUES)),
            lock: self.random.once_in(2).then(|| self.random.pick(&LOCKS)),
        }
    }

    /// Some jobs of a worker, and sometimes one that is not its own: those that end, and those that are to be retried.
    fn any_endings(&mut self, worker: i64) -> (Vec<Ended>, Vec<(i64, Retry)>) {
        let own = self.model.jobs.iter().filter(|(_, job)| job.worker == Some(worker) && job.status == "doing");
        let mut ids: Vec<i64> = own.map(|(id, _)| *id).filter(|_| self.random.once_in(2)).collect();
        if self.random.once_in(5) {
            let other = self.any_id();
            ids.extend((!ids.contains(&other)).then_some(other));
        }
        ids.sort_unstable();
        let (retried, finished): (Vec<i64>, Vec<i64>) = ids.into_iter().partition(|_| self.random.once_in(3));
        let finished = finished.into_iter().map(|id| (id, self.any_end())).collect();
        // Without a time it is the present, which a model cannot know.
        let at = self.random.pick(&[Schedule::Past, Schedule::Future]);
        (finished, retried.into_iter().map(|id| (id, Retry { at, ..self.any_retry() })).collect())
    }

    /// Does the same to the database and to the model. The results must agree.
    fn take(&mut self, step: &Step) {
        match step {
            Step::Defer(job) => {
                let answer = job.to_defer("walk").defer_unless_enqueued_blocking(self.connection).unwrap();
                self.inserted(&[*job], answer.map(|id| vec![id]));
            }
            Step::BatchDefer(jobs) => {
                let answer = batch_defer_blocking(jobs.iter().map(|job| job.to_defer("walk")), self.connection);
                let refused = answer.as_ref().is_err_and(procrastinate::Error::is_already_enqueued);
                self.inserted(jobs, if refused { None } else { Some(answer.unwrap()) });
            }
            Step::DeferJobs(jobs) => self.defer_jobs(jobs),
            Step::Fetch { worker, queues } => {
                let fetch = format!("procrastinate_fetch_job_v2({}, {worker})", array_or_null(queues.as_deref()));
                let found = rows(self.connection, &format!("SELECT id FROM {fetch}"));
                let expected = self.model.fetch(queues.as_deref(), *worker);
                assert_eq!(found, [expected.map_or("NULL".to_owned(), |id| id.to_string())], "{step:?}");
            }
            Step::FinishAndFetch { worker, finished, retried, queues, slots } => {
                self.finish_and_fetch(*worker, finished, retried, queues.as_deref(), *slots);
            }
            Step::Finish { id, end_status, delete } => {
                let found = self.call(&format!("procrastinate_finish_job_v1({id}, '{end_status}', {delete})"));
                assert_eq!(found.map(drop), self.model.finish(*id, end_status, *delete), "{step:?}");
            }
            Step::Cancel { id, abort, delete } => {
                let found = self.call(&format!("procrastinate_cancel_job_v1({id}, {abort}, {delete})"));
                let expected = self.model.cancel(*id, *abort, *delete);
                assert_eq!(found.unwrap(), expected.map_or("NULL".to_owned(), |id| id.to_string()), "{step:?}");
            }
            Step::Retry { version, id, retry } => {
                let Retry { at, priority, queue, lock } = *retry;
                let (at, priority) = (quoted(at.at()), priority.map_or("NULL".to_owned(), |it| it.to_string()));
                let arguments = format!("{id}, {at}, {priority}, {}, {}", quoted(queue), quoted(lock));
                let found = self.call(&format!("procrastinate_retry_job_v{version}({arguments})"));
                assert_eq!(found.map(drop), self.model.retry(*id, *retry, *version == 2), "{step:?}");
            }
            Step::ReplaceWorker(worker) => {
                self.call(&format!("procrastinate_unregister_worker_v1({worker})")).unwrap();
                self.model.forget_worker(*worker);
                self.workers.retain(|other| other != worker);
                self.workers.push(register(self.connection));
            }
        }
    }

    /// Calls a function that returns one value.
    fn call(&mut self, function: &str) -> Result<String, Refused> {
        let answer = try_rows(self.connection, &format!("SELECT {function} AS returned"));
        answer.map(|rows| rows[0].clone()).map_err(|error| {
            let text = error.to_string();
            let reasons = ["Job was not found", "jobs_queueing_lock_idx_v1", "check_not_todo_abort_requested"];
            assert!(reasons.iter().any(|reason| text.contains(reason)), "{text} in {function}");
            Refused
        })
    }

    fn inserted(&mut self, jobs: &[NewJob], answer: Option<Vec<JobId>>) {
        let taken = |(place, job): (usize, &NewJob)| {
            let twice = jobs[..place].iter().any(|other| other.queueing_lock == job.queueing_lock);
            self.model.is_enqueued(job.queueing_lock) || (twice && job.queueing_lock.is_some())
        };
        let refused = jobs.iter().enumerate().any(taken);
        assert_eq!(answer.is_none(), refused, "{jobs:?}");
        for (id, job) in answer.into_iter().flatten().zip(jobs) {
            self.model.insert(id, *job);
        }
    }

    fn defer_jobs(&mut self, jobs: &[NewJob]) {
        let row = |job: &NewJob| {
            let NewJob { queue, priority, lock, queueing_lock, schedule } = *job;
            let (lock, queueing_lock, at) = (quoted(lock), quoted(queueing_lock), quoted(schedule.at()));
            format!(
                "ROW('{queue}', 'walk', {priority}, {lock}, {queueing_lock}, '{{}}', {at})::procrastinate_job_to_defer_v1"
            )
        };
        let list = jobs.iter().map(row).collect::<Vec<_>>().join(", ");
        let call = format!("procrastinate_defer_jobs_v1(ARRAY[{list}]::procrastinate_job_to_defer_v1[])");
        let answer = try_rows(self.connection, &format!("SELECT id FROM unnest({call}) AS id")).ok();
        let numbers = |ids: Vec<String>| ids.iter().map(|id| JobId::from(id.parse::<i64>().unwrap())).collect();
        self.inserted(jobs, answer.map(numbers));
    }

    fn finish_and_fetch(
        &mut self,
        worker: i64,
        finished: &[Ended],
        retried: &[(i64, Retry)],
        queues: Option<&[&str]>,
        slots: usize,
    ) {
        let ids = finished.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(",");
        let ends = finished.iter().map(|(_, end)| *end).collect::<Vec<_>>().join(",");
        let retries = retried.iter().map(|(id, retry)| {
            let Retry { at, priority, queue, lock } = *retry;
            json!({ "job_id": id, "retry_at": at.at(), "priority": priority, "queue_name": queue, "lock": lock })
        });
        let retries = Value::from_iter(retries);
        let queue_array = array_or_null(queues);
        let arguments = format!("{worker}, '{{{ids}}}', '{{{ends}}}', {queue_array}, {slots}, '{retries}'");
        let call = format!("SELECT kind, id FROM procrastinate_diesel_finish_and_fetch_jobs_v1({arguments})");
        let mut found = rows(self.connection, &call);

        let finished = finished.iter().filter(|(id, end_status)| !self.model.finish_of_worker(*id, worker, end_status));
        let mut expected: Vec<String> = finished.map(|(id, _)| format!("lost | {id}")).collect();
        expected.extend(retried.iter().filter_map(|(id, retry)| {
            let told = self.model.retry_of_worker(*id, worker, *retry)?;
            Some(format!("{told} | {id}"))
        }));
        let fetched = (0..slots).map_while(|_| self.model.fetch(queues, worker));
        expected.extend(fetched.map(|id| format!("fetched | {id}")));
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    fn found(&mut self) -> Vec<String> {
        rows(
            self.connection,
            "SELECT id, queue_name, priority, lock, queueing_lock, status, attempts, abort_requested, worker_id, \
             extract(year FROM scheduled_at AT TIME ZONE 'UTC') FROM procrastinate_jobs ORDER BY id",
        )
    }

    fn expected(&self) -> Vec<String> {
        let row = |(id, job): (&i64, &super::model::Job)| {
            [
                id.to_string(),
                job.new.queue.to_owned(),
                job.new.priority.to_string(),
                job.new.lock.unwrap_or("NULL").to_owned(),
                job.new.queueing_lock.unwrap_or("NULL").to_owned(),
                job.status.to_owned(),
                job.attempts.to_string(),
                job.abort_requested.to_string(),
                job.worker.map_or("NULL".to_owned(), |worker| worker.to_string()),
                job.new.schedule.at().map_or("NULL".to_owned(), |at| at.format("%Y").to_string()),
            ]
            .join(" | ")
        };
        self.model.jobs.iter().map(row).collect()
    }

    fn found_events(&mut self) -> Vec<String> {
        let events = "SELECT job_id, string_agg(type::text, ' ' ORDER BY id) FROM procrastinate_events \
                      GROUP BY job_id ORDER BY job_id";
        rows(self.connection, events)
    }

    fn expected_events(&self) -> Vec<String> {
        self.model.jobs.iter().map(|(id, job)| format!("{id} | {}", job.events.join(" "))).collect()
    }
}

/// Compares rows, and shows those that differ.
fn assert_same(found: &[String], expected: &[String], context: &str) {
    let without = |rows: &[String], others: &[String]| -> Vec<String> {
        rows.iter().filter(|row| !others.contains(row)).cloned().collect()
    };
    assert_eq!(without(found, expected), without(expected, found), "{context}");
    assert_eq!(found.len(), expected.len(), "{context}");
}

fn array_or_null(queues: Option<&[&str]>) -> String {
    queues.map_or("NULL".to_owned(), |queues| format!("'{{{}}}'", queues.join(",")))
}

fn quoted(value: Option<impl ToString>) -> String {
    value.map_or("NULL".to_owned(), |value| format!("'{}'", value.to_string()))
}
