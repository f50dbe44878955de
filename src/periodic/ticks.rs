//! Which ticks of a schedule are due. The time is a parameter.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use super::schedule::Schedule;
use crate::schedule::MissedTicks;

/// A tick that is later than this counts as missed.
const PUNCTUAL: TimeDelta = TimeDelta::seconds(60);

/// A clock that shows this much less than before was set back.
const SET_BACK: TimeDelta = TimeDelta::seconds(60);

/// The maximum number of pending ticks of one schedule.
const LONGEST_QUEUE: usize = 1_000;

/// The pending ticks of one schedule, and the time up to which the clock was followed.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    /// All ticks up to this time have been pending or were skipped. Unknown at the start.
    followed_until: Option<DateTime<Utc>>,
    /// The first tick after that time, so that it is searched for only once.
    next: Option<DateTime<Utc>>,
    waiting: VecDeque<DateTime<Utc>>,
    /// Ticks until this time are skipped.
    skipped_until: Option<DateTime<Utc>>,
    /// Why the first pending tick could not be deferred.
    failure: Option<String>,
}

impl Ticks {
    /// Follows the clock: adds ticks that have become due, and drops ticks that have failed for too long.
    pub(crate) fn follow(&mut self, schedule: &Schedule, now: DateTime<Utc>) {
        if self.followed_until.is_some_and(|until| until - now > SET_BACK) {
            *self = Self { skipped_until: self.skipped_until, ..Self::default() };
        }
        match self.followed_until {
            None => self.waiting.extend(ticks_at_start(schedule, now)),
            Some(_) if self.next.is_none_or(|next| next > now) => {}
            Some(since) => self.waiting.extend(ticks_since(schedule, since, now)),
        }
        if self.followed_until.is_none() || self.next.is_some_and(|next| next <= now) {
            self.next = schedule.recurrence.next(now);
        }
        self.followed_until = self.followed_until.max(Some(now));
        self.drop_what_is_skipped();
        self.drop_what_waits_too_long(schedule, now);
    }

    /// Skips ticks until this time. `None` skips none.
    pub(crate) fn skip_until(&mut self, time: Option<DateTime<Utc>>) {
        self.skipped_until = time;
        self.drop_what_is_skipped();
    }

    fn drop_what_is_skipped(&mut self) {
        if let Some(until) = self.skipped_until {
            self.waiting.retain(|tick| *tick > until);
        }
    }

    /// Whether the clock was followed before.
    #[cfg(feature = "testing")]
    pub(crate) fn has_started(&self) -> bool {
        self.followed_until.is_some()
    }

    /// The next tick to defer now, if any.
    pub(crate) fn first(&self) -> Option<DateTime<Utc>> {
        self.waiting.front().copied()
    }

    /// The time of the next tick, if any.
    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        self.next
    }

    /// Removes the first pending tick.
    pub(crate) fn forget_first(&mut self) {
        self.waiting.pop_front();
        self.failure = None;
    }

    /// Keeps the first pending tick after a failure. Returns whether this tick has not failed for this reason before.
    pub(crate) fn keep_first(&mut self, reason: &str) -> bool {
        let is_known = self.failure.as_deref() == Some(reason);
        self.failure = Some(reason.to_owned());
        !is_known && !self.waiting.is_empty()
    }

    fn drop_what_waits_too_long(&mut self, schedule: &Schedule, now: DateTime<Utc>) {
        let before = self.waiting.len();
        if self.failure.is_some() {
            self.waiting.retain(|tick| now - *tick <= schedule.max_delay);
        }
        self.waiting.drain(..self.waiting.len().saturating_sub(LONGEST_QUEUE));
        let dropped = before - self.waiting.len();
        if dropped > 0 {
            self.failure = None;
            tracing::error!(
                action = "ignore_periodic_task",
                job.task_name = schedule.task_name(),
                periodic_id = schedule.periodic_id(),
                "dropped {dropped} tick(s) of the periodic task {} that could not be deferred within max_delay",
                schedule.task_name(),
            );
        }
    }
}

/// The ticks to defer when a worker starts.
fn ticks_at_start(schedule: &Schedule, now: DateTime<Utc>) -> VecDeque<DateTime<Utc>> {
    match schedule.missed {
        MissedTicks::Procrastinate | MissedTicks::Last => last_tick(schedule, oldest(now, schedule.max_delay), now),
        MissedTicks::Skip => last_tick(schedule, oldest(now, PUNCTUAL), now),
        MissedTicks::All => all_ticks(schedule, oldest(now, schedule.max_delay), now),
    }
}

