//! Old jobs are deleted by a worker with that setting, and by the built-in task.

use std::time::Duration;

use diesel::prelude::*;
use procrastinate::builtin_tasks::RemoveOldJobs;
use procrastinate::models::ProcrastinateJob;
use procrastinate::{App, Error, JobContext, JobStatus, Task, configure_task, task};
use serde::{Deserialize, Serialize};
use serde_json::json;
use throwaway_postgres::Database;

use crate::support::{Running, connect, connector, database, eventually, job, jobs, sql, statuses};

const HOUR: Duration = Duration::from_secs(3_600);

#[task]
async fn nothing() {}

async fn app(database: &Database) -> App {
    App::builder(connector(database).await).task::<nothing>().build().unwrap()
}

/// So many jobs of this status, all of whose events are of yesterday.
fn fill(connection: &mut PgConnection, status: &str, number: u32) {
    sql(
        connection,
        &format!(
            "WITH job AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status)
                          SELECT 'default', 'nothing', '{status}' FROM generate_series(1, {number}) RETURNING id)
             INSERT INTO procrastinate_events (job_id, type, at) SELECT id, '{status}', now() - interval '1 day' FROM job"
        ),
    );
}

fn count(connection: &mut PgConnection) -> i64 {
    ProcrastinateJob::query().count().get_result(connection).unwrap()
}

#[tokio::test]
async fn a_worker_deletes_old_jobs_of_the_configured_statuses_only() {
    let database = database();
    let mut connection = connect(&database);
    // More than one step of them.
    fill(&mut connection, "succeeded", 2_500);
    for status in ["failed", "cancelled", "aborted"] {
        fill(&mut connection, status, 1);
    }
    let worker = app(&database).await.worker();
    let worker = Running::start(
        worker
            .delete_jobs_older_than(JobStatus::Succeeded, 48 * HOUR)
            .delete_jobs_older_than(JobStatus::Succeeded, HOUR)
            .delete_jobs_older_than(JobStatus::Cancelled, HOUR)
            .delete_jobs_older_than(JobStatus::Failed, 48 * HOUR),
    );
    eventually("the old jobs are gone", || count(&mut connection) == 2).await;
    worker.stop().await.unwrap();
    assert_eq!(statuses(&mut connection), [JobStatus::Failed, JobStatus::Aborted]);
}

#[tokio::test]
async fn a_worker_deletes_nothing_by_default() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection, "succeeded", 3);
    let app = app(&database).await;
    app.defer(nothing()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(count(&mut connection), 4);
}

#[tokio::test]
async fn a_failure_does_not_stop_the_deletion() {
    const FUNCTION: &str = "ALTER FUNCTION procrastinate_diesel_delete_old_jobs_v1";
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection, "succeeded", 3);
    sql(&mut connection, &format!("{FUNCTION} RENAME TO elsewhere"));
    let app = app(&database).await;
    let worker = Running::start(app.worker().delete_jobs_older_than(JobStatus::Succeeded, HOUR));
    // By then it has tried.
    let id = app.defer(nothing()).await.unwrap();
    eventually("the job has run", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    assert_eq!(count(&mut connection), 4);
    sql(&mut connection, "ALTER FUNCTION elsewhere RENAME TO procrastinate_diesel_delete_old_jobs_v1");
    eventually("the old jobs are gone", || count(&mut connection) == 1).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn only_finished_statuses_and_valid_ages_are_accepted() {
    let database = database();
    let app = app(&database).await;
    for (status, age) in [
        (JobStatus::Todo, HOUR),
        (JobStatus::Doing, HOUR),
        (JobStatus::from("paused"), HOUR),
        (JobStatus::Succeeded, Duration::MAX),
    ] {
        let error = app.worker().delete_jobs_older_than(status, age).run().await.unwrap_err();
        assert!(error.is_invalid(), "{error}");
    }
}

#[tokio::test]
async fn every_application_knows_the_built_in_task_under_both_of_its_names() {
    let database = database();
    let mut connection = connect(&database);
    let app = app(&database).await;
    assert_eq!(app.task_names(), ["nothing"]);
    for name in [RemoveOldJobs::NAME, "procrastinate.builtin_tasks.remove_old_jobs"] {
        fill(&mut connection, "succeeded", 1_500);
        fill(&mut connection, "failed", 1);
        // As Python writes what is not set.
        let args = json!({ "max_hours": 2, "queue": null, "remove_failed": null, "remove_aborted": true });
        let id = app.defer(configure_task(name, args)).await.unwrap();
        app.worker().stop_when_empty().run().await.unwrap();
        let left = jobs(&mut connection);
        assert_eq!(left.iter().map(|job| &job.status).collect::<Vec<_>>(), [&JobStatus::Failed, &JobStatus::Succeeded]);
        assert_eq!(left[1].id, i64::from(id));
        sql(&mut connection, "DELETE FROM procrastinate_jobs");
    }
}

#[tokio::test]
async fn the_built_in_task_has_its_own_options_and_queue() {
    let database = database();
    let mut connection = connect(&database);
    let app = app(&database).await;
    for status in ["succeeded", "failed", "cancelled", "aborted"] {
        fill(&mut connection, status, 1);
    }
    let elsewhere = app.defer(RemoveOldJobs::new(2).queue("elsewhere").remove_cancelled(true).job()).await.unwrap();
    let others = RemoveOldJobs::new(2).remove_failed(true).remove_cancelled(true).remove_aborted(true);
    let others = app.defer(others.queue("default").job()).await.unwrap();
    assert_eq!(job(&mut connection, elsewhere).queue_name, "builtin");
    app.worker().queues(["builtin"]).stop_when_empty().run().await.unwrap();
    let left: Vec<i64> = jobs(&mut connection).into_iter().map(|job| job.id).collect();
    assert_eq!(left, [elsewhere, others].map(i64::from));
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Succeeded]);
}

#[tokio::test]
async fn no_other_task_can_take_the_name_of_the_built_in_one() {
    #[derive(Serialize, Deserialize)]
    struct Impostor {}

    impl Task for Impostor {
        const NAME: &'static str = RemoveOldJobs::NAME;
        type Output = ();

        async fn run(self, _context: JobContext) {}
    }

    let database = database();
    let error = App::builder(connector(&database).await).task::<Impostor>().build().unwrap_err();
    assert!(matches!(error, Error::DuplicateTask { .. }), "{error}");
}
