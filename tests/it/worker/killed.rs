//! Workers that are killed at every stage of a job's life: separate processes, and SIGKILL.
//!
//! The killed process is this binary again, asked for the test [`be_a_worker`] alone. Both sides meet by rows in the
//! database: each run of a task leaves one.

use std::env;
use std::io::{Read, stdin};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use procrastinate::retry::RetryStrategy;
use procrastinate::{App, JobContext, JobId, JobStatus, Next, TaskResult, Worker, task};
use throwaway_postgres::Database;

use crate::support::{Running, connect, database, eventually, job, rows, sql, statuses};

/// The database that a process is to be a worker on.
const DATABASE: &str = "PROCRASTINATE_TEST_KILLED_WORKER_DATABASE";

/// What the process does with its jobs.
const PART: &str = "PROCRASTINATE_TEST_KILLED_WORKER_PART";

/// What the tasks tell the test, and how: `twice_at_once` has a row when a job runs while another run of it goes on.
const TABLES: &str = "
    CREATE TABLE runs (job_id bigint, attempts integer, process integer, UNIQUE (job_id, attempts));
    CREATE TABLE twice_at_once (job_id bigint);";

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// To be killed while it holds on to its job.
    Victim,
    /// The same, before the task has begun.
    VictimBeforeTheStart,
    /// To run its jobs to their end.
    Survivor,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::VictimBeforeTheStart => "victim before the start",
            Self::Survivor => "survivor",
        }
    }

    fn from_name(name: &str) -> Self {
        let parts = [Self::Victim, Self::VictimBeforeTheStart, Self::Survivor];
        parts.into_iter().find(|part| part.name() == name).unwrap()
    }
}

/// What the tasks know.
struct Stage {
    database_url: String,
    part: Part,
}

// ---- The tasks ----

/// What says that a run begins. The connection holds a lock for as long as the run goes on.
fn note_of(context: &JobContext) -> String {
    let (id, attempts, process) = (context.job().id, context.job().attempts, std::process::id());
    format!(
        "INSERT INTO twice_at_once SELECT {id} WHERE NOT pg_try_advisory_lock({id});
         INSERT INTO runs VALUES ({id}, {attempts}, {process})"
    )
}

async fn begin(context: &JobContext) -> (Part, AsyncPgConnection) {
    let stage: &Stage = context.state().unwrap();
    let mut connection = AsyncPgConnection::establish(&stage.database_url).await.unwrap();
    connection.batch_execute(&note_of(context)).await.unwrap();
    (stage.part, connection)
}

async fn hold_if_a_victim(context: &JobContext) {
    let (part, _connection) = begin(context).await;
    if part != Part::Survivor {
        std::future::pending::<()>().await;
    }
}

#[task(pass_context)]
async fn hold(context: JobContext) {
    hold_if_a_victim(&context).await;
}

#[task(pass_context)]
fn hold_on_a_thread(context: JobContext) {
    let stage: &Stage = context.state().unwrap();
    let mut connection = PgConnection::establish(&stage.database_url).unwrap();
    sql(&mut connection, &note_of(&context));
    if stage.part != Part::Survivor {
        loop {
            std::thread::park();
        }
    }
}

#[task(pass_context, stalled = "fail")]
async fn hold_and_fail(context: JobContext) {
    hold_if_a_victim(&context).await;
}

#[task(pass_context, stalled = "leave")]
async fn hold_and_stay(context: JobContext) {
    hold_if_a_victim(&context).await;
}

/// Ends when the test releases the lock 0.
#[task(pass_context)]
async fn end_when_told(context: JobContext) {
    let (_, mut connection) = begin(&context).await;
    connection.batch_execute("SELECT pg_advisory_lock_shared(0)").await.unwrap();
}

#[task(pass_context, retry = RetryStrategy::new().max_attempts(5).wait(3_600))]
async fn fail_at_first(context: JobContext) -> Result<(), String> {
    let _run = begin(&context).await;
    if context.job().attempts == 0 { Err("not yet".to_owned()) } else { Ok(()) }
}

