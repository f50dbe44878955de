//! Many workers at the same time: each job runs once, and jobs with the same lock run one at a time in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::PgConnection;
use procrastinate::{App, JobContext, JobId, Task, Worker, batch_defer_blocking};
use serde::{Deserialize, Serialize};
use throwaway_postgres::Database;
use tokio::sync::watch;

use super::Random;
use super::model::{Functions, LOCKS, Model, NewJob, QUEUES, Schedule};
use crate::support::{PATIENCE, Running, connect, connector, database, rows};

/// The logs of the tests, by the names of their workers.
static LOGS: Mutex<BTreeMap<String, Arc<Log>>> = Mutex::new(BTreeMap::new());

/// What happened, in order.
#[derive(Debug, Default)]
struct Log {
    entries: Mutex<Vec<Entry>>,
    ended: watch::Sender<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Started(JobId),
    Ended(JobId),
}

impl Log {
    fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    fn starts(&self) -> Vec<JobId> {
        let start = |entry| if let Entry::Started(id) = entry { Some(id) } else { None };
        self.entries().into_iter().filter_map(start).collect()
    }

    /// Waits until so many jobs have ended.
    async fn until_ended(&self, jobs: usize) {
        let mut ended = self.ended.subscribe();
        let waited = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended >= jobs)).await;
        assert!(waited.is_ok(), "only {} of {jobs} jobs have ended", *self.ended.borrow());
    }
}

/// Writes into the log that it starts and that it ends.
#[derive(Serialize, Deserialize)]
pub struct Logged {}

impl Task for Logged {
    const NAME: &'static str = "logged";
    type Output = ();

    async fn run(self, context: JobContext) {
        let log = LOGS.lock().unwrap().get(context.worker_name()).cloned();
        let log = log.expect("the test is over");
        let id = context.job().id;
        log.entries.lock().unwrap().push(Entry::Started(id));
        // Some take longer than others, so that they end in another order.
        tokio::time::sleep(Duration::from_micros(u64::try_from(i64::from(id) % 7).unwrap() * 500)).await;
        log.entries.lock().unwrap().push(Entry::Ended(id));
        log.ended.send_modify(|ended| *ended += 1);
    }
}

/// A database, its jobs, and workers that come and go.
pub struct Hall {
    pub database: Database,
    log: Arc<Log>,
    pub jobs: BTreeMap<JobId, NewJob>,
}

impl Hall {
    pub fn new() -> Self {
        let database = database();
        let log = Arc::new(Log::default());
        LOGS.lock().unwrap().insert(database.name().to_owned(), log.clone());
        Self { database, log, jobs: BTreeMap::new() }
    }

    /// Defers jobs that can all run now, many of them under locks.
    fn defer(&mut self, random: &mut Random, jobs: usize) {
        self.defer_these((0..jobs).map(|_| any_job(random)).collect());
    }

    fn defer_these(&mut self, jobs: Vec<NewJob>) {
        let to_defer = jobs.iter().map(|job| job.to_defer(Logged::NAME));
        let ids = batch_defer_blocking(to_defer, &mut connect(&self.database)).unwrap();
        self.jobs.extend(ids.into_iter().zip(jobs));
    }

    /// A worker with a pool of its own, as if it were another process.
    pub async fn worker(&self) -> Worker {
        let app = App::builder(connector(&self.database).await).task::<Logged>().build().unwrap();
        // A job whose lock another worker has released is not announced, but found by polling.
        app.worker().name(self.database.name()).fetch_job_polling_interval(Duration::from_millis(10))
    }

    fn connection(&self) -> PgConnection {
        connect(&self.database)
    }

    /// The jobs that ran, each once, and those with the same lock one at a time.
    pub fn ran_once(&self) -> BTreeSet<JobId> {
        let mut running: BTreeSet<JobId> = BTreeSet::new();
        let mut ran: BTreeSet<JobId> = BTreeSet::new();
        for entry in self.log.entries() {
            match entry {
                Entry::Started(id) => {
                    assert!(ran.insert(id), "job {id} ran twice");
                    let lock = self.jobs[&id].lock;
                    let other = running.iter().find(|other| lock.is_some() && self.jobs[other].lock == lock);
                    assert_eq!(other, None, "it was running when {id} started, under the lock {lock:?}");
                    running.insert(id);
                }
                Entry::Ended(id) => assert!(running.remove(&id), "job {id} ended and was not running"),
            }
        }
        ran
    }

    fn assert_that_each_job_ran_once(&self) {
        assert!(self.ran_once().iter().eq(self.jobs.keys()), "not all jobs ran");

        let stories = "SELECT job.status, job.attempts, count(*) FROM procrastinate_jobs AS job \
                       GROUP BY job.status, job.attempts";
        assert_eq!(rows(&mut self.connection(), stories), [format!("succeeded | 1 | {}", self.jobs.len())]);
        let oddities = "SELECT job_id, string_agg(type::text, ' ' ORDER BY id) FROM procrastinate_events GROUP BY job_id \
                        HAVING string_agg(type::text, ' ' ORDER BY id) \
                        NOT IN ('deferred started succeeded', 'scheduled deferred started succeeded')";
        assert_eq!(rows(&mut self.connection(), oddities), [""; 0]);
        assert_eq!(rows(&mut self.connection(), "SELECT id FROM procrastinate_workers"), [""; 0]);
    }

