//! Outcomes in a database whose encoding lacks characters of the texts that are stored with them.

use std::time::Duration;

use procrastinate::retry::RetryStrategy;
use procrastinate::{App, JobStatus, task};

use crate::support::{connect, connector, database, database_in, errors, job, rows, statuses, within_patience};

/// Fails with a text that LATIN1 lacks.
#[task]
async fn fail(number: i64) -> Result<(), String> {
    Err(format!("{number} → ∞"))
}

#[task(retry = RetryStrategy::new().max_attempts(1))]
async fn fail_twice() -> Result<(), String> {
    Err("é → ∞".to_owned())
}

#[task]
async fn fail_at_length() -> Result<(), String> {
    Err("é".repeat(20_000))
}

#[task(timeout = "50ms")]
async fn take_too_long() {
    tokio::time::sleep(Duration::from_secs(600)).await;
}

#[task]
async fn succeed() {}

#[tokio::test]
async fn outcomes_are_stored_although_the_encoding_lacks_characters_of_their_errors() {
    let database = database_in("LATIN1");
    let app = App::builder(connector(&database).await)
        .task::<fail>()
        .task::<fail_twice>()
        .task::<fail_at_length>()
        .task::<take_too_long>()
        .task::<succeed>()
        .build()
        .unwrap();
    let ids = app
        .batch_defer([fail(1), fail_twice(), fail_at_length(), take_too_long(), succeed(), fail(2), succeed()])
        .await
        .unwrap();
    let worker = app.worker().name("Köln → Wien").concurrency(7).stop_when_empty();
    within_patience(worker.run()).await.unwrap();

    let mut connection = connect(&database);
    use JobStatus::{Failed, Succeeded};
    assert_eq!(statuses(&mut connection), [Failed, Failed, Failed, Failed, Succeeded, Failed, Succeeded]);
    assert_eq!(job(&mut connection, ids[1]).attempts, 2);
    assert_eq!(errors(&mut connection, ids[0]), [r"1: 1 \u{2192} \u{221e}"]);
    assert_eq!(errors(&mut connection, ids[1]).len(), 2);
    let [long] = <[_; 1]>::try_from(errors(&mut connection, ids[2])).unwrap();
    assert!(long.contains("(30000 bytes more)"), "{}", &long[long.len() - 50..]);
    let names = "SELECT DISTINCT worker_name FROM procrastinate_diesel_job_errors";
    assert_eq!(rows(&mut connection, names), [r"K\u{f6}ln \u{2192} Wien"]);
}

#[tokio::test]
async fn outcomes_are_stored_whatever_the_name_of_the_worker() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<fail>().build().unwrap();
    app.batch_defer([fail(1), fail(2)]).await.unwrap();
    for name in ["a\0b".to_owned(), "x".repeat(100_000)] {
        within_patience(app.worker().name(name).stop_when_empty().run()).await.unwrap();
        app.defer(fail(3)).await.unwrap();
    }
    let mut connection = connect(&database);
    let names = "SELECT left(worker_name, 3) AS name FROM procrastinate_diesel_job_errors ORDER BY job_id";
    assert_eq!(rows(&mut connection, names), ["a\u{FFFD}b", "a\u{FFFD}b", "xxx"]);
    use JobStatus::{Failed, Todo};
    assert_eq!(statuses(&mut connection), [Failed, Failed, Failed, Todo]);
}
