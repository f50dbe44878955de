//! Deferring: on every kind of connection, in and out of transactions, with every option, and with bad input.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::models::ProcrastinateJob;
use procrastinate::{
    App, Error, JobId, JobOptions, JobStatus, JobToDefer, batch_defer, batch_defer_blocking, configure_task, task,
};
use serde_json::json;

use crate::support::{connect, connector, database, job, jobs, pool, sql, transaction};

#[task(queue = "greetings", priority = 3)]
async fn greet(name: String) {
    drop(name);
}

#[task]
async fn plain() {}

#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error("changed my mind")]
    ChangedMyMind,
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
    #[error(transparent)]
    Queue(#[from] Error),
}

fn with_every_option() -> JobToDefer {
    greet("Ada".to_owned())
        .queue("other")
        .priority(-7)
        .lock("lock")
        .queueing_lock("queueing lock")
        .schedule_at("2030-05-06T07:08:09.123456Z".parse().unwrap())
}

fn assert_every_option(job: &ProcrastinateJob) {
    assert_eq!(job.task_name, "greet");
    assert_eq!(job.queue_name, "other");
    assert_eq!(job.priority, -7);
    assert_eq!(job.lock.as_deref(), Some("lock"));
    assert_eq!(job.queueing_lock.as_deref(), Some("queueing lock"));
    assert_eq!(job.args, json!({ "name": "Ada" }));
    assert_eq!(job.status, JobStatus::Todo);
    assert_eq!(job.scheduled_at, Some("2030-05-06T07:08:09.123456Z".parse().unwrap()));
    assert_eq!((job.attempts, job.abort_requested, job.worker_id), (0, false, None));
}

#[test]
fn every_option_reaches_the_database_on_a_blocking_connection() {
    let database = database();
    let mut connection = connect(&database);
    let id = with_every_option().defer_blocking(&mut connection).unwrap();
    assert_eq!(id, 1);
    assert_every_option(&job(&mut connection, id));
}

#[tokio::test]
async fn every_option_reaches_the_database_on_an_async_connection() {
    let database = database();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    let id = with_every_option().defer(&mut connection).await.unwrap();
    assert_every_option(&job(&mut connect(&database), id));
}

#[tokio::test]
async fn every_option_reaches_the_database_in_a_batch() {
    let database = database();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    let ids = batch_defer([plain(), with_every_option()], &mut connection).await.unwrap();
    assert_every_option(&job(&mut connect(&database), ids[1]));
}

#[test]
fn without_options_a_job_has_the_tasks_and_then_the_general_defaults() {
    let database = database();
    let mut connection = connect(&database);
    let id = greet("Ada".to_owned()).defer_blocking(&mut connection).unwrap();
    let greeting = job(&mut connection, id);
    assert_eq!((greeting.queue_name.as_str(), greeting.priority), ("greetings", 3));
    let id = plain().defer_blocking(&mut connection).unwrap();
    let plain = job(&mut connection, id);
    assert_eq!((plain.queue_name.as_str(), plain.priority), ("default", 0));
    assert_eq!((plain.lock, plain.queueing_lock, plain.scheduled_at), (None, None, None));
    assert_eq!(plain.args, json!({}));
}

#[test]
fn a_set_of_options_serves_several_jobs_and_what_is_set_later_wins() {
    let database = database();
    let mut connection = connect(&database);
    let nightly = JobOptions::new().queue("nightly").priority(1);
    let ids = [
        greet("Ada".to_owned()).configure(&nightly).defer_blocking(&mut connection).unwrap(),
        greet("Grace".to_owned()).configure(&nightly).priority(9).defer_blocking(&mut connection).unwrap(),
        greet("Edsger".to_owned()).priority(9).configure(&nightly).defer_blocking(&mut connection).unwrap(),
    ];
    let seen = ids.map(|id| job(&mut connection, id)).map(|job| (job.queue_name, job.priority));
    assert_eq!(seen, [("nightly".into(), 1), ("nightly".into(), 9), ("nightly".into(), 1)]);
}

