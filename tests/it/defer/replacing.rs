//! Jobs that replace the pending job with their queueing lock, or keep it, and what deferring says about that.

use std::time::Duration;

use diesel::prelude::*;
use procrastinate::IfEnqueued::{Fail, Keep, Replace, ReplaceExceptSchedule};
use procrastinate::retry::RetryStrategy;
use procrastinate::{
    App, Deferred, Error, IfEnqueued, JobContext, JobId, JobOptions, JobStatus, JobToDefer, batch_defer_blocking,
    batch_defer_detailed, batch_defer_detailed_blocking, batch_defer_detailed_pipelined, task,
};
use serde_json::json;

use crate::support::{connect, connector, database, errors, job, jobs, pool, rows, sql, transaction};

#[task(queueing_lock = "index-{page}", if_enqueued = "replace")]
async fn index(page: i64, version: i64) {
    let _ = (page, version);
}

#[task(queueing_lock = "digest", if_enqueued = "replace_except_schedule")]
async fn digest(messages: u8) {
    let _ = messages;
}

#[task(queueing_lock = "once", if_enqueued = "keep")]
async fn once() {}

#[task(queueing_lock = "once", if_enqueued = "fail")]
async fn only() {}

#[task]
async fn other(number: i64) {
    let _ = number;
}

const MINUTE: Duration = Duration::from_secs(60);

fn versions(connection: &mut PgConnection) -> Vec<String> {
    rows(connection, "SELECT args->'version' AS version FROM procrastinate_jobs ORDER BY id")
}

#[test]
fn the_pending_job_gets_everything_of_the_new_one() {
    let database = database();
    let mut connection = connect(&database);
    let first = index(7, 1).schedule_in(MINUTE).defer_detailed_blocking(&mut connection).unwrap();
    let Deferred::New(id) = first else { panic!("{first:?}") };
    let at = "2100-01-01T00:00:00Z".parse().unwrap();
    let second = other(2).queue("slow").priority(-3).lock("l").queueing_lock("index-7");
    let second = second.schedule_at(at).if_enqueued(Replace).defer_detailed_blocking(&mut connection).unwrap();
    assert_eq!(second, Deferred::Replaced(id));
    let found = job(&mut connection, id);
    assert_eq!((found.task_name.as_str(), found.queue_name.as_str(), found.priority), ("other", "slow", -3));
    assert_eq!((found.lock.as_deref(), found.queueing_lock.as_deref()), (Some("l"), Some("index-7")));
    assert_eq!((found.args, found.scheduled_at, found.status), (json!({ "number": 2 }), Some(at), JobStatus::Todo));

    // Also without a lock and a schedule.
    assert_eq!(index(7, 3).defer_blocking(&mut connection).unwrap(), id);
    let found = job(&mut connection, id);
    assert_eq!((found.queue_name.as_str(), found.lock, found.scheduled_at), ("default", None, None));
    assert_eq!(jobs(&mut connection).len(), 1);
}

#[test]
fn a_throttled_job_keeps_the_schedule_of_the_first_one() {
    let database = database();
    let mut connection = connect(&database);
    let id = digest(1).schedule_in(MINUTE).defer_blocking(&mut connection).unwrap();
    let scheduled_at = job(&mut connection, id).scheduled_at;
    for messages in [2, 3] {
        let again = digest(messages).schedule_in(100 * MINUTE).defer_detailed_blocking(&mut connection).unwrap();
        assert_eq!(again, Deferred::Replaced(id));
    }
    let found = job(&mut connection, id);
    assert_eq!((found.args, found.scheduled_at), (json!({ "messages": 3 }), scheduled_at));

    let id = once().schedule_in(MINUTE).defer_blocking(&mut connection).unwrap();
    let kept = job(&mut connection, id);
    assert_eq!(once().defer_detailed_blocking(&mut connection).unwrap(), Deferred::Kept(id));
    assert_eq!(once().unless_enqueued().defer_detailed_blocking(&mut connection).unwrap(), Deferred::Kept(id));
    assert_eq!(job(&mut connection, id), kept);
    for job in [only(), once().if_enqueued(Fail)] {
        let error = job.defer_detailed_blocking(&mut connection).unwrap_err();
        assert!(matches!(error, Error::AlreadyEnqueued { .. }), "{error}");
    }
}

