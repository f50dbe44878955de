//! What each call learns about its own job.

use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error::DatabaseError};
use futures_util::FutureExt;
use futures_util::future::join_all;
use procrastinate::{App, DieselConnector, Error};

use super::{Held, send, start};
use crate::support::{connect, connector, database, eventually, impatient_pool, job, rows, sql, within_patience};
use crate::worker::holding_proxy::HoldingProxy;

#[tokio::test]
async fn a_taken_queueing_lock_is_an_error_or_the_pending_job_for_its_own_call_only() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    let pending = app.defer(send(0).queueing_lock("pending")).await.unwrap();
    let mut held = Held::with(database, app.clone());
    let first = held.first(send(1)).await;
    let locked = |n: i64, lock: &str| send(n).queueing_lock(lock);
    let calls = start(
        &app,
        [
            locked(2, "pending"),
            send(3),
            locked(4, "pending").unless_enqueued(),
            locked(5, "new"),
            locked(6, "new"),
            locked(7, "new").unless_enqueued(),
            send(8),
        ],
    );
    held.release();
    first.await.unwrap().unwrap();
    let results = join_all(calls).await;
    let stored = |n: usize| *results[n].as_ref().unwrap();
    for (n, lock) in [(0, "pending"), (4, "new")] {
        let is_so = |error: &Error| matches!(error, Error::AlreadyEnqueued { task_name, queueing_lock } if task_name == "send" && queueing_lock == lock);
        assert!(results[n].as_ref().is_err_and(is_so), "{:?}", results[n]);
    }
    assert_eq!((stored(2), stored(5)), (pending, stored(3)));
    let mut connection = connect(&held.database);
    for (n, to) in [(1, 3), (3, 5), (6, 8)] {
        assert_eq!(job(&mut connection, stored(n)).args["to"], to);
    }
    assert_eq!(held.statements(), ["1", "1", "3"]);
}

#[tokio::test]
async fn one_of_those_with_the_same_queueing_lock_is_deferred() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    let results = join_all((0..20).map(|n| app.defer(send(n).queueing_lock("only once")))).await;
    let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(errors.len(), 19);
    assert!(errors.iter().all(|error| error.is_already_enqueued()), "{errors:?}");
    assert_eq!(rows(&mut connect(&database), "SELECT count(*) FROM procrastinate_jobs"), ["1"]);
}

#[tokio::test]
async fn a_job_that_the_database_refuses_fails_alone() {
    let on_insert = "ALTER TABLE procrastinate_jobs ADD CONSTRAINT not_urgent CHECK (priority < 100)";
    let at_commit = "
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE check_violation USING MESSAGE = 'too urgent', CONSTRAINT = 'not_urgent'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON procrastinate_jobs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.priority >= 100) EXECUTE FUNCTION refuse()";
    for refusal in [on_insert, at_commit] {
        let database = database();
        sql(&mut connect(&database), refusal);
        let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
        let mut held = Held::with(database, app.clone());
        let first = held.first(send(0)).await;
        let calls = start(&app, [send(1), send(2).priority(100), send(3), send(4).priority(101)]);
        held.release();
        first.await.unwrap().unwrap();
        let results = join_all(calls).await;
        assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
        for n in [1, 3] {
            let is_so = |error: &Error| {
                matches!(error.as_diesel(), Some(DatabaseError(DatabaseErrorKind::CheckViolation, information))
                    if information.constraint_name() == Some("not_urgent"))
            };
            assert!(results[n].as_ref().is_err_and(is_so), "{results:?}");
        }
        let mut connection = connect(&held.database);
        // Each was inserted alone, so their IDs have any order.
        let stored = rows(&mut connection, "SELECT args ->> 'to' FROM procrastinate_jobs ORDER BY 1");
        assert_eq!(stored, ["0", "1", "3"]);
    }
}