#[test]
fn a_delay_counts_from_the_call() {
    let database = database();
    let mut connection = connect(&database);
    let before = Utc::now();
    let id = plain().schedule_in(Duration::from_secs(3_600)).defer_blocking(&mut connection).unwrap();
    let after = Utc::now();
    let scheduled_at = job(&mut connection, id).scheduled_at.unwrap();
    let hour = chrono::TimeDelta::hours(1);
    // PostgreSQL keeps microseconds.
    let precision = chrono::TimeDelta::microseconds(1);
    assert!(scheduled_at >= before + hour - precision && scheduled_at <= after + hour, "{scheduled_at}");
}

#[test]
fn a_job_of_a_rolled_back_transaction_does_not_exist() {
    let database = database();
    let mut connection = connect(&database);
    let rolled_back = connection.transaction(|connection| {
        plain().defer_blocking(connection)?;
        batch_defer_blocking([plain(), plain()], connection)?;
        assert_eq!(jobs(connection).len(), 3);
        Err::<(), _>(TestError::ChangedMyMind)
    });
    assert!(matches!(rolled_back, Err(TestError::ChangedMyMind)));
    assert_eq!(jobs(&mut connection), []);
}

#[tokio::test]
async fn a_job_of_a_rolled_back_async_transaction_or_savepoint_does_not_exist() {
    let database = database();
    let pool = pool(&database).await;
    let mut connection = pool.get().await.unwrap();
    let kept = transaction(&mut connection, async |connection| {
        let kept = plain().defer(connection).await?;
        let inner = transaction(connection, async |connection| {
            greet("nobody".to_owned()).defer(connection).await?;
            Err::<(), _>(TestError::ChangedMyMind)
        })
        .await;
        assert!(matches!(inner, Err(TestError::ChangedMyMind)));
        Ok::<_, TestError>(kept)
    })
    .await
    .unwrap();
    let outer = transaction(&mut connection, async |connection| {
        plain().defer(connection).await?;
        Err::<(), _>(TestError::ChangedMyMind)
    })
    .await;
    assert!(matches!(outer, Err(TestError::ChangedMyMind)));
    assert_eq!(jobs(&mut connect(&database)).iter().map(|job| JobId::from(job.id)).collect::<Vec<_>>(), [kept]);
}

#[test]
fn a_blocking_connection_from_an_r2d2_pool_defers() {
    let database = database();
    let pool = Pool::builder().max_size(1).build(ConnectionManager::<PgConnection>::new(database.url())).unwrap();
    let mut connection = pool.get().unwrap();
    plain().defer_blocking(&mut connection).unwrap();
    connection.transaction(|connection| plain().defer_blocking(connection).map_err(TestError::from)).unwrap();
    assert_eq!(jobs(&mut connection).len(), 2);
}

#[cfg(feature = "deadpool")]
#[tokio::test]
async fn a_deadpool_pool_defers_and_works() {
    use diesel_async::pooled_connection::{AsyncDieselConnectionManager, deadpool};

    let database = database();
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = deadpool::Pool::builder(manager).max_size(2).build().unwrap();
    plain().defer(&mut pool.get().await.unwrap()).await.unwrap();
    let app = App::builder(procrastinate::DieselConnector::new(pool)).task::<plain>().build().unwrap();
    app.defer(plain()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(crate::support::statuses(&mut connect(&database)), [JobStatus::Succeeded, JobStatus::Succeeded]);
}

#[tokio::test]
async fn an_application_defers_from_its_pool() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<greet>().build().unwrap();
    let single = app.defer(greet("Ada".to_owned())).await.unwrap();
    let batch = app.batch_defer((0..3).map(|n| greet(n.to_string()))).await.unwrap();
    assert_eq!((single, batch), (1.into(), vec![2.into(), 3.into(), 4.into()]));
    let by_name = app.configure_task("greet", json!({ "name": "Grace" })).unwrap();
    app.defer(by_name).await.unwrap();
    let jobs = jobs(&mut connect(&database));
    assert_eq!(jobs[4].args, json!({ "name": "Grace" }));
    assert_eq!(
        (jobs[4].queue_name.as_str(), jobs[4].priority),
        ("greetings", 3),
        "by name too a task has its defaults"
    );
}

#[tokio::test]
async fn an_unknown_task_name_is_an_error_that_lists_the_known_names() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<plain>().task::<greet>().build().unwrap();
    let error = app.configure_task("grete", json!({})).unwrap_err();
    assert_eq!(error.to_string(), r#"unknown task "grete"; the tasks of this application are: greet, plain"#);
}

