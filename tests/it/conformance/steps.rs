//! The steps of a walk, chosen at random, in a form that can be printed.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use procrastinate::job_manager::{
    RetryJob, cancel_job, delete_job, delete_old_jobs, fetch_job, finish_job, get_job_status, get_stalled_jobs,
    list_jobs, list_jobs_to_abort, list_locks, list_queues, list_tasks, prune_stalled_workers, register_worker,
    reschedule_job, retry_job, unregister_worker, update_heartbeat,
};
use procrastinate::{DeleteJobs, IfEnqueued, JobStatus, JobToDefer};

use super::running::{ORDERS, obey};
use super::side::Side;
use crate::random_model::Random;
use crate::support::{hours, within_patience};

const QUEUES: [&str; 3] = ["orders", "elsewhere", "third"];
const LOCKS: [&str; 2] = ["lock", "of another"];
const QUEUEING_LOCKS: [&str; 3] = ["x", "y", "z"];

/// A job, in a form that can be printed.
#[derive(Debug, Clone)]
pub struct Wish {
    order: &'static str,
    queue: &'static str,
    priority: i32,
    lock: Option<&'static str>,
    queueing_lock: Option<&'static str>,
    /// What happens if another job has the queueing lock.
    if_enqueued: IfEnqueued,
    at: Option<&'static str>,
}

impl Wish {
    fn any(random: &mut Random) -> Self {
        Self {
            order: random.pick(&ORDERS),
            queue: random.pick(&QUEUES),
            priority: random.pick(&[-1, 0, 0, 0, 1]),
            lock: any(random, 2, &LOCKS),
            queueing_lock: any(random, 4, &QUEUEING_LOCKS),
            if_enqueued: random.pick(&[
                IfEnqueued::Fail,
                IfEnqueued::Keep,
                IfEnqueued::Replace,
                IfEnqueued::ReplaceExceptSchedule,
            ]),
            at: any(random, 4, &TIMES),
        }
    }

    fn job(&self) -> JobToDefer {
        let mut job = obey(self.order.to_owned()).queue(self.queue).priority(self.priority);
        if let Some(lock) = self.lock {
            job = job.lock(lock);
        }
        if let Some(queueing_lock) = self.queueing_lock {
            job = job.queueing_lock(queueing_lock).if_enqueued(self.if_enqueued);
        }
        match self.at {
            Some(at) => job.schedule_at(time(at)),
            None => job,
        }
    }
}

/// Of the past, and of a future that only a test worker comes to.
const TIMES: [&str; 3] = ["2001-02-03T04:05:06.789Z", "2100-01-01T00:00:00Z", "2200-01-01T00:00:00.0000009Z"];

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// One of these once in so many times, else none.
fn any<T: Copy>(random: &mut Random, times: usize, choices: &[T]) -> Option<T> {
    random.once_in(times).then(|| random.pick(choices))
}

/// Something that is done.
#[derive(Debug, Clone)]
pub enum Step {
    Defer(Wish),
    DeferUnlessEnqueued(Wish),
    BatchDefer(Vec<Wish>),
    Register,
    Unregister(i64),
    Prune {
        seconds: u64,
    },
    Heartbeat(i64),
    Fetch {
        worker: i64,
        queues: Option<Vec<&'static str>>,
    },
    Finish {
        id: i64,
        status: &'static str,
        delete: bool,
    },
    Cancel {
        id: i64,
        abort: bool,
        delete: bool,
    },
    Retry {
        id: i64,
        at: Option<&'static str>,
        priority: Option<i32>,
        queue: Option<&'static str>,
        lock: Option<&'static str>,
    },
    Reschedule {
        id: i64,
        at: Option<&'static str>,
    },
    Delete(i64),
    DeleteOld {
        queue: Option<&'static str>,
        failed: bool,
        cancelled: bool,
        aborted: bool,
    },
    /// Looks by every kind of question.
    Look {
        id: i64,
        queue: Option<&'static str>,
        status: Option<&'static str>,
        lock: Option<&'static str>,
    },
    DeferTicks {
        at: DateTime<Utc>,
    },
    /// With one job at a time, since of several it is chance which ends first.
    RunWorker {
        queue: Option<&'static str>,
        delete_jobs: DeleteJobs,
    },
    RunTestWorker {
        at: &'static str,
    },
}