#[tokio::test]
async fn an_invalid_job_is_refused_before_it_joins_a_statement() {
    let mut held = Held::new().await;
    let first = held.first(send(0)).await;
    let app = held.app.clone();
    let calls = start(&app, [send(1)]);
    let error = app.defer(send(2).queue("")).now_or_never().unwrap().unwrap_err();
    assert!(error.is_invalid(), "{error}");
    held.release();
    first.await.unwrap().unwrap();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn all_calls_of_a_statement_learn_that_its_connection_was_lost() {
    let database = database();
    let proxy = HoldingProxy::start(&database).await;
    let through_proxy = diesel_async::pooled_connection::AsyncDieselConnectionManager::new(proxy.url());
    let pool = diesel_async::pooled_connection::bb8::Pool::builder().max_size(1).build(through_proxy).await.unwrap();
    let app = App::builder(DieselConnector::new(pool)).task::<send>().build().unwrap();
    proxy.lose_response("defer_each_job");
    let results = within_patience(join_all((0..5).map(|n| app.defer(send(n))))).await;
    for result in &results {
        let is_so = |error: &Error| error.to_string().starts_with("could not defer the job: ");
        assert!(result.as_ref().is_err_and(is_so), "{results:?}");
        assert!(matches!(result, Err(Error::Database { .. })), "{results:?}");
    }
    // Nobody knows it, but they were stored, and nobody tries again.
    assert_eq!(rows(&mut connect(&database), "SELECT count(*) FROM procrastinate_jobs"), ["5"]);
    app.defer(send(5)).await.unwrap();
}

/// It takes as long as the server may take to respond.
#[tokio::test]
async fn a_connection_that_fails_silently_does_not_hold_up_later_calls_forever() {
    let mut held = Held::new().await;
    let first = held.first(send(0)).await;
    let app = held.app.clone();
    let [later] = <[_; 1]>::try_from(start(&app, [send(1)])).unwrap_or_else(|_| unreachable!());
    let error = within_patience(first).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "could not defer the job: the server did not respond within 30s");
    held.release();
    within_patience(later).await.unwrap();
}

#[tokio::test]
async fn an_exhausted_pool_is_an_error_for_all_calls_at_the_same_time() {
    let database = database();
    let pool = impatient_pool(&database, Duration::from_millis(500)).await;
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(pool.get_owned().await.unwrap());
    }
    let app = App::builder(DieselConnector::new(pool)).task::<send>().build().unwrap();
    let started_at = Instant::now();
    // The calls after the first one come while it waits, and then wait as long as the pool allows.
    let results = join_all((0..20).map(|n| app.defer(send(n)))).await;
    assert!(started_at.elapsed() < Duration::from_secs(5), "they wait together");
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Pool { .. }), "{error}");
        assert!(error.to_string().contains("all 5 connections of the pool are in use"), "{error}");
    }
    drop(taken);
    app.defer(send(20)).await.unwrap();
}

/// The transaction may belong to a caller of `App::defer`, who would wait forever.
#[tokio::test]
async fn a_queueing_lock_of_an_open_transaction_delays_its_own_call_only() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<send>().build().unwrap();
    for together in [false, true] {
        let mut holder = connect(&database);
        sql(&mut holder, "BEGIN");
        send(0).queueing_lock("open").defer_blocking(&mut holder).unwrap();
        let blocked = tokio::spawn({
            let app = app.clone();
            async move {
                if together {
                    let (blocked, other) =
                        tokio::join!(app.defer(send(1).queueing_lock("open")), within_patience(app.defer(send(2))));
                    other.unwrap();
                    return blocked;
                }
                app.defer(send(1).queueing_lock("open")).await
            }
        });
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let mut connection = connect(&database);
        eventually("it waits", || rows(&mut connection, waiting) == ["1"]).await;
        let others = join_all((0..3).map(|n| app.defer(send(n).queueing_lock(format!("other {n}")))));
        for result in within_patience(others).await {
            result.unwrap();
        }
        assert!(!blocked.is_finished());
        sql(&mut holder, "COMMIT");
        assert!(blocked.await.unwrap().unwrap_err().is_already_enqueued());
        sql(&mut holder, "DELETE FROM procrastinate_jobs");
    }
}
