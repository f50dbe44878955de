//! Callers that disappear, and what the others notice of it: nothing.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument, Subscriber, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{Held, send, start};
use crate::support::{connect, eventually, log_to, rows, within_patience};

impl Held {
    /// The arguments of the stored jobs, in the order of their IDs.
    fn stored(&self) -> Vec<String> {
        rows(&mut connect(&self.database), "SELECT args ->> 'to' FROM procrastinate_jobs ORDER BY id")
    }
}

#[tokio::test]
async fn the_job_of_a_call_that_is_dropped_in_flight_is_stored_if_others_wait() {
    let mut held = Held::new().await;
    let first = held.first(send(0)).await;
    let app = held.app.clone();
    let calls = start(&app, [send(1), send(2)]);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    held.release();
    for result in within_patience(join_all(calls)).await {
        result.unwrap();
    }
    assert_eq!(held.statements(), ["1", "2"]);
    assert_eq!(held.stored(), ["0", "1", "2"]);
}

#[tokio::test]
async fn the_job_of_a_call_that_is_dropped_before_its_statement_is_sent_is_not_stored() {
    let mut held = Held::new().await;
    let first = held.first(send(0)).await;
    let app = held.app.clone();
    let mut calls = start(&app, (1..=4).map(send));
    drop((calls.remove(3), calls.remove(0)));
    held.release();
    first.await.unwrap().unwrap();
    assert!(within_patience(join_all(calls)).await.iter().all(Result::is_ok));
    assert_eq!(held.stored(), ["0", "2", "3"]);
}

#[tokio::test]
async fn a_call_that_is_dropped_alone_leaves_the_application_usable() {
    let mut held = Held::new().await;
    let first = held.first(send(0)).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    held.release();
    within_patience(held.app.defer(send(1))).await.unwrap();
    assert_eq!(held.stored().last().map(String::as_str), Some("1"));
}

#[tokio::test]
async fn a_call_that_is_no_longer_polled_delays_no_other() {
    let mut held = Held::new().await;
    let app = held.app.clone();
    let mut first = Box::pin(app.defer(send(0)));
    eventually("the statement waits", || {
        assert!(first.as_mut().now_or_never().is_none());
        held.is_waiting()
    })
    .await;
    let mut calls = start(&app, [send(1), send(2)]);
    held.release();
    within_patience(calls.remove(1)).await.unwrap();
    within_patience(first).await.unwrap();
    within_patience(calls.remove(0)).await.unwrap();
    assert_eq!(held.statements(), ["1", "2"]);
}

#[tokio::test]
async fn the_end_of_the_runtime_of_the_first_call_ends_no_other() {
    let mut held = Held::new().await;
    // So that the pool's connection belongs to the runtime of this test.
    held.app.perform(procrastinate::job_manager::list_queues()).await.unwrap();
    let other = tokio::runtime::Runtime::new().unwrap();
    let app = held.app.clone();
    let first = other.spawn(async move { app.defer(send(0)).await });
    held.until_waiting().await;
    let app = held.app.clone();
    let calls = start(&app, [send(1), send(2)]);
    other.shutdown_background();
    assert!(first.await.unwrap_err().is_cancelled());
    held.release();
    assert!(within_patience(join_all(calls)).await.iter().all(Result::is_ok));
    assert_eq!(held.statements().last().map(String::as_str), Some("2"));
}

#[tokio::test]
async fn a_panic_of_a_caller_ends_no_other() {
    let mut held = Held::new().await;
    let app = held.app.clone();
    let (panic_now, panic) = tokio::sync::oneshot::channel::<()>();
    let caller = app.clone();
    let first = tokio::spawn(async move {
        let panic = async {
            panic.await.unwrap();
            panic!("an error of the caller's")
        };
        tokio::join!(caller.defer(send(0)), panic)
    });
    held.until_waiting().await;
    let calls = start(&app, [send(1)]);
    panic_now.send(()).unwrap();
    assert!(first.await.unwrap_err().is_panic());
    held.release();
    assert!(within_patience(join_all(calls)).await.iter().all(Result::is_ok));
    assert_eq!(held.stored(), ["0", "1"]);
}

/// The span and the fields of each event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(String, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if ["caller", "job.id"].contains(&field.name()) {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut caller = Text(String::new());
        attributes.record(&mut caller);
        context.span(id).unwrap().extensions_mut().insert(caller);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target().starts_with("procrastinate::queue::defer") {
            let mut job = Text(String::new());
            event.record(&mut job);
            let span = context.event_span(event).expect("each call has its span");
            let caller = span.extensions().get::<Text>().unwrap().0.clone();
            self.0.lock().unwrap().push((caller, job.0));
        }
    }
}

#[tokio::test]
async fn each_job_is_logged_in_the_span_of_its_own_call() {
    let mut held = Held::new().await;
    let log = Log::default();
    let _default = log_to(log.clone());
    let app = held.app.clone();
    let first = tokio::spawn({
        let app = app.clone();
        async move { app.defer(send(0)).instrument(info_span!("call", caller = 0)).await }
    });
    held.until_waiting().await;
    let mut calls: Vec<_> = (1..=3)
        .map(|n| Box::pin(app.defer(send(n).queueing_lock(format!("{n}"))).instrument(info_span!("call", caller = n))))
        .collect();
    assert!(calls.iter_mut().all(|call| call.as_mut().now_or_never().is_none()));
    held.release();
    let mut expected = Vec::new();
    for (caller, result) in (1..).zip(within_patience(join_all(calls)).await) {
        expected.push((caller.to_string(), result.unwrap().to_string()));
    }
    expected.insert(0, ("0".to_owned(), first.await.unwrap().unwrap().to_string()));
    let mut logged = log.0.lock().unwrap().clone();
    logged.sort();
    assert_eq!(logged, expected);
}