#[task(pass_context)]
async fn be_brief(context: JobContext) {
    let (_, mut connection) = begin(&context).await;
    connection.batch_execute("SELECT pg_sleep(0.05)").await.unwrap();
}

async fn kill_this_process(context: &JobContext) {
    let _run = begin(context).await;
    Command::new("kill").arg("-9").arg(std::process::id().to_string()).status().unwrap();
    std::future::pending::<()>().await;
}

#[task(pass_context)]
async fn kill(context: JobContext) {
    kill_this_process(&context).await;
}

#[task(pass_context, retry = 1)]
async fn kill_with_one_retry(context: JobContext) {
    kill_this_process(&context).await;
}

// ---- The processes ----

async fn app(database_url: &str, part: Part) -> App {
    let manager = diesel_async::pooled_connection::AsyncDieselConnectionManager::new(database_url);
    let pool = diesel_async::pooled_connection::bb8::Pool::builder().max_size(5).build(manager).await.unwrap();
    App::builder(procrastinate::DieselConnector::new(pool))
        .state(Stage { database_url: database_url.to_owned(), part })
        .task::<hold>()
        .task::<hold_on_a_thread>()
        .task::<hold_and_fail>()
        .task::<hold_and_stay>()
        .task::<end_when_told>()
        .task::<fail_at_first>()
        .task::<be_brief>()
        .task::<kill>()
        .task::<kill_with_one_retry>()
        .build()
        .unwrap()
}

/// Checks for dead workers all the time. The test declares a worker dead with [`Scene::declare_dead`].
fn looking(worker: Worker) -> Worker {
    worker.update_heartbeat_interval(Duration::from_millis(50)).fetch_job_polling_interval(Duration::from_millis(100))
}

/// Does nothing, unless this process was started to be a worker that is killed.
#[test]
fn be_a_worker() {
    let Ok(database_url) = env::var(DATABASE) else {
        println!("this is a test only in a process that another test starts");
        return;
    };
    let part = Part::from_name(&env::var(PART).unwrap());
    // Whatever becomes of the other process, this one does not outlive it.
    std::thread::spawn(|| {
        let _ = stdin().read(&mut [0]);
        std::process::exit(1);
    });
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut worker = app(&database_url, part).await.worker().name("killed").concurrency(2);
        worker = match part {
            // Real times: nobody declares it dead.
            Part::Survivor => worker
                .update_heartbeat_interval(Duration::from_millis(100))
                .stalled_worker_timeout(Duration::from_secs(3)),
            Part::Victim => looking(worker),
            Part::VictimBeforeTheStart => looking(worker).worker_middleware(hold_before_the_start),
        };
        worker.run().await.unwrap();
    });
}

async fn hold_before_the_start(context: JobContext, _next: Next) -> TaskResult {
    let _run = begin(&context).await;
    std::future::pending().await
}

/// A worker in a process of its own, which ends with this value.
struct Process(Child);

impl Process {
    fn start(database: &Database, part: Part) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["worker::killed::be_a_worker", "--exact", "--nocapture"]);
        command.env(DATABASE, database.url()).env(PART, part.name());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A database, and what the test does with it.
struct Scene {
    connection: PgConnection,
    app: App,
    database: Database,
}

impl Scene {
    async fn new() -> Self {
        let database = database();
        let mut connection = connect(&database);
        sql(&mut connection, TABLES);
        let app = app(database.url(), Part::Survivor).await;
        Self { connection, app, database }
    }

    /// Starts a process and kills it as soon as the query returns a row.
    async fn kill_when(&mut self, part: Part, what: &str, query: &str) {
        let process = Process::start(&self.database, part);
        eventually(what, || !rows(&mut self.connection, query).is_empty()).await;
        process.kill();
        self.declare_dead();
    }