impl Step {
    pub fn any(random: &mut Random, jobs: usize, workers: usize) -> Self {
        // Mostly a newer one, now and then one that does not exist.
        let numbers = |random: &mut Random, all: usize| {
            let number = all.saturating_sub(random.below(12.min(all + 1))) + usize::from(random.once_in(20));
            i64::try_from(number).unwrap()
        };
        let id = numbers(random, jobs);
        let worker = numbers(random, workers);
        match random.below(40) {
            0..=6 => Self::Defer(Wish::any(random)),
            7 => Self::DeferUnlessEnqueued(Wish::any(random)),
            8..=10 => Self::BatchDefer((0..random.below(6)).map(|_| Wish::any(random)).collect()),
            11 => Self::Register,
            12 => Self::Unregister(worker),
            13 => Self::Prune { seconds: random.pick(&[3_600, 3_600, 0]) },
            14 => Self::Heartbeat(worker),
            15..=21 => {
                let queues = QUEUES.into_iter().filter(|_| random.once_in(2)).collect();
                Self::Fetch { worker, queues: Some(queues).filter(|_| random.once_in(2)) }
            }
            22..=24 => {
                let status = random.pick(&["succeeded", "failed", "failed", "aborted"]);
                Self::Finish { id, status, delete: random.once_in(5) }
            }
            25..=27 => Self::Cancel { id, abort: random.once_in(2), delete: random.once_in(4) },
            28..=30 => Self::Retry {
                id,
                at: any(random, 3, &TIMES),
                priority: any(random, 3, &[-1, 5]),
                queue: any(random, 3, &QUEUES),
                lock: any(random, 3, &LOCKS),
            },
            31 => Self::Reschedule { id, at: any(random, 2, &TIMES) },
            32 => Self::Delete(id),
            33 => Self::DeleteOld {
                queue: any(random, 2, &QUEUES),
                failed: random.once_in(2),
                cancelled: random.once_in(2),
                aborted: random.once_in(2),
            },
            34..=35 => Self::Look {
                id,
                queue: any(random, 2, &QUEUES),
                status: any(random, 2, &["todo", "doing", "failed", "new"]),
                lock: any(random, 3, &LOCKS),
            },
            36..=37 => {
                let minutes = i64::try_from(random.below(40)).unwrap();
                let from = random.pick(&["2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"]);
                Self::DeferTicks { at: time(from) + TimeDelta::minutes(minutes) }
            }
            38 => Self::RunTestWorker { at: random.pick(&TIMES) },
            _ => Self::RunWorker {
                queue: any(random, 2, &QUEUES),
                delete_jobs: random.pick(&[DeleteJobs::Never, DeleteJobs::Successful, DeleteJobs::Always]),
            },
        }
    }

