//! The outcomes of jobs.

use std::sync::Mutex;

use procrastinate::{App, JobContext, JobStatus, Task, UnknownTasks, configure_task, task};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{connect, connector, database, events, job, sql, statuses};

#[task(queue = "sums")]
async fn sum(a: i64, b: i64) -> Result<i64, String> {
    a.checked_add(b).ok_or_else(|| "the sum is too large".to_owned())
}

#[tokio::test]
async fn a_job_runs_and_its_history_is_kept() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<sum>().build().unwrap();
    let id = app.defer(sum(3, 5)).await.unwrap();

    app.worker().queues(["sums"]).stop_when_empty().run().await.unwrap();

    let mut connection = connect(&database);
    let job = job(&mut connection, id);
    assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 1));
    assert_eq!(events(&mut connection, id), ["deferred", "started", "succeeded"]);
}

#[tokio::test]
async fn the_body_of_a_task_can_be_called_without_a_job() {
    assert_eq!(sum::body(3, 5).await, Ok(8));
    assert!(sum::body(i64::MAX, 1).await.is_err());
}

#[tokio::test]
async fn an_error_fails_the_job() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<sum>().build().unwrap();
    let id = app.defer(sum(i64::MAX, 1)).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    let mut connection = connect(&database);
    let job = job(&mut connection, id);
    assert_eq!((job.status, job.attempts), (JobStatus::Failed, 1));
    assert_eq!(events(&mut connection, id), ["deferred", "started", "failed"]);
}

#[tokio::test]
async fn a_panic_fails_the_job_and_not_the_worker() {
    #[task]
    async fn panics_at_once() {
        panic!("at once");
    }
    #[task]
    async fn panics_later() {
        tokio::task::yield_now().await;
        panic!("later");
    }
    #[task]
    fn panics_on_its_thread() {
        panic!("on its thread");
    }

    let database = database();
    let app = App::builder(connector(&database).await)
        .task::<panics_at_once>()
        .task::<panics_later>()
        .task::<panics_on_its_thread>()
        .task::<sum>()
        .build()
        .unwrap();
    app.batch_defer([panics_at_once(), panics_later(), panics_on_its_thread(), sum(1, 1)]).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    use JobStatus::{Failed, Succeeded};
    assert_eq!(statuses(&mut connect(&database)), [Failed, Failed, Failed, Succeeded]);
}

#[tokio::test]
async fn a_job_that_cannot_run_fails_and_the_worker_continues() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<sum>().build().unwrap();
    app.batch_defer([
        configure_task("nobody.knows.it", json!({})),
        configure_task("sum", json!({ "a": 1 })),
        configure_task("sum", json!({ "a": "one", "b": 2 })),
        sum(1, 1),
        sum(1, 1),
    ])
    .await
    .unwrap();
    let mut connection = connect(&database);
    // PostgreSQL stores numbers that Rust's types cannot hold, and arguments that are no object if somebody inserts
    // them.
    sql(&mut connection, r#"UPDATE procrastinate_jobs SET args = '{"a": 1e400, "b": 1}' WHERE id = 4"#);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at) VALUES ('sums', 'sum', '[]', '-infinity')",
    );

    app.worker().unknown_tasks(UnknownTasks::Fail).concurrency(10).stop_when_empty().run().await.unwrap();

    use JobStatus::{Failed, Succeeded};
    assert_eq!(statuses(&mut connection), [Failed, Failed, Failed, Failed, Succeeded, Failed]);
}

