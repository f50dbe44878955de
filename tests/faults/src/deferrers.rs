//! A process that defers jobs in every way, cancels and aborts some, and retries failed ones manually.
//!
//! It writes to its ledger what the database has acknowledged, and what can never have been committed. A job between
//! the two may exist or not.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::job_manager::{cancel_job, retry_job};
use procrastinate::{App, JobId, JobToDefer, batch_defer};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::ledger::{Ledger, Line};
use crate::server::numbers;
use crate::tasks::{any_job, app, hog_job, pool};

/// How long an operation may take before its outcome counts as unknown.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many pending jobs there may be before the deferrers pause.
const MOST_PENDING: i64 = 150;

/// What the rig tells a deferring process on its command line.
#[derive(Debug, Clone)]
pub(crate) struct DeferrerArguments {
    pub(crate) url: String,
    pub(crate) ledger: PathBuf,
    pub(crate) seed: u64,
}

/// The parts that all loops of the process share.
struct Shared {
    app: App,
    url: String,
    ledger: Ledger,
    is_stopping: AtomicBool,
    /// Whether there are many pending jobs already.
    is_full: AtomicBool,
    next_token: AtomicU64,
    /// The ID of the newest job that was acknowledged.
    newest: AtomicU64,
}

/// Defers jobs until standard input ends.
pub(crate) async fn run(arguments: DeferrerArguments) -> Result<(), Failure> {
    let shared = Arc::new(Shared {
        app: app(&pool(&arguments.url))?,
        url: arguments.url,
        ledger: Ledger::open(&arguments.ledger)?,
        is_stopping: AtomicBool::new(false),
        is_full: AtomicBool::new(false),
        next_token: AtomicU64::new(0),
        newest: AtomicU64::new(0),
    });
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let mut loops = JoinSet::new();
    loops.spawn(in_transactions(shared.clone(), random.fork()));
    loops.spawn(in_batches(shared.clone(), random.fork()));
    for _ in 0..4 {
        loops.spawn(on_the_pool(shared.clone(), random.fork()));
    }
    loops.spawn(with_queueing_locks(shared.clone(), random.fork()));
    loops.spawn(hogs(shared.clone(), random.fork()));
    loops.spawn(cancel_some(shared.clone(), random.fork()));
    loops.spawn(retry_failed(shared.clone(), random.fork()));
    loops.spawn(watch_backlog(shared.clone()));
    let _ = tokio::io::stdin().read(&mut [0]).await;
    shared.is_stopping.store(true, Ordering::Relaxed);
    while loops.join_next().await.is_some() {}
    Ok(())
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.is_stopping.load(Ordering::Relaxed)
    }

    fn token(&self) -> String {
        format!("{}-{}", std::process::id(), self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns some jobs with their tokens.
    fn jobs(&self, count: usize, random: &mut fastrand::Rng) -> (Vec<String>, Vec<JobToDefer>) {
        let tokens: Vec<String> = (0..count).map(|_| self.token()).collect();
        let jobs = tokens.iter().map(|token| any_job(token.clone(), random)).collect();
        (tokens, jobs)
    }

    fn acknowledge(&self, tokens: Vec<String>, ids: impl IntoIterator<Item = JobId>) {
        for (token, id) in tokens.into_iter().zip(ids) {
            let job = i64::from(id);
            self.ledger.write(&Line::Acknowledged { token, job });
            self.newest.fetch_max(u64::try_from(job).unwrap_or_default(), Ordering::Relaxed);
        }
    }

    /// Waits some milliseconds, and longer if there are many pending jobs.
    async fn pause(&self, most: u64, random: &mut fastrand::Rng) {
        sleep(Duration::from_millis(random.u64(most / 2..most))).await;
        while self.goes_on() && self.is_full.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn connect(&self) -> Option<AsyncPgConnection> {
        let connection = timeout(PATIENCE, AsyncPgConnection::establish(&self.url)).await.ok()?.ok();
        if connection.is_none() {
            sleep(Duration::from_millis(200)).await;
        }
        connection
    }
}

/// Why a transaction is rolled back.
#[derive(Debug)]
enum Stop {
    OnPurpose,
    Failed,
}

impl From<diesel::result::Error> for Stop {
    fn from(_: diesel::result::Error) -> Self {
        Self::Failed
    }
}

impl From<procrastinate::Error> for Stop {
    fn from(_: procrastinate::Error) -> Self {
        Self::Failed
    }
}

/// Defers one to three jobs in a transaction, and rolls every third one back.
async fn in_transactions(shared: Arc<Shared>, mut random: fastrand::Rng) {
    let mut kept = None;
    while shared.goes_on() {
        let Some(mut connection) = (match kept.take() {
            Some(connection) => Some(connection),
            None => shared.connect().await,
        }) else {
            continue;
        };
        let (tokens, jobs) = shared.jobs(random.usize(1..4), &mut random);
        let is_rolled_back = random.u8(0..3) == 0;
        // From then on the transaction may be committed.
        let may_commit = AtomicBool::new(false);
        let transaction = connection.transaction(async |connection| {
            let mut ids = Vec::new();
            for job in jobs {
                ids.push(job.defer(connection).await?);
            }
            if is_rolled_back {
                return Err(Stop::OnPurpose);
            }
            may_commit.store(true, Ordering::Relaxed);
            Ok::<_, Stop>(ids)
        });
        let result = timeout(PATIENCE, transaction).await;
        let is_usable = matches!(result, Ok(Ok(_) | Err(Stop::OnPurpose)));
        match result {
            Ok(Ok(ids)) => shared.acknowledge(tokens, ids),
            _ if may_commit.load(Ordering::Relaxed) => {}
            _ => tokens.into_iter().for_each(|token| shared.ledger.write(&Line::RolledBack { token })),
        }
        if is_usable {
            kept = Some(connection);
        }
        shared.pause(300, &mut random).await;
    }
}

/// Defers batches on a connection without a transaction.
async fn in_batches(shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        let Some(mut connection) = shared.connect().await else { continue };
        for _ in 0..10 {
            let (tokens, jobs) = shared.jobs(random.usize(1..12), &mut random);
            let Ok(Ok(ids)) = timeout(PATIENCE, batch_defer(jobs, &mut connection)).await else { break };
            shared.acknowledge(tokens, ids);
            shared.pause(1_200, &mut random).await;
            if !shared.goes_on() {
                break;
            }
        }
    }
}

/// Defers single jobs on the application's pool, several at the same time.
async fn on_the_pool(shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        let (tokens, mut jobs) = shared.jobs(1, &mut random);
        if let Some(job) = jobs.pop()
            && let Ok(Ok(id)) = timeout(PATIENCE, shared.app.defer(job)).await
        {
            shared.acknowledge(tokens, [id]);
        }
        shared.pause(500, &mut random).await;
    }
}

