//! Claims of the page on security that are about no other part.

use std::time::Duration;

use procrastinate::{App, JobStatus, configure_task, task};
use tokio::sync::Notify;

use crate::support::{Running, connect, connector, database, eventually, job, sql, within_patience};

/// So long that only a notification can have woken a worker.
const NEVER: Duration = Duration::from_secs(3_600);

#[test]
fn unsafe_code_is_forbidden_everywhere() {
    let read = |path: &str| {
        std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")))
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let workspace = read("Cargo.toml");
    assert!(workspace.contains("\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"));
    let (_, members) = workspace.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&".") && members.contains(&"macros"), "{members:?}");
    for member in members {
        assert!(read(&format!("{member}/Cargo.toml")).contains("\n[lints]\nworkspace = true\n"), "{member}");
    }
}

#[tokio::test]
async fn a_queue_of_any_name_is_only_a_name() {
    static RAN: Notify = Notify::const_new();
    #[task]
    async fn run() {
        RAN.notify_one();
    }
    let queue = r#"a"; DROP TABLE procrastinate_jobs;--'"#;
    let database = database();
    let app = App::builder(connector(&database).await).task::<run>().build().unwrap();
    let worker = Running::start(app.worker().queues([queue]).fetch_job_polling_interval(NEVER));
    for _ in 0..2 {
        app.defer(configure_task("run", serde_json::json!({})).queue(queue).lock(queue)).await.unwrap();
        within_patience(RAN.notified()).await;
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_forged_notification_aborts_no_job() {
    static STARTED: Notify = Notify::const_new();
    static CONTINUE: Notify = Notify::const_new();
    static RAN: Notify = Notify::const_new();
    #[task]
    async fn wait() {
        STARTED.notify_one();
        CONTINUE.notified().await;
    }
    #[task]
    async fn run() {
        RAN.notify_one();
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<wait>().task::<run>().build().unwrap();
    let worker = app.worker().concurrency(2).fetch_job_polling_interval(NEVER).abort_job_polling_interval(NEVER);
    let worker = Running::start(worker);
    let id = app.defer(wait()).await.unwrap();
    within_patience(STARTED.notified()).await;

    let mut connection = connect(&database);
    let forged = format!(
        r#"SELECT pg_notify('procrastinate_any_queue_v1', '{{"type": "abort_job_requested", "job_id": {id}}}'),
            pg_notify('procrastinate_any_queue_v1', '{{"type": "job_inserted", "job_id": {id}}}'),
            pg_notify('procrastinate_any_queue_v1', 'nonsense')"#
    );
    sql(&mut connection, &forged);
    // The worker reads notifications in their order, so it has read those when it starts this job.
    app.defer(run()).await.unwrap();
    within_patience(RAN.notified()).await;
    assert_eq!(job(&mut connection, id).status, JobStatus::Doing);
    CONTINUE.notify_one();
    eventually("the job succeeds", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
}
