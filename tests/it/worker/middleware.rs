//! Code around tasks, and the state that they find.

use std::sync::Mutex;

use procrastinate::retry::RetryStrategy;
use procrastinate::{App, JobContext, JobStatus, Next, TaskPanicked, TaskResult, configure_task, task};
use serde_json::json;

use crate::support::{connect, connector, database, errors, statuses};

#[tokio::test]
async fn the_outermost_runs_first_and_the_levels_are_nested() {
    static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn say(text: String) {
        HEARD.lock().unwrap().push(text);
    }

    fn named(name: &'static str) -> procrastinate::Middleware {
        procrastinate::Middleware::from(move |context: JobContext, next: Next| async move {
            say(format!("{name} before"));
            let result = next.run(context).await;
            say(format!("{name} after, {}", if result.is_ok() { "well" } else { "failed" }));
            result
        })
    }

    #[task(middleware = [named("own 1"), named("own 2")])]
    async fn speak(well: bool) -> Result<(), String> {
        say("task".to_owned());
        if well { Ok(()) } else { Err("not well".to_owned()) }
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<speak>().build().unwrap();
    let worker = || {
        app.worker()
            .stop_when_empty()
            .task_middleware(named("task-wide"))
            .worker_middleware(named("worker 1"))
            .worker_middleware(named("worker 2"))
    };
    for well in [true, false] {
        app.defer(speak(well)).await.unwrap();
        worker().run().await.unwrap();
        let names = ["worker 1", "worker 2", "task-wide", "own 1", "own 2"];
        let mut expected: Vec<String> = names.iter().map(|name| format!("{name} before")).collect();
        expected.push("task".to_owned());
        let how = if well { "well" } else { "failed" };
        expected.extend(names.iter().rev().map(|name| format!("{name} after, {how}")));
        assert_eq!(std::mem::take(&mut *HEARD.lock().unwrap()), expected);
    }

    // A job whose task is not known is seen by the worker's middleware only.
    app.defer(configure_task("unknown", json!({}))).await.unwrap();
    worker().run().await.unwrap();
    let heard = std::mem::take(&mut *HEARD.lock().unwrap());
    assert_eq!(heard, ["worker 1 before", "worker 2 before", "worker 2 after, failed", "worker 1 after, failed"]);
}

#[tokio::test]
async fn a_middleware_changes_the_outcome() {
    async fn swallow(context: JobContext, next: Next) -> TaskResult {
        let _ = next.run(context).await;
        Ok(())
    }
    async fn refuse(_: JobContext, _: Next) -> TaskResult {
        Err("not today".into())
    }
    async fn panic(_: JobContext, _: Next) -> TaskResult {
        panic!("in the middle")
    }

    #[task(middleware = [swallow])]
    async fn swallowed() -> Result<(), String> {
        Err("nobody hears this".to_owned())
    }
    #[task(middleware = [refuse])]
    async fn refused() {
        unreachable!("it is not to run");
    }
    #[task(middleware = [panic])]
    async fn panicked() {}

    let database = database();
    let app = App::builder(connector(&database).await)
        .task::<swallowed>()
        .task::<refused>()
        .task::<panicked>()
        .build()
        .unwrap();
    let ids = app.batch_defer([swallowed(), refused(), panicked()]).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Failed, JobStatus::Failed]);
    assert_eq!(errors(&mut connection, ids[1]), ["1: not today"]);
    let [error] = <[_; 1]>::try_from(errors(&mut connection, ids[2])).unwrap();
    assert!(error.starts_with("1: the task panicked at tests/it/worker/middleware.rs:"), "{error}");
    assert!(error.ends_with(": in the middle"), "{error}");
}

