//! The options of a task that are rows of their own: keys and times to start.

use std::time::Duration;

use procrastinate::{App, Error, JobOptions, task};

use crate::support::{connect, connector, database, rows, sql};

const DAY: Duration = Duration::from_secs(86_400);

#[task(limit_key = "tenant-{tenant}", start_within = "1h 30min")]
async fn call(tenant: u32) {
    let _ = tenant;
}

#[task(unique = "bill-{customer}", unique_for = DAY)]
async fn bill(customer: u32) {
    let _ = customer;
}

#[task(unique = "sync", start_within = DAY, unless_enqueued)]
async fn sync() {}

async fn app(database: &throwaway_postgres::Database) -> App {
    App::builder(connector(database).await).task::<call>().task::<bill>().task::<sync>().build().unwrap()
}

#[tokio::test]
async fn a_job_has_the_limit_key_and_the_time_to_start_of_its_task() {
    let database = database();
    let mut connection = connect(&database);
    let app = app(&database).await;
    app.defer(call(7)).await.unwrap();
    app.defer(call(8).limit_key("mine").start_within(Duration::from_secs(60))).await.unwrap();
    let keys = "SELECT job_id, limit_key FROM procrastinate_diesel_job_options ORDER BY job_id";
    assert_eq!(rows(&mut connection, keys), ["1 | tenant-7", "2 | mine"]);
    let times = "SELECT (start_before - event.at) <= interval '90 min', (start_before - event.at) > interval '89 min',
                     (start_before - event.at) <= interval '60 s', (start_before - event.at) > interval '30 s'
                 FROM procrastinate_diesel_job_options JOIN procrastinate_events AS event USING (job_id)
                 WHERE event.type = 'deferred' ORDER BY job_id";
    assert_eq!(rows(&mut connection, times), ["true | true | false | true", "true | false | true | true"]);
}

#[tokio::test]
async fn a_job_has_the_unique_key_of_its_task_also_after_its_end() {
    let database = database();
    let mut connection = connect(&database);
    let app = app(&database).await;
    app.defer(bill(7)).await.unwrap();
    app.defer(bill(8)).await.unwrap();
    let is_refused = |error: Error| matches!(error, Error::NotUnique { .. });
    assert!(is_refused(app.defer(bill(7)).await.unwrap_err()));
    // Its period begins with the end.
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'succeeded'");
    assert!(is_refused(app.defer(bill(7)).await.unwrap_err()));
    let other = JobOptions::new().unique("other");
    app.defer(bill(7).configure(&other)).await.unwrap();

    let first = app.defer(sync()).await.unwrap();
    assert_eq!(app.defer(sync()).await.unwrap(), first, "the job that holds the key is kept");
}
