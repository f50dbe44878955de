//! What is counted and timed. The recorder is the thread's own, and each test's runtime is one thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use procrastinate::retry::RetryStrategy;
use procrastinate::{
    App, IfEnqueued, JobAborted, JobContext, PeriodicTask, TaskControl, TaskError, UnknownTasks, batch_defer_blocking,
    task,
};
use tokio::sync::Notify;

use crate::support::{Running, connect, connector, database, eventually, sql};

/// What was recorded: for each metric with its labels the changes of a counter or gauge, or the values of a histogram.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

/// One metric with its labels.
struct Series {
    recorded: Recorded,
    key: String,
}

impl Recorded {
    fn series(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let key = format!("{} {}", key.name(), labels.join(" ")).trim_end().to_owned();
        Arc::new(Series { recorded: self.clone(), key })
    }

    /// The values of a histogram, or the changes of a gauge.
    fn values(&self, key: &str) -> Vec<f64> {
        self.0.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    /// The state of a counter or gauge.
    fn sum(&self, key: &str) -> f64 {
        self.values(key).iter().sum()
    }

    /// All with this name, and their states.
    fn sums(&self, name: &str) -> Vec<String> {
        let recorded = self.0.lock().unwrap();
        let of_name = recorded.iter().filter_map(|(key, values)| {
            let labels = key.strip_prefix(name)?.strip_prefix(' ')?;
            Some(format!("{labels}: {}", values.iter().sum::<f64>()))
        });
        of_name.collect()
    }
}

impl Series {
    fn add(&self, value: f64) {
        self.recorded.0.lock().unwrap().entry(self.key.clone()).or_default().push(value);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.add(f64::from(u32::try_from(value).unwrap()));
    }

    fn absolute(&self, _value: u64) {
        panic!("a counter only grows");
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, _value: f64) {
        panic!("several workers may have one name");
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        assert_eq!(unit, Some(Unit::Count));
        self.series(&Key::from_name(format!("described {} as {description}", key.as_str()))).add(1.0);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe_counter(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        assert_eq!(unit, Some(Unit::Seconds));
        self.describe_counter(key, Some(Unit::Count), description);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}

#[task(queue = "one")]
async fn good() {}

#[task(queue = "other")]
async fn due(timestamp: i64) {
    let _ = timestamp;
}

#[tokio::test]
async fn jobs_are_counted_once_they_are_deferred_and_not_when_they_are_refused() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let database = database();
    let mut connection = connect(&database);
    let tick = PeriodicTask::new::<due>("@daily").queueing_lock("lock");
    let app = App::builder(connector(&database).await).task::<good>().task::<due>().periodic(tick).build().unwrap();

    good().defer_blocking(&mut connection).unwrap();
    good().queueing_lock("a").defer_blocking(&mut connection).unwrap();
    good().queueing_lock("a").defer_blocking(&mut connection).unwrap_err();
    assert_eq!(app.defer_unless_enqueued(good().queueing_lock("a")).await.unwrap(), None);
    batch_defer_blocking([good(), good().queue("two"), good().queueing_lock("a")], &mut connection).unwrap_err();
    let replacement = || good().queueing_lock("a").if_enqueued(IfEnqueued::Replace);
    app.defer(replacement()).await.unwrap();
    batch_defer_blocking([replacement(), replacement()], &mut connection).unwrap();
    assert_eq!(recorded.sums("procrastinate_jobs_deferred_total"), ["task=good queue=one: 2"]);

    app.batch_defer([good(), good(), good().queue("two"), good(), replacement(), due(0)]).await.unwrap();
    let mut deferrer = app.periodic_deferrer();
    deferrer.defer_due("2026-01-01T00:00:00Z".parse().unwrap()).await;
    // The job of the first tick waits.
    deferrer.defer_due("2026-01-02T00:00:00Z".parse().unwrap()).await;
    sql(&mut connection, "DROP TABLE procrastinate_jobs CASCADE");
    good().defer_blocking(&mut connection).unwrap_err();
    app.batch_defer([good(), due(0)]).await.unwrap_err();
    assert_eq!(
        recorded.sums("procrastinate_jobs_deferred_total"),
        ["task=due queue=other: 2", "task=good queue=one: 5", "task=good queue=two: 1"]
    );
}

#[task]
async fn bad() -> Result<(), String> {
    Err("bad".to_owned())
}

#[task(pass_context, retry = RetryStrategy::new().max_attempts(1))]
async fn at_length(context: JobContext) -> Result<(), TaskError> {
    // Again without counting the attempt, then again after a failure, then aborted.
    match context.state::<AtomicU32>().unwrap().fetch_add(1, Ordering::Relaxed) {
        0 => Err(TaskControl::snooze(std::time::Duration::ZERO).into()),
        1 => panic!("once more"),
        _ => Err(JobAborted.into()),
    }
}

#[tokio::test]
async fn jobs_that_are_deferred_in_one_statement_are_counted_each() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let database = database();
    let app = App::builder(connector(&database).await).task::<good>().build().unwrap();
    let once = || good().queueing_lock("once");
    let calls = [good(), once(), once(), once().unless_enqueued()].map(|job| app.defer(job));
    let results = futures_util::future::join_all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    assert_eq!(recorded.sums("procrastinate_jobs_deferred_total"), ["task=good queue=one: 2"]);
}

#[tokio::test]
async fn attempts_are_counted_by_their_outcome_and_timed() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let database = database();
    let app = App::builder(connector(&database).await).task::<good>().task::<bad>().task::<at_length>();
    let app = app.state(AtomicU32::new(0)).build().unwrap();
    app.batch_defer([good(), good(), bad(), at_length()]).await.unwrap();
    app.defer(procrastinate::configure_task("unknown", serde_json::json!({}))).await.unwrap();
    app.worker().name("counted").unknown_tasks(UnknownTasks::Fail).stop_when_empty().run().await.unwrap();

