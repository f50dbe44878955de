//! The options of a job, apart from its task and arguments.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use serde_json::Value;

use crate::database::statements::defer::{ExtraOptions, UniqueKey};
use crate::error::Error;
use crate::queue::defer::if_enqueued::IfEnqueued;
use crate::support::clock;
use crate::support::misfit::Misfit;
use crate::validation::{check_lock, check_name};

/// The first whole year that PostgreSQL's `timestamptz` can hold, 4713 BC. Its last year is beyond chrono's.
const FIRST_YEAR: i32 = -4_712;

/// The longest period of a unique key, so that its end is a date.
const LONGEST_PERIOD: Duration = Duration::from_secs(1_000 * 365 * 24 * 3_600);

/// Returns the options of a job with these arguments, if they fit its task.
pub(crate) type OptionsOf = fn(&Value) -> Result<JobOptions, Misfit>;

/// Declares setters of the same names as [`JobOptions`] has, for a type with a field `options`.
macro_rules! option_setters {
    ($($(#[$attribute:meta])* $option:ident($value:ident: $type:ty);)+) => {
        $(
            $(#[$attribute])*
            pub fn $option(mut self, $value: $type) -> Self {
                self.options = self.options.$option($value);
                self
            }
        )+
    };
}
pub(crate) use option_setters;

/// The options of a job. All of them are optional.
///
/// A task has defaults of this type. To use one set of options for several jobs, pass it to
/// [`JobToDefer::configure`](crate::JobToDefer::configure). Later values win: first the task's defaults, then those
/// passed to `configure`, then the methods of the job, in the order of the calls.
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
    pub(crate) deadline: Option<Deadline>,
    pub(crate) limit_key: Option<String>,
    pub(crate) unique: Option<(String, Duration)>,
    pub(crate) if_enqueued: Option<IfEnqueued>,
}

/// By when a job must start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Deadline {
    /// Before this time.
    Before(DateTime<Utc>),
    /// Within this period after its schedule, or after the call that defers it.
    Within(Duration),
}

impl JobOptions {
    /// Creates options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the queue, at most 128 bytes. Default: the task's queue, or `default`.
    ///
    /// Each worker serves all queues or the ones you list.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().queue("mails");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Sets the priority. Jobs with a higher one are fetched first. Default: the task's priority, or 0. May be
    /// negative.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().priority(10);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the lock, at most 2,600 bytes. Default: the task's lock, or none.
    ///
    /// Jobs that share a lock run one at a time, across all tasks and queues. They run in the order of priority and ID.
    /// A scheduled job holds back the jobs behind it.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().lock("customer-7");
    /// ```
    pub fn lock(mut self, lock: impl Into<String>) -> Self {
        self.lock = Some(lock.into());
        self
    }

    /// Sets the queueing lock, at most 2,600 bytes. Default: the task's queueing lock, or none.
    ///
    /// Only one pending job can hold it. Deferring another one returns
    /// [`Error::AlreadyEnqueued`](crate::Error::AlreadyEnqueued), unless [`if_enqueued`](Self::if_enqueued) says
    /// otherwise.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().queueing_lock("report");
    /// ```
    pub fn queueing_lock(mut self, queueing_lock: impl Into<String>) -> Self {
        self.queueing_lock = Some(queueing_lock.into());
        self
    }

    /// Keeps the pending job that holds the queueing lock. Default: a taken queueing lock is an error.
    ///
    /// Deferring then stores nothing, logs it, and returns the ID of the pending job. If that job has just started, the
    /// new job is stored. In a batch, jobs with the same queueing lock get the same ID. It must be combined with a
    /// queueing lock. It is the same as [`if_enqueued(IfEnqueued::Keep)`](Self::if_enqueued).
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().queueing_lock("report").unless_enqueued();
    /// ```
    pub fn unless_enqueued(self) -> Self {
        self.if_enqueued(IfEnqueued::Keep)
    }

    /// Sets what happens if another pending job holds the queueing lock. Default: [`IfEnqueued::Fail`].
    ///
    /// Deferring returns the ID of the pending job if that job is kept or replaced. All but `Fail` must be combined
    /// with a queueing lock.
    ///
    /// ```
    /// # use procrastinate::{IfEnqueued, JobOptions};
    /// # use std::time::Duration;
    /// let in_a_minute = JobOptions::new().schedule_in(Duration::from_secs(60));
    /// let debounced = in_a_minute.queueing_lock("report").if_enqueued(IfEnqueued::Replace);
    /// ```
    pub fn if_enqueued(mut self, if_enqueued: IfEnqueued) -> Self {
        self.if_enqueued = Some(if_enqueued);
        self
    }

    /// Sets the earliest time at which the job may start, by the database's clock. Default: none.
    ///
    /// Cannot be combined with [`schedule_in`](Self::schedule_in).
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

    /// Sets the delay before the job may start, by this machine's clock. Default: none.
    ///
    /// The delay counts from the call that defers the job. Cannot be combined with [`schedule_at`](Self::schedule_at).
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

    /// Sets the time by which the job must start. Default: none.
    ///
    /// A job that no worker has started by then ends as cancelled. That concerns its first start only: a job that has
    /// started in time can be retried at any time. The clock of the database decides. It overrides
    /// [`start_within`](Self::start_within).
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().start_before("2100-01-01T08:00:00Z".parse()?);
    /// # Ok::<_, chrono::ParseError>(())
    /// ```
    #[doc(alias = "expires_in")]
    #[doc(alias = "expires")]
    #[doc(alias = "ttl")]
    pub fn start_before(mut self, time: DateTime<Utc>) -> Self {
        self.deadline = Some(Deadline::Before(time));
        self
    }

    /// Sets how soon the job must start, by this machine's clock. Default: at any time.
    ///
    /// The period begins with the job's schedule, if it has one, and otherwise with the call that defers it. The rest
    /// is as in [`start_before`](Self::start_before), which it overrides.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// # use std::time::Duration;
    /// let options = JobOptions::new().start_within(Duration::from_secs(3_600));
    /// ```
    pub fn start_within(mut self, period: Duration) -> Self {
        self.deadline = Some(Deadline::Within(period));
        self
    }

    /// Sets the key for [limits of each key](crate::job_manager::SetLimit::per_limit_key), at most 2,600 bytes.
    /// Default: none.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().limit_key("tenant-7");
    /// ```
    pub fn limit_key(mut self, limit_key: impl Into<String>) -> Self {
        self.limit_key = Some(limit_key.into());
        self
    }

    /// Sets a unique key, at most 2,600 bytes. Default: none.
    ///
    /// Only one job can hold it, from when it is deferred until it has ended, across all tasks and queues. Deferring
    /// another one returns [`Error::NotUnique`](crate::Error::NotUnique). With
    /// [`unless_enqueued`](Self::unless_enqueued) it stores nothing, and returns the ID of the job that holds the key.
    /// A queueing lock, in contrast, is released when the job starts. It overrides [`unique_for`](Self::unique_for).
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// let options = JobOptions::new().unique("report-7");
    /// ```
    #[doc(alias = "singleton_key")]
    pub fn unique(self, key: impl Into<String>) -> Self {
        self.unique_for(key, Duration::ZERO)
    }

    /// Sets a unique key that the job also holds for a period after it has ended. Default: none.
    ///
    /// The period belongs to the job that holds the key: it does not matter what the next job says. The rest is as in
    /// [`unique`](Self::unique), which it overrides.
    ///
    /// ```
    /// # use procrastinate::JobOptions;
    /// # use std::time::Duration;
    /// let once_an_hour = JobOptions::new().unique_for("report-7", Duration::from_secs(3_600));
    /// ```
    #[doc(alias = "singleton_seconds")]
    #[doc(alias = "unique_until")]
    pub fn unique_for(mut self, key: impl Into<String>, period: Duration) -> Self {
        self.unique = Some((key.into(), period));
        self
    }

    /// Returns these options, overridden by those set in `others`.
    pub(crate) fn overridden_by(self, others: &Self) -> Self {
        let others = others.clone();
        Self {
            queue: others.queue.or(self.queue),
            priority: others.priority.or(self.priority),
            lock: others.lock.or(self.lock),
            queueing_lock: others.queueing_lock.or(self.queueing_lock),
            schedule_at: others.schedule_at.or(self.schedule_at),
            schedule_in: others.schedule_in.or(self.schedule_in),
            deadline: others.deadline.or(self.deadline),
            limit_key: others.limit_key.or(self.limit_key),
            unique: others.unique.or(self.unique),
            if_enqueued: others.if_enqueued.or(self.if_enqueued),
        }
    }

    /// Checks whether a job with these options can be deferred.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(queue) = &self.queue {
            check_name("queue name", queue)?;
        }
        check_lock("lock", self.lock.as_deref())?;
        check_lock("queueing lock", self.queueing_lock.as_deref())?;
        check_lock("limit key", self.limit_key.as_deref())?;
        self.scheduled_at()?;
        self.extras().map(|_| ())
    }

    /// The options that are not columns of the job's row.
    pub(crate) fn extras(&self) -> Result<ExtraOptions, Error> {
        let (start_before, unique) = (self.starts_before()?, self.unique_key()?);
        Ok(ExtraOptions { start_before, limit_key: self.limit_key.clone(), unique })
    }

    fn unique_key(&self) -> Result<Option<UniqueKey>, Error> {
        let Some((key, period)) = &self.unique else { return Ok(None) };
        check_lock("unique key", Some(key))?;
        if *period > LONGEST_PERIOD {
            return Err(Error::invalid(
                "period of the unique key",
                format!("{period:?}"),
                "must be at most 1,000 years",
            ));
        }
        Ok(Some(UniqueKey { key: key.clone(), period_seconds: period.as_secs_f64() }))
    }

    /// The time by which a job with these options must start.
    fn starts_before(&self) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let (scheduled_at, now) = (self.scheduled_at()?, clock::now());
        match deadline {
            Deadline::Before(time) if time <= now => {
                Err(Error::invalid("start_before", time.to_string(), "must be in the future"))
            }
            Deadline::Before(time) => match scheduled_at.filter(|scheduled_at| time <= *scheduled_at) {
                None => Ok(Some(time)),
                Some(scheduled_at) => {
                    let rule = format!("must be later than the schedule of the job, {scheduled_at}");
                    Err(Error::invalid("start_before", time.to_string(), rule))
                }
            },
            Deadline::Within(period) if period.is_zero() => {
                Err(Error::invalid("start_within", format!("{period:?}"), "must be greater than zero"))
            }
            // A schedule in the past is as good as none.
            Deadline::Within(period) => TimeDelta::from_std(period)
                .ok()
                .and_then(|period| scheduled_at.unwrap_or(now).max(now).checked_add_signed(period))
                .map(Some)
                .ok_or_else(|| {
                    Error::invalid("start_within", format!("{period:?}"), "must not end after the last possible date")
                }),
        }
    }

    /// The earliest start time of a job with these options, if it is scheduled.
    pub(crate) fn scheduled_at(&self) -> Result<Option<DateTime<Utc>>, Error> {
        match (self.schedule_at, self.schedule_in) {
            (None, None) => Ok(None),
            (Some(at), Some(delay)) => Err(Error::invalid(
                "schedule",
                format!("{at} and in {delay:?}"),
                "must be set with either schedule_at or schedule_in, not both",
            )),
            (Some(at), None) if Some(at) < earliest_timestamp() => {
                Err(Error::invalid("schedule_at", at.to_string(), "must be in the year 4713 BC or later"))
            }
            (Some(at), None) => Ok(Some(at)),
            (None, Some(delay)) => TimeDelta::from_std(delay)
                .ok()
                .and_then(|delay| clock::now().checked_add_signed(delay))
                .map(Some)
                .ok_or_else(|| {
                    Error::invalid("schedule_in", format!("{delay:?}"), "must not end after the last possible date")
                }),
        }
    }
}

/// The first whole year that `timestamptz` can hold. `None` is only possible if chrono's range shrinks.
fn earliest_timestamp() -> Option<DateTime<Utc>> {
    Utc.with_ymd_and_hms(FIRST_YEAR, 1, 1, 0, 0, 0).single()
}
