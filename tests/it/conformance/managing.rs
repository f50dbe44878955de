//! The operations of the job manager.

use crate::support::hours;
use std::time::Duration;

use procrastinate::job_manager::{
    cancel_job, check_connection, delete_job, delete_old_jobs, fetch_job, finish_job, get_job_status, get_stalled_jobs,
    list_jobs, list_jobs_to_abort, list_locks, list_queues, list_tasks, prune_stalled_workers, register_worker,
    reschedule_job, retry_job, unregister_worker, update_heartbeat,
};
use procrastinate::migrations::MIGRATIONS;
use procrastinate::{JobStatus, configure_task};
use serde_json::json;

use super::on_both;
use super::side::Side;

/// A job of each status: 1 todo, 2 todo and scheduled, 3 doing, 4 doing with an abort request, 5 succeeded, 6 failed, 7
/// aborted, 8 cancelled, 9 todo with a former worker, 10 failed with an abort request.
async fn jobs_of_each_status(side: &mut Side) {
    let app = side.app.clone();
    let other = app.perform(register_worker()).await.unwrap();
    let worker = app.perform(register_worker()).await.unwrap();
    side.note(format!("workers {other} and {worker}"));
    for number in 1..=10 {
        let queue = if number % 2 == 0 { "even" } else { "odd" };
        let job = configure_task(format!("task {}", number % 3), json!({ "number": number })).queue(queue);
        let job = job.lock(format!("lock {number}")).queueing_lock(format!("queueing lock {number}"));
        // Those that are to be fetched go first.
        let job = if number > 2 { job.priority(10) } else { job };
        let far = "2100-01-01T00:00:00Z".parse().unwrap();
        app.defer(if number == 2 { job.schedule_at(far) } else { job }).await.unwrap();
    }
    for _ in 3..=10 {
        app.perform(fetch_job(worker)).await.unwrap().unwrap();
    }
    app.perform(cancel_job(4).abort(true)).await.unwrap();
    for (id, status) in [(5, JobStatus::Succeeded), (6, JobStatus::Failed), (7, JobStatus::Aborted)] {
        app.perform(finish_job(id, status)).await.unwrap();
    }
    app.perform(retry_job(8).retry_at("2100-01-01T00:00:00Z".parse().unwrap())).await.unwrap();
    app.perform(cancel_job(8)).await.unwrap();
    app.perform(retry_job(9).priority(1).queue("later").lock("another lock")).await.unwrap();
    app.perform(cancel_job(10).abort(true)).await.unwrap();
    app.perform(retry_job(10)).await.unwrap();
    side.look();
}

/// The numbers of all of them, and one that no job has.
const ALL: std::ops::RangeInclusive<i64> = 1..=11;

macro_rules! on_each_job {
    ($($name:ident: |$id:ident| $operation:expr;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                on_both(|app| app, async |side| {
                    jobs_of_each_status(side).await;
                    for $id in ALL {
                        let answer = side.app.perform($operation).await;
                        side.answer(&format!("job {}", $id), answer);
                    }
                })
                .await;
            }
        )+
    };
}

on_each_job! {
    a_job_of_each_status_is_cancelled: |id| cancel_job(id);
    a_job_of_each_status_is_aborted: |id| cancel_job(id).abort(true);
    a_job_of_each_status_is_cancelled_and_deleted: |id| cancel_job(id).delete_job(true);
    a_job_of_each_status_is_aborted_and_deleted: |id| cancel_job(id).abort(true).delete_job(true);
    a_job_of_each_status_is_retried: |id| retry_job(id);
    a_job_of_each_status_is_retried_otherwise: |id| {
        let far = "2100-01-01T00:00:00.0000019Z".parse().unwrap();
        retry_job(id).retry_at(far).priority(3).queue("other").lock("the lock of all")
    };
    a_job_of_each_status_succeeds: |id| finish_job(id, JobStatus::Succeeded);
    a_job_of_each_status_fails: |id| finish_job(id, JobStatus::Failed);
    a_job_of_each_status_ends_as_aborted: |id| finish_job(id, JobStatus::Aborted);
    a_job_of_each_status_ends_and_is_deleted: |id| finish_job(id, JobStatus::Failed).delete_job(true);
    a_job_of_each_status_is_deleted: |id| delete_job(id);
    a_job_of_each_status_is_rescheduled: |id| {
        reschedule_job(id).schedule_at("2100-02-01T00:00:00.0000019Z".parse().unwrap())
    };
    a_job_of_each_status_is_rescheduled_for_now: |id| reschedule_job(id);
    a_job_of_each_status_is_looked_up: |id| get_job_status(id);
}

