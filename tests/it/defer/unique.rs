//! Jobs with unique keys, and what deferring says about a key that is taken.

use std::time::Duration;

use procrastinate::{
    App, Deferred, DeleteJobs, Error, IfEnqueued, JobOptions, JobToDefer, PeriodicTask, batch_defer,
    batch_defer_blocking, batch_defer_detailed, task,
};

use crate::support::{connect, connector, database, jobs, pool, rows, sql};

const HOUR: Duration = Duration::from_secs(3_600);

#[task]
async fn report(year: i32) {
    let _ = year;
}

fn unique(key: &str) -> JobToDefer {
    report(2026).unique(key)
}

#[tokio::test]
async fn every_way_to_defer_obeys_the_key() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<report>().build().unwrap();
    let pool = pool(&database).await;
    let mut connection = pool.get().await.unwrap();
    let mut blocking = connect(&database);
    let id = app.defer(unique("a")).await.unwrap();
    for _ in 0..2 {
        let errors = [
            app.defer(unique("a")).await.unwrap_err(),
            unique("a").defer(&mut connection).await.unwrap_err(),
            unique("a").defer_pipelined(&connection).await.unwrap_err(),
            unique("a").defer_blocking(&mut blocking).unwrap_err(),
            batch_defer([report(1), unique("a")], &mut connection).await.unwrap_err(),
            app.batch_defer([unique("b"), unique("a")]).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_already_enqueued());
            let expected = format!("could not defer task \"report\": job {id} holds the unique key \"a\"");
            assert_eq!(error.to_string(), expected);
            assert!(matches!(error, Error::NotUnique { job_id: Some(holder), .. } if holder == id));
        }
        assert_eq!(unique("a").unless_enqueued().defer(&mut connection).await.unwrap(), id);
        assert_eq!(app.defer_detailed(unique("a").unless_enqueued()).await.unwrap(), Deferred::Kept(id));
        assert_eq!(app.defer_unless_enqueued(unique("a")).await.unwrap(), None);
        assert_eq!(unique("a").defer_unless_enqueued_blocking(&mut blocking).unwrap(), None);
        // It makes no difference that the job runs.
        sql(&mut blocking, "SELECT procrastinate_fetch_job_v2(NULL, NULL)");
    }
    assert_eq!(jobs(&mut blocking).len(), 1);
    let error = batch_defer_blocking([unique("b"), unique("b")], &mut blocking).unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not defer task \"report\": an earlier job of the batch has the unique key \"b\""
    );
    let kept = |key: &str| unique(key).unless_enqueued();
    let deferred = batch_defer_detailed([kept("b"), kept("a"), kept("b"), report(1)], &mut connection).await.unwrap();
    let [Deferred::New(new), Deferred::Kept(held), Deferred::Kept(same), Deferred::New(_)] = deferred[..] else {
        panic!("{deferred:?}")
    };
    assert_eq!((held, same), (id, new));
}

#[test]
fn a_taken_key_leaves_the_transaction_intact_and_a_rollback_frees_the_key() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "BEGIN");
    unique("a").defer_blocking(&mut connection).unwrap();
    assert!(unique("a").defer_blocking(&mut connection).unwrap_err().is_already_enqueued());
    report(1).defer_blocking(&mut connection).unwrap();
    sql(&mut connection, "COMMIT");
    assert_eq!(jobs(&mut connection).len(), 2);
    sql(&mut connection, "BEGIN");
    unique("b").defer_blocking(&mut connection).unwrap();
    sql(&mut connection, "ROLLBACK");
    unique("b").defer_blocking(&mut connection).unwrap();
}

#[tokio::test]
async fn a_job_that_a_worker_deletes_at_its_end_holds_its_key_for_the_period() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<report>().build().unwrap();
    app.defer(report(1).unique_for("hourly", HOUR)).await.unwrap();
    app.defer(report(1).unique("once")).await.unwrap();
    app.worker().delete_jobs(DeleteJobs::Always).stop_when_empty().run().await.unwrap();
    assert!(jobs(&mut connection).is_empty());
    let error = app.defer(unique("hourly")).await.unwrap_err();
    assert!(matches!(error, Error::NotUnique { job_id: Some(holder), .. } if holder == 1), "{error}");
    app.defer(unique("once")).await.unwrap();
    sql(&mut connection, "UPDATE procrastinate_diesel_unique_keys SET free_at = free_at - interval '1 hour'");
    app.defer(unique("hourly")).await.unwrap();
    assert_eq!(
        rows(&mut connection, "SELECT key FROM procrastinate_diesel_unique_keys ORDER BY key"),
        ["hourly", "once"]
    );
}

#[tokio::test]
async fn what_cannot_be_combined_is_refused() {
    let replacing = unique("a").queueing_lock("q").if_enqueued(IfEnqueued::Replace);
    for (job, expected) in [
        (
            replacing,
            "invalid option \"if_enqueued = replace\": the job of the task \"report\" must not have a unique key",
        ),
        (report(1).unique("x".repeat(2_601)), "must be at most 2600 bytes, but is 2601"),
        (report(1).unique_for("a", Duration::MAX), "must be at most 1,000 years"),
    ] {
        let error = job.check().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // The last call wins.
    assert!(report(1).unique_for("a", Duration::MAX).unique("a").check().is_ok());
    assert!(report(1).configure(&JobOptions::new().unique("a").unless_enqueued()).check().is_ok());

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Hourly {
        timestamp: i64,
    }
    impl procrastinate::Task for Hourly {
        type Output = ();
        const NAME: &'static str = "hourly";
        fn defaults() -> JobOptions {
            JobOptions::new().unique("hourly")
        }
        async fn run(self, _: procrastinate::JobContext) {}
    }
    let app = App::builder(connector(&database()).await).task::<Hourly>();
    let error = app.periodic(PeriodicTask::new::<Hourly>("0 * * * *")).build().unwrap_err().to_string();
    assert!(error.contains("invalid unique key \"hourly\": must not be set for the periodic task"), "{error}");
}