    /// Does it, and writes down what was answered.
    pub async fn take(&self, side: &mut Side) {
        let app = side.app.clone();
        match self.clone() {
            Self::Defer(wish) => {
                side.answer("defer", app.defer_detailed(wish.job()).await);
            }
            Self::DeferUnlessEnqueued(wish) => {
                side.answer("defer", app.defer_unless_enqueued(wish.job()).await);
            }
            Self::BatchDefer(wishes) => {
                side.answer("defer", app.batch_defer_detailed(wishes.iter().map(Wish::job)).await);
            }
            Self::Register => side.execute("register", register_worker()).await,
            Self::Unregister(id) => side.execute("unregister", unregister_worker(id)).await,
            Self::Prune { seconds } => prune(side, seconds).await,
            Self::Heartbeat(id) => side.execute("heartbeat", update_heartbeat(id)).await,
            Self::Fetch { worker, queues } => {
                let fetch = fetch_job(worker);
                let fetch = if let Some(queues) = queues { fetch.queues(queues) } else { fetch };
                let answer = app.perform(fetch).await;
                side.jobs_answer("fetch", answer.map(|job| job.into_iter().collect()));
            }
            Self::Finish { id, status, delete } => {
                let finish = finish_job(id, JobStatus::from(status)).delete_job(delete);
                side.execute("finish", finish).await;
            }
            Self::Cancel { id, abort, delete } => {
                side.execute("cancel", cancel_job(id).abort(abort).delete_job(delete)).await;
            }
            Self::Retry { id, at, priority, queue, lock } => {
                side.execute("retry", retry(id, at, priority, queue, lock)).await;
            }
            Self::Reschedule { id, at } => {
                let reschedule = reschedule_job(id);
                let reschedule = if let Some(at) = at { reschedule.schedule_at(time(at)) } else { reschedule };
                side.execute("reschedule", reschedule).await;
            }
            Self::Delete(id) => side.execute("delete", delete_job(id)).await,
            Self::DeleteOld { queue, failed, cancelled, aborted } => {
                let delete = delete_old_jobs(hours(0)).include_failed(failed).include_cancelled(cancelled);
                let delete = delete.include_aborted(aborted);
                let delete = if let Some(queue) = queue { delete.queue(queue) } else { delete };
                side.execute("delete old jobs", delete).await;
            }
            Self::Look { id, queue, status, lock } => look(side, id, queue, status, lock).await,
            Self::DeferTicks { at } => {
                let again_at = app.periodic_deferrer().defer_due(at).await;
                side.note(again_at.to_rfc3339());
            }
            Self::RunTestWorker { at } => run_test_worker(side, time(at)).await,
            Self::RunWorker { queue, delete_jobs } => {
                let worker = app.worker().name("w").stop_when_empty().delete_jobs(delete_jobs);
                let worker = if let Some(queue) = queue { worker.queues([queue]) } else { worker };
                side.answer("run", within_patience(worker.run()).await);
            }
        }
    }
}

fn retry(
    id: i64,
    at: Option<&'static str>,
    priority: Option<i32>,
    queue: Option<&'static str>,
    lock: Option<&'static str>,
) -> RetryJob {
    let mut retry = retry_job(id);
    retry = if let Some(at) = at { retry.retry_at(time(at)) } else { retry };
    retry = if let Some(priority) = priority { retry.priority(priority) } else { retry };
    retry = if let Some(queue) = queue { retry.queue(queue) } else { retry };
    if let Some(lock) = lock { retry.lock(lock) } else { retry }
}

async fn prune(side: &mut Side, seconds: u64) {
    let prune = prune_stalled_workers().seconds_since_heartbeat(Duration::from_secs(seconds));
    let mut pruned = side.app.perform(prune).await;
    pruned.iter_mut().for_each(|ids| ids.sort_unstable());
    side.answer("prune", pruned);
}

async fn run_test_worker(side: &mut Side, at: DateTime<Utc>) {
    let mut worker = side.app.worker().name("t").into_test_worker().unwrap().at(at);
    let ran = within_patience(worker.run_until_empty()).await.map(|ran| {
        // When it is to be tried again is in the tables.
        let text = |ran: &procrastinate::testing::JobRun| {
            let ending = ran.ending.to_string();
            format!("{} {}", ran.job, ending.split_once(" again ").map_or(ending.as_str(), |(before, _)| before))
        };
        ran.iter().map(text).collect::<Vec<_>>()
    });
    side.answer("run", ran);
}

async fn look(
    side: &mut Side,
    id: i64,
    queue: Option<&'static str>,
    status: Option<&'static str>,
    lock: Option<&'static str>,
) {
    let app = side.app.clone();
    macro_rules! filtered {
        ($operation:expr) => {{
            let operation = $operation;
            let operation = if let Some(queue) = queue { operation.queue(queue) } else { operation };
            let operation = if let Some(status) = status { operation.status(status) } else { operation };
            if let Some(lock) = lock { operation.lock(lock) } else { operation }
        }};
    }
    side.execute("status", get_job_status(id)).await;
    side.jobs_answer("list", app.perform(filtered!(list_jobs())).await);
    side.execute("queues", filtered!(list_queues())).await;
    side.execute("tasks", filtered!(list_tasks())).await;
    side.execute("locks", filtered!(list_locks())).await;
    side.execute("to abort", list_jobs_to_abort()).await;
    let stalled = get_stalled_jobs().seconds_since_heartbeat(Duration::from_secs(3_600));
    side.jobs_answer("stalled", app.perform(stalled).await);
}
