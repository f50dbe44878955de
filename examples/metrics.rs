//! Shows a worker's metrics with a small recorder. An application usually has a recorder for Prometheus or
//! OpenTelemetry.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use procrastinate::{App, DieselConnector, describe_metrics, task};
use throwaway_postgres::Server;

#[task(queue = "mails", retry = 2)]
async fn send(to: String) -> Result<(), String> {
    if to.contains('@') { Ok(()) } else { Err(format!("invalid address {to}")) }
}

/// Stores counters and ignores gauges and histograms.
#[derive(Clone, Default)]
struct Counters(Arc<Mutex<BTreeMap<String, u64>>>);

struct OneCounter(Counters, String);

impl CounterFn for OneCounter {
    fn increment(&self, value: u64) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner).entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, _value: u64) {}
}

impl Recorder for Counters {
    fn describe_counter(&self, name: KeyName, _unit: Option<Unit>, description: SharedString) {
        println!("{} counts {description}", name.as_str());
    }

    fn describe_gauge(&self, _name: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn describe_histogram(&self, _name: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Counter::from_arc(Arc::new(OneCounter(self.clone(), format!("{} {}", key.name(), labels.join(" ")))))
    }

    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let counters = Counters::default();
    metrics::set_global_recorder(counters.clone()).map_err(|error| error.to_string())?;
    describe_metrics();

    let server = Server::start()?;
    let database = server.create_database("metrics")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;

    let app = App::builder(connector).task::<send>().build()?;
    app.batch_defer(["ada@example.org", "grace@example.org", "nobody"].map(|to| send(to.to_owned()))).await?;
    app.worker().stop_when_empty().run().await?;

    let counted = counters.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (name, count) in &counted {
        println!("{count} {name}");
    }
    let labels = "task=send queue=mails";
    let expected = [
        (format!("procrastinate_jobs_deferred_total {labels}"), 3),
        (format!("procrastinate_jobs_finished_total {labels} outcome=failed"), 1),
        (format!("procrastinate_jobs_finished_total {labels} outcome=retried"), 2),
        (format!("procrastinate_jobs_finished_total {labels} outcome=succeeded"), 2),
        (format!("procrastinate_jobs_started_total {labels}"), 5),
    ];
    if counted == BTreeMap::from(expected) { Ok(()) } else { Err("unexpected counters".into()) }
}