#[test]
fn a_batch_keeps_the_order_of_its_input_and_may_be_of_several_tasks() {
    let database = database();
    let mut connection = connect(&database);
    let input =
        (0..500).map(|n| if n % 2 == 0 { greet(n.to_string()) } else { configure_task("odd", json!({ "n": n })) });
    let ids = batch_defer_blocking(input, &mut connection).unwrap();
    for (n, id) in ids.iter().enumerate() {
        let job = job(&mut connection, *id);
        let expected = if n % 2 == 0 { json!({ "name": n.to_string() }) } else { json!({ "n": n }) };
        assert_eq!(job.args, expected);
    }
    assert!(batch_defer_blocking([], &mut connection).unwrap().is_empty());
}

#[test]
fn a_taken_queueing_lock_is_a_value_and_the_transaction_stays_intact() {
    let database = database();
    let mut connection = connect(&database);
    let locked = || plain().queueing_lock("one at a time");
    connection
        .transaction(|connection| {
            let first = locked().defer_unless_enqueued_blocking(connection)?;
            assert!(first.is_some());
            assert_eq!(locked().defer_unless_enqueued_blocking(connection)?, None);
            let error = locked().defer_blocking(connection).unwrap_err();
            assert!(error.is_already_enqueued());
            let expected =
                r#"could not defer task "plain": a job with the queueing lock "one at a time" is already pending"#;
            assert_eq!(error.to_string(), expected);
            let error = batch_defer_blocking([greet("Ada".into()), locked()], connection).unwrap_err();
            assert_eq!(error.to_string(), expected);
            greet("after".to_owned()).defer_blocking(connection)?;
            Ok::<_, TestError>(())
        })
        .unwrap();
    let tasks: Vec<_> = jobs(&mut connection).into_iter().map(|job| job.task_name).collect();
    assert_eq!(tasks, ["plain", "greet"], "what was deferred before and after is stored, of the batch nothing");
}

#[tokio::test]
async fn a_taken_queueing_lock_is_a_value_in_async_transactions_too() {
    let database = database();
    let pool = pool(&database).await;
    let mut connection = pool.get().await.unwrap();
    let locked = || plain().queueing_lock("one at a time");
    transaction(&mut connection, async |connection| {
        locked().defer(connection).await?;
        assert_eq!(locked().defer_unless_enqueued(connection).await?, None);
        assert!(batch_defer([locked()], connection).await.unwrap_err().is_already_enqueued());
        let twice = ["same", "same"].map(|lock| plain().queueing_lock(lock));
        assert!(batch_defer(twice, connection).await.unwrap_err().is_already_enqueued());
        greet("after".to_owned()).defer(connection).await?;
        Ok::<_, TestError>(())
    })
    .await
    .unwrap();
    assert_eq!(jobs(&mut connect(&database)).len(), 2);
}

#[test]
fn a_queueing_lock_is_free_again_once_its_job_has_started() {
    let database = database();
    let mut connection = connect(&database);
    let locked = || plain().queueing_lock("one at a time");
    locked().defer_blocking(&mut connection).unwrap();
    sql(&mut connection, "SELECT procrastinate_fetch_job_v2(NULL, (SELECT procrastinate_register_worker_v1()))");
    locked().defer_blocking(&mut connection).unwrap();
}

