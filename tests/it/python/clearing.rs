//! Which jobs Python's job manager finds and deletes, and which ones ours does.

use diesel::prelude::*;
use procrastinate::job_manager::{
    JobCounts, cancel_job, delete_old_jobs, get_stalled_jobs, list_jobs, list_jobs_to_abort, list_locks, list_queues,
    list_tasks,
};
use procrastinate::{JobStatus, Task, builtin_tasks::RemoveOldJobs};
use serde_json::{Value, json};

use super::{Meeting, on_both_databases};
use crate::support::{connect, hours, jobs, sql, statuses};

on_both_databases!(
    both_job_managers_delete_the_same_jobs,
    both_job_managers_find_and_count_the_same_jobs,
    our_cancelling_is_pythons,
    python_defers_the_built_in_task_and_ours_runs_it,
    we_defer_the_built_in_task_and_python_runs_it,
);

/// Jobs in all statuses with histories of all kinds, possible ones and others. Ages are odd halves of hours, so that none
/// comes to be old between the one's look and the other's.
const EVERY_KIND_OF_JOB: &str = "
    SELECT setseed(0.31);
    INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()), (now() - interval '1 minute');
    ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER;
    INSERT INTO procrastinate_jobs (queue_name, task_name, status, lock, queueing_lock, worker_id)
    SELECT (ARRAY['x', 'y'])[1 + floor(random() * 2)], (ARRAY['a', 'b', 'ü'])[1 + floor(random() * 3)],
           (enum_range(NULL::procrastinate_job_status))[1 + floor(random() * 7)],
           CASE WHEN random() < 0.5 THEN n::text END, CASE WHEN random() < 0.5 THEN n::text END,
           (ARRAY[1, 2, NULL])[1 + floor(random() * 3)]
    FROM generate_series(1, 800) AS n;
    UPDATE procrastinate_jobs SET abort_requested = true WHERE status = 'doing' AND random() < 0.5;
    ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER;
    -- What a job that has come to its status has, of this morning or of yesterday.
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, CASE WHEN random() < 0.3 THEN 'cancelled' ELSE status::text END::procrastinate_job_event_type,
           now() - (floor(random() * 48) + 0.5) * interval '1 hour'
    FROM procrastinate_jobs WHERE status IN ('succeeded', 'failed', 'cancelled', 'aborted') AND random() < 0.9
        AND NOT (status = 'aborted' AND random() < 0.3);
    -- And others, before or after it, in the future, or of no date.
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, (ARRAY['deferred', 'started', 'failed', 'retried', 'scheduled'])[1 + floor(random() * 5)]::procrastinate_job_event_type,
           CASE WHEN random() < 0.97 THEN now() - (floor(random() * 72) - 1.5) * interval '1 hour' END
    FROM procrastinate_jobs, generate_series(1, 2)
    WHERE status <> 'cancelled' AND EXISTS (SELECT FROM procrastinate_events AS event WHERE event.job_id = procrastinate_jobs.id)
       OR status = 'aborted';";

async fn manage(meeting: &Meeting, method: &str, arguments: &Value) -> Value {
    let mut request = arguments.clone();
    request["method"] = json!(method);
    meeting.python.ask_one("manage", request).await
}

fn left(connection: &mut PgConnection) -> Vec<i64> {
    jobs(connection).into_iter().map(|job| job.id).collect()
}

async fn both_job_managers_delete_the_same_jobs(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    sql(&mut connection, EVERY_KIND_OF_JOB);
    let all = delete_old_jobs(hours(1)).include_failed(true).include_cancelled(true).include_aborted(true);
    let cases = [
        (delete_old_jobs(hours(1_000)), json!({ "nb_hours": 1_000 })),
        (delete_old_jobs(hours(24)).queue("x"), json!({ "nb_hours": 24, "queue": "x" })),
        (delete_old_jobs(hours(24)), json!({ "nb_hours": 24 })),
        (delete_old_jobs(hours(24)).include_cancelled(true), json!({ "nb_hours": 24, "include_cancelled": true })),
        (delete_old_jobs(hours(24)).include_aborted(true), json!({ "nb_hours": 24, "include_aborted": true })),
        (delete_old_jobs(hours(24)).include_failed(true), json!({ "nb_hours": 24, "include_failed": true })),
        (all, json!({ "nb_hours": 1, "include_failed": true, "include_cancelled": true, "include_aborted": true })),
    ];
    for (number, (ours, theirs)) in cases.into_iter().enumerate() {
        let before = left(&mut connection).len();
        let mut left_by_ours = Vec::new();
        connection.test_transaction(|connection| {
            let deleted = ours.clone().execute_blocking(connection).unwrap();
            left_by_ours = left(connection);
            assert_eq!(usize::try_from(deleted).unwrap(), before - left_by_ours.len());
            QueryResult::Ok(())
        });
        manage(&meeting, "delete_old_jobs", &theirs).await;
        assert_eq!(left_by_ours, left(&mut connection), "{theirs}");
        assert!(number == 0 || left_by_ours.len() < before, "{theirs} deleted nothing");
    }
}

