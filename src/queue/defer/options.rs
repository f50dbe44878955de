//! How a job is to be deferred, apart from its task and arguments.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};

use crate::error::Error;
use crate::support::clock;
use crate::validation::{check_lock, check_name};

/// The first whole year that PostgreSQL's `timestamptz` can hold: 4713 BC. Its last one is beyond chrono's.
const FIRST_YEAR: i32 = -4_712;

/// How a job is to be deferred, apart from its task and arguments: everything optional.
///
/// A task has defaults of this type, and a set of options can be kept and used for several jobs with
/// [`JobToDefer::configure`](crate::JobToDefer::configure). What is set later wins: the task's defaults, then what `configure` was given, then the
/// builder's own methods, in the order of the calls.
///
/// # Example
///
/// ```
/// use procrastinate::{JobOptions, configure_task};
/// use serde_json::json;
///
/// let nightly = JobOptions::new().queue("nightly").priority(-5);
/// let jobs = [7, 8, 9].map(|customer| configure_task("bill", json!({ "customer": customer })).configure(&nightly));
/// assert!(jobs.iter().all(|job| job.check().is_ok()));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "options do nothing until a job is deferred with them"]
pub struct JobOptions {
    pub(crate) queue: Option<String>,
    pub(crate) priority: Option<i32>,
    pub(crate) lock: Option<String>,
    pub(crate) queueing_lock: Option<String>,
    pub(crate) schedule_at: Option<DateTime<Utc>>,
    pub(crate) schedule_in: Option<Duration>,
}

impl JobOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The queue: workers choose the queues they serve. Unless set: the task's, or `default`. At most 128 bytes.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().queue("mails");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Higher priorities are fetched first; may be negative. Unless set: the task's, or 0.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().priority(10);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Of the jobs with one lock, of whatever task and queue, one runs at a time, in the order of priority and id; one
    /// that is scheduled for later holds back those behind it. Unless set: the task's, or none. At most 2,600 bytes.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().lock("customer-7");
    /// ```
    pub fn lock(mut self, lock: impl Into<String>) -> Self {
        self.lock = Some(lock.into());
        self
    }

    /// Of the jobs with one queueing lock one can wait at a time; deferring a second one is
    /// [`Error::AlreadyEnqueued`](crate::Error::AlreadyEnqueued). Unless set: the task's, or none. At most 2,600 bytes.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().queueing_lock("report");
    /// ```
    pub fn queueing_lock(mut self, queueing_lock: impl Into<String>) -> Self {
        self.queueing_lock = Some(queueing_lock.into());
        self
    }

    /// Not to be started before this time, by the database's clock. Not together with
    /// [`schedule_in`](Self::schedule_in).
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().schedule_at("2030-01-01T08:00:00Z".parse()?);
    /// # Ok::<_, chrono::ParseError>(())
    /// ```
    pub fn schedule_at(mut self, at: DateTime<Utc>) -> Self {
        self.schedule_at = Some(at);
        self
    }

    /// Not to be started before this much time has passed since the call that defers, by this machine's clock. Not
    /// together with [`schedule_at`](Self::schedule_at).
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// # use std::time::Duration;
    /// let options = JobOptions::new().schedule_in(Duration::from_secs(300));
    /// ```
    pub fn schedule_in(mut self, delay: Duration) -> Self {
        self.schedule_in = Some(delay);
        self
    }

    /// These options, with what is set in the others put over them.
    pub(crate) fn overridden_by(self, others: &Self) -> Self {
        let others = others.clone();
        Self {
            queue: others.queue.or(self.queue),
            priority: others.priority.or(self.priority),
            lock: others.lock.or(self.lock),
            queueing_lock: others.queueing_lock.or(self.queueing_lock),
            schedule_at: others.schedule_at.or(self.schedule_at),
            schedule_in: others.schedule_in.or(self.schedule_in),
        }
    }

    /// Whether a job could be deferred with these options.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(queue) = &self.queue {
            check_name("queue name", queue)?;
        }
        check_lock("lock", self.lock.as_deref())?;
        check_lock("queueing lock", self.queueing_lock.as_deref())?;
        self.scheduled_at().map(|_| ())
    }

    /// When a job with these options may be started, if it is scheduled.
    pub(crate) fn scheduled_at(&self) -> Result<Option<DateTime<Utc>>, Error> {
        match (self.schedule_at, self.schedule_in) {
            (None, None) => Ok(None),
            (Some(at), Some(delay)) => Err(Error::invalid(
                "schedule",
                format!("{at} and in {delay:?}"),
                "schedule_at and schedule_in cannot be set together",
            )),
            (Some(at), None) if Some(at) < earliest_timestamp() => {
                Err(Error::invalid("schedule_at", at.to_string(), "PostgreSQL holds dates from the year 4713 BC on"))
            }
            (Some(at), None) => Ok(Some(at)),
            (None, Some(delay)) => TimeDelta::from_std(delay)
                .ok()
                .and_then(|delay| clock::now().checked_add_signed(delay))
                .map(Some)
                .ok_or_else(|| {
                    Error::invalid("schedule_in", format!("{delay:?}"), "it ends after the last date that there is")
                }),
        }
    }
}

/// The first whole year that `timestamptz` can hold; `None` could only be if chrono's range were smaller.
fn earliest_timestamp() -> Option<DateTime<Utc>> {
    Utc.with_ymd_and_hms(FIRST_YEAR, 1, 1, 0, 0, 0).single()
}