#[tokio::test]
async fn a_panic_of_the_task_reaches_middleware_as_an_error() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    async fn report(context: JobContext, next: Next) -> TaskResult {
        let result = next.run(context).await;
        if let Some(panic) = result.as_ref().err().and_then(|error| error.downcast_ref::<TaskPanicked>()) {
            let is_here = panic.location().is_some_and(|location| location.starts_with(file!()));
            SEEN.lock().unwrap().push(format!(
                "{}, {is_here}, {}",
                panic.message(),
                panic.to_string().contains(" at ")
            ));
        }
        result
    }
    async fn swallow(context: JobContext, next: Next) -> TaskResult {
        next.run(context).await.or(Ok(()))
    }

    #[task]
    async fn at_once() {
        panic!("at once");
    }
    #[task(retry = RetryStrategy::new().max_attempts(1).retry_on::<TaskPanicked>())]
    async fn later() {
        tokio::task::yield_now().await;
        panic!("later");
    }
    #[task]
    fn on_its_thread() {
        panic!("on its thread");
    }
    #[task(middleware = [swallow])]
    async fn swallowed() {
        panic!("swallowed");
    }

    let database = database();
    let builder = App::builder(connector(&database).await).task::<at_once>().task::<later>();
    let app = builder.task::<on_its_thread>().task::<swallowed>().build().unwrap();
    let ids = app.batch_defer([at_once(), later(), on_its_thread(), swallowed()]).await.unwrap();
    app.worker().stop_when_empty().task_middleware(report).run().await.unwrap();

    use JobStatus::{Failed, Succeeded};
    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [Failed, Failed, Failed, Succeeded]);
    let mut seen = std::mem::take(&mut *SEEN.lock().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, ["at once, true, true", "later, true, true", "later, true, true", "on its thread, true, true"]);
    for (id, attempts) in ids.into_iter().zip([1, 2, 1, 0]) {
        let errors = errors(&mut connection, id);
        assert_eq!(errors.len(), attempts, "{errors:?}");
        assert!(
            errors.iter().all(|error| error.contains(&format!(": the task panicked at {}:", file!()))),
            "{errors:?}"
        );
    }
}

#[tokio::test]
async fn a_middleware_can_stop_the_worker() {
    async fn one_at_most(context: JobContext, next: Next) -> TaskResult {
        context.worker().stop();
        next.run(context).await
    }
    #[task]
    async fn nothing() {}

    let database = database();
    let app = App::builder(connector(&database).await).task::<nothing>().build().unwrap();
    app.batch_defer([nothing(), nothing()]).await.unwrap();
    app.worker().worker_middleware(one_at_most).run().await.unwrap();
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded, JobStatus::Todo]);
}

#[tokio::test]
async fn a_task_finds_state_of_the_application_of_the_worker_and_of_a_middleware() {
    #[derive(Debug, PartialEq)]
    struct Language(&'static str);
    struct Counter(Mutex<u32>);
    #[derive(Debug)]
    struct Missing;
    static FOUND: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

    async fn in_french(context: JobContext, next: Next) -> TaskResult {
        next.run(context.with_state(Language("fr"))).await
    }

    #[task(pass_context)]
    async fn speak(context: JobContext) -> Result<(), procrastinate::Error> {
        *context.state::<Counter>()?.0.lock().unwrap() += 1;
        FOUND.lock().unwrap().push(context.state::<Language>()?.0);
        Ok(())
    }
    #[task(pass_context)]
    async fn look_for_more(context: JobContext) -> Result<(), procrastinate::Error> {
        context.state::<Missing>().map(drop)
    }

    let database = database();
    let app = App::builder(connector(&database).await)
        .state(Language("de"))
        .state(Counter(Mutex::new(0)))
        .task::<speak>()
        .task::<look_for_more>()
        .build()
        .unwrap();
    app.defer(speak()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    app.defer(speak()).await.unwrap();
    app.worker().stop_when_empty().state(Language("en")).run().await.unwrap();
    app.defer(speak()).await.unwrap();
    app.worker().stop_when_empty().state(Language("en")).task_middleware(in_french).run().await.unwrap();
    assert_eq!(*FOUND.lock().unwrap(), ["de", "en", "fr"]);

    let id = app.defer(look_for_more()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let [error] = <[_; 1]>::try_from(errors(&mut connect(&database), id)).unwrap();
    assert!(error.contains("no value of this type") && error.contains("Missing"), "{error}");
    assert!(error.contains("Counter") && error.contains("Language"), "{error}");
}