#[tokio::test]
async fn a_task_can_be_implemented_without_the_attribute() {
    static SEEN: Mutex<Vec<(i64, Option<String>)>> = Mutex::new(Vec::new());

    #[derive(Serialize, Deserialize)]
    struct ByHand {
        number: i64,
        note: Option<String>,
    }

    impl Task for ByHand {
        const NAME: &'static str = "by.hand";
        type Output = Result<(), std::num::ParseIntError>;

        async fn run(self, _context: JobContext) -> Self::Output {
            SEEN.lock().unwrap().push((self.number, self.note));
            Ok(())
        }
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<ByHand>().build().unwrap();
    app.defer(ByHand { number: 7, note: None }.job()).await.unwrap();
    app.defer(configure_task("by.hand", json!({ "number": 8, "note": "ñ" }))).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    assert_eq!(*SEEN.lock().unwrap(), [(7, None), (8, Some("ñ".to_owned()))]);
}

#[tokio::test]
async fn a_parameter_can_have_a_default_for_jobs_that_lack_it() {
    static SEEN: Mutex<Vec<(String, u32, bool)>> = Mutex::new(Vec::new());

    #[task]
    async fn export(r#type: String, #[serde(default)] page: u32, #[serde(rename = "is-draft")] mut draft: bool) {
        draft = !draft;
        SEEN.lock().unwrap().push((r#type, page, draft));
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<export>().build().unwrap();
    app.defer(export("csv".to_owned(), 3, true)).await.unwrap();
    app.defer(configure_task("export", json!({ "type": "xml", "is-draft": false }))).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    assert_eq!(*SEEN.lock().unwrap(), [("csv".to_owned(), 3, false), ("xml".to_owned(), 0, true)]);
}

#[tokio::test]
async fn a_task_knows_its_job_and_can_defer_others() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[task(pass_context, name = "count.down", queue = "counts", lock = "counter")]
    async fn count_down(context: JobContext, from: u32) -> Result<(), procrastinate::Error> {
        let job = context.job();
        SEEN.lock().unwrap().push(format!(
            "{job} on {:?} as {} with {:?}, attempt {}",
            context.worker_queues().unwrap(),
            context.worker_name(),
            job.lock,
            job.attempts + 1,
        ));
        if from > 0 {
            context.defer(count_down(from - 1)).await?;
        }
        Ok(())
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<count_down>().build().unwrap();
    app.defer(count_down(1)).await.unwrap();

    app.worker().name("counter").queues(["counts"]).stop_when_empty().run().await.unwrap();

    let expected = |call: &str| format!(r#"{call} on ["counts"] as counter with Some("counter"), attempt 1"#);
    assert_eq!(*SEEN.lock().unwrap(), [expected("count.down[1](from=1)"), expected("count.down[2](from=0)")]);
}

#[tokio::test]
async fn a_plain_function_runs_where_blocking_is_allowed() {
    static THREADS: Mutex<Vec<std::thread::ThreadId>> = Mutex::new(Vec::new());

    #[task]
    fn blocks() -> Result<(), std::io::Error> {
        // On one of the runtime's own threads this would panic.
        tokio::runtime::Handle::current().block_on(async {});
        THREADS.lock().unwrap().push(std::thread::current().id());
        Ok(())
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<blocks>().build().unwrap();
    app.defer(blocks()).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded]);
    assert_ne!(*THREADS.lock().unwrap(), [std::thread::current().id()]);
}

#[tokio::test]
async fn two_tasks_of_one_name_are_refused() {
    mod elsewhere {
        #[procrastinate::task]
        pub(super) async fn sum() {}
    }
    let database = database();
    let error = App::builder(connector(&database).await).task::<sum>().task::<elsewhere::sum>().build().unwrap_err();
    let module = module_path!();
    let [one, other] = ["sum", "two_tasks_of_one_name_are_refused::{{closure}}::elsewhere::sum"];
    assert_eq!(
        error.to_string(),
        format!(
            "could not build the application: the tasks {module}::{one} and {module}::{other} are both named \"sum\"; \
             rename one with #[task(name = \"…\")] or give it a namespace with #[task(namespace = \"…\")]"
        )
    );
}

#[tokio::test]
async fn the_same_tasks_run_on_another_connector() {
    let (here, there) = (database(), database());
    let app = App::builder(connector(&here).await).task::<sum>().build().unwrap();
    let elsewhere = app.replace_connector(connector(&there).await);
    elsewhere.defer(sum(3, 5)).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(statuses(&mut connect(&there)), [JobStatus::Todo]);
    elsewhere.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(statuses(&mut connect(&there)), [JobStatus::Succeeded]);
    assert_eq!(statuses(&mut connect(&here)), [] as [JobStatus; 0]);
}
