//! The tables as lines of text, and the model from and to the same lines.

use std::fmt::Display;

use diesel::PgConnection;

use super::model::{Age, Functions, Heartbeat, Job, LOCKS, Model, NewJob, QUEUEING_LOCKS, QUEUES, Schedule};
use crate::support::rows;

pub const TASKS: [&str; 2] = ["walk", "tick"];
pub const PERIODIC_IDS: [&str; 2] = ["one", "two"];
pub const ERRORS: [&str; 2] = ["it failed", "its worker died"];
const STATUSES: [&str; 6] = ["todo", "doing", "succeeded", "failed", "cancelled", "aborted"];
const EVENTS: [&str; 10] = [
    "deferred",
    "started",
    "deferred_for_retry",
    "failed",
    "succeeded",
    "cancelled",
    "abort_requested",
    "aborted",
    "scheduled",
    "retried",
];

/// Everything in the tables, one line for a job, a worker or a tick.
const TABLES: &str = "
    SELECT concat_ws('|', 'job', id, task_name, queue_name, priority, coalesce(lock, '-'), coalesce(queueing_lock, '-'),
            status, attempts, abort_requested, coalesce(worker_id::text, '-'),
            CASE WHEN scheduled_at IS NULL THEN '-' WHEN scheduled_at < '2021-01-01' THEN 'past'
                 WHEN scheduled_at > '2900-01-01' THEN 'future' ELSE 'present' END,
            coalesce((SELECT string_agg(concat(type, ':', CASE WHEN at > '2900-01-01' THEN 'future'
                        WHEN at < now() - interval '1 day' THEN 'old' ELSE 'fresh' END), ' ' ORDER BY event.id)
                     FROM procrastinate_events AS event WHERE event.job_id = job.id), ''),
            coalesce((SELECT string_agg(concat(attempt, ':', error), ',' ORDER BY attempt)
                     FROM procrastinate_diesel_job_errors AS error WHERE error.job_id = job.id), '')) AS line
    FROM procrastinate_jobs AS job
    UNION ALL
    SELECT concat_ws('|', 'worker', id, CASE WHEN last_heartbeat <= 'epoch' THEN 'released'
            WHEN last_heartbeat < now() - interval '1 minute' THEN 'stalled' ELSE 'fresh' END)
    FROM procrastinate_workers
    UNION ALL
    SELECT concat_ws('|', 'tick', periodic_id, defer_timestamp, coalesce(job_id::text, '-'))
    FROM procrastinate_periodic_defers";

/// The lines of the tables, sorted.
pub fn lines(connection: &mut PgConnection) -> Vec<String> {
    let mut lines = rows(connection, TABLES);
    lines.sort();
    lines
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn job_line(id: i64, job: &Job) -> String {
    let schedule = match job.new.schedule {
        Schedule::AtOnce => "-",
        Schedule::Past => "past",
        Schedule::Future => "future",
        Schedule::Present => "present",
    };
    let age = |age: Age| match age {
        Age::Old => "old",
        Age::Fresh => "fresh",
        Age::Future => "future",
    };
    let events: Vec<String> = job.events.iter().map(|(kind, at)| format!("{kind}:{}", age(*at))).collect();
    let errors: Vec<String> = job.errors.iter().map(|(attempt, error)| format!("{attempt}:{error}")).collect();
    [
        "job".to_owned(),
        id.to_string(),
        job.task.to_owned(),
        job.new.queue.to_owned(),
        job.new.priority.to_string(),
        or_dash(job.new.lock),
        or_dash(job.new.queueing_lock),
        job.status.to_owned(),
        job.attempts.to_string(),
        if job.abort_requested { "t" } else { "f" }.to_owned(),
        or_dash(job.worker),
        schedule.to_owned(),
        events.join(" "),
        errors.join(","),
    ]
    .join("|")
}

fn known(texts: &[&'static str], text: &str) -> &'static str {
    texts.iter().find(|known| **known == text).unwrap_or_else(|| panic!("the database has the unknown text {text}"))
}

fn optional(text: &str) -> Option<&str> {
    (text != "-").then_some(text)
}

fn job_of(columns: &[&str]) -> (i64, Job) {
    let [id, task, queue, priority, lock, queueing_lock, status, attempts, abort, worker, schedule, events, errors] =
        columns
    else {
        panic!("the columns of a job are {columns:?}");
    };
    let new = NewJob {
        queue: known(&QUEUES, queue),
        priority: priority.parse().unwrap(),
        lock: optional(lock).map(|lock| known(&LOCKS, lock)),
        queueing_lock: optional(queueing_lock).map(|lock| known(&QUEUEING_LOCKS, lock)),
        schedule: match *schedule {
            "-" => Schedule::AtOnce,
            "past" => Schedule::Past,
            "future" => Schedule::Future,
            _ => Schedule::Present,
        },
    };
    let event = |event: &str| {
        let (kind, age) = event.split_once(':').unwrap();
        let age = match age {
            "old" => Age::Old,
            "fresh" => Age::Fresh,
            _ => Age::Future,
        };
        (known(&EVENTS, kind), age)
    };
    let error = |error: &str| {
        let (attempt, text) = error.split_once(':').unwrap();
        (attempt.parse().unwrap(), known(&ERRORS, text))
    };
    let job = Job {
        new,
        task: known(&TASKS, task),
        status: known(&STATUSES, status),
        attempts: attempts.parse().unwrap(),
        abort_requested: *abort == "t",
        worker: optional(worker).map(|worker| worker.parse().unwrap()),
        events: events.split_whitespace().map(event).collect(),
        errors: errors.split_terminator(',').map(error).collect(),
    };
    (id.parse().unwrap(), job)
}

impl Model {
    /// The lines of the tables as they should be, sorted.
    pub fn lines(&self) -> Vec<String> {
        let jobs = self.jobs.iter().map(|(id, job)| job_line(*id, job));
        let workers = self.workers.iter().map(|(id, heartbeat)| {
            let heartbeat = match heartbeat {
                Heartbeat::Fresh => "fresh",
                Heartbeat::Stalled => "stalled",
                Heartbeat::Released => "released",
            };
            format!("worker|{id}|{heartbeat}")
        });
        let ticks = self.ticks.iter().map(|((id, tick), job)| format!("tick|{id}|{tick}|{}", or_dash(*job)));
        let mut lines: Vec<String> = jobs.chain(workers).chain(ticks).collect();
        lines.sort();
        lines
    }

    /// The model of these tables.
    pub fn of_lines(functions: Functions, lines: &[String]) -> Self {
        let mut model = Self::of(functions);
        for line in lines {
            let columns: Vec<&str> = line.split('|').collect();
            match columns[..] {
                ["worker", id, heartbeat] => {
                    let heartbeat = match heartbeat {
                        "fresh" => Heartbeat::Fresh,
                        "stalled" => Heartbeat::Stalled,
                        _ => Heartbeat::Released,
                    };
                    model.workers.insert(id.parse().unwrap(), heartbeat);
                }
                ["tick", id, tick, job] => {
                    let job = optional(job).map(|job| job.parse().unwrap());
                    model.ticks.insert((known(&PERIODIC_IDS, id), tick.parse().unwrap()), job);
                }
                _ => {
                    let (id, job) = job_of(&columns[1..]);
                    model.jobs.insert(id, job);
                }
            }
        }
        model
    }
}