#[test]
fn bad_input_is_refused_by_name_and_rule_before_anything_is_stored() {
    let long = "x".repeat(129);
    let ancient: DateTime<Utc> = "-4713-06-01T00:00:00Z".parse().unwrap();
    let now = Utc::now();
    let cases: [(JobToDefer, &str); 14] = [
        (configure_task("", json!({})), r#"invalid task name "": must not be empty"#),
        (configure_task(&long, json!({})), "must be at most 128 bytes, but is"),
        (plain().queue(&long), "invalid queue name \"xxx"),
        (plain().queue("ä".repeat(65)), "must be at most 128 bytes, but is 130"),
        (
            plain().queue("a\0b"),
            r#"invalid queue name "a\0b": must not contain the NUL character, which PostgreSQL cannot store"#,
        ),
        (plain().lock("l".repeat(2_601)), "must be at most 2600 bytes, but is 2601"),
        (plain().queueing_lock("\0"), "invalid queueing lock"),
        (configure_task("t", json!([1])), r#"invalid arguments of the task "t": must be a JSON object"#),
        (configure_task("t", ()), r#"invalid arguments of the task "t": must be a JSON object"#),
        (
            configure_task("t", json!({ "a": [1, { "b": "\0" }] })),
            "must not contain the NUL character, which PostgreSQL cannot store; look at the field a[1].b",
        ),
        (configure_task("t", json!({ "a\0": 1 })), r#"invalid arguments of the task "t": must not contain the NUL"#),
        (plain().schedule_at(ancient), "invalid schedule_at \"-4713-06-01 00:00:00 UTC\""),
        (plain().schedule_in(Duration::MAX), "must not end after the last possible date"),
        (
            plain().schedule_at(now).schedule_in(Duration::ZERO),
            "must be set with either schedule_at or schedule_in, not both",
        ),
    ];
    let database = database();
    let mut connection = connect(&database);
    for (bad, expected) in cases {
        let text = bad.check().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}\ndoes not contain\n{expected}");
        let error = batch_defer_blocking([plain(), bad], &mut connection).unwrap_err();
        assert!(error.is_invalid() && error.to_string() == text, "{error}");
    }
    assert_eq!(jobs(&mut connection), []);
}

#[test]
fn arguments_that_json_cannot_hold_are_refused() {
    let keys_must_be_text = std::collections::HashMap::from([((1, 2), 3)]);
    let error = configure_task("t", keys_must_be_text).check().unwrap_err();
    assert!(error.to_string().contains("must be serializable to JSON: key must be a string"), "{error}");
}

#[test]
fn the_longest_valid_values_are_stored() {
    let database = database();
    let mut connection = connect(&database);
    let earliest: DateTime<Utc> = "-4712-01-01T00:00:00Z".parse().unwrap();
    for job in [
        configure_task("t".repeat(128), json!({ "ключ": "значение", "nested": [{ "n": null }] })),
        plain().queue("q".repeat(128)).lock(random_text(2_600)).queueing_lock(random_text(2_600)),
        plain().priority(i32::MIN).schedule_at(earliest),
        plain().priority(i32::MAX).schedule_at(DateTime::<Utc>::MAX_UTC),
    ] {
        job.defer_blocking(&mut connection).unwrap();
    }
    let jobs = jobs(&mut connection);
    assert_eq!(jobs.len(), 4);
    assert_eq!(jobs[2].scheduled_at, Some(earliest));
}

/// Text that does not compress, so that the index has to hold all of it.
fn random_text(length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 94).unwrap())
    })
    .take(length)
    .collect()
}

#[test]
fn arguments_that_no_worker_could_read_are_refused() {
    #[task]
    async fn weigh(kilograms: f64, tare: Option<f32>) {
        let _ = (kilograms, tare);
    }
    assert!(weigh(1e300, None).check().is_ok());
    for job in [weigh(f64::INFINITY, None), weigh(f64::NAN, None), weigh(1.0, Some(f32::NEG_INFINITY))] {
        let error = job.check().unwrap_err();
        assert!(error.is_invalid());
        let expected = "arguments of the task \"weigh\": must be serializable to JSON: JSON has no number for ";
        assert!(error.to_string().contains(expected), "{error}");
    }
    let nested =
        |depth: usize| configure_task("nest", json!({ "a": (1..depth).fold(json!(1), |inner, _| json!([inner])) }));
    assert!(nested(127).check().is_ok());
    let error = nested(128).check().unwrap_err();
    assert!(error.to_string().contains("must not be nested more than 127 levels deep"), "{error}");
}

#[test]
fn an_error_becomes_one_of_diesel_in_a_function_that_returns_a_query_result() {
    fn register(connection: &mut PgConnection, name: &str) -> QueryResult<JobId> {
        let id = greet(name.to_owned()).queueing_lock(name).defer_blocking(connection)?;
        Ok(id)
    }

    let database = database();
    let mut connection = connect(&database);
    register(&mut connection, "Ada").unwrap();
    let diesel::result::Error::QueryBuilderError(taken) = register(&mut connection, "Ada").unwrap_err() else {
        panic!("another error")
    };
    assert!(taken.downcast_ref::<Error>().unwrap().is_already_enqueued());
    sql(&mut connection, "DROP TABLE procrastinate_jobs CASCADE");
    let missing = register(&mut connection, "Grace").unwrap_err();
    assert!(matches!(missing, diesel::result::Error::DatabaseError(..)), "{missing:?}");
}
