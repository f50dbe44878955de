//! A worker runs jobs.

use procrastinate::{App, JobStatus, task};

use crate::support::{connect, connector, database, events, statuses};

#[task(queue = "sums")]
async fn sum(a: i64, b: i64) -> Result<i64, String> {
    a.checked_add(b).ok_or_else(|| "the sum is too large".to_owned())
}

#[tokio::test]
async fn a_job_runs_and_its_history_is_kept() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<sum>().build().unwrap();
    let id = app.defer(sum(3, 5)).await.unwrap();

    app.worker().queues(["sums"]).wait(false).run().await.unwrap();

    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded]);
    assert_eq!(events(&mut connection, id), ["deferred", "started", "succeeded"]);
}
