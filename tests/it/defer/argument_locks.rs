//! Locks that are made of a job's arguments.

use std::time::Duration;

use chrono::{DateTime, Utc};
use procrastinate::retry::RetryStrategy;
use procrastinate::{App, Error, JobContext, JobOptions, JobStatus, PeriodicTask, Task, batch_defer_blocking, task};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{connect, connector, database, job, jobs, sql};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u32,
    customer: Customer,
    cents: (i64, f64),
}

#[derive(Serialize, Deserialize)]
struct Customer {
    name: String,
}

#[task(
    lock = "customer:{order.customer.name}",
    queueing_lock = "{{{r#type}}}:{ order . id :05}, {order.cents.1:.2}, {kind:?}"
)]
async fn import(order: Order, r#type: String, kind: Option<u8>) {
    drop((order, r#type, kind));
}

#[task(queue = "reports", lock = "report:{customer}:{timestamp}", queueing_lock = "one {{at}} a time")]
async fn report(timestamp: i64, customer: String) {
    drop((timestamp, customer));
}

fn ada() -> Order {
    Order { id: 7, customer: Customer { name: "Ada".to_owned() }, cents: (1, 2.0 / 3.0) }
}

const LOCKS: (Option<&str>, Option<&str>) = (Some("customer:Ada"), Some("{xml}:00007, 0.67, Some(3)"));

#[tokio::test]
async fn each_job_has_the_locks_of_its_arguments_however_it_is_made() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<import>().build().unwrap();
    let mut is_locked = |id| {
        let job = job(&mut connection, id);
        assert_eq!((job.lock.as_deref(), job.queueing_lock.as_deref()), LOCKS);
        // The next one has the same queueing lock.
        sql(&mut connection, "DELETE FROM procrastinate_jobs");
    };
    is_locked(app.defer(import(ada(), "xml".into(), Some(3))).await.unwrap());
    is_locked(app.defer(import { order: ada(), r#type: "xml".into(), kind: Some(3) }.job()).await.unwrap());
    is_locked(app.batch_defer([import(ada(), "xml".into(), Some(3))]).await.unwrap()[0]);
    let args = json!({ "order": ada(), "type": "xml", "kind": 3 });
    is_locked(app.defer(app.configure_task("import", args).unwrap()).await.unwrap());
}

#[test]
fn an_option_of_the_job_overrides_the_lock_of_its_arguments() {
    let database = database();
    let mut connection = connect(&database);
    let options = JobOptions::new().queueing_lock("mine");
    let jobs = [import(ada(), "xml".into(), None).lock("mine").configure(&options)];
    let ids = batch_defer_blocking(jobs, &mut connection).unwrap();
    let job = job(&mut connection, ids[0]);
    assert_eq!((job.lock.as_deref(), job.queueing_lock.as_deref()), (Some("mine"), Some("mine")));
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_refused_because_their_job_would_have_no_lock() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<import>().build().unwrap();
    let error = app.configure_task("import", json!({ "order": { "id": "secret" } })).unwrap_err();
    assert!(error.is_invalid());
    assert_eq!(
        error.to_string(),
        "invalid arguments of the task \"import\": must fit the task, and do not at order.id: invalid type: string, \
         expected u32"
    );
}

#[tokio::test]
async fn a_lock_that_becomes_too_long_is_refused_before_anything_is_stored() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<import>().build().unwrap();
    let long = import(ada(), "x".repeat(2_600), None);
    let error = app.batch_defer([import(ada(), "xml".into(), None), long]).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { what: "queueing lock", .. }), "{error}");
    assert!(error.to_string().ends_with("must be at most 2600 bytes, but is 2620"), "{error}");
    assert!(jobs(&mut connect(&database)).is_empty());
}

#[tokio::test]
async fn a_schedule_locks_each_tick_by_its_own_arguments() {
    let database = database();
    let morning = PeriodicTask::new::<report>("0 8 * * *").arg("customer", "Ada");
    let evening = PeriodicTask::new::<report>("0 18 * * *").periodic_id("evening").arg("customer", "Grace");
    let evening = evening.queueing_lock("evening");
    let app = App::builder(connector(&database).await).task::<report>();
    let app = app.periodic(morning).periodic(evening).build().unwrap();
    let at = |time: &str| format!("2030-01-01T{time}:00Z").parse::<DateTime<Utc>>().unwrap();
    let mut deferrer = app.periodic_deferrer();
    for time in ["08:00", "18:00"] {
        deferrer.defer_due(at(time)).await;
    }
    let locks: Vec<_> =
        jobs(&mut connect(&database)).into_iter().map(|job| (job.queue_name, job.lock, job.queueing_lock)).collect();
    let expected =
        [("Ada", "08:00", "one {at} a time"), ("Grace", "18:00", "evening")].map(|(name, time, queueing_lock)| {
            let lock = format!("report:{name}:{}", at(time).timestamp());
            ("reports".to_owned(), Some(lock), Some(queueing_lock.to_owned()))
        });
    assert_eq!(locks, expected);
}

#[tokio::test]
async fn a_schedule_whose_lock_becomes_too_long_is_refused() {
    let periodic = PeriodicTask::new::<report>("@daily").arg("customer", "x".repeat(2_600));
    let builder = App::builder(connector(&database()).await).task::<report>();
    let error = builder.periodic(periodic).build().unwrap_err();
    assert!(matches!(error, Error::Invalid { what: "lock", .. }), "{error}");
}

#[tokio::test]
async fn a_retry_keeps_the_lock_of_the_arguments() {
    #[task(lock = "{name}", retry = RetryStrategy::new().max_attempts(1).wait(3_600))]
    async fn fail(name: String) -> Result<(), String> {
        Err(name)
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<fail>().build().unwrap();
    let id = app.defer(fail("Ada".to_owned())).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let job = job(&mut connect(&database), id);
    assert_eq!((job.status, job.lock.as_deref()), (JobStatus::Todo, Some("Ada")));
}

#[tokio::test]
async fn a_task_without_the_attribute_implements_a_method() {
    #[derive(Serialize, Deserialize)]
    struct Charge {
        customer: i64,
    }

    impl Task for Charge {
        const NAME: &'static str = "charge";
        type Output = ();

        fn defaults() -> JobOptions {
            JobOptions::new().queue("charges")
        }

        fn options(&self) -> JobOptions {
            Self::defaults().lock(format!("customer:{}", self.customer)).schedule_in(Duration::from_secs(60))
        }

        async fn run(self, _context: JobContext) {}
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<Charge>().build().unwrap();
    app.defer(Charge { customer: 7 }.job()).await.unwrap();
    app.defer(app.configure_task("charge", json!({ "customer": 8 })).unwrap()).await.unwrap();
    for (job, lock) in jobs(&mut connect(&database)).into_iter().zip(["customer:7", "customer:8"]) {
        assert_eq!((job.queue_name.as_str(), job.lock.as_deref()), ("charges", Some(lock)));
        assert!(job.scheduled_at.is_some());
    }
}
