//! Jobs that are deferred unless a pending job holds their queueing lock.

use diesel::prelude::*;
use procrastinate::{
    App, Error, JobContext, JobId, JobOptions, JobToDefer, Task, batch_defer, batch_defer_blocking, configure_task,
    task,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{connect, connector, database, jobs, pool, sql, transaction};

#[task(queueing_lock = "update:{number}", unless_enqueued)]
async fn update(number: i64, note: u8) {
    let _ = (number, note);
}

#[task]
async fn other(number: i64) {
    let _ = number;
}

const START_A_JOB: &str = "SELECT procrastinate_fetch_job_v2(NULL, (SELECT procrastinate_register_worker_v1()))";

/// The IDs of the stored jobs, by ID.
fn stored(connection: &mut PgConnection) -> Vec<i64> {
    jobs(connection).into_iter().map(|job| job.id).collect()
}

#[test]
fn the_pending_job_is_kept_and_its_id_returned() {
    let database = database();
    let mut connection = connect(&database);
    let first = update(7, 1).defer_blocking(&mut connection).unwrap();
    assert_eq!(update(7, 2).defer_blocking(&mut connection).unwrap(), first);
    let second = update(8, 3).defer_blocking(&mut connection).unwrap();
    assert_eq!(jobs(&mut connection).iter().map(|job| job.args["note"].clone()).collect::<Vec<_>>(), [1, 3]);

    // Once the pending job has started, another one is stored.
    sql(&mut connection, START_A_JOB);
    let third = update(7, 4).defer_blocking(&mut connection).unwrap();
    assert!(third != first && third != second);
    assert_eq!(update(7, 5).defer_blocking(&mut connection).unwrap(), third);
}

#[tokio::test]
async fn every_way_to_defer_keeps_the_pending_job() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<update>().build().unwrap();
    let first = app.defer(update(7, 1)).await.unwrap();
    assert_eq!(app.defer(update(7, 2)).await.unwrap(), first);
    assert_eq!(app.job_manager().defer(update(7, 2)).await.unwrap(), first);
    let by_name = app.configure_task("update", json!({ "number": 7, "note": 2 })).unwrap();
    assert_eq!(app.defer(by_name).await.unwrap(), first);
    let by_hand = configure_task("update", json!({})).queueing_lock("update:7").unless_enqueued();
    assert_eq!(app.defer(by_hand).await.unwrap(), first);
    let options = JobOptions::new().queueing_lock("update:7").unless_enqueued();
    assert_eq!(app.defer(other(1).configure(&options)).await.unwrap(), first);
    assert_eq!(app.batch_defer([update(7, 2)]).await.unwrap(), [first]);

    // Without the option, a taken lock is an error. `defer_unless_enqueued` returns nothing, with the option too.
    let error = app.defer(other(1).queueing_lock("update:7")).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyEnqueued { .. }), "{error}");
    assert_eq!(app.defer_unless_enqueued(update(7, 3)).await.unwrap(), None);
    let mut connection = pool(&database).await.get_owned().await.unwrap();
    assert_eq!(update(7, 3).defer_unless_enqueued(&mut connection).await.unwrap(), None);
    assert_eq!(stored(&mut connect(&database)), [i64::from(first)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_deferred_at_the_same_time_become_one() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<update>().build().unwrap();
    let ids = futures_util::future::join_all((0..30).map(|note| app.defer(update(7, note)))).await;
    let ids: Vec<JobId> = ids.into_iter().collect::<Result<_, _>>().unwrap();
    let [stored] = <[i64; 1]>::try_from(stored(&mut connect(&database))).unwrap();
    assert_eq!(ids, [JobId::from(stored); 30]);
}

#[tokio::test]
async fn the_transaction_of_the_caller_stays_intact_at_every_isolation_level() {
    let database = database();
    let pool = pool(&database).await;
    for level in ["read committed", "repeatable read", "serializable"] {
        sql(&mut connect(&database), "DELETE FROM procrastinate_jobs");
        let mut connection = pool.get().await.unwrap();
        let begin = format!("SET default_transaction_isolation TO '{level}'");
        diesel_async::RunQueryDsl::execute(diesel::sql_query(begin), &mut *connection).await.unwrap();
        let before = update(1, 0).defer(&mut connection).await.unwrap();
        let ids = transaction(&mut connection, async |connection| {
            let own = update(2, 0).defer(connection).await?;
            let mut ids = vec![update(1, 1).defer(connection).await?, update(2, 1).defer(connection).await?];
            ids.extend(batch_defer([update(2, 2), update(1, 2)], connection).await?);
            let after = other(1).defer(connection).await?;
            Ok::<_, Error>((own, ids, after))
        });
        let (own, ids, after) = ids.await.unwrap();
        assert_eq!(ids, [before, own, own, before], "{level}");
        assert_eq!(stored(&mut connect(&database)), [before, own, after].map(i64::from), "{level}");
    }
}

#[test]
fn each_job_of_a_batch_gets_an_id() {
    let database = database();
    let mut connection = connect(&database);
    let pending = update(7, 0).defer_blocking(&mut connection).unwrap();
    let jobs = [other(1), update(8, 1), update(7, 1), update(8, 2), other(2), update(7, 2), update(9, 1)];
    let ids = batch_defer_blocking(jobs, &mut connection).unwrap();
    assert_eq!((ids[2], ids[5], ids[3]), (pending, pending, ids[1]));
    let mut new = [pending, ids[0], ids[1], ids[4], ids[6]].map(i64::from);
    new.sort_unstable();
    assert_eq!(stored(&mut connection), new);

    // Nothing is new.
    assert_eq!(batch_defer_blocking([update(7, 3), update(8, 3)], &mut connection).unwrap(), [pending, ids[1]]);
    assert_eq!(stored(&mut connection), new);
}

#[test]
fn a_job_of_a_batch_without_the_option_still_fails() {
    let database = database();
    let mut connection = connect(&database);
    update(7, 0).defer_blocking(&mut connection).unwrap();
    let strict = |number: i64| other(number).queueing_lock(format!("update:{number}"));
    for batch in [
        vec![update(7, 1), update(8, 1), strict(7)],
        // In the batch it is the first that has the lock.
        vec![update(8, 1), strict(8), update(7, 1)],
    ] {
        let error = batch_defer_blocking(batch, &mut connection).unwrap_err();
        assert!(matches!(&error, Error::AlreadyEnqueued { task_name, .. } if task_name == "other"), "{error}");
    }
    assert_eq!(stored(&mut connection).len(), 1);
    let ids = batch_defer_blocking([strict(8), update(8, 1)], &mut connection).unwrap();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_job_without_a_queueing_lock_is_refused() {
    let job = || other(1).unless_enqueued();
    let expected = r#"invalid option "unless_enqueued": the job of the task "other" must have a queueing lock"#;
    assert_eq!(job().check().unwrap_err().to_string(), expected);
    assert!(job().queueing_lock("a").check().is_ok());
    let error = batch_defer_blocking([other(1), job()], &mut connect(&database())).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_task_without_the_attribute_has_the_option_too() {
    #[derive(Serialize, Deserialize)]
    struct Index {
        page: u32,
    }

    impl Task for Index {
        const NAME: &'static str = "index";
        type Output = ();

        fn options(&self) -> JobOptions {
            JobOptions::new().queueing_lock(format!("index:{}", self.page)).unless_enqueued()
        }

        async fn run(self, _context: JobContext) {}
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<Index>().build().unwrap();
    let job = |page: u32| -> JobToDefer { Index { page }.job() };
    let ids = app.batch_defer([job(1), job(2), job(1)]).await.unwrap();
    assert_eq!(ids[0], ids[2]);
    assert_eq!(app.defer(job(2)).await.unwrap(), ids[1]);
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_second_statement_is_sent_only_if_the_lock_is_taken() {
    let memory = procrastinate::testing::InMemoryConnector::new();
    let app = App::builder(memory.clone()).task::<update>().build().unwrap();
    let mut seen = 0;
    let mut new = || {
        let names: Vec<_> = memory.queries().into_iter().skip(seen).map(|query| query.name).collect();
        seen += names.len();
        names
    };
    app.defer(update(7, 1)).await.unwrap();
    assert_eq!(new(), ["InsertJobUnlessEnqueued"]);
    app.defer(update(7, 2)).await.unwrap();
    assert_eq!(new(), ["InsertJobUnlessEnqueued", "LivingHolders"]);
    app.batch_defer([update(8, 1), update(8, 2)]).await.unwrap();
    assert_eq!(new(), ["InsertJobs"]);
    app.batch_defer([update(8, 3), update(9, 1)]).await.unwrap();
    assert_eq!(new(), ["InsertJobs", "LivingHolders", "InsertJobs"]);
}
