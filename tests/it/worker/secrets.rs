//! Arguments and passwords occur in no line of the log at INFO or above, and in no error.

use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::job_manager::cancel_job;
use procrastinate::{
    App, DieselConnector, JobAborted, JobStatus, JobToDefer, TaskControl, UnknownTasks, configure_task, task,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use throwaway_postgres::Database;
use tokio::sync::Notify;
use tracing::Level;

use crate::support::{
    Running, connect, connector, database, end_other_connections, eventually, rows, sql, statuses, within_patience,
};

/// What must not be seen: an argument, and a number that is one.
const SECRETS: [&str; 2] = ["open sesame", "404140414"];

/// The name of the worker, which is in the span of each job.
const WORKER: &str = "discreet";

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static PASSWORD: OnceLock<String> = OnceLock::new();

/// Keeps the lines of this test, and those of any test that contain a secret.
struct Keep;

impl Keep {
    fn keeps(line: &str) -> bool {
        let secrets = SECRETS.into_iter().chain(PASSWORD.get().map(String::as_str));
        [WORKER, "lifeline_lost", "job_rescued"].into_iter().chain(secrets).any(|part| line.contains(part))
    }
}

impl io::Write for Keep {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if Self::keeps(&text) {
            LINES.lock().unwrap().push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Records the log of all threads, because heartbeats have one of their own.
fn record(password: &str) {
    PASSWORD.set(password.to_owned()).unwrap();
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::INFO).with_ansi(false);
    tracing::subscriber::set_global_default(subscriber.with_writer(|| Keep).finish()).unwrap();
}

#[track_caller]
fn assert_discreet(text: &str, password: &str) {
    for secret in SECRETS.into_iter().chain([password]) {
        assert!(!text.contains(secret), "{text}");
    }
}

/// Checks an error with its sources, and what `{:?}` prints.
#[track_caller]
fn assert_error_is_discreet(error: &(dyn StdError + 'static), password: &str) {
    assert_discreet(&format!("{error:?}"), password);
    let mut next = Some(error);
    while let Some(error) = next {
        assert_discreet(&error.to_string(), password);
        next = error.source();
    }
}

fn password(url: &str) -> String {
    let (before, _) = url.rsplit_once('@').unwrap();
    let password = before.rsplit(':').next().unwrap();
    assert!(password.len() >= 6, "the test needs a password");
    password.to_owned()
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Address(String);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains('@') { Ok(Self(text)) } else { Err(format!("{text} is no address")) }
    }
}

#[derive(Serialize, Deserialize)]
enum Colour {
    Red,
}

#[task]
async fn succeed(secret: String) {
    assert_eq!(secret, SECRETS[0]);
}

#[task]
async fn fail(secret: String) -> Result<(), String> {
    drop(secret);
    Err("no paper".to_owned())
}

#[task]
async fn crash(secret: String) {
    drop(secret);
    panic!("on fire");
}

#[task(retry = 1)]
async fn fail_twice(secret: String) -> Result<(), io::Error> {
    drop(secret);
    Err(io::Error::other("no ink"))
}

#[task]
async fn abort_itself(secret: String) -> Result<(), JobAborted> {
    drop(secret);
    Err(JobAborted)
}

#[task]
async fn discard(secret: String) -> Result<(), TaskControl> {
    drop(secret);
    Err(TaskControl::discard().because("nobody wants it"))
}

#[task(timeout = "20ms")]
async fn take_too_long(secret: String) {
    drop(secret);
    std::future::pending::<()>().await;
}

static STARTED: Notify = Notify::const_new();

#[task]
async fn wait_for_an_abort(secret: String) {
    drop(secret);
    STARTED.notify_one();
    std::future::pending::<()>().await;
}

#[task]
async fn typed(number: u8, address: Address, colour: Colour) {
    let _ = (number, address.0, matches!(colour, Colour::Red));
}

fn builder(connector: DieselConnector) -> App {
    App::builder(connector)
        .task::<succeed>()
        .task::<fail>()
        .task::<crash>()
        .task::<fail_twice>()
        .task::<abort_itself>()
        .task::<discard>()
        .task::<take_too_long>()
        .task::<wait_for_an_abort>()
        .task::<typed>()
        .build()
        .unwrap()
}

/// A job for each way in which a job can end, except by an abort request.
fn jobs() -> Vec<JobToDefer> {
    let secret = || SECRETS[0].to_owned();
    let typed = |number: Value, address: &str, colour: &str| {
        configure_task("typed", json!({ "number": number, "address": address, "colour": colour }))
    };
    vec![
        succeed(secret()),
        fail(secret()),
        crash(secret()),
        fail_twice(secret()),
        abort_itself(secret()),
        discard(secret()),
        take_too_long(secret()),
        configure_task("unheard_of", json!({ "secret": secret() })),
        typed(json!(SECRETS[0]), "@", "Red"),
        typed(json!(404_140_414), "@", "Red"),
        typed(json!({ "secret": [secret()] }), "@", "Red"),
        typed(json!(1), SECRETS[0], "Red"),
        typed(json!(1), "@", SECRETS[0]),
    ]
}

/// What is stored of the failures of those jobs.
const STORED: [&str; 12] = [
    "no paper",
    "on fire",
    "no ink",
    "unknown task \"unheard_of\"",
    "at number: invalid type: string, expected u8",
    "at number: invalid value: integer, expected u8",
    "at number: invalid type: map, expected u8",
    "at address: its type refused the value",
    "at colour: unknown variant, expected `Red`",
    "the number at number is out of the range",
    "exceeded its timeout",
    "an abort of the job was requested",
];

/// Runs the jobs, one that is aborted, and one that Rust cannot read. Meanwhile all sessions end.
async fn run_jobs(app: &App, database: &Database) {
    let jobs = jobs();
    let others = jobs.len() + 1;
    app.batch_defer(jobs).await.unwrap();
    let aborted = app.defer(wait_for_an_abort(SECRETS[0].to_owned())).await.unwrap();
    let unreadable = format!(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args)
            VALUES ('default', 'typed', '{{\"number\": 1e400, \"secret\": \"{}\"}}')",
        SECRETS[0]
    );
    sql(&mut connect(database), &unreadable);

    // A test on another thread that registered an event while the recorder was added has switched that event off.
    tracing::callsite::rebuild_interest_cache();
    let worker = app.worker().name(WORKER).unknown_tasks(UnknownTasks::Fail).concurrency(20);
    let worker = Running::start(worker.update_heartbeat_interval(Duration::from_millis(200)));
    within_patience(STARTED.notified()).await;
    let mut connection = connect(database);
    end_other_connections(&mut connection);
    let is_over = |status: &JobStatus| !matches!(status, JobStatus::Todo | JobStatus::Doing);
    eventually("the other jobs have ended", || {
        statuses(&mut connection).iter().filter(|status| is_over(status)).count() == others
    })
    .await;
    assert!(app.perform(cancel_job(aborted).abort(true)).await.unwrap());
    eventually("the last job is aborted", || statuses(&mut connection).iter().all(is_over)).await;
    worker.stop().await.unwrap();
}

async fn run_job_of_dead_worker(app: &App, database: &Database) {
    let id = app.defer(succeed(SECRETS[0].to_owned())).await.unwrap();
    let dead = format!(
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 day');
         UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT max(id) FROM procrastinate_workers)
             WHERE id = {id}"
    );
    sql(&mut connect(database), &dead);
    app.worker().name(WORKER).stop_when_empty().run().await.unwrap();
}

