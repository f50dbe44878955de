//! When to fetch after a notification. Every idle worker receives it, but only one of them gets the job. So a worker
//! that found nothing waits a random time after the next notification, and skips those that arrive meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// How much each other worker adds to the longest wait. One of the workers fetches after about this time.
const WAIT_PER_WORKER: Duration = Duration::from_millis(2);

/// The longest wait, however many workers there are.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait after the first fetch that found nothing.
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// The reaction of a worker to notifications.
#[derive(Debug, Default)]
pub(super) struct WakeUps {
    /// How many other workers are registered.
    others: u32,
    /// How long to wait at most. It starts with the limit, because in a new fleet all would fetch at once. It doubles
    /// when a fetch finds nothing, and is zero after one that finds a job.
    longest: Duration,
    /// When to fetch because of a notification.
    fetch_at: Option<Instant>,
    /// Whether the fetch in flight was caused by a notification.
    is_cause: bool,
}

impl WakeUps {
    /// Takes note of the number of registered workers, this one included.
    pub(super) fn set_workers(&mut self, workers: u32) {
        let had_others = self.others > 0;
        self.others = workers.saturating_sub(1);
        self.longest = if had_others { self.longest.min(self.limit()) } else { self.limit() };
    }

    /// Handles a notification.
    pub(super) fn on_notification(&mut self) {
        self.fetch_at.get_or_insert_with(|| Instant::now() + self.longest.mul_f64(fastrand::f64()));
    }

    /// When to fetch because of a notification.
    pub(super) fn fetch_at(&self) -> Option<Instant> {
        self.fetch_at
    }

    /// Whether a notification was received after which the worker should fetch now.
    pub(super) fn is_due(&self) -> bool {
        self.fetch_at.is_some_and(|fetch_at| fetch_at <= Instant::now())
    }

    /// Handles the start of a fetch.
    pub(super) fn on_fetch(&mut self) {
        self.is_cause = self.fetch_at.take().is_some();
    }

    /// Handles the end of a fetch that found so many jobs.
    pub(super) fn on_fetched(&mut self, jobs: usize) {
        if jobs > 0 {
            self.longest = Duration::ZERO;
        } else if self.is_cause {
            self.longest = (self.longest * 2).max(FIRST_WAIT).min(self.limit());
        }
        self.is_cause = false;
    }

    fn limit(&self) -> Duration {
        (WAIT_PER_WORKER * self.others).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a worker receive a notification and fetch so many jobs.
    fn fetch(wake_ups: &mut WakeUps, jobs: usize) {
        wake_ups.on_notification();
        wake_ups.on_fetch();
        wake_ups.on_fetched(jobs);
    }

    #[test]
    fn a_worker_that_is_alone_never_waits() {
        let mut wake_ups = WakeUps::default();
        wake_ups.set_workers(1);
        for _ in 0..20 {
            fetch(&mut wake_ups, 0);
            wake_ups.on_notification();
            assert!(wake_ups.is_due());
        }
    }

    #[test]
    fn a_worker_that_finds_nothing_waits_longer_each_time_until_it_finds_a_job() {
        let mut wake_ups = WakeUps::default();
        wake_ups.set_workers(200);
        assert_eq!(wake_ups.longest, WAIT_PER_WORKER * 199);
        fetch(&mut wake_ups, 1);
        let mut longest = Vec::new();
        for _ in 0..10 {
            fetch(&mut wake_ups, 0);
            longest.push(wake_ups.longest.as_millis());
        }
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 128, 256, 398]);
        // Others have shut down.
        wake_ups.set_workers(3);
        assert_eq!(wake_ups.longest, WAIT_PER_WORKER * 2);
        fetch(&mut wake_ups, 1);
        assert_eq!(wake_ups.longest, Duration::ZERO);
    }

    #[test]
    fn only_fetches_after_notifications_count_and_notifications_meanwhile_cause_no_other_fetch() {
        let mut wake_ups = WakeUps::default();
        wake_ups.set_workers(200);
        fetch(&mut wake_ups, 1);
        wake_ups.on_fetch();
        wake_ups.on_fetched(0);
        assert_eq!(wake_ups.longest, Duration::ZERO);
        wake_ups.on_notification();
        let first = wake_ups.fetch_at();
        wake_ups.on_notification();
        assert_eq!(wake_ups.fetch_at(), first);
        wake_ups.on_fetch();
        assert!(!wake_ups.is_due());
    }
}
