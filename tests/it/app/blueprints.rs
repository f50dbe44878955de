//! Tasks in namespaces and tasks with aliases: deferred in every way, and run.

use std::sync::{Arc, Mutex};

use chrono::DateTime;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::{
    App, Blueprint, Error, JobContext, JobId, JobStatus, PeriodicTask, Task, UnknownTasks, batch_defer,
    batch_defer_blocking, configure_task, periodic, task,
};
use serde_json::json;

use crate::support::{connect, connector, database, job, jobs, rows, sql, statuses};

/// The names under which jobs ran.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<String>>>);

impl Names {
    fn note(context: &JobContext) -> Result<(), Error> {
        context.state::<Self>()?.0.lock().unwrap().push(context.task_name().to_owned());
        Ok(())
    }

    fn noted(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_task_in_a_namespace_is_deferred_under_its_whole_name_whichever_way() {
    #[task(namespace = "mails", queue = "mails")]
    async fn welcome(customer: i64) {
        let _ = customer;
    }

    let database = database();
    let mut connection = connect(&database);
    let mut async_connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    // A job's name does not depend on an application.
    assert_eq!(welcome(1).task_name(), "mails:welcome");
    let mails = Blueprint::new().task::<welcome>();
    let app = App::builder(connector(&database).await).add_tasks_from(mails, "mails").build().unwrap();
    assert_eq!(app.task_names(), ["mails:welcome"]);

    welcome(1).defer(&mut async_connection).await.unwrap();
    welcome(2).defer_blocking(&mut connection).unwrap();
    welcome(3).queueing_lock("a").defer_unless_enqueued(&mut async_connection).await.unwrap();
    Task::job(welcome { customer: 4 }).defer_blocking(&mut connection).unwrap();
    batch_defer([welcome(5), welcome(6)], &mut async_connection).await.unwrap();
    batch_defer_blocking([welcome(7)], &mut connection).unwrap();
    app.defer(welcome(8)).await.unwrap();
    app.batch_defer([welcome(9)]).await.unwrap();
    app.defer(app.configure_task("mails:welcome", json!({ "customer": 10 })).unwrap()).await.unwrap();
    let jobs = jobs(&mut connection);
    assert_eq!(jobs.len(), 10);
    for (job, customer) in jobs.iter().zip(1..) {
        assert_eq!((job.task_name.as_str(), &job.args), ("mails:welcome", &json!({ "customer": customer })));
        assert_eq!(job.queue_name, "mails");
    }

    let error = app.configure_task("welcome", json!({ "customer": 11 })).unwrap_err();
    assert_eq!(error.to_string(), r#"unknown task "welcome"; the tasks of this application are: mails:welcome"#);
    let plain = app.defer(configure_task("welcome", json!({ "customer": 11 }))).await.unwrap();
    app.worker().unknown_tasks(UnknownTasks::Fail).stop_when_empty().run().await.unwrap();
    assert_eq!(job(&mut connection, plain).status, JobStatus::Failed);
    assert_eq!(statuses(&mut connection)[..10], vec![JobStatus::Succeeded; 10]);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_reported_with_the_whole_name() {
    #[task(namespace = "part", retry = false)]
    async fn picky(customer: i64) {
        let _ = customer;
    }

    let database = database();
    let part = Blueprint::new().task::<picky>();
    let app = App::builder(connector(&database).await).add_tasks_from(part, "part").build().unwrap();
    let error = app.configure_task("part:picky", json!({})).unwrap_err().to_string();
    assert_eq!(
        error,
        r#"invalid arguments of the task "part:picky": must fit the task, and do not: missing field `customer`"#
    );
    let id = app.defer(configure_task("part:picky", json!({}))).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let kept = format!("SELECT error FROM procrastinate_diesel_job_errors WHERE job_id = {id}");
    let error = &rows(&mut connect(&database), &kept)[0];
    assert!(error.starts_with(r#"the job's arguments do not fit the task "part:picky""#), "{error}");
}

#[tokio::test]
async fn a_worker_finds_a_task_by_its_aliases_and_a_job_by_name_gets_the_task_s_own() {
    #[task(name = "bill", aliases = ["invoice", "shop.invoice"], queue = "bills", pass_context)]
    async fn bill(context: JobContext) -> Result<(), Error> {
        Names::note(&context)
    }

    let names = Names::default();
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await)
        .task::<bill>()
        .add_task_alias::<bill>("account")
        .state(names.clone())
        .build()
        .unwrap();
    assert_eq!(app.task_names(), ["bill"]);
    for name in ["bill", "invoice", "shop.invoice", "account"] {
        app.defer(configure_task(name, json!({}))).await.unwrap();
    }
    let by_alias = app.configure_task("invoice", json!({})).unwrap();
    assert_eq!(by_alias.task_name(), "bill");
    let by_alias = app.defer(by_alias).await.unwrap();
    assert_eq!(job(&mut connection, by_alias).queue_name, "bills");

    app.worker().stop_when_empty().run().await.unwrap();

    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; 5]);
    assert_eq!(names.noted(), ["bill", "invoice", "shop.invoice", "account", "bill"]);
}

#[tokio::test]
async fn aliases_get_no_namespace_wherever_they_are_declared() {
    #[task(namespace = "a:b", aliases = ["old"], pass_context)]
    async fn moved(context: JobContext) -> Result<(), Error> {
        Names::note(&context)
    }

    let names = Names::default();
    let database = database();
    let inner = Blueprint::new().task::<moved>().add_task_alias::<moved>("inner");
    let outer = Blueprint::new().add_tasks_from(inner, "a:b").add_task_alias::<moved>("a:outer");
    let app = App::builder(connector(&database).await)
        .add_tasks_from(outer, "a")
        .add_task_alias::<moved>("moved")
        .state(names.clone())
        .build()
        .unwrap();
    assert_eq!(app.task_names(), ["a:b:moved"]);
    assert_eq!(moved().task_name(), "a:b:moved");
    let known = ["a:b:moved", "old", "inner", "a:outer", "moved"];
    for name in known.into_iter().chain(["a:b:old", "b:moved", "a:moved", "outer", "a:b:inner"]) {
        app.defer(configure_task(name, json!({}))).await.unwrap();
    }
    app.worker().unknown_tasks(UnknownTasks::Fail).stop_when_empty().run().await.unwrap();
    assert_eq!(names.noted(), known);
    let statuses = statuses(&mut connect(&database));
    assert_eq!(statuses[..5], vec![JobStatus::Succeeded; 5]);
    assert_eq!(statuses[5..], vec![JobStatus::Failed; 5]);
}

#[tokio::test]
async fn schedules_of_a_blueprint_defer_jobs_under_the_whole_name() {
    #[periodic(cron = "0 8 * * *", periodic_id = "written")]
    #[task(namespace = "reports")]
    async fn report(timestamp: i64) {
        let _ = timestamp;
    }

    let database = database();
    let reports =
        Blueprint::new().task::<report>().periodic(PeriodicTask::new::<report>("0 8 * * *").periodic_id("in the part"));
    let app = App::builder(connector(&database).await)
        .add_tasks_from(reports, "reports")
        .periodic(PeriodicTask::new::<report>("0 8 * * *").periodic_id("in the application"))
        .build()
        .unwrap();
    let now = DateTime::from_timestamp(1_767_254_400, 0).unwrap();
    app.periodic_deferrer().defer_due(now).await;

    let mut connection = connect(&database);
    let claimed = "SELECT job.task_name, claim.task_name, claim.periodic_id FROM procrastinate_periodic_defers AS claim \
                   JOIN procrastinate_jobs AS job ON job.id = claim.job_id ORDER BY claim.periodic_id";
    let claimed = claimed.replace("job.task_name,", "job.task_name AS of_job,");
    assert_eq!(
        rows(&mut connection, &claimed),
        ["in the application", "in the part", "written"]
            .map(|periodic_id| format!("reports:report | reports:report | {periodic_id}"))
    );
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; 3]);
}

#[tokio::test]
async fn a_job_whose_worker_died_is_rescued_by_any_of_its_names() {
    #[task(namespace = "part", aliases = ["part:old"])]
    async fn rescued() {}

    let database = database();
    let mut connection = connect(&database);
    let part = Blueprint::new().task::<rescued>();
    let app = App::builder(connector(&database).await)
        .add_tasks_from(part, "part")
        .add_task_alias::<rescued>("rescued")
        .build()
        .unwrap();
    let mut ids: Vec<JobId> = Vec::new();
    for name in ["part:rescued", "part:old", "rescued"] {
        ids.push(app.defer(configure_task(name, json!({}))).await.unwrap());
    }
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'doing'");
    app.worker().stop_when_empty().run().await.unwrap();
    for id in ids {
        let job = job(&mut connection, id);
        assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 2));
    }
}