#[tokio::test]
async fn arguments_and_passwords_are_in_no_line_of_the_log_and_in_no_stored_error() {
    let database = database();
    let password = password(database.url());
    record(&password);
    let app = builder(connector(&database).await);
    run_jobs(&app, &database).await;
    run_job_of_dead_worker(&app, &database).await;

    let lines = LINES.lock().unwrap().clone();
    for action in [
        "start_worker",
        "start_job",
        "job_success",
        "job_error",
        "job_error_retry",
        "job_aborted",
        "lifeline_lost",
        "job_rescued",
    ] {
        assert!(lines.iter().any(|line| line.contains(action)), "{action}: {lines:#?}");
    }
    for line in &lines {
        assert_discreet(line, &password);
    }
    let stored =
        rows(&mut connect(&database), "SELECT error FROM procrastinate_diesel_job_errors ORDER BY job_id, attempt");
    for error in &stored {
        assert_discreet(error, &password);
    }
    for expected in STORED {
        assert!(stored.iter().any(|error| error.contains(expected)), "{expected}: {stored:#?}");
    }
}

#[tokio::test]
async fn arguments_and_passwords_are_in_no_error_of_a_call() {
    let database = database();
    let password = password(database.url());
    let app = builder(connector(&database).await);
    let secret = SECRETS[0];
    sql(
        &mut connect(&database),
        "ALTER TABLE procrastinate_jobs ADD CONSTRAINT no_such_job CHECK (task_name <> 'refused') NOT VALID",
    );
    app.defer(configure_task("t", json!({ "a": secret })).queueing_lock("once")).await.unwrap();
    for (job, expected) in [
        (configure_task("t", json!([secret])), "must be a JSON object"),
        (configure_task("t", json!(secret)), "must be a JSON object"),
        (configure_task("t", json!({ "a": format!("{secret}\0") })), "NUL character"),
        (configure_task("t", json!({ "a": secret })).queueing_lock("once"), "is already pending"),
        // PostgreSQL's detail of this error is the whole row.
        (configure_task("refused", json!({ "a": secret })), "no_such_job"),
    ] {
        let error = app.defer(job).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_error_is_discreet(&error, &password);
    }

    let (_, server) = database.url().split_once('@').unwrap();
    let nowhere = format!("postgres://application:{password}@127.0.0.1:1/shop");
    for url in
        [nowhere, format!("postgres://application:{secret}@{server}"), format!("postgres:application:{password}")]
    {
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
        let pool = Pool::builder().connection_timeout(Duration::from_millis(200)).build_unchecked(manager);
        let app = builder(DieselConnector::new(pool));
        assert_error_is_discreet(&app.defer(succeed(secret.to_owned())).await.unwrap_err(), &password);
        assert_error_is_discreet(&app.worker().run().await.unwrap_err(), &password);
    }
}
