//! Retries of failed jobs: strategies, policies and decisions.
//!
//! | item | purpose |
//! |---|---|
//! | [`RetryStrategy`] | delays, a limit and a choice of errors; enough for most tasks |
//! | [`RetryPolicy`] | a trait for custom decisions |
//! | [`RetryDecision`] | when to retry, and with which priority, queue and lock |
//! | [`Retry`] | what a task has: a policy or none |
//! | [`AttemptError`] | the error of a failed attempt |
//! | [`StalledJobPolicy`] | what happens to a job whose worker died |
//!
//! A task without `retry` is not retried. See [Retries and errors](crate::guide::retries_and_errors).
//!
//! # Example
//!
//! ```
//! use procrastinate::retry::RetryStrategy;
//! use procrastinate::task;
//!
//! #[task(retry = RetryStrategy::new().max_attempts(5).exponential_wait(2))]
//! async fn send_invoice(order: i64) -> Result<(), std::io::Error> {
//!     println!("the invoice of order {order}");
//!     Ok(())
//! }
//! # let job = send_invoice(7);
//! ```

mod stalled;
mod strategy;

use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, TimeZone, Utc};

use crate::error::Error;
use crate::job::Job;
use crate::support::panics::message;
use crate::support::{causes, clock};
use crate::validation::{check_lock, check_name};

pub(crate) use stalled::Rescue;
pub use stalled::StalledJobPolicy;
pub use strategy::RetryStrategy;

/// The last year in which a job is retried. Not every reader understands how later dates are written.
const LAST_YEAR: i32 = 9_999;

/// The error of a failed attempt, as a retry policy sees it.
pub type AttemptError = dyn StdError + Send + Sync;

/// The error of this type in the chain of an error and its sources. If there are several, the outermost one.
pub(crate) fn find_cause<E: StdError + 'static>(error: &AttemptError) -> Option<&E> {
    causes::chain(error).find_map(|cause| cause.downcast_ref())
}

/// The retry setting of a task: a policy or none.
///
/// Default: none, so a failed job is not retried. It converts from `true` (immediate retries without a limit), from a
/// number (that many immediate retries), from a [`RetryStrategy`], and from any type that implements [`RetryPolicy`].
///
/// # Example
///
/// ```
/// use procrastinate::retry::{Retry, RetryStrategy};
///
/// let never = Retry::default();
/// let five_times = Retry::from(5);
/// let with_care = Retry::from(RetryStrategy::new().max_attempts(10).exponential_wait(2));
/// ```
#[derive(Clone, Default)]
pub struct Retry(Option<Arc<dyn RetryPolicy>>);

impl Retry {
    /// Decides whether and how the job is retried after this error.
    pub(crate) fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
        let strategy = self.0.as_ref()?;
        answer_of(job, || strategy.decide(error, job))
    }

    /// Whether failed jobs are never retried.
    pub(crate) fn is_never(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this attempt at the job is the last one.
    pub(crate) fn is_last_attempt(&self, job: &Job) -> bool {
        let Some(strategy) = &self.0 else { return true };
        answer_of(job, || strategy.max_attempts()).is_some_and(|most| u32::try_from(job.attempts).unwrap_or(0) >= most)
    }
}

/// The result of a retry policy. It is the application's code, and its panic would end the worker. A policy that panics
/// returns nothing.
fn answer_of<T>(job: &Job, ask: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
        tracing::error!(
            action = "retry_strategy_panicked",
            job.id = i64::from(job.id),
            job.task_name = %job.task_name,
            job.queue = %job.queue,
            "the retry policy of job {} of task {} panicked: {}", job.id, job.task_name, message(&*panic),
        );
        None
    })
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Retry").field(&self.0.is_some()).finish()
    }
}

impl From<bool> for Retry {
    fn from(retry: bool) -> Self {
        if retry { Self::from(RetryStrategy::new()) } else { Self::default() }
    }
}

impl From<u32> for Retry {
    fn from(max_attempts: u32) -> Self {
        Self::from(RetryStrategy::new().max_attempts(max_attempts))
    }
}

impl<S: RetryPolicy> From<S> for Retry {
    fn from(strategy: S) -> Self {
        Self(Some(Arc::new(strategy)))
    }
}

