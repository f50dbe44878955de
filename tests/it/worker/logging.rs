//! What is logged.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use procrastinate::{App, DieselConnector, JobAborted, TaskControl, task};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::support::{connector, database, log_to};

type Fields = BTreeMap<&'static str, String>;

/// A line of the log: its level, its fields, and those of the span of its job.
#[derive(Debug, Clone)]
struct Line {
    level: Level,
    fields: Fields,
    span: Fields,
}

impl Line {
    fn is(&self, action: &str) -> bool {
        self.fields.get("action").is_some_and(|found| found == action)
    }
}

/// Records the events of this crate.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<Line>>>);

struct Collect<'a>(&'a mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Collect(&mut fields));
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !event.metadata().target().starts_with("procrastinate") && !event.metadata().target().starts_with("it::") {
            return;
        }
        let mut fields = Fields::new();
        event.record(&mut Collect(&mut fields));
        let job = context.event_scope(event).into_iter().flatten().find(|span| span.name() == "job");
        let span = job.and_then(|span| span.extensions().get::<Fields>().cloned()).unwrap_or_default();
        self.0.lock().unwrap().push(Line { level: *event.metadata().level(), fields, span });
    }
}

#[task(queue = "mails")]
async fn write_letter(secret: String) {
    tracing::info!("a line of the task's own, about nothing");
    drop(secret);
}

#[task(retry = 1)]
async fn fail_twice() -> Result<(), String> {
    Err("no paper".to_owned())
}

#[task]
async fn give_up() -> Result<(), JobAborted> {
    Err(JobAborted)
}

#[task]
async fn say_no() -> Result<(), TaskControl> {
    Err(TaskControl::discard().because("no"))
}

/// What is logged about these jobs.
async fn lines_of(jobs: Vec<procrastinate::JobToDefer>) -> Vec<Line> {
    let database = database();
    let app = App::builder(connector(&database).await)
        .task::<write_letter>()
        .task::<fail_twice>()
        .task::<give_up>()
        .task::<say_no>()
        .build()
        .unwrap();
    let listener = Listener::default();
    let _default = log_to(listener.clone());
    app.batch_defer(jobs).await.unwrap();
    app.worker().name("writer").stop_when_empty().run().await.unwrap();
    listener.0.lock().unwrap().clone()
}

#[tokio::test]
async fn a_job_is_logged_once_at_its_start_and_once_at_its_end_within_its_span() {
    let lines = lines_of(vec![write_letter("very private".to_owned()).lock("ada")]).await;
    let actions: Vec<&str> = lines
        .iter()
        .filter(|line| line.level <= Level::INFO)
        .filter_map(|line| line.fields.get("action").map(String::as_str))
        .filter(|action| !action.starts_with("migration"))
        .collect();
    assert_eq!(actions, ["jobs_deferred", "start_worker", "start_job", "job_success", "stop_worker"]);

    let start = lines.iter().find(|line| line.is("start_worker")).unwrap();
    assert_eq!(start.fields["worker.queues"], "all");

    for action in ["start_job", "job_success"] {
        let line = lines.iter().find(|line| line.is(action)).unwrap();
        for (field, expected) in [("job.id", "1"), ("job.task_name", "write_letter"), ("job.queue", "mails")] {
            assert_eq!(line.fields[field], expected, "{action} {field}");
        }
        assert_eq!(line.fields["worker.id"], "1");
    }

    // The task's own lines are in the span of its job.
    let own = lines.iter().find(|line| line.fields["message"].contains("of the task's own")).unwrap();
    for (field, expected) in [
        ("job.id", "1"),
        ("job.task_name", "write_letter"),
        ("job.queue", "mails"),
        ("job.attempt", "1"),
        ("job.lock", "ada"),
        ("worker.id", "1"),
        ("worker.name", "writer"),
    ] {
        assert_eq!(own.span[field], expected, "{field}");
    }

    // Arguments are for those who look closely only.
    let with_arguments: Vec<&Line> = lines.iter().filter(|line| format!("{line:?}").contains("very private")).collect();
    assert!(!with_arguments.is_empty() && with_arguments.iter().all(|line| line.level >= Level::DEBUG));
}

#[tokio::test]
async fn each_end_has_the_action_that_procrastinate_gives_it() {
    for (job, expected) in [
        (fail_twice(), vec![(Level::WARN, "job_error_retry", "no paper"), (Level::ERROR, "job_error", "no paper")]),
        (give_up(), vec![(Level::INFO, "job_aborted", "aborted")]),
        (say_no(), vec![(Level::ERROR, "job_error", "the task discarded its job: no")]),
    ] {
        let lines = lines_of(vec![job]).await;
        let ends: Vec<&Line> = lines
            .iter()
            .filter(|line| line.fields.get("action").is_some_and(|action| action.starts_with("job_")))
            .filter(|line| line.level <= Level::INFO)
            .collect();
        assert_eq!(ends.len(), expected.len(), "{ends:?}");
        for (line, (level, action, text)) in ends.iter().zip(expected) {
            assert!(line.level == level && line.is(action), "{line:?}");
            assert!(line.fields["message"].contains(text), "{line:?}");
            assert!(line.fields.contains_key("duration_ms"), "{line:?}");
        }
    }
}

#[tokio::test]
async fn the_wait_for_a_connection_to_register_with_does_not_count_as_a_missing_heartbeat() {
    let database = database();
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let pool = bb8::Pool::builder().max_size(1).build(manager).await.unwrap();
    let app = App::builder(DieselConnector::new(pool.clone())).build().unwrap();
    let listener = Listener::default();
    let _default = log_to(listener.clone());

    let only_connection = pool.get().await.unwrap();
    let timeout = Duration::from_millis(1_500);
    let worker = app.worker().update_heartbeat_interval(timeout / 3).stalled_worker_timeout(timeout).stop_when_empty();
    let return_late = async {
        tokio::time::sleep(timeout + timeout / 3).await;
        drop(only_connection);
    };
    let ((), stopped) = tokio::join!(return_late, worker.run());
    stopped.unwrap();
    let lines = listener.0.lock().unwrap().clone();
    assert!(lines.iter().any(|line| line.is("stop_worker")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.is("worker_out_of_touch")), "{lines:?}");
}