    /// For jobs that were all waiting when the first worker came.
    fn assert_that_locks_kept_the_order(&self) {
        for lock in LOCKS {
            let mut expected: Vec<JobId> =
                self.jobs.keys().copied().filter(|id| self.jobs[id].lock == Some(lock)).collect();
            expected.sort_by_key(|id| (std::cmp::Reverse(self.jobs[id].priority), *id));
            let mut started = self.log.starts();
            started.retain(|id| self.jobs[id].lock == Some(lock));
            assert_eq!(started, expected, "under the lock {lock}");
        }
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        LOGS.lock().unwrap().remove(self.database.name());
    }
}

fn any_job(random: &mut Random) -> NewJob {
    let schedule = if random.once_in(4) { Schedule::Past } else { Schedule::AtOnce };
    NewJob { queueing_lock: None, schedule, ..NewJob::any(random) }
}

#[tokio::test]
async fn one_worker_with_one_slot_runs_the_jobs_in_the_order_of_the_model() {
    for mut random in Random::each(0..3) {
        let mut hall = Hall::new();
        hall.defer(&mut random, 60);
        // These hold back what comes after them under their locks.
        let blockers: Vec<NewJob> = ["L", "M"]
            .map(|lock| NewJob { lock: Some(lock), schedule: Schedule::Future, ..any_job(&mut random) })
            .into();
        hall.defer_these(blockers);
        let mut model = Model::of(Functions::Ours);
        for (id, job) in &hall.jobs {
            model.insert(*id, *job);
        }
        let mut expected = Vec::new();
        while let Some(id) = model.fetch(Some(&["a", "b"]), 1) {
            model.finish(id, "succeeded", false).unwrap();
            expected.push(JobId::from(id));
        }

        hall.worker().await.queues(["a", "b"]).stop_when_empty().run().await.unwrap();

        assert_eq!(hall.log.starts(), expected);
        let waiting = rows(&mut hall.connection(), "SELECT id FROM procrastinate_jobs WHERE status = 'todo'");
        assert_eq!(waiting.len(), hall.jobs.len() - expected.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_share_the_queues_run_each_job_once_and_keep_the_order_of_locks() {
    const JOBS: usize = 400;
    for mut random in Random::each(0..3) {
        let mut hall = Hall::new();
        hall.defer(&mut random, JOBS);
        let workers = [
            hall.worker().await.concurrency(4),
            hall.worker().await.queues(["a", "b"]).concurrency(1 + random.below(4)),
            hall.worker().await.queues(["c"]).concurrency(1 + random.below(4)),
        ];
        let running: Vec<Running> = workers.into_iter().map(Running::start).collect();
        hall.log.until_ended(JOBS).await;
        for worker in running {
            worker.stop().await.unwrap();
        }
        hall.assert_that_each_job_ran_once();
        hall.assert_that_locks_kept_the_order();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_are_deferred_while_workers_run_are_run_once() {
    const BATCHES: usize = 60;
    for mut random in Random::each(0..2) {
        let mut hall = Hall::new();
        let mut running = Vec::new();
        for queues in [&QUEUES[..], &QUEUES[..2], &QUEUES[1..]] {
            running.push(Running::start(hall.worker().await.queues(queues.iter().copied()).concurrency(3)));
        }
        for _ in 0..BATCHES {
            let jobs = 1 + random.below(10);
            hall.defer(&mut random, jobs);
            // Not so fast that the workers always find something.
            hall.log.until_ended(hall.jobs.len().saturating_sub(30)).await;
        }
        hall.log.until_ended(hall.jobs.len()).await;
        for worker in running {
            worker.stop().await.unwrap();
        }
        hall.assert_that_each_job_ran_once();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_stopped_in_the_middle_leave_the_rest_to_others() {
    const JOBS: usize = 400;
    for mut random in Random::each(0..2) {
        let mut hall = Hall::new();
        hall.defer(&mut random, JOBS);
        let mut running = std::collections::VecDeque::new();
        for stop_after in (0..JOBS).step_by(25) {
            let queues: Vec<&str> = QUEUES.into_iter().filter(|_| !random.once_in(3)).collect();
            let worker = hall.worker().await.concurrency(1 + random.below(5));
            let worker = if queues.is_empty() { worker } else { worker.queues(queues) };
            running.push_back(Running::start(worker));
            // One for all queues is always there, so that nothing waits for a queue that nobody serves.
            running.push_back(Running::start(hall.worker().await));
            hall.log.until_ended(stop_after).await;
            while running.len() > 4 {
                running.pop_front().unwrap().stop().await.unwrap();
            }
        }
        hall.log.until_ended(JOBS).await;
        for worker in running {
            worker.stop().await.unwrap();
        }
        hall.assert_that_each_job_ran_once();
        hall.assert_that_locks_kept_the_order();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_shuts_down_although_there_are_always_more_jobs() {
    const JOBS: usize = 2_000;
    const SLOTS: usize = 20;
    for mut random in Random::each(0..4) {
        let mut hall = Hall::new();
        hall.defer_these((0..JOBS).map(|_| NewJob { lock: None, ..any_job(&mut random) }).collect());
        let log = hall.log.clone();
        let worker = hall.worker().await.concurrency(SLOTS);
        worker.with_graceful_shutdown(async move { log.until_ended(10).await }).run().await.unwrap();

        let started = hall.log.starts().len();
        assert_eq!(*hall.log.ended.borrow(), started);
        // Those that ran, and those that an exchange under way may have brought, several times over.
        assert!(started < 10 * SLOTS, "it ran {started} jobs before it stopped");
        let statuses = "SELECT status, count(*) FROM procrastinate_jobs GROUP BY status ORDER BY status";
        let expected = [format!("todo | {}", JOBS - started), format!("succeeded | {started}")];
        assert_eq!(rows(&mut hall.connection(), statuses), expected);
    }
}