fn told(counts: Vec<JobCounts>) -> Value {
    let told = counts.into_iter().map(|counts| {
        json!({
            "name": counts.name, "jobs_count": counts.jobs_count, "todo": counts.todo, "doing": counts.doing,
            "succeeded": counts.succeeded, "failed": counts.failed, "cancelled": counts.cancelled,
            "aborted": counts.aborted,
        })
    });
    told.collect()
}

async fn both_job_managers_find_and_count_the_same_jobs(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    sql(&mut connection, EVERY_KIND_OF_JOB);
    let app = &meeting.app;
    let ids = |jobs: Vec<procrastinate::models::ProcrastinateJob>| -> Value {
        jobs.into_iter().map(|job| json!(job.id)).collect()
    };

    let theirs = json!({ "queue": "x", "task": "a", "status": "failed" });
    let ours = list_jobs().queue("x").task("a").status(JobStatus::Failed);
    assert_eq!(ids(app.perform(ours).await.unwrap()), manage(&meeting, "list_jobs_async", &theirs).await);
    assert_eq!(ids(app.perform(list_jobs()).await.unwrap()), manage(&meeting, "list_jobs_async", &json!({})).await);

    let mut theirs = manage(&meeting, "get_stalled_jobs", &json!({ "queue": "y" })).await;
    theirs.as_array_mut().unwrap().sort_by_key(Value::as_i64);
    assert_eq!(ids(app.perform(get_stalled_jobs().queue("y")).await.unwrap()), theirs);

    let mut theirs = manage(&meeting, "list_jobs_to_abort_async", &json!({ "queue": "y" })).await;
    theirs.as_array_mut().unwrap().sort_by_key(Value::as_i64);
    assert_eq!(json!(app.perform(list_jobs_to_abort().queue("y")).await.unwrap()), theirs);

    let queues = app.perform(list_queues()).await.unwrap();
    assert_eq!(told(queues), manage(&meeting, "list_queues_async", &json!({})).await);
    let tasks = app.perform(list_tasks().queue("x")).await.unwrap();
    assert_eq!(told(tasks), manage(&meeting, "list_tasks_async", &json!({ "queue": "x" })).await);
    let locks = app.perform(list_locks().status(JobStatus::Aborted)).await.unwrap();
    assert_eq!(told(locks), manage(&meeting, "list_locks_async", &json!({ "status": "aborted" })).await);
}

async fn our_cancelling_is_pythons(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    sql(&mut connection, EVERY_KIND_OF_JOB);
    for (abort, delete_job) in [(false, false), (true, false), (false, true), (true, true)] {
        for status in ["todo", "doing", "failed"] {
            let ours = list_jobs().status(JobStatus::from(status)).execute_blocking(&mut connection).unwrap();
            let id = ours.last().unwrap().id;
            let mut answer = None;
            let mut after = Vec::new();
            connection.test_transaction(|connection| {
                let cancel = cancel_job(id).abort(abort).delete_job(delete_job);
                answer = Some(cancel.execute_blocking(connection).unwrap());
                after = jobs(connection);
                QueryResult::Ok(())
            });
            let theirs = json!({ "job_id": id, "abort": abort, "delete_job": delete_job });
            assert_eq!(manage(&meeting, "cancel_job_by_id_async", &theirs).await, json!(answer.unwrap()), "{theirs}");
            assert_eq!(jobs(&mut connection), after, "{theirs}");
        }
    }
}

/// One job that succeeded and one that failed, both of yesterday.
fn two_old_jobs(connection: &mut PgConnection) {
    sql(
        connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 't', 'succeeded'), ('q', 't', 'failed');
         INSERT INTO procrastinate_events (job_id, type, at)
         SELECT id, status::text::procrastinate_job_event_type, now() - interval '1 day' FROM procrastinate_jobs",
    );
}

async fn python_defers_the_built_in_task_and_ours_runs_it(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    two_old_jobs(&mut connection);
    let job = json!([{ "task": RemoveOldJobs::NAME, "args": { "max_hours": 2, "remove_cancelled": true } }]);
    let id = meeting.python.ask_one("defer", job).await;
    meeting.worker().queues(["builtin"]).stop_when_empty().run().await.unwrap();
    assert_eq!(statuses(&mut connection), [JobStatus::Failed, JobStatus::Succeeded]);
    assert_eq!(json!(left(&mut connection)[1]), id);
}

async fn we_defer_the_built_in_task_and_python_runs_it(meeting: Meeting) {
    let mut connection = connect(&meeting.database);
    two_old_jobs(&mut connection);
    let id = meeting.app.defer(RemoveOldJobs::new(2).remove_failed(true).queue("q").job()).await.unwrap();
    meeting.python.ask("work", json!({ "wait": false })).await;
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded]);
    assert_eq!(left(&mut connection), [i64::from(id)]);
}
