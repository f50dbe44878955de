//! What a worker does with jobs of tasks that its application does not have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Worker;
use crate::job::JobId;

/// How long jobs wait for a worker that has their task, by default.
const DEFAULT_LIMIT: Duration = Duration::from_secs(600);

/// The delay before the first other try.
const SHORTEST_DELAY: Duration = Duration::from_secs(1);

/// The longest delay between two tries.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A job that the worker has not seen for so long counts as new.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// How many jobs are remembered before old ones are forgotten.
const MANY: usize = 10_000;

/// What a worker does with a job whose task its application does not have.
///
/// In a rolling deployment, old workers fetch jobs of tasks that only the new version has. So the default requeues such
/// a job for ten minutes, and then fails it. The delays grow from a second to a minute. These attempts do not count.
///
/// # Example
///
/// ```no_run
/// use procrastinate::UnknownTasks;
///
/// # fn example(app: &procrastinate::App) {
/// let worker = app.worker().unknown_tasks(UnknownTasks::Fail);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownTasks {
    /// Fails the job immediately.
    Fail,
    /// Requeues the job until this worker has known it for so long, and then fails it.
    RequeueFor(Duration),
    /// Requeues the job without a time limit. Use it if other programs have tasks in the same queues.
    Requeue,
}

impl Default for UnknownTasks {
    fn default() -> Self {
        Self::RequeueFor(DEFAULT_LIMIT)
    }
}

impl Worker {
    /// Sets what to do with jobs of tasks that the application does not have. Default: requeue them for ten minutes,
    /// and then fail them. A test worker fails them immediately, unless this is set.
    ///
    /// # Example
    ///
    /// See [`UnknownTasks`].
    pub fn unknown_tasks(mut self, unknown_tasks: UnknownTasks) -> Self {
        self.settings.unknown_tasks = Some(unknown_tasks);
        self
    }
}

/// The jobs of unknown tasks that a worker has seen.
#[derive(Debug, Clone)]
pub(super) struct UnknownJobs {
    policy: UnknownTasks,
    seen: Arc<Mutex<HashMap<JobId, Seen>>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    last: Instant,
}

impl UnknownJobs {
    pub(super) fn new(policy: UnknownTasks) -> Self {
        Self { policy, seen: Arc::default() }
    }

    /// Returns how long to wait before the job is tried again. `None`: it fails.
    pub(super) fn delay_of(&self, job_id: JobId, now: Instant) -> Option<Duration> {
        let limit = match self.policy {
            UnknownTasks::Fail => return None,
            UnknownTasks::RequeueFor(limit) => Some(limit),
            UnknownTasks::Requeue => None,
        };
        let mut jobs = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |seen: &Seen| now.duration_since(seen.last) < FORGET_AFTER;
        if jobs.len() >= MANY {
            jobs.retain(|_, seen| is_recent(seen));
        }
        let former = jobs.get(&job_id).copied().filter(is_recent);
        let first = former.map_or(now, |seen| seen.first);
        let elapsed = now.duration_since(first);
        if limit.is_some_and(|limit| elapsed >= limit) {
            jobs.remove(&job_id);
            return None;
        }
        jobs.insert(job_id, Seen { first, last: now });
        // The last try is at the end of the time.
        let most = limit.map_or(LONGEST_DELAY, |limit| LONGEST_DELAY.min(limit.saturating_sub(elapsed)));
        Some(elapsed.max(SHORTEST_DELAY).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delays_grow_and_end_after_the_limit() {
        let jobs = UnknownJobs::new(UnknownTasks::default());
        let mut now = Instant::now();
        let (start, mut delays) = (now, Vec::new());
        while let Some(delay) = jobs.delay_of(JobId::from(1), now) {
            delays.push(delay.as_secs());
            now += delay;
        }
        assert_eq!(delays[..8], [1, 1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(now - start, DEFAULT_LIMIT);
        // A job that is retried manually gets the same time again.
        assert_eq!(jobs.delay_of(JobId::from(1), now), Some(SHORTEST_DELAY));
        assert_eq!(jobs.delay_of(JobId::from(1), now + FORGET_AFTER), Some(SHORTEST_DELAY));
    }

    #[test]
    fn without_a_limit_they_never_end_and_without_any_delay_they_never_begin() {
        let jobs = UnknownJobs::new(UnknownTasks::Requeue);
        let mut now = Instant::now();
        for _ in 0..100 {
            now += jobs.delay_of(JobId::from(1), now).unwrap_or_default();
        }
        assert_eq!(jobs.delay_of(JobId::from(1), now), Some(LONGEST_DELAY));
        assert_eq!(UnknownJobs::new(UnknownTasks::Fail).delay_of(JobId::from(1), now), None);
    }

    #[test]
    fn jobs_that_were_not_seen_for_long_are_forgotten() {
        let jobs = UnknownJobs::new(UnknownTasks::Requeue);
        let now = Instant::now();
        for id in 0..10_000 {
            jobs.delay_of(JobId::from(id), now);
        }
        jobs.delay_of(JobId::from(-1), now + FORGET_AFTER);
        assert_eq!(jobs.seen.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);
    }
}