#[tokio::test]
async fn every_way_to_defer_replaces_the_pending_job() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<index>().build().unwrap();
    let id = app.defer(index(7, 0)).await.unwrap();
    let pool = pool(&database).await;
    let mut connection = pool.get().await.unwrap();
    let replaced = Deferred::Replaced(id);

    assert_eq!(index(7, 1).defer_detailed(&mut connection).await.unwrap(), replaced);
    assert_eq!(index(7, 2).defer_detailed_pipelined(&connection).await.unwrap(), replaced);
    assert_eq!(batch_defer_detailed([index(7, 3)], &mut connection).await.unwrap(), [replaced]);
    assert_eq!(batch_defer_detailed_pipelined([index(7, 4)], &connection).await.unwrap(), [replaced]);
    assert_eq!(app.defer_detailed(index(7, 5)).await.unwrap(), replaced);
    assert_eq!(app.batch_defer_detailed([index(7, 6)]).await.unwrap(), [replaced]);
    let by_name = app.configure_task("index", json!({ "page": 7, "version": 7 })).unwrap();
    assert_eq!(app.job_manager().defer_detailed(by_name).await.unwrap(), replaced);
    assert_eq!(app.job_manager().batch_defer(vec![index(7, 8)]).await.unwrap(), [id]);
    let options = JobOptions::new().queueing_lock("index-7").if_enqueued(ReplaceExceptSchedule);
    assert_eq!(app.defer_detailed(other(1).configure(&options)).await.unwrap(), replaced);
    assert_eq!(index(7, 9).defer(&mut connection).await.unwrap(), id);
    assert_eq!(versions(&mut connect(&database)), ["9"]);

    // One call asks for nothing but a new job.
    assert_eq!(app.defer_unless_enqueued(index(7, 10)).await.unwrap(), None);
    assert_eq!(versions(&mut connect(&database)), ["9"]);
}