/// Defers jobs with queueing locks, most of which are taken.
async fn with_queueing_locks(shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        let token = shared.token();
        let job = any_job(token.clone(), &mut random).queueing_lock(format!("queueing lock {}", random.u8(0..5)));
        if let Ok(Ok(Some(id))) = timeout(PATIENCE, shared.app.defer_unless_enqueued(job)).await {
            shared.acknowledge(vec![token], [id]);
        }
        shared.pause(200, &mut random).await;
    }
}

/// Now and then defers a job that takes the connections of its worker's pool.
async fn hogs(shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        for _ in 0..random.u8(40..100) {
            if !shared.goes_on() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let token = shared.token();
        if let Ok(Ok(id)) = timeout(PATIENCE, shared.app.defer(hog_job(token.clone()))).await {
            shared.acknowledge(vec![token], [id]);
        }
    }
}

/// Cancels or aborts some of the newest jobs.
async fn cancel_some(shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        shared.pause(600, &mut random).await;
        let newest = shared.newest.load(Ordering::Relaxed);
        let job = i64::try_from(newest.saturating_sub(random.u64(0..15))).unwrap_or_default();
        let operation = shared.app.perform(cancel_job(job).abort(random.bool()));
        let _ = timeout(PATIENCE, operation).await;
    }
}

/// Retries some of the failed jobs.
async fn retry_failed(shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        let Some(mut connection) = shared.connect().await else { continue };
        for _ in 0..10 {
            shared.pause(1_500, &mut random).await;
            let failed =
                "SELECT id AS number FROM procrastinate_jobs WHERE status = 'failed' ORDER BY random() LIMIT 1";
            let Ok(Ok(failed)) = timeout(PATIENCE, numbers(failed, &mut connection)).await else { break };
            for job in failed {
                if let Ok(Ok(_)) = timeout(PATIENCE, shared.app.perform(retry_job(job))).await {
                    shared.ledger.write(&Line::RetriedManually { job });
                }
            }
            if !shared.goes_on() {
                break;
            }
        }
    }
}

/// Keeps the deferrers from running far ahead of the workers.
async fn watch_backlog(shared: Arc<Shared>) {
    while shared.goes_on() {
        let Some(mut connection) = shared.connect().await else { continue };
        let pending = "SELECT count(*) AS number FROM procrastinate_jobs WHERE status = 'todo'";
        while let Ok(Ok(pending)) = timeout(PATIENCE, numbers(pending, &mut connection)).await {
            shared.is_full.store(pending.iter().sum::<i64>() > MOST_PENDING, Ordering::Relaxed);
            sleep(Duration::from_millis(200)).await;
            if !shared.goes_on() {
                break;
            }
        }
    }
}
