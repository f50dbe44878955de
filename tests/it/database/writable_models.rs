//! Rows of the queue's tables as an application's tests make them.

use chrono::{TimeDelta, Utc};
use diesel::prelude::*;
use procrastinate::job_manager::{delete_old_jobs, get_stalled_jobs};
use procrastinate::models::{
    NewProcrastinateEvent, NewProcrastinateJob, NewProcrastinatePeriodicDefer, NewProcrastinateWorker,
    ProcrastinateEvent, ProcrastinateJob, ProcrastinatePeriodicDefer, ProcrastinateWorker,
};
use procrastinate::schema::{
    procrastinate_events, procrastinate_jobs, procrastinate_periodic_defers, procrastinate_workers,
};
use procrastinate::{JobEventType, JobId, JobStatus};
use serde_json::json;

use crate::support::{connect, database, events, hours as support_hours, jobs};

fn insert(connection: &mut PgConnection, job: &NewProcrastinateJob) -> ProcrastinateJob {
    let inserted = diesel::insert_into(procrastinate_jobs::table).values(job);
    inserted.returning(ProcrastinateJob::as_returning()).get_result(connection).unwrap()
}

#[test]
fn a_job_can_have_any_status_and_has_the_events_of_that_status() {
    let database = database();
    let mut connection = connect(&database);
    for label in ["todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
        let status = JobStatus::from(label);
        let new = NewProcrastinateJob {
            status: status.clone(),
            attempts: 2,
            args: json!({ "order": 7 }),
            lock: Some(format!("lock of {status}")),
            scheduled_at: Some("2030-01-01T12:00:00Z".parse().unwrap()),
            ..NewProcrastinateJob::of_task("send_invoice")
        };
        let job = insert(&mut connection, &new);
        assert_eq!((job.status, job.attempts, job.args, job.lock), (new.status, 2, new.args, new.lock));
        assert_eq!(job.scheduled_at, new.scheduled_at);
    }
    // The triggers have done what they do for everybody.
    let waiting = jobs(&mut connection).into_iter().find(|job| job.status == JobStatus::Todo).unwrap();
    assert_eq!(events(&mut connection, waiting.id.into()), ["scheduled", "deferred"]);
}

#[test]
fn changes_of_a_test_to_a_job_are_saved_including_removed_values() {
    let database = database();
    let mut connection = connect(&database);
    let new = NewProcrastinateJob { lock: Some("lock".to_owned()), ..NewProcrastinateJob::of_task("send_invoice") };
    let mut job = insert(&mut connection, &new);
    job.lock = None;
    job.priority = 7;
    let saved: ProcrastinateJob = job.save_changes(&mut connection).unwrap();
    assert_eq!(saved, job);
    assert_eq!(jobs(&mut connection), [job]);
}

#[test]
fn workers_events_and_ticks_are_made_and_saved_too() {
    let database = database();
    let mut connection = connect(&database);
    let hours = |hours| Utc::now() - TimeDelta::hours(hours);
    let dead = NewProcrastinateWorker { last_heartbeat: hours(1) };
    let mut worker: ProcrastinateWorker = diesel::insert_into(procrastinate_workers::table)
        .values(&dead)
        .returning(ProcrastinateWorker::as_returning())
        .get_result(&mut connection)
        .unwrap();
    let running = NewProcrastinateJob {
        status: JobStatus::Doing,
        worker_id: Some(worker.id),
        ..NewProcrastinateJob::of_task("report")
    };
    let running = insert(&mut connection, &running);
    assert_eq!(get_stalled_jobs().execute_blocking(&mut connection).unwrap(), std::slice::from_ref(&running));
    worker.last_heartbeat = hours(0);
    let _: ProcrastinateWorker = worker.save_changes(&mut connection).unwrap();
    assert_eq!(get_stalled_jobs().execute_blocking(&mut connection).unwrap(), []);

    let tick = NewProcrastinatePeriodicDefer {
        task_name: "report".to_owned(),
        defer_timestamp: Some(60),
        job_id: Some(JobId::from(running.id)),
        ..NewProcrastinatePeriodicDefer::default()
    };
    let mut tick: ProcrastinatePeriodicDefer = diesel::insert_into(procrastinate_periodic_defers::table)
        .values(&tick)
        .returning(ProcrastinatePeriodicDefer::as_returning())
        .get_result(&mut connection)
        .unwrap();
    tick.job_id = None;
    let _: ProcrastinatePeriodicDefer = tick.save_changes(&mut connection).unwrap();

    let ended = NewProcrastinateJob { status: JobStatus::Succeeded, ..NewProcrastinateJob::of_task("report") };
    let ended = insert(&mut connection, &ended);
    let event = NewProcrastinateEvent {
        job_id: ended.id.into(),
        event_type: Some(JobEventType::Succeeded),
        at: Some(hours(1)),
    };
    let mut event: ProcrastinateEvent = diesel::insert_into(procrastinate_events::table)
        .values(&event)
        .returning(ProcrastinateEvent::as_returning())
        .get_result(&mut connection)
        .unwrap();
    assert_eq!(delete_old_jobs(support_hours(2)).execute_blocking(&mut connection).unwrap(), 0);
    event.at = Some(hours(3));
    let _: ProcrastinateEvent = event.save_changes(&mut connection).unwrap();
    assert_eq!(delete_old_jobs(support_hours(2)).execute_blocking(&mut connection).unwrap(), 1);
}