/// The ticks that have become due while a worker was running. There is more than one if it was suspended.
fn ticks_since(schedule: &Schedule, since: DateTime<Utc>, now: DateTime<Utc>) -> VecDeque<DateTime<Utc>> {
    // The tick at that time itself is known already.
    let since = since.checked_add_signed(TimeDelta::nanoseconds(1)).unwrap_or(since);
    match schedule.missed {
        MissedTicks::Procrastinate => all_ticks(schedule, since, now),
        MissedTicks::Skip => all_ticks(schedule, since.max(oldest(now, PUNCTUAL)), now),
        MissedTicks::Last => last_tick(schedule, since.max(oldest(now, schedule.max_delay)), now),
        MissedTicks::All => all_ticks(schedule, since.max(oldest(now, schedule.max_delay)), now),
    }
}

/// The time minus the delay.
fn oldest(now: DateTime<Utc>, delay: TimeDelta) -> DateTime<Utc> {
    now.checked_sub_signed(delay).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

fn last_tick(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> VecDeque<DateTime<Utc>> {
    ticks_backwards(schedule, from, to).take(1).collect()
}

/// All ticks, oldest first. If there are very many, only the last ones.
fn all_ticks(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> VecDeque<DateTime<Utc>> {
    let mut ticks: VecDeque<_> = ticks_backwards(schedule, from, to).take(LONGEST_QUEUE).collect();
    ticks.make_contiguous().reverse();
    ticks
}

/// The ticks between two times, both included, latest first.
fn ticks_backwards(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    let before =
        |tick: &DateTime<Utc>| schedule.recurrence.last_until(tick.checked_sub_signed(TimeDelta::nanoseconds(1))?);
    std::iter::successors(schedule.recurrence.last_until(to), before).take_while(move |tick| *tick >= from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::Map;

    use super::*;
    use crate::queue::defer::options::JobOptions;
    use crate::schedule::Overlap;
    use crate::schedule::cron::Cron;
    use crate::schedule::recurrence::Recurrence;

    /// A schedule with a `max_delay` of ten minutes.
    fn schedule(cron: &str, missed: MissedTicks) -> Schedule {
        Schedule {
            recurrence: Recurrence::Cron(Cron::new(cron).unwrap()),
            periodic_id: String::new(),
            task_name: "report".to_owned(),
            args: Map::new(),
            options: JobOptions::new(),
            options_of: |_| Ok(JobOptions::new()),
            max_delay: TimeDelta::minutes(10),
            missed,
            overlap: Overlap::default(),
            version: None,
        }
    }

    fn at(time: &str) -> DateTime<Utc> {
        format!("2020-02-29T{time}Z").parse().unwrap()
    }

    /// The ticks that are pending after the clock showed these times. Earlier ticks were deferred in between.
    fn waiting(schedule: &Schedule, times: &[&str]) -> Vec<String> {
        let mut ticks = Ticks::default();
        for (index, time) in times.iter().enumerate() {
            if index > 0 {
                ticks.waiting.clear();
            }
            ticks.follow(schedule, at(time));
        }
        ticks.waiting.iter().map(|tick| tick.format("%H:%M").to_string()).collect()
    }

    #[test]
    fn a_starting_worker_finds_the_ticks_of_its_policy() {
        use MissedTicks::{All, Last, Procrastinate, Skip};
        for (missed, cron, now, expected) in [
            (Procrastinate, "*/4 * * * *", "08:09:00", &["08:08"][..]),
            (Procrastinate, "0 8 * * *", "08:10:00", &["08:00"]),
            (Procrastinate, "0 8 * * *", "08:10:01", &[]),
            (Last, "*/4 * * * *", "08:09:00", &["08:08"]),
            (Last, "0 8 * * *", "08:10:01", &[]),
            (All, "*/4 * * * *", "08:09:00", &["08:00", "08:04", "08:08"]),
            (All, "*/4 * * * *", "08:12:00", &["08:04", "08:08", "08:12"]),
            (Skip, "*/4 * * * *", "08:09:00", &["08:08"]),
            (Skip, "*/4 * * * *", "08:09:01", &[]),
        ] {
            assert_eq!(waiting(&schedule(cron, missed), &[now]), expected, "{missed:?} {cron} {now}");
        }
    }

    #[test]
    fn a_suspended_worker_finds_the_ticks_of_its_policy() {
        use MissedTicks::{All, Last, Procrastinate, Skip};
        let held_up = ["08:00:30", "08:16:00.25"];
        for (missed, cron, expected) in [
            (Procrastinate, "*/4 * * * *", &["08:04", "08:08", "08:12", "08:16"][..]),
            (Skip, "*/4 * * * *", &["08:16"]),
            (Skip, "*/15 * * * *", &[]),
            (Last, "*/4 * * * *", &["08:16"]),
            (Last, "5 * * * *", &[]),
            (All, "*/4 * * * *", &["08:08", "08:12", "08:16"]),
        ] {
            assert_eq!(waiting(&schedule(cron, missed), &held_up), expected, "{missed:?} {cron}");
        }
    }

    #[test]
    fn a_tick_is_due_at_its_second_and_once() {
        let schedule = schedule("*/4 * * * *", MissedTicks::default());
        let mut ticks = Ticks::default();
        ticks.follow(&schedule, at("08:03:59.999"));
        ticks.forget_first();
        assert_eq!((ticks.first(), ticks.next()), (None, Some(at("08:04:00"))));
        ticks.follow(&schedule, at("08:04:00"));
        assert_eq!((ticks.first(), ticks.next()), (Some(at("08:04:00")), Some(at("08:08:00"))));
        ticks.forget_first();
        // A small correction of the clock does not repeat a tick.
        for time in ["08:04:00", "08:03:59.5", "08:04:00.5", "08:07:59.999"] {
            ticks.follow(&schedule, at(time));
            assert_eq!((ticks.first(), ticks.next()), (None, Some(at("08:08:00"))), "{time}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_is_followed_from_its_new_time() {
        let schedule = schedule("0 * * * *", MissedTicks::default());
        let mut ticks = Ticks::default();
        ticks.follow(&schedule, at("20:30:00"));
        ticks.follow(&schedule, at("08:59:00"));
        assert_eq!((ticks.first(), ticks.next()), (None, Some(at("09:00:00"))));
        ticks.follow(&schedule, at("09:00:01"));
        assert_eq!(ticks.first(), Some(at("09:00:00")));
    }

    #[test]
    fn a_clock_set_forward_by_years_yields_at_most_a_thousand_ticks() {
        let schedule = schedule("* * * * * *", MissedTicks::default());
        let mut ticks = Ticks::default();
        ticks.follow(&schedule, "1970-01-01T00:00:00Z".parse().unwrap());
        ticks.follow(&schedule, at("08:00:00"));
        assert_eq!((ticks.waiting.len(), ticks.waiting.back()), (LONGEST_QUEUE, Some(&at("08:00:00"))));
        assert!(ticks.waiting.iter().is_sorted());
    }

    #[test]
    fn a_failing_tick_is_kept_until_it_is_too_old_and_logged_once_for_each_reason() {
        let schedule = schedule("*/5 * * * *", MissedTicks::default());
        let mut ticks = Ticks::default();
        ticks.follow(&schedule, at("08:00:00"));
        assert!(ticks.keep_first("away"));
        ticks.follow(&schedule, at("08:05:00"));
        assert!(!ticks.keep_first("away"));
        assert!(ticks.keep_first("refused"));
        ticks.follow(&schedule, at("08:10:00"));
        assert_eq!(ticks.waiting, [at("08:00:00"), at("08:05:00"), at("08:10:00")]);
        ticks.follow(&schedule, at("08:10:01"));
        assert_eq!(ticks.waiting, [at("08:05:00"), at("08:10:00")]);
        assert!(ticks.keep_first("refused"));
    }

    #[test]
    fn ticks_until_a_time_are_skipped_by_every_policy() {
        for missed in [MissedTicks::Procrastinate, MissedTicks::Skip, MissedTicks::Last, MissedTicks::All] {
            let schedule = schedule("*/4 * * * *", missed);
            let mut ticks = Ticks::default();
            ticks.skip_until(Some(at("08:08:00")));
            ticks.follow(&schedule, at("08:08:30"));
            assert_eq!((ticks.first(), ticks.next()), (None, Some(at("08:12:00"))), "{missed:?}");
            ticks.follow(&schedule, at("08:12:00"));
            assert_eq!(ticks.first(), Some(at("08:12:00")), "{missed:?}");
            // Also after the clock was set back, and those that are pending already.
            ticks.follow(&schedule, at("08:04:30"));
            assert_eq!(ticks.first(), None, "{missed:?}");
            ticks.follow(&schedule, at("08:12:10"));
            ticks.skip_until(Some(at("08:12:10")));
            assert_eq!(ticks.first(), None, "{missed:?}");
        }
    }

    #[test]
    fn an_expression_without_ticks_is_searched_once() {
        let schedule = schedule("0 0 30 2 *", MissedTicks::All);
        assert_eq!(waiting(&schedule, &["08:00:00", "08:01:00"]), [""; 0]);
    }

    #[test]
    fn the_ends_of_time_are_no_reason_to_panic() {
        for now in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            for missed in [MissedTicks::Procrastinate, MissedTicks::Skip, MissedTicks::Last, MissedTicks::All] {
                let mut ticks = Ticks::default();
                let schedule = schedule("* * * * *", missed);
                ticks.follow(&schedule, now);
                ticks.follow(&schedule, now);
            }
        }
    }
}
