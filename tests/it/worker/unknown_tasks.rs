//! Jobs of tasks that a worker does not have, but another one may have.

use std::time::Duration;

use procrastinate::testing::InMemoryConnector;
use procrastinate::{App, DeleteJobs, JobContext, JobStatus, UnknownTasks, configure_task, task};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::{Running, connect, connector, database, errors, events, eventually, job, jobs, within_patience};

#[task]
async fn be_new() {}

#[tokio::test]
async fn an_old_worker_leaves_the_jobs_of_new_tasks_to_new_workers() {
    let database = database();
    let mut connection = connect(&database);
    let old = App::builder(connector(&database).await).build().unwrap();
    let poll = Duration::from_millis(50);
    let old = Running::start(old.worker().install_signal_handlers(false).fetch_job_polling_interval(poll));
    let id = be_new().defer_blocking(&mut connection).unwrap();
    let requeued = |events: Vec<String>| events.iter().filter(|event| *event == "deferred_for_retry").count();
    eventually("it has come back twice", || requeued(events(&mut connection, id)) >= 2).await;
    assert_eq!(job(&mut connection, id).attempts, 0);

    let new = App::builder(connector(&database).await).task::<be_new>().build().unwrap();
    old.stop().await.unwrap();
    let new = Running::start(new.worker().install_signal_handlers(false).fetch_job_polling_interval(poll));
    eventually("it has run", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    new.stop().await.unwrap();
    assert_eq!((job(&mut connection, id).attempts, errors(&mut connection, id)), (1, Vec::new()));
}

#[tokio::test]
async fn a_job_whose_task_nobody_has_fails_after_a_while() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<be_new>().build().unwrap();
    let id = app.defer(configure_task("be_older", json!({}))).await.unwrap();
    let worker = app.worker().install_signal_handlers(false).fetch_job_polling_interval(Duration::from_millis(50));
    let worker = Running::start(worker.unknown_tasks(UnknownTasks::RequeueFor(Duration::from_secs(2))));
    eventually("it has failed", || job(&mut connection, id).status == JobStatus::Failed).await;
    worker.stop().await.unwrap();
    assert_eq!(job(&mut connection, id).attempts, 1);
    let expected = "1: unknown task \"be_older\"; the tasks of this application are: be_new";
    assert_eq!(errors(&mut connection, id), [expected]);
}

#[tokio::test]
async fn the_queue_in_memory_requeues_such_jobs_too() {
    let app = App::builder(InMemoryConnector::new()).build().unwrap();
    let id = app.defer(configure_task("be_older", json!({}))).await.unwrap();
    let worker = || app.worker().install_signal_handlers(false).stop_when_empty();
    let status = || app.perform(procrastinate::job_manager::get_job_status(id));
    within_patience(worker().run()).await.unwrap();
    assert_eq!(status().await.unwrap(), Some(JobStatus::Todo));
    within_patience(worker().unknown_tasks(UnknownTasks::Fail).run()).await.unwrap();
    // It is scheduled for a second later.
    assert_eq!(status().await.unwrap(), Some(JobStatus::Todo));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    within_patience(worker().unknown_tasks(UnknownTasks::Fail).run()).await.unwrap();
    assert_eq!(status().await.unwrap(), Some(JobStatus::Failed));
}

#[tokio::test]
async fn a_job_that_fails_instead_of_being_retried_is_deleted_like_any_other() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task(retry = 5, pass_context)]
    async fn fail_late(context: JobContext) -> Result<(), String> {
        if context.job().priority == 1 {
            return Ok(());
        }
        STARTED.notify_one();
        GO_ON.notified().await;
        Err("not yet".to_owned())
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<fail_late>().build().unwrap();
    app.defer(fail_late().queueing_lock("once")).await.unwrap();
    let worker = app.worker().install_signal_handlers(false).delete_jobs(DeleteJobs::Always).queues(["default"]);
    let worker = Running::start(worker);
    within_patience(STARTED.notified()).await;
    // It holds the queueing lock when the first job should be retried.
    let next = app.defer(fail_late().queueing_lock("once").queue("elsewhere").priority(1)).await.unwrap();
    GO_ON.notify_one();
    eventually("the job is gone", || jobs(&mut connection).len() == 1).await;
    assert_eq!(jobs(&mut connection)[0].id, i64::from(next));
    worker.stop().await.unwrap();
}
