//! Defers periodic tasks when they are due.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::session::{Failure, Session};
use super::steps::{Progress, defer_ticks, run_on_request};
use super::timetable::{ScheduledTasks, Timetable};
use crate::database::connection::run::Run;
use crate::database::connection::{Connection, Connector};
use crate::database::statements::schedules::{ListSchedulesQuery, RegisterSchedulesQuery};
use crate::support::backoff::Backoff;

/// The longest sleep, so that a change of the system clock is noticed.
const LONGEST_SLEEP: TimeDelta = TimeDelta::seconds(60);

/// How often the schedules in the code are written to the database, so that they count as being in use.
const REGISTRATION_INTERVAL: TimeDelta = TimeDelta::hours(1);

/// Defers the periodic tasks of an application when they are due, with the schedules in its code and in the database.
/// Every running worker has one.
///
/// Use it in programs that defer jobs and run no worker, and in tests. It has no clock: you pass the time.
///
/// # Example
///
/// A program that only defers periodic tasks:
///
/// ```no_run
/// use chrono::Utc;
///
/// # async fn example(app: procrastinate::App) {
/// let mut deferrer = app.periodic_deferrer();
/// loop {
///     let again_at = deferrer.defer_due(Utc::now()).await;
///     tokio::time::sleep((again_at - Utc::now()).to_std().unwrap_or_default()).await;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct PeriodicDeferrer {
    timetable: Timetable,
    session: Session,
    /// How often to read the schedules of the database. `None` means every time.
    load_every: Option<TimeDelta>,
    /// When they were read. `None` means that they have to be read.
    loaded_at: Option<DateTime<Utc>>,
    /// Why they could not be read the last time.
    load_failure: Option<String>,
    /// When the schedules in the code were last written.
    registered_at: Option<DateTime<Utc>>,
    backoff: Backoff,
}

impl PeriodicDeferrer {
    pub(crate) fn new(connector: Connector, tasks: Arc<dyn ScheduledTasks>) -> Self {
        Self {
            timetable: Timetable::new(tasks),
            session: Session::new(connector),
            load_every: None,
            loaded_at: None,
            load_failure: None,
            registered_at: None,
            backoff: Backoff::default(),
        }
    }

    /// Sets how often to read the schedules of the database.
    pub(crate) fn load_every(&mut self, interval: TimeDelta) {
        self.load_every = Some(interval);
    }

    /// Reads the schedules of the database the next time.
    pub(crate) fn reload(&mut self) {
        self.loaded_at = None;
    }

    /// Defers all ticks that are due at `now`, and returns when to call again.
    ///
    /// That is the time of the next tick, but at most a minute later, and sooner after a failure. Failures are logged
    /// and retried by the next call. The first call handles missed ticks like a worker that starts at that time. See
    /// [`MissedTicks`](crate::MissedTicks).
    ///
    /// Each call reads the schedules of the database. To use changes of them within a second, call it every second.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) {
    /// // Defer what would be due at the turn of the year.
    /// app.periodic_deferrer().defer_due("2027-01-01T00:00:00Z".parse().unwrap()).await;
    /// # }
    /// ```
    pub async fn defer_due(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let is_loaded = self.load(now).await;
        self.timetable.entries_mut().for_each(|entry| entry.follow(now));
        let after = |wait| now.checked_add_signed(wait).unwrap_or(now);
        let mut again_at = after(self.load_every.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP));
        if self.defer_waiting(now).await && is_loaded {
            self.backoff.reset();
        } else {
            again_at = after(TimeDelta::from_std(self.backoff.next_wait()).unwrap_or(LONGEST_SLEEP));
        }
        self.session.release();
        self.timetable.entries().filter_map(|entry| entry.ticks.next()).fold(again_at, DateTime::min)
    }

    /// Reads the schedules of the database if that is due, and returns whether they are known.
    async fn load(&mut self, now: DateTime<Utc>) -> bool {
        let is_recent = |loaded_at: DateTime<Utc>, interval| loaded_at <= now && now - loaded_at < interval;
        if self.load_every.is_some_and(|interval| self.loaded_at.is_some_and(|at| is_recent(at, interval))) {
            return true;
        }
        let is_registered = self.registered_at.is_some_and(|at| is_recent(at, REGISTRATION_INTERVAL));
        let rows_of_code = if is_registered { None } else { self.timetable.rows_of_code() };
        let load = async |connection: &mut Connection| {
            if let Some(schedules) = rows_of_code {
                connection.load_one(RegisterSchedulesQuery { schedules }).await?;
            }
            connection.load(ListSchedulesQuery { key: None }).await
        };
        match self.session.run("read the schedules", load).await {
            Ok(rows) => {
                self.timetable.update(rows.into_iter().map(|(schedule, _)| schedule));
                self.loaded_at = Some(now);
                self.load_failure = None;
                self.registered_at = if is_registered { self.registered_at } else { Some(now) };
                true
            }
            Err(Failure::Away(reason) | Failure::Refused(reason)) => {
                if self.load_failure.as_ref() != Some(&reason) {
                    tracing::warn!(
                        action = "load_schedules_error",
                        "could not read the schedules of the database, will retry: {reason}",
                    );
                }
                self.load_failure = Some(reason);
                false
            }
        }
    }

    /// Defers the pending jobs of each schedule in order, and returns whether none is left.
    async fn defer_waiting(&mut self, now: DateTime<Utc>) -> bool {
        let mut progress = Progress::Done;
        let mut ready = Vec::new();
        // Somebody waits for the requests.
        for entry in self.timetable.entries_mut() {
            match run_on_request(&mut self.session, entry, now).await {
                Progress::Done => ready.push(entry),
                unfinished => progress = progress.max(unfinished),
            }
        }
        progress = progress.max(defer_ticks(&mut self.session, ready).await);
        if progress == Progress::Outdated {
            self.loaded_at = None;
        }
        progress == Progress::Done
    }
}