/// Decides whether a failed job is retried.
///
/// [`RetryStrategy`] is enough for most tasks. Implement this trait for a custom decision based on the error and the
/// job. It can also change the job's priority, queue and lock.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::Job;
/// use procrastinate::retry::{AttemptError, RetryPolicy, Retry, RetryDecision};
///
/// /// Retries in a slower queue, unless the file is gone.
/// struct Later;
///
/// impl RetryPolicy for Later {
///     fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
///         let gone = error
///             .downcast_ref::<std::io::Error>()
///             .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
///         (!gone && job.attempts < 3).then(|| RetryDecision::retry_in(Duration::from_secs(60)).queue("slow"))
///     }
/// }
///
/// let retry = Retry::from(Later);
/// ```
#[doc(alias = "BaseRetryStrategy")]
pub trait RetryPolicy: Send + Sync + 'static {
    /// Returns when to retry the job after this error, or `None` to let it fail.
    ///
    /// `job.attempts` does not count the attempt that has just failed: it is 0 after the first one.
    #[doc(alias = "get_retry_decision")]
    fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision>;

    /// Returns the maximum number of retries, if there is a limit. Default: no limit.
    ///
    /// [`JobContext::is_last_attempt`](crate::JobContext::is_last_attempt) uses it. It also limits the retries that a
    /// task requests itself.
    fn max_attempts(&self) -> Option<u32> {
        None
    }
}

/// When to retry a job, and with which options.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::retry::RetryDecision;
///
/// let decision = RetryDecision::retry_in(Duration::from_secs(60)).priority(-1).queue("slow").lock("one");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a decision does nothing until a policy returns it"]
pub struct RetryDecision {
    pub(crate) retry_at: RetryTime,
    pub(crate) priority: Option<i32>,
    pub(crate) queue: Option<String>,
    pub(crate) lock: Option<String>,
}

/// When to retry. A delay counts from the time when the outcome is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetryTime {
    At(DateTime<Utc>),
    In(Duration),
}

/// A longer delay becomes a time in this program, which saturates.
const LONGEST_DELAY: Duration = Duration::from_secs(1_000 * 365 * 86_400);

impl RetryDecision {
    /// Retries at this time or later.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_at("2030-01-01T08:00:00Z".parse()?);
    /// # Ok::<_, chrono::ParseError>(())
    /// ```
    pub fn retry_at(time: DateTime<Utc>) -> Self {
        Self { retry_at: RetryTime::At(time), priority: None, queue: None, lock: None }
    }

    /// Retries after this delay.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60));
    /// ```
    pub fn retry_in(delay: Duration) -> Self {
        Self { retry_at: RetryTime::In(delay), priority: None, queue: None, lock: None }
    }

    /// Sets the job's priority from now on. Default: unchanged.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).priority(-1);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Moves the job to this queue. Default: unchanged.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).queue("slow");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Sets the job's lock from now on. Default: unchanged.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).lock("one-at-a-time");
    /// ```
    pub fn lock(mut self, lock: impl Into<String>) -> Self {
        self.lock = Some(lock.into());
        self
    }

    pub(crate) fn at_once() -> Self {
        Self::retry_in(Duration::ZERO)
    }

    /// The time of the retry, counted from now. `None` means immediately, by the database's clock.
    pub(crate) fn time(&self) -> Option<DateTime<Utc>> {
        match self.retry_at {
            RetryTime::At(time) => Some(time),
            RetryTime::In(Duration::ZERO) => clock::time_of_test(),
            RetryTime::In(delay) => {
                let time = TimeDelta::from_std(delay).ok().and_then(|delay| clock::now().checked_add_signed(delay));
                Some(time.filter(|time| time.year() <= LAST_YEAR).unwrap_or_else(last_time))
            }
        }
    }

    /// The time of the retry, or the seconds until then. The database adds these to its own clock, because that of this
    /// machine can be wrong.
    pub(crate) fn time_or_delay(&self) -> (Option<DateTime<Utc>>, Option<f64>) {
        match self.retry_at {
            RetryTime::In(delay)
                if delay > Duration::ZERO && delay < LONGEST_DELAY && clock::time_of_test().is_none() =>
            {
                (None, Some(delay.as_secs_f64()))
            }
            _ => (self.time(), None),
        }
    }

    /// Checks whether the database can store the decision.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(queue) = &self.queue {
            check_name("queue name", queue)?;
        }
        check_lock("lock", self.lock.as_deref())?;
        match self.retry_at {
            RetryTime::At(time) if time.year() > LAST_YEAR || time < DateTime::<Utc>::UNIX_EPOCH => {
                Err(Error::invalid("retry_at", time.to_string(), "must be in the years from 1970 to 9999"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for RetryDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.retry_at {
            RetryTime::At(time) => write!(f, "at {time}"),
            RetryTime::In(delay) if delay.is_zero() => f.write_str("immediately"),
            RetryTime::In(delay) => write!(f, "in {delay:?}"),
        }
    }
}

/// The time of a retry whose delay ends after `LAST_YEAR`.
fn last_time() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(LAST_YEAR, 12, 31, 0, 0, 0).single().unwrap_or(DateTime::<Utc>::MAX_UTC)
}