#[tokio::test]
async fn jobs_are_listed_and_counted_by_every_filter() {
    on_both(
        |app| app,
        async |side| {
            jobs_of_each_status(side).await;
            let app = side.app.clone();
            for (name, list) in [
                ("all", list_jobs()),
                ("of a queue", list_jobs().queue("even")),
                ("of a task", list_jobs().task("task 1")),
                ("of a status", list_jobs().status(JobStatus::Doing)),
                ("of a lock", list_jobs().lock("another lock")),
                ("of a queueing lock", list_jobs().queueing_lock("queueing lock 4")),
                ("of a worker", list_jobs().worker_id(2)),
                ("of a number", list_jobs().id(3)),
                ("of several", list_jobs().queue("odd").status(JobStatus::Todo).task("task 1")),
                ("of none", list_jobs().queue("nobody's")),
                ("of an unknown status", list_jobs().status(JobStatus::from("new"))),
            ] {
                side.jobs_answer(name, app.perform(list).await);
            }
            side.answer("queues", app.perform(list_queues()).await);
            side.answer("queues of a task", app.perform(list_queues().task("task 1").status(JobStatus::Todo)).await);
            side.answer("tasks", app.perform(list_tasks().queue("odd")).await);
            side.answer("locks", app.perform(list_locks()).await);
            side.answer("locks of one", app.perform(list_locks().lock("lock 3")).await);
            side.answer("to abort", app.perform(list_jobs_to_abort()).await);
            side.answer("to abort in a queue", app.perform(list_jobs_to_abort().queue("odd")).await);
            side.answer("connection", app.perform(check_connection()).await);
        },
    )
    .await;
}

#[tokio::test]
async fn workers_without_heartbeats_are_pruned_and_their_jobs_are_stalled() {
    on_both(
        |app| app,
        async |side| {
            jobs_of_each_status(side).await;
            let app = side.app.clone();
            let stalled = |seconds| get_stalled_jobs().seconds_since_heartbeat(Duration::from_secs(seconds));
            side.jobs_answer("stalled", app.perform(stalled(3_600)).await);
            side.jobs_answer("stalled at once", app.perform(stalled(0)).await);
            side.answer("heartbeat", app.perform(update_heartbeat(1)).await);
            side.answer("heartbeat of nobody", app.perform(update_heartbeat(7)).await);
            let prune = |seconds| prune_stalled_workers().seconds_since_heartbeat(Duration::from_secs(seconds));
            side.answer("prune", app.perform(prune(3_600)).await);
            side.answer("unregister nobody", app.perform(unregister_worker(7)).await);
            side.answer("unregister", app.perform(unregister_worker(2)).await);
            side.look();
            side.jobs_answer("stalled", app.perform(stalled(3_600)).await);
            side.jobs_answer("stalled of a task", app.perform(stalled(3_600).task_name("task 0")).await);
            side.answer("prune all", app.perform(prune(0)).await);
            side.answer("register", app.perform(register_worker()).await);
        },
    )
    .await;
}

#[tokio::test]
async fn old_jobs_are_deleted_by_status_queue_and_age() {
    on_both(
        |app| app,
        async |side| {
            jobs_of_each_status(side).await;
            let app = side.app.clone();
            // Finished manually while they were pending.
            for (id, status) in [(1, JobStatus::Aborted), (2, JobStatus::Failed), (9, JobStatus::Succeeded)] {
                app.perform(finish_job(id, status)).await.unwrap();
            }
            for (name, delete) in [
                (
                    "a day old",
                    delete_old_jobs(hours(24)).include_failed(true).include_cancelled(true).include_aborted(true),
                ),
                ("of a queue", delete_old_jobs(hours(0)).queue("odd").include_failed(true)),
                ("succeeded", delete_old_jobs(hours(0))),
                ("aborted", delete_old_jobs(hours(0)).include_aborted(true)),
                ("all", delete_old_jobs(hours(0)).include_failed(true).include_cancelled(true).include_aborted(true)),
            ] {
                side.answer(name, app.perform(delete).await);
                side.look();
            }
        },
    )
    .await;
}

#[tokio::test]
async fn in_memory_there_is_nothing_to_migrate() {
    on_both(
        |app| app,
        async |side| {
            let connector = side.app.connector().clone();
            side.answer("check", connector.check_contract().await);
            side.answer("status", connector.migration_status(MIGRATIONS).await);
            side.answer("pre", connector.run_pre_migrations(MIGRATIONS).await);
            side.answer("migrate", connector.run_pending_migrations(MIGRATIONS).await);
        },
    )
    .await;
}