#[tokio::test]
async fn a_job_can_replace_another_one_while_it_runs() {
    #[task(pass_context, queueing_lock = "edit", if_enqueued = "replace")]
    async fn edit(context: JobContext, page: i64) -> Result<(), Error> {
        assert!(matches!(context.defer_detailed(index(page, 2)).await?, Deferred::Replaced(_)));
        // The running job does not hold its queueing lock any more.
        assert!(context.defer_detailed(edit(page).schedule_in(MINUTE)).await?.is_new());
        Ok(())
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<edit>().task::<index>().build().unwrap();
    app.batch_defer([index(7, 1).schedule_in(MINUTE), edit(7)]).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let found = jobs(&mut connect(&database));
    let found: Vec<_> = found.iter().map(|job| (job.task_name.as_str(), job.status.clone())).collect();
    assert_eq!(found, [("index", JobStatus::Succeeded), ("edit", JobStatus::Succeeded), ("edit", JobStatus::Todo)]);
}

#[test]
fn jobs_of_a_batch_act_on_earlier_ones() {
    let database = database();
    let mut connection = connect(&database);
    let pending = index(1, 0).defer_blocking(&mut connection).unwrap();
    let batch = [
        index(2, 1),
        index(1, 1),
        other(1),
        index(2, 2).if_enqueued(Keep),
        index(2, 3).schedule_in(MINUTE),
        index(1, 2).if_enqueued(Keep),
        other(2),
    ];
    let deferred = batch_defer_detailed_blocking(batch, &mut connection).unwrap();
    let [Deferred::New(a), _, Deferred::New(b), _, _, _, Deferred::New(c)] = deferred[..] else {
        panic!("{deferred:?}")
    };
    assert!(pending < a && a < b && b < c, "{deferred:?}");
    let expected = [Deferred::Replaced(pending), Deferred::Kept(a), Deferred::Replaced(a), Deferred::Kept(pending)];
    assert_eq!([deferred[1], deferred[3], deferred[4], deferred[5]], expected);
    assert_eq!(versions(&mut connection), ["1", "3", "NULL", "NULL"]);
    assert_eq!(batch_defer_detailed_blocking(Vec::<JobToDefer>::new(), &mut connection).unwrap(), []);

    // Without a job that replaces another one.
    let batch = [index(3, 1).if_enqueued(Keep), index(1, 9).if_enqueued(Keep), index(3, 2).if_enqueued(Keep)];
    let deferred = batch_defer_detailed_blocking(batch, &mut connection).unwrap();
    let new = deferred[0].id();
    assert_eq!(deferred, [Deferred::New(new), Deferred::Kept(pending), Deferred::Kept(new)]);
    assert!(batch_defer_detailed_blocking([other(1)], &mut connection).unwrap()[0].is_new());
}

#[test]
fn a_batch_with_a_job_that_fails_changes_nothing() {
    let database = database();
    let mut connection = connect(&database);
    index(1, 0).defer_blocking(&mut connection).unwrap();
    let strict = || other(1).queueing_lock("index-1");
    for batch in [vec![index(1, 1), strict()], vec![strict(), index(2, 1)], vec![index(2, 1), index(1, 1), strict()]] {
        let error = batch_defer_blocking(batch, &mut connection).unwrap_err();
        let expected = |task: &str, lock: &str| task == "other" && lock == "index-1";
        assert!(
            matches!(&error, Error::AlreadyEnqueued { task_name, queueing_lock } if expected(task_name, queueing_lock)),
            "{error}"
        );
        assert_eq!(versions(&mut connection), ["0"]);
    }
    // The strict job comes first, and the other one replaces it.
    let ids = batch_defer_blocking([other(1).queueing_lock("index-3"), index(3, 1)], &mut connection).unwrap();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(versions(&mut connection), ["0", "1"]);
}

#[tokio::test]
async fn a_replacement_belongs_to_the_transaction_at_every_isolation_level() {
    let database = database();
    let pool = pool(&database).await;
    for level in ["read committed", "repeatable read", "serializable"] {
        sql(&mut connect(&database), "DELETE FROM procrastinate_jobs");
        let mut connection = pool.get().await.unwrap();
        let level_of_session = format!("SET default_transaction_isolation TO '{level}'");
        diesel_async::RunQueryDsl::execute(diesel::sql_query(level_of_session), &mut *connection).await.unwrap();
        let id = index(1, 0).defer(&mut connection).await.unwrap();
        let rolled_back = transaction(&mut connection, async |connection| {
            assert_eq!(index(1, 1).defer_detailed(connection).await?, Deferred::Replaced(id));
            Err::<(), _>(Error::from(diesel::result::Error::RollbackTransaction))
        });
        rolled_back.await.unwrap_err();
        assert_eq!(versions(&mut connect(&database)), ["0"], "{level}");

        let strict = || other(1).queueing_lock("index-1");
        let committed = transaction(&mut connection, async |connection| {
            let error = batch_defer_detailed([index(1, 1), strict()], connection).await.unwrap_err();
            assert!(error.is_already_enqueued(), "{error}");
            let own = index(2, 1).defer(connection).await?;
            assert_eq!(index(2, 2).defer_detailed(connection).await?, Deferred::Replaced(own));
            assert_eq!(index(1, 3).defer_detailed(connection).await?, Deferred::Replaced(id));
            other(1).defer(connection).await
        });
        committed.await.unwrap();
        assert_eq!(versions(&mut connect(&database)), ["3", "2", "NULL"], "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_deferred_at_the_same_time_become_one_at_every_isolation_level() {
    for level in ["read committed", "serializable"] {
        let database = database();
        let name = database.name();
        sql(
            &mut connect(&database),
            &format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation TO '{level}'"),
        );
        let app = App::builder(connector(&database).await).task::<index>().build().unwrap();
        let calls = (0..30).map(|version| app.defer_detailed(index(7, version)));
        let deferred = futures_util::future::join_all(calls).await;
        let deferred: Vec<Deferred> = deferred.into_iter().collect::<Result<_, _>>().unwrap();
        let [stored] = <[_; 1]>::try_from(jobs(&mut connect(&database))).unwrap();
        assert!(deferred.iter().all(|deferred| deferred.id() == stored.id), "{deferred:?}");
        assert_eq!(deferred.iter().filter(|deferred| deferred.is_new()).count(), 1);
    }
}

#[tokio::test]
async fn a_replaced_job_keeps_its_attempts_and_errors() {
    #[task(queueing_lock = "call", if_enqueued = "replace", retry = RetryStrategy::new().max_attempts(3))]
    async fn call(answers: bool) -> Result<(), String> {
        if answers { Ok(()) } else { Err("no answer".to_owned()) }
    }
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<call>().build().unwrap();
    let id = app.defer(call(false)).await.unwrap();
    let mut worker = app.worker().into_test_worker().unwrap();
    worker.run_one().await.unwrap();
    assert_eq!(job(&mut connection, id).attempts, 1);
    assert_eq!(app.defer_detailed(call(true)).await.unwrap(), Deferred::Replaced(id));
    let found = job(&mut connection, id);
    assert_eq!((found.attempts, found.scheduled_at, found.args), (1, None, json!({ "answers": true })));
    assert_eq!(errors(&mut connection, id), ["1: no answer"]);
    worker.run_one().await.unwrap();
    assert_eq!((job(&mut connection, id).status, job(&mut connection, id).attempts), (JobStatus::Succeeded, 2));
}

#[tokio::test]
async fn a_worker_runs_what_was_deferred_last() {
    // A worker that waits is notified, also of a job that moves to its queue.
    let database = database();
    let app = App::builder(connector(&database).await).task::<index>().build().unwrap();
    let mut listener = app.listen_for_jobs(&["soon"]).await.unwrap();
    let id = app.defer(index(7, 1).queue("later").schedule_in(MINUTE)).await.unwrap();
    app.defer(index(7, 2).queue("soon").schedule_in(MINUTE)).await.unwrap();
    app.defer(index(7, 3).queue("soon")).await.unwrap();
    let heard = crate::support::within_patience(listener.next()).await.unwrap();
    assert_eq!(heard, procrastinate::job_manager::Notification::JobInserted(id));
    app.worker().queues(["soon"]).stop_when_empty().run().await.unwrap();
    assert_eq!(job(&mut connect(&database), id).status, JobStatus::Succeeded);
}

#[test]
fn a_job_without_a_queueing_lock_is_refused() {
    let cases: [(IfEnqueued, &str); 3] = [
        (Keep, "unless_enqueued"),
        (Replace, "if_enqueued = replace"),
        (ReplaceExceptSchedule, "if_enqueued = replace_except_schedule"),
    ];
    for (if_enqueued, option) in cases {
        let job = || other(1).if_enqueued(if_enqueued);
        let expected = format!("invalid option \"{option}\": the job of the task \"other\" must have a queueing lock");
        assert_eq!(job().check().unwrap_err().to_string(), expected);
        assert!(job().queueing_lock("a").check().is_ok());
    }
    assert!(other(1).if_enqueued(Fail).check().is_ok());
}

#[test]
fn a_job_that_the_database_refuses_is_an_error_and_changes_nothing() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "ALTER TABLE procrastinate_jobs ADD CONSTRAINT small CHECK ((args->>'version')::integer < 10)",
    );
    index(1, 0).defer_blocking(&mut connection).unwrap();
    let error = index(1, 11).defer_blocking(&mut connection).unwrap_err();
    assert!(
        error.to_string().starts_with("could not defer the job: ") && error.to_string().contains("small"),
        "{error}"
    );
    batch_defer_blocking([index(1, 5), index(2, 11)], &mut connection).unwrap_err();
    assert_eq!(versions(&mut connection), ["0"]);
    index(1, 6).defer_blocking(&mut connection).unwrap();
    assert_eq!(versions(&mut connection), ["6"]);
}

#[test]
fn the_queue_can_be_in_any_schema() {
    let database = crate::support::empty_database();
    let mut connection = connect(&database);
    sql(&mut connection, "CREATE SCHEMA \"my queue\"; SET search_path TO \"my queue\"");
    procrastinate::migrations::run_pending_migrations(&mut connection, procrastinate::migrations::MIGRATIONS).unwrap();
    let id = index(1, 0).defer_blocking(&mut connection).unwrap();
    let deferred = batch_defer_detailed_blocking([index(1, 1), index(2, 0)], &mut connection).unwrap();
    assert_eq!(deferred, [Deferred::Replaced(id), Deferred::New(JobId::from(3))]);
}

#[test]
fn ten_thousand_jobs_with_five_thousand_locks_become_five_thousand() {
    let database = database();
    let mut connection = connect(&database);
    for expected in [5_000, 0] {
        let batch = (0..10_000).map(|number| index(number % 5_000, number));
        let deferred = batch_defer_detailed_blocking(batch, &mut connection).unwrap();
        assert_eq!(deferred.iter().filter(|deferred| deferred.is_new()).count(), expected);
        for (number, pair) in deferred[..5_000].iter().zip(&deferred[5_000..]).enumerate() {
            assert_eq!(pair.0.id(), pair.1.id(), "{number}");
        }
    }
    let look = "SELECT count(*), min((args->'version')::integer - (args->'page')::integer),
        max((args->'version')::integer - (args->'page')::integer) FROM procrastinate_jobs";
    assert_eq!(rows(&mut connection, look), ["5000 | 5000 | 5000"]);
}
