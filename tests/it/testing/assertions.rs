//! Asserting what was deferred, and what a failure says.

use std::time::Duration;

use procrastinate::{
    AppBuilder, assert_deferred, assert_deferred_blocking, assert_deferred_pipelined, assert_not_deferred,
    assert_not_deferred_blocking, assert_not_deferred_pipelined, task, testing,
};

use super::{app, shop};
use crate::support::{connect, sql};

#[task(queue = "mails")]
async fn welcome(customer: i64, language: String) {
    let _ = (customer, language);
}

#[task]
async fn report() {}

#[tokio::test]
async fn a_job_is_found_by_what_is_set() {
    let database = shop();
    let (app, pool) = app(&database, AppBuilder::task::<welcome>).await;
    let in_an_hour = Duration::from_secs(3_600);
    app.defer(welcome(7, "en".into()).lock("customer-7").priority(3).schedule_in(in_an_hour)).await.unwrap();

    let mut connection = pool.get().await.unwrap();
    let job = assert_deferred!(&mut connection, welcome(7, "en".into()));
    assert_eq!(job.lock.as_deref(), Some("customer-7"));
    assert_deferred!(&mut *connection, welcome(7, "en".into()).lock("customer-7").priority(3).schedule_in(in_an_hour));
    for other in [
        welcome(8, "en".into()),
        welcome(7, "de".into()),
        welcome(7, "en".into()).queue("other"),
        welcome(7, "en".into()).lock("customer-8"),
        welcome(7, "en".into()).queueing_lock("customer-7"),
        welcome(7, "en".into()).priority(4),
        welcome(7, "en".into()).schedule_in(in_an_hour * 2),
        report(),
    ] {
        assert_not_deferred!(&mut connection, other);
    }
}

#[tokio::test]
async fn a_job_is_found_on_a_shared_connection() {
    let database = shop();
    let pool = testing::test_pool(database.url()).await.unwrap();
    let connection = pool.get().await.unwrap();
    report().priority(3).defer_pipelined(&connection).await.unwrap();
    assert_eq!(assert_deferred_pipelined!(&connection, report()).priority, 3);
    assert_not_deferred_pipelined!(&connection, report().priority(4));
    assert_eq!(testing::deferred_jobs_pipelined(&connection).await.unwrap().len(), 1);
}

#[test]
fn a_failure_shows_the_expected_job_and_the_pending_jobs() {
    let database = shop();
    let mut connection = connect(&database);
    let failure = |connection: &mut diesel::PgConnection| {
        let expected = welcome(7, "en".into()).lock("customer-7").priority(1);
        testing::find_deferred_blocking(expected, connection).unwrap_err().to_string()
    };
    let expected =
        r#"no such job is pending: welcome(customer=7, language="en"), queue "mails", lock "customer-7", priority 1"#;
    assert_eq!(failure(&mut connection), format!("{expected}\nno jobs are pending"));

    report().defer_blocking(&mut connection).unwrap();
    welcome(8, "en".into()).defer_blocking(&mut connection).unwrap();
    let found = r#"
pending jobs:
  welcome[2](customer=8, language="en") in the queue "mails": its argument customer is 8, not 7, its lock is none, not "customer-7", its priority is 0, not 1
  report[1]() in the queue "default": different task"#;
    assert_eq!(failure(&mut connection), format!("{expected}{found}"));

    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'default', 'other' FROM generate_series(1, 30)",
    );
    assert!(failure(&mut connection).ends_with("\n  and 12 more"), "{}", failure(&mut connection));
}

#[test]
fn the_assertions_panic_where_they_are_wrong() {
    let database = shop();
    let mut connection = connect(&database);
    report().defer_blocking(&mut connection).unwrap();
    assert_deferred_blocking!(&mut connection, report());
    assert_not_deferred_blocking!(&mut connection, welcome(7, "en".into()));
    let message = |assertion: &dyn Fn(&mut diesel::PgConnection)| {
        let mut connection = connect(&database);
        let assertion = std::panic::AssertUnwindSafe(|| assertion(&mut connection));
        let panic = std::panic::catch_unwind(assertion).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let missing = message(&|connection| drop(assert_deferred_blocking!(connection, welcome(7, "en".into()))));
    assert!(missing.starts_with("no such job is pending: welcome("), "{missing}");
    let superfluous = message(&|connection| assert_not_deferred_blocking!(connection, report()));
    assert_eq!(superfluous, "this job is pending, but should not be: report[1]()");
    // If the query fails, neither assertion may pass.
    sql(&mut connection, "ALTER TABLE procrastinate_jobs RENAME TO gone");
    let unanswered = message(&|connection| assert_not_deferred_blocking!(connection, report()));
    assert!(unanswered.starts_with("could not load the deferred jobs"), "{unanswered}");
}

#[tokio::test]
async fn numbers_are_compared_by_their_values() {
    #[task]
    async fn weigh(grams: f64, list: Vec<f64>) {
        let _ = (grams, list);
    }
    let database = shop();
    let (_app, pool) = app(&database, AppBuilder::task::<weigh>).await;
    let mut connection = pool.get().await.unwrap();
    for grams in [1e15, 1e16, 123_456_789_012_345_680.0, 1.8e19, 1e20, 1e300, -1e16, -9.2e18, 0.1 + 0.2, 5e-324, -0.0] {
        weigh(grams, vec![1.5, grams]).defer(&mut *connection).await.unwrap();
        assert_deferred!(&mut connection, weigh(grams, vec![1.5, grams]));
        assert_not_deferred!(&mut connection, weigh(grams * 1.000_000_1 + 0.5, vec![1.5, grams]));
        assert_not_deferred!(&mut connection, weigh(grams, vec![1.5, grams * 1.000_000_1 + 0.5]));
    }
    // The neighbour of a float that became an integer.
    weigh(9_007_199_254_740_994.0 * 4.0, vec![]).defer(&mut *connection).await.unwrap();
    assert_not_deferred!(&mut connection, weigh(9_007_199_254_740_992.0 * 4.0, vec![]));
}
