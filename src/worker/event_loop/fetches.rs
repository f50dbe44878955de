//! When the loop fetches jobs, for each group of queues.

use std::time::Duration;

use tokio::time::Instant;

use super::wake::WakeUps;

/// How far apart the workers held back by one limit fetch again, at most.
const LONGEST_SPREAD: Duration = Duration::from_millis(200);

/// A wait of up to this long means that another transaction has locked the jobs, probably for a moment.
const A_MOMENT: Duration = Duration::from_millis(250);

/// For how long a worker that stops when nothing is left fetches again because of such locks.
const LONGEST_PASSED_OVER: Duration = Duration::from_secs(1);

/// When to fetch jobs of each group.
#[derive(Debug)]
pub(super) struct Fetches {
    groups: Vec<GroupFetches>,
    /// The group that is considered first for the next fetch, so that none is always last.
    first: usize,
    polling_interval: Duration,
}

/// When to fetch jobs of one group.
#[derive(Debug)]
struct GroupFetches {
    /// Whether there can be jobs to fetch.
    is_due: bool,
    next_poll: Instant,
    wake_ups: WakeUps,
    /// The waits of all fetches in a row that passed over jobs which another transaction had locked.
    passed_over: Duration,
}

/// A fetch: for which group, and how many jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) group: usize,
    pub(super) free_slots: usize,
}

impl Fetches {
    /// All groups are due at first.
    pub(super) fn new(groups: usize, polling_interval: Duration) -> Self {
        let next_poll = Instant::now() + polling_interval;
        let group =
            |_| GroupFetches { is_due: true, next_poll, wake_ups: WakeUps::default(), passed_over: Duration::ZERO };
        Self { groups: (0..groups).map(group).collect(), first: 0, polling_interval }
    }

    /// Handles a notification for this group.
    pub(super) fn on_notification(&mut self, group: usize) {
        if let Some(group) = self.groups.get_mut(group) {
            group.wake_ups.on_notification();
        }
    }

    /// Makes a fetch of this group due.
    pub(super) fn set_due(&mut self, group: usize) {
        if let Some(group) = self.groups.get_mut(group) {
            group.is_due = true;
        }
    }

    /// Makes a fetch of every group due.
    pub(super) fn set_all_due(&mut self) {
        self.groups.iter_mut().for_each(|group| group.is_due = true);
    }

    /// Makes the fetches due whose time for polling has come.
    pub(super) fn poll(&mut self, now: Instant) {
        for group in self.groups.iter_mut().filter(|group| now >= group.next_poll) {
            group.is_due = true;
            group.next_poll = now + self.polling_interval;
        }
    }

    /// Takes note of the number of registered workers, this one included.
    pub(super) fn set_workers(&mut self, workers: u32) {
        self.groups.iter_mut().for_each(|group| group.wake_ups.set_workers(workers));
    }

    /// Returns the next fetch that is due: of a group that has free slots.
    pub(super) fn next(&self, free_slots: impl Fn(usize) -> usize) -> Option<Fetch> {
        let order = (self.first..self.groups.len()).chain(0..self.first);
        let due = order.filter(|group| self.groups.get(*group).is_some_and(GroupFetches::is_due));
        due.map(|group| Fetch { group, free_slots: free_slots(group) }).find(|fetch| fetch.free_slots > 0)
    }

    /// Handles the start of a fetch. A notification from now on can be too late for it, so it causes another one.
    pub(super) fn on_fetch(&mut self, fetch: Fetch) {
        if let Some(group) = self.groups.get_mut(fetch.group) {
            group.is_due = false;
            group.wake_ups.on_fetch();
        }
        self.first = (fetch.group + 1) % self.groups.len().max(1);
    }

    /// Handles the end of a fetch that found so many jobs. If a limit kept jobs from being fetched, there may be room
    /// for them after the wait.
    pub(super) fn on_fetched(&mut self, fetch: Fetch, jobs: usize, wait: Option<Duration>) {
        if let Some(group) = self.groups.get_mut(fetch.group) {
            // All slots were filled, so there can be more jobs.
            group.is_due |= jobs >= fetch.free_slots;
            group.wake_ups.on_fetched(jobs);
            let former = if jobs > 0 { Duration::ZERO } else { group.passed_over };
            // A fetch counts, too, so that there are not very many without a wait.
            let moment = wait.filter(|wait| *wait <= A_MOMENT).map(|wait| wait.max(Duration::from_millis(10)));
            group.passed_over = moment.map_or(Duration::ZERO, |moment| former + moment);
            let wait = wait.filter(|wait| *wait < self.polling_interval).map(|wait| {
                // The workers held back by one limit do not all fetch at the same moment.
                wait + (wait / 10).min(LONGEST_SPREAD).mul_f64(fastrand::f64())
            });
            group.next_poll = Instant::now() + wait.unwrap_or(self.polling_interval);
        }
    }

