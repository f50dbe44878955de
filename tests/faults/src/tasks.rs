//! The tasks that the workers run. Each writes its beginning and its end to the ledger.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool as Bb8Pool;
use procrastinate::retry::RetryStrategy;
use procrastinate::{App, DieselConnector, Error, JobAborted, JobContext, JobToDefer, TaskControl, periodic, task};

use crate::ledger::{Ending, Run};

pub(crate) type Pool = Bb8Pool<AsyncPgConnection>;

/// The queues that jobs are deferred to.
pub(crate) const QUEUES: [&str; 2] = ["one", "two"];

/// The queues of the workers on several queues, if Python's has another queue for itself.
pub(crate) const QUEUES_BESIDE_PYTHON: [&str; 3] = ["one", "two", "shared"];

/// How many different locks the jobs have.
const LOCKS: u32 = 20;

/// The largest number of connections in the pool of a process.
pub(crate) const POOL_SIZE: u32 = 4;

const WAIT_BETWEEN_LOOKS: Duration = Duration::from_millis(5);

#[task(pass_context)]
async fn quick(context: JobContext, token: String) {
    Run::begin(&context, &token).end(Ending::Succeeded);
}

#[task(pass_context)]
async fn brief(context: JobContext, token: String) {
    let run = Run::begin(&context, &token);
    tokio::time::sleep(Duration::from_millis(50)).await;
    run.end(Ending::Succeeded);
}

#[task(pass_context)]
async fn slow(context: JobContext, token: String) {
    let run = Run::begin(&context, &token);
    tokio::time::sleep(Duration::from_secs(2)).await;
    run.end(Ending::Succeeded);
}

/// Runs on a blocking thread, and looks for requests to abort.
#[task(pass_context)]
fn blocking(context: JobContext, token: String) -> Result<(), JobAborted> {
    let run = Run::begin(&context, &token);
    for _ in 0..100 {
        if context.should_abort() {
            run.end(Ending::Aborted);
            return Err(JobAborted);
        }
        std::thread::sleep(WAIT_BETWEEN_LOOKS);
    }
    run.end(Ending::Succeeded);
    Ok(())
}

/// Fails every other time, and is retried.
#[task(pass_context, retry = RetryStrategy::new().max_attempts(4).wait(1))]
async fn flaky(context: JobContext, token: String) -> Result<(), String> {
    let run = Run::begin(&context, &token);
    tokio::time::sleep(Duration::from_millis(10)).await;
    if fastrand::bool() {
        run.end(Ending::Succeeded);
        return Ok(());
    }
    run.end(Ending::Failed);
    Err("it fails every other time".to_owned())
}

/// Fails in its second attempt, too.
#[task(pass_context, retry = 1)]
async fn doomed(context: JobContext, token: String) -> Result<(), String> {
    Run::begin(&context, &token).end(Ending::Failed);
    Err("it fails each time".to_owned())
}

/// Snoozes again and again, for some seconds. Its attempts stay the same, so an outcome that arrives late could be taken
/// for that of the current run.
#[task(pass_context)]
async fn snoozing(context: JobContext, token: String) -> Result<(), TaskControl> {
    let run = Run::begin(&context, &token);
    tokio::time::sleep(Duration::from_secs(1)).await;
    if fastrand::u8(0..6) == 0 {
        run.end(Ending::Succeeded);
        return Ok(());
    }
    run.end(Ending::Snoozed);
    Err(TaskControl::snooze(Duration::from_millis(100)))
}

/// A task that Python has, too.
#[task(pass_context, name = "shared:brief")]
async fn shared_brief(context: JobContext, token: String) {
    let run = Run::begin(&context, &token);
    tokio::time::sleep(Duration::from_millis(50)).await;
    run.end(Ending::Succeeded);
}

/// Another one.
#[task(pass_context, name = "shared:slow")]
async fn shared_slow(context: JobContext, token: String) {
    let run = Run::begin(&context, &token);
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.end(Ending::Succeeded);
}

/// Takes all connections of its worker's pool that it can have, and keeps them for two seconds.
#[task(pass_context)]
async fn hog(context: JobContext, token: String) -> Result<(), Error> {
    let run = Run::begin(&context, &token);
    let pool = context.state::<Pool>()?;
    let mut held = Vec::new();
    for _ in 0..POOL_SIZE {
        if let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_millis(300), pool.get()).await {
            held.push(connection);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(held);
    run.end(Ending::Succeeded);
    Ok(())
}

#[periodic(cron = "* * * * * *", periodic_id = "each second", args(schedule = "each second"))]
#[periodic(cron = "*/2 * * * * *", periodic_id = "with a lock", lock = "tick", args(schedule = "with a lock"))]
#[task(pass_context, queue = "one")]
async fn tick(context: JobContext, timestamp: i64, schedule: String) {
    let run = Run::begin(&context, &format!("{schedule} {timestamp}"));
    tokio::time::sleep(Duration::from_millis(20)).await;
    run.end(Ending::Succeeded);
}

/// Returns the application that workers and deferrers share.
pub(crate) fn app(pool: &Pool) -> Result<App, Error> {
    App::builder(DieselConnector::new(pool.clone()))
        .state(pool.clone())
        .task::<quick>()
        .task::<brief>()
        .task::<slow>()
        .task::<blocking>()
        .task::<flaky>()
        .task::<doomed>()
        .task::<snoozing>()
        .task::<hog>()
        .task::<shared_brief>()
        .task::<shared_slow>()
        .task::<tick>()
        .build()
}

/// Returns a pool on this URL. It does not connect yet.
pub(crate) fn pool(url: &str) -> Pool {
    Pool::builder().max_size(POOL_SIZE).build_unchecked(AsyncDieselConnectionManager::new(url))
}

/// Returns a job that takes the connections of its worker's pool.
pub(crate) fn hog_job(token: String) -> JobToDefer {
    hog(token).queue(QUEUES[0]).priority(10)
}

/// Returns some job with some options.
pub(crate) fn any_job(token: String, random: &mut fastrand::Rng) -> JobToDefer {
    let job = match random.u32(0..100) {
        0..50 => quick(token),
        50..72 => brief(token),
        72..76 => slow(token),
        76..84 => blocking(token),
        84..92 => flaky(token),
        92..94 => snoozing(token),
        _ => doomed(token),
    };
    let mut job = job.queue(QUEUES[random.usize(..QUEUES.len())]);
    if random.u8(0..10) < 3 {
        job = job.lock(format!("lock {}", random.u32(..LOCKS)));
    }
    match random.u8(0..20) {
        0 => job.schedule_in(Duration::from_secs(1)),
        1 | 2 => job.priority(random.i32(-2..3)),
        _ => job,
    }
}