    /// As if the existing workers had not sent a heartbeat for an hour.
    fn declare_dead(&mut self) {
        sql(&mut self.connection, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'");
    }

    /// Has a living worker work until no job is to be run any more, and looks at what must hold then.
    async fn survive(&mut self) {
        let worker = Running::start(looking(self.app.worker().concurrency(5)));
        self.wait_until_all_have_ended().await;
        eventually("the dead workers are gone", || {
            rows(&mut self.connection, "SELECT id FROM procrastinate_workers").len() == 1
        })
        .await;
        worker.stop().await.unwrap();
        assert_eq!(rows(&mut self.connection, "SELECT * FROM twice_at_once"), [""; 0]);
    }

    async fn wait_until_all_have_ended(&mut self) {
        let open = "SELECT id FROM procrastinate_jobs WHERE status IN ('todo', 'doing')";
        eventually("all jobs have ended", || rows(&mut self.connection, open).is_empty()).await;
    }

    fn job(&mut self, id: JobId) -> (JobStatus, i32) {
        let job = job(&mut self.connection, id);
        (job.status, job.attempts)
    }

    fn errors(&mut self, id: JobId) -> Vec<String> {
        let errors = "SELECT attempt, error FROM procrastinate_diesel_job_errors WHERE job_id = $id ORDER BY attempt";
        rows(&mut self.connection, &errors.replace("$id", &id.to_string()))
    }

    fn runs(&mut self, id: JobId) -> usize {
        rows(&mut self.connection, &format!("SELECT * FROM runs WHERE job_id = {id}")).len()
    }
}

const A_RUN: &str = "SELECT * FROM runs";
const DIED: &str = "1 | the worker that ran the job died";

// ---- Before a job runs, and while it does ----

#[tokio::test]
async fn a_worker_that_is_killed_before_it_has_a_job_leaves_nothing() {
    let mut scene = Scene::new().await;
    scene.kill_when(Part::Victim, "it is registered", "SELECT * FROM procrastinate_workers").await;
    scene.survive().await;
}

#[tokio::test]
async fn a_job_that_was_fetched_and_not_started_runs_in_another_worker() {
    let mut scene = Scene::new().await;
    let id = scene.app.defer(hold()).await.unwrap();
    scene.kill_when(Part::VictimBeforeTheStart, "it has the job", A_RUN).await;
    scene.survive().await;
    assert_eq!(scene.job(id), (JobStatus::Succeeded, 2));
    assert_eq!(scene.errors(id), [DIED]);
}

#[tokio::test]
async fn a_job_whose_worker_was_killed_runs_again_and_its_lock_is_free() {
    for blocking in [false, true] {
        let mut scene = Scene::new().await;
        let task = || if blocking { hold_on_a_thread() } else { hold() };
        let id = scene.app.defer(task().lock("one").queueing_lock("alone")).await.unwrap();
        let next = scene.app.defer(task().lock("one")).await.unwrap();
        scene.kill_when(Part::Victim, "it runs the job", A_RUN).await;
        assert_eq!(scene.job(id), (JobStatus::Doing, 0));
        scene.survive().await;
        assert_eq!(scene.job(id), (JobStatus::Succeeded, 2), "blocking: {blocking}");
        assert_eq!(scene.errors(id), [DIED]);
        assert_eq!((scene.runs(id), scene.runs(next)), (2, 1));
        assert_eq!(scene.job(next), (JobStatus::Succeeded, 1));
    }
}

#[tokio::test]
async fn a_job_whose_queueing_lock_was_taken_while_it_ran_fails_when_its_worker_is_killed() {
    let mut scene = Scene::new().await;
    let id = scene.app.defer(hold().queueing_lock("one")).await.unwrap();
    let process = Process::start(&scene.database, Part::Victim);
    eventually("it runs the job", || scene.runs(id) == 1).await;
    let day = Duration::from_secs(86_400);
    let next = scene.app.defer(hold().queueing_lock("one").schedule_in(day)).await.unwrap();
    process.kill();
    scene.declare_dead();
    let worker = Running::start(looking(scene.app.worker()));
    eventually("it has failed", || scene.job(id).0 == JobStatus::Failed).await;
    worker.stop().await.unwrap();
    assert_eq!(scene.job(id), (JobStatus::Failed, 1));
    assert_eq!(scene.errors(id), [DIED]);
    assert_eq!(scene.job(next), (JobStatus::Todo, 0));
}

#[tokio::test]
async fn a_job_whose_worker_is_killed_fails_or_stays_by_its_stalled_policy() {
    let mut scene = Scene::new().await;
    let fails = scene.app.defer(hold_and_fail().lock("one")).await.unwrap();
    let stays = scene.app.defer(hold_and_stay()).await.unwrap();
    scene.kill_when(Part::Victim, "it runs both jobs", "SELECT FROM runs HAVING count(*) = 2").await;
    // A third one shows when the worker has looked, and that the lock is free.
    let next = scene.app.defer(hold().lock("one")).await.unwrap();
    let worker = Running::start(looking(scene.app.worker()));
    eventually("the lock is free", || scene.job(next).0 == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(scene.job(fails), (JobStatus::Failed, 1));
    assert_eq!(scene.errors(fails), [DIED]);
    assert_eq!(scene.job(stays), (JobStatus::Doing, 0));
    assert_eq!((scene.runs(fails), scene.runs(stays)), (1, 1));
}

#[tokio::test]
async fn a_job_with_an_abort_request_is_aborted_when_its_worker_is_killed() {
    let mut scene = Scene::new().await;
    let id = scene.app.defer(hold_on_a_thread()).await.unwrap();
    let process = Process::start(&scene.database, Part::Victim);
    eventually("it runs the job", || scene.runs(id) == 1).await;
    sql(&mut scene.connection, &format!("SELECT procrastinate_cancel_job_v1({id}, true, false)"));
    process.kill();
    scene.declare_dead();
    scene.survive().await;
    assert_eq!(scene.job(id), (JobStatus::Aborted, 1));
    assert_eq!(scene.runs(id), 1);
}

// ---- When its task has ended ----

/// The processes of the server that wait for a row to store an outcome.
const WAITING_ENDINGS: &str = "SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%finish_and_fetch%' AND cardinality(pg_blocking_pids(pid)) > 0";

/// Kills a worker whose exchange waits because this connection holds the row of its job.
async fn kill_at_the_ending(scene: &mut Scene, id: JobId) -> PgConnection {
    sql(&mut scene.connection, "SELECT pg_advisory_lock(0)");
    let process = Process::start(&scene.database, Part::Victim);
    eventually("it runs the job", || scene.runs(id) == 1).await;
    let mut holder = connect(&scene.database);
    sql(&mut holder, &format!("BEGIN; SELECT FROM procrastinate_jobs WHERE id = {id} FOR UPDATE"));
    sql(&mut scene.connection, "SELECT pg_advisory_unlock(0)");
    eventually("its ending waits", || !rows(&mut scene.connection, WAITING_ENDINGS).is_empty()).await;
    process.kill();
    scene.declare_dead();
    holder
}

#[tokio::test]
async fn a_job_whose_outcome_was_not_stored_runs_again() {
    let mut scene = Scene::new().await;
    let id = scene.app.defer(end_when_told()).await.unwrap();
    let mut holder = kill_at_the_ending(&mut scene, id).await;
    sql(&mut scene.connection, &format!("SELECT pg_terminate_backend(pid) FROM ({WAITING_ENDINGS}) AS waiting"));
    eventually("it waits no more", || rows(&mut scene.connection, WAITING_ENDINGS).is_empty()).await;
    sql(&mut holder, "COMMIT");
    assert_eq!(scene.job(id), (JobStatus::Doing, 0));
    scene.survive().await;
    assert_eq!(scene.job(id), (JobStatus::Succeeded, 2));
    assert_eq!((scene.runs(id), scene.errors(id)), (2, vec![DIED.to_owned()]));
}

#[tokio::test]
async fn an_outcome_in_flight_is_stored_and_the_job_fetched_with_it_is_not_lost() {
    let mut scene = Scene::new().await;
    let id = scene.app.defer(end_when_told()).await.unwrap();
    // The worker has a second slot for this one. The other one is fetched with the response that nobody reads.
    let beside = scene.app.defer(hold()).await.unwrap();
    let next = scene.app.defer(hold()).await.unwrap();
    let mut holder = kill_at_the_ending(&mut scene, id).await;
    sql(&mut holder, "COMMIT");
    eventually("the ending is stored", || scene.job(id) == (JobStatus::Succeeded, 1)).await;
    eventually("the next job is handed out", || scene.job(next) == (JobStatus::Doing, 0)).await;
    scene.survive().await;
    assert_eq!((scene.job(id), scene.runs(id)), ((JobStatus::Succeeded, 1), 1));
    assert_eq!((scene.job(beside), scene.runs(beside)), ((JobStatus::Succeeded, 2), 2));
    assert_eq!((scene.job(next), scene.runs(next)), ((JobStatus::Succeeded, 2), 1));
}

#[tokio::test]
async fn a_job_that_waits_for_a_retry_does_not_need_its_killed_worker() {
    let mut scene = Scene::new().await;
    let id = scene.app.defer(fail_at_first()).await.unwrap();
    let waits = "SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND attempts = 1";
    scene.kill_when(Part::Victim, "it waits for another attempt", waits).await;
    sql(&mut scene.connection, "UPDATE procrastinate_jobs SET scheduled_at = now()");
    scene.survive().await;
    assert_eq!((scene.job(id), scene.runs(id)), ((JobStatus::Succeeded, 2), 2));
    assert_eq!(scene.errors(id), ["1 | not yet"]);
}

// ---- Again and again ----

#[tokio::test]
async fn a_job_that_kills_its_worker_each_time_fails_in_the_end() {
    let mut scene = Scene::new().await;
    for (job, attempts) in [(kill(), 4), (kill_with_one_retry(), 2)] {
        let id = scene.app.defer(job).await.unwrap();
        let mut killed = 0;
        while scene.job(id).0 != JobStatus::Failed {
            let mut process = Process::start(&scene.database, Part::Victim);
            eventually("it is killed, or the job fails", || {
                process.has_ended() || scene.job(id).0 == JobStatus::Failed
            })
            .await;
            killed += i32::from(process.has_ended());
            drop(process);
            scene.declare_dead();
        }
        assert_eq!(scene.job(id), (JobStatus::Failed, attempts));
        assert_eq!((killed, scene.runs(id)), (attempts, usize::try_from(attempts).unwrap()));
        let died: Vec<_> = (1..=attempts).map(|attempt| DIED.replacen('1', &attempt.to_string(), 1)).collect();
        assert_eq!(scene.errors(id), died);
    }
}

#[tokio::test]
async fn killed_workers_lose_no_job_and_no_job_runs_twice_at_the_same_time() {
    let mut scene = Scene::new().await;
    for number in 0..200 {
        let job = be_brief();
        let job = if number % 4 == 0 { job.lock(format!("lock {}", number % 3)) } else { job };
        scene.app.defer(job).await.unwrap();
    }
    let survivor = Process::start(&scene.database, Part::Survivor);
    for _ in 0..3 {
        let victim = Process::start(&scene.database, Part::Survivor);
        let runs = format!("SELECT FROM runs WHERE process = {} HAVING count(*) >= 5", victim.id());
        eventually("it has begun to work", || {
            !rows(&mut scene.connection, &runs).is_empty()
                || !statuses(&mut scene.connection).contains(&JobStatus::Todo)
        })
        .await;
        victim.kill();
    }
    scene.wait_until_all_have_ended().await;
    drop(survivor);
    assert_eq!(rows(&mut scene.connection, "SELECT * FROM twice_at_once"), [""; 0]);
    assert_eq!(statuses(&mut scene.connection), vec![JobStatus::Succeeded; 200]);
    // Those that were running in a killed process have run twice: two of each at most.
    let twice = rows(&mut scene.connection, "SELECT id FROM procrastinate_jobs WHERE attempts > 1");
    assert!(twice.len() <= 6, "{twice:?}");
    // On a slow machine one job can be in each of the three killed processes.
    let unexplained = "SELECT id FROM procrastinate_jobs AS job
        WHERE attempts > 4 OR attempts < (SELECT count(*) FROM runs WHERE job_id = job.id)";
    assert_eq!(rows(&mut scene.connection, unexplained), [""; 0]);
}
