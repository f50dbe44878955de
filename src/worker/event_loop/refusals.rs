//! Outcomes that the database refuses to store, for example because of a trigger of the application. Each of them is
//! retried later, less and less often. It delays neither the other outcomes nor fetching.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::job::JobId;
use crate::support::backoff::Backoff;

/// How outcomes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// All outcomes in one step, which is the cheapest.
    #[default]
    Together,
    /// One statement that stores what it can and returns the refused outcomes. Used after a statement was refused.
    OneByOne,
    /// One outcome per statement, without fetching. Used after a statement was refused as a whole, for example because
    /// the database's encoding lacks a character of a text.
    Alone,
}

/// The latest refusals of the database.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    mode: Mode,
    of_jobs: HashMap<JobId, Refusal>,
    /// When to fetch again, if the database refused to fetch jobs.
    of_fetching: Option<(Backoff, Instant)>,
}

#[derive(Debug)]
struct Refusal {
    backoff: Backoff,
    since: Instant,
}

impl Refusals {
    /// Returns how to store the outcomes of these jobs: the mode, how many of them, and for how many slots to fetch
    /// jobs.
    pub(super) fn plan(
        &self,
        mut jobs: impl ExactSizeIterator<Item = JobId>,
        free_slots: usize,
    ) -> (Mode, usize, usize) {
        let (jobs_len, fetches) = (jobs.len(), free_slots > 0 && self.of_fetching.is_some());
        match self.mode {
            Mode::Together if fetches || jobs.any(|job_id| self.of_jobs.contains_key(&job_id)) => {
                (Mode::OneByOne, jobs_len, free_slots)
            }
            Mode::Alone if jobs_len > 0 => (Mode::Alone, 1, 0),
            mode => (mode, jobs_len, free_slots),
        }
    }

    /// Returns when to fetch again, if the database refused to fetch jobs.
    pub(super) fn fetch_at(&self) -> Option<Instant> {
        self.of_fetching.as_ref().map(|(_, fetch_at)| *fetch_at)
    }

    /// Handles a successful statement in this mode.
    pub(super) fn answered(&mut self, mode: Mode) {
        self.mode = if mode == Mode::Alone { Mode::OneByOne } else { Mode::Together };
    }

    /// Handles a statement in this mode that was refused as a whole. Returns true if its only outcome is the reason.
    pub(super) fn refused(&mut self, mode: Mode, stored: usize) -> bool {
        self.mode = if mode == Mode::Together { Mode::OneByOne } else { Mode::Alone };
        mode == Mode::Alone && stored == 1
    }

    /// Returns how long to wait before retrying the outcome of the job.
    pub(super) fn refused_job(&mut self, job_id: JobId) -> Duration {
        let refusal = self
            .of_jobs
            .entry(job_id)
            .or_insert_with(|| Refusal { backoff: Backoff::default(), since: Instant::now() });
        refusal.backoff.next_wait()
    }

    /// Returns how long to wait before fetching jobs again.
    pub(super) fn refused_fetching(&mut self) -> Duration {
        let (backoff, fetch_at) = self.of_fetching.get_or_insert_with(|| (Backoff::default(), Instant::now()));
        let wait = backoff.next_wait();
        *fetch_at = Instant::now() + wait;
        wait
    }

    /// Forgets a job whose outcome is stored, or is not needed any more.
    pub(super) fn forget_job(&mut self, job_id: JobId) {
        self.of_jobs.remove(&job_id);
    }

    /// Forgets refused fetches, because jobs were fetched.
    pub(super) fn forget_fetching(&mut self) {
        self.of_fetching = None;
    }

    /// Returns the time of the earliest refusal.
    pub(super) fn since(&self) -> Option<Instant> {
        self.of_jobs.values().map(|refusal| refusal.since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(ids: &[i64]) -> impl ExactSizeIterator<Item = JobId> {
        ids.iter().map(|id| JobId::from(*id))
    }

    #[test]
    fn outcomes_are_stored_together_again_after_the_refused_ones_are_known() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.plan(jobs(&[1, 2, 3]), 5), (Mode::Together, 3, 5));
        assert!(!refusals.refused(Mode::Together, 3));
        assert_eq!(refusals.plan(jobs(&[1, 2, 3]), 5), (Mode::OneByOne, 3, 5));
        refusals.answered(Mode::OneByOne);
        refusals.refused_job(JobId::from(2));
        assert_eq!(refusals.plan(jobs(&[4]), 5), (Mode::Together, 1, 5));
        // It would be refused again, together with the others.
        assert_eq!(refusals.plan(jobs(&[4, 2]), 5), (Mode::OneByOne, 2, 5));
        refusals.forget_job(JobId::from(2));
        assert_eq!(refusals.plan(jobs(&[4, 2]), 5), (Mode::Together, 2, 5));
    }

    #[test]
    fn an_outcome_that_fails_every_statement_is_sent_alone() {
        let mut refusals = Refusals::default();
        assert!(!refusals.refused(Mode::Together, 2));
        assert!(!refusals.refused(Mode::OneByOne, 2));
        assert_eq!(refusals.plan(jobs(&[1, 2]), 5), (Mode::Alone, 1, 0));
        assert!(refusals.refused(Mode::Alone, 1));
        // The other job.
        assert_eq!(refusals.plan(jobs(&[2]), 5), (Mode::Alone, 1, 0));
        refusals.answered(Mode::Alone);
        assert_eq!(refusals.plan(jobs(&[]), 5), (Mode::OneByOne, 0, 5));
        refusals.answered(Mode::OneByOne);
        assert_eq!(refusals.plan(jobs(&[3]), 5), (Mode::Together, 1, 5));
    }

    #[test]
    fn outcomes_are_stored_while_fetching_is_refused() {
        let mut refusals = Refusals::default();
        refusals.refused_fetching();
        assert!(refusals.fetch_at().is_some());
        assert_eq!(refusals.plan(jobs(&[1]), 0), (Mode::Together, 1, 0));
        assert_eq!(refusals.plan(jobs(&[1]), 5), (Mode::OneByOne, 1, 5));
        refusals.forget_fetching();
        assert_eq!(refusals.plan(jobs(&[1]), 5), (Mode::Together, 1, 5));
    }

    #[test]
    fn a_refused_outcome_is_retried_less_and_less_often() {
        let mut refusals = Refusals::default();
        let first = refusals.refused_job(JobId::from(1));
        let last = (0..9).map(|_| refusals.refused_job(JobId::from(1))).last().unwrap_or_default();
        assert!(last > first * 10, "{first:?}, {last:?}");
        assert!(refusals.refused_job(JobId::from(2)) < last);
    }
}