    assert_eq!(
        recorded.sums("procrastinate_jobs_finished_total"),
        [
            "task=at_length queue=default outcome=aborted: 1",
            "task=at_length queue=default outcome=retried: 1",
            "task=at_length queue=default outcome=snoozed: 1",
            "task=bad queue=default outcome=failed: 1",
            "task=good queue=one outcome=succeeded: 2",
            "task=unknown queue=default outcome=failed: 1",
        ]
    );
    assert_eq!(
        recorded.sums("procrastinate_jobs_started_total"),
        [
            "task=at_length queue=default: 3",
            "task=bad queue=default: 1",
            "task=good queue=one: 2",
            "task=unknown queue=default: 1",
        ]
    );
    let durations = recorded.values("procrastinate_job_duration_seconds task=at_length queue=default");
    assert!(durations.len() == 3 && durations.iter().all(|seconds| *seconds > 0.0), "{durations:?}");
    let exchanges = recorded.values("procrastinate_fetch_duration_seconds");
    // At most one attempt a time goes out and comes back, and the last one ends with nothing to fetch.
    assert!(exchanges.len() > 6 && exchanges.iter().all(|seconds| *seconds > 0.0), "{exchanges:?}");
    let running = recorded.values("procrastinate_jobs_running worker=counted");
    assert_eq!(running, [1.0, -1.0].repeat(7));
}

#[tokio::test]
async fn the_latency_covers_scheduled_jobs_and_is_never_negative() {
    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let database = database();
    let app = App::builder(connector(&database).await).task::<good>().build().unwrap();
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    app.batch_defer([good().queue("late").schedule_at(hour_ago), good().queue("unscheduled")]).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let latency = |queue: &str| recorded.values(&format!("procrastinate_job_latency_seconds task=good queue={queue}"));
    let [late] = latency("late")[..] else { panic!("{:?}", latency("late")) };
    assert!((3_600.0..3_700.0).contains(&late), "{late}");
    assert_eq!(latency("unscheduled"), [0.0; 0]);

    // The database's clock is ahead of this machine's: the job is due there, and not yet here.
    let mut connection = connect(&database);
    app.defer(good().queue("early").schedule_at(chrono::Utc::now() + chrono::TimeDelta::hours(1))).await.unwrap();
    sql(
        &mut connection,
        "CREATE FUNCTION due_later() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.scheduled_at := now() + interval '1 hour'; RETURN NEW; END $$; \
         UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE queue_name = 'early'; \
         CREATE TRIGGER due_later BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (NEW.status = 'doing') \
         EXECUTE FUNCTION due_later()",
    );
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(latency("early"), [0.0]);
}

#[tokio::test]
async fn a_job_counts_as_running_until_it_has_ended() {
    #[task(pass_context)]
    async fn hold(context: JobContext) {
        context.state::<Arc<Notify>>().unwrap().notified().await;
    }

    let recorded = Recorded::default();
    let _recording = metrics::set_default_local_recorder(&recorded);
    let database = database();
    let release = Arc::new(Notify::new());
    let app = App::builder(connector(&database).await).task::<hold>().state(release.clone()).build().unwrap();
    app.batch_defer([hold(), hold()]).await.unwrap();
    let worker = Running::start(app.worker().name("holding").concurrency(2));
    let running = || recorded.sum("procrastinate_jobs_running worker=holding");
    eventually("both are running", || running() == 2.0).await;
    release.notify_one();
    eventually("one is running", || running() == 1.0).await;
    release.notify_one();
    worker.stop().await.unwrap();
    assert_eq!(running(), 0.0);
}

#[test]
fn every_metric_that_the_documentation_lists_is_described() {
    let recorded = Recorded::default();
    metrics::with_local_recorder(&recorded, procrastinate::describe_metrics);
    let described: Vec<String> = recorded.0.lock().unwrap().keys().cloned().collect();
    let source = include_str!("../../src/queue/metrics.rs");
    let documented: Vec<&str> =
        source.lines().filter_map(|line| line.strip_prefix("/// | `")?.split('`').next()).collect();
    assert_eq!(documented.len(), 7);
    for name in &documented {
        assert!(described.iter().any(|text| text.starts_with(&format!("described {name} as "))), "{name}");
    }
    assert_eq!(described.len(), documented.len());
}