    /// Whether a fetch is due now or after a notification, or another fetch has locked jobs for a moment.
    pub(super) fn are_pending(&self) -> bool {
        self.groups.iter().any(|group| group.is_due || group.wake_ups.fetch_at().is_some() || group.is_passed_over())
    }

    /// Returns when the loop must act. A due fetch without free slots does not count.
    pub(super) fn next_deadline(&self, free_slots: impl Fn(usize) -> usize) -> Instant {
        let now = Instant::now();
        let of_group = |(index, group): (usize, &GroupFetches)| {
            let fetch_at = group.wake_ups.fetch_at().filter(|fetch_at| *fetch_at > now || free_slots(index) > 0);
            fetch_at.map_or(group.next_poll, |fetch_at| fetch_at.min(group.next_poll))
        };
        self.groups.iter().enumerate().map(of_group).fold(now + self.polling_interval, Instant::min)
    }
}

impl GroupFetches {
    fn is_due(&self) -> bool {
        self.is_due || self.wake_ups.is_due()
    }

    fn is_passed_over(&self) -> bool {
        !self.passed_over.is_zero() && self.passed_over <= LONGEST_PASSED_OVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetches(groups: usize) -> Fetches {
        Fetches::new(groups, Duration::from_secs(5))
    }

    /// Sends the next fetch, which finds so many jobs. Returns its group.
    fn fetch(fetches: &mut Fetches, free_slots: [usize; 3], jobs: usize) -> Option<usize> {
        let fetch = fetches.next(|group| free_slots[group])?;
        fetches.on_fetch(fetch);
        fetches.on_fetched(fetch, jobs, None);
        Some(fetch.group)
    }

    #[test]
    fn the_groups_take_turns_and_one_without_free_slots_is_left_out() {
        let mut fetches = fetches(3);
        let order: Vec<_> = (0..5).map(|_| fetch(&mut fetches, [9, 0, 9], 9)).collect();
        assert_eq!(order, [Some(0), Some(2), Some(0), Some(2), Some(0)]);
        assert_eq!(fetch(&mut fetches, [9, 9, 9], 0), Some(1));
    }

    #[test]
    fn a_group_whose_jobs_are_all_fetched_waits_for_a_notification_of_its_own() {
        let mut fetches = fetches(3);
        let free_slots = [2; 3];
        let first: Vec<_> = (0..4).map(|_| fetch(&mut fetches, free_slots, 1)).collect();
        assert_eq!(first, [Some(0), Some(1), Some(2), None]);
        assert!(!fetches.are_pending());
        fetches.on_notification(1);
        assert!(fetches.are_pending());
        assert_eq!(fetch(&mut fetches, free_slots, 0), Some(1));
        assert_eq!(fetch(&mut fetches, free_slots, 0), None);
        fetches.set_due(2);
        assert_eq!(fetch(&mut fetches, free_slots, 0), Some(2));
    }

    #[test]
    fn jobs_that_another_fetch_has_locked_are_fetched_later_but_not_awaited_without_end() {
        let mut fetches = fetches(1);
        let fetch = |fetches: &mut Fetches, jobs, wait: Duration| {
            let fetch = Fetch { group: 0, free_slots: 9 };
            fetches.on_fetch(fetch);
            fetches.on_fetched(fetch, jobs, Some(wait));
            fetches.are_pending()
        };
        let moment = Duration::from_millis(10);
        assert!(fetch(&mut fetches, 0, moment));
        assert!(fetches.next_deadline(|_| 9) <= Instant::now() + 2 * moment);
        // That of a full limit.
        assert!(!fetch(&mut fetches, 0, Duration::from_secs(1)));
        for (wait, most) in [(Duration::ZERO, 100), (moment, 100), (A_MOMENT, 4)] {
            assert!(fetch(&mut fetches, 1, wait));
            let awaited = 1 + (0..200).filter(|_| fetch(&mut fetches, 0, wait)).count();
            assert_eq!(awaited, most, "{wait:?}");
        }
    }

    #[test]
    fn each_group_has_its_own_time_for_polling() {
        let mut fetches = fetches(3);
        while fetch(&mut fetches, [2; 3], 0).is_some() {}
        let polled_at = fetches.groups.iter().map(|group| group.next_poll).max();
        let deadline = fetches.next_deadline(|_| 1);
        assert!(Some(deadline) <= polled_at);
        fetches.groups[1].next_poll = Instant::now();
        fetches.poll(Instant::now());
        assert_eq!(fetch(&mut fetches, [2; 3], 0), Some(1));
        assert_eq!(fetch(&mut fetches, [2; 3], 0), None);
    }
}
