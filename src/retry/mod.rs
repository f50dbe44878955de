//! When a job whose task failed is tried again.

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
use crate::support::clock;
use crate::support::panics::message;
use crate::validation::{check_lock, check_name};

pub(crate) use stalled::Rescue;
pub use stalled::StalledJobPolicy;
pub use strategy::RetryStrategy;

/// The last year in which a job is retried: dates beyond it are written in ways that not every reader understands.
const LAST_YEAR: i32 = 9_999;

/// Why an attempt failed, as a strategy sees it.
pub type AttemptError = dyn StdError + Send + Sync;

/// The error of this type in the chain of an error and its sources, the outermost if there are several.
pub(crate) fn find_cause<E: StdError + 'static>(error: &AttemptError) -> Option<&E> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What a task does about its failures: a strategy, or nothing.
///
/// It is made from `true` (again at once, for ever), a number (again at once, that many times), a [`RetryStrategy`] or any
/// type of yours that implements [`RetryPolicy`]; the default is not to try again.
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
    /// Whether, and how, the job is tried again after this error.
    pub(crate) fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
        let strategy = self.0.as_ref()?;
        answer_of(job, || strategy.decide(error, job))
    }

    /// Whether nothing is ever tried again.
    pub(crate) fn is_never(&self) -> bool {
        self.0.is_none()
    }

    /// Whether no attempt can follow the one that the job is in.
    pub(crate) fn is_last_attempt(&self, job: &Job) -> bool {
        let Some(strategy) = &self.0 else { return true };
        answer_of(job, || strategy.max_attempts()).is_some_and(|most| u32::try_from(job.attempts).unwrap_or(0) >= most)
    }
}

/// What a strategy answers. It is the application's code, and is asked where its panic would end a worker: one that panics
/// has no answer.
fn answer_of<T>(job: &Job, ask: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
        tracing::error!(
            action = "retry_strategy_panicked",
            job.id = i64::from(job.id),
            job.task_name = %job.task_name,
            job.queue = %job.queue,
            "the retry strategy of job {} of task {} panicked: {}", job.id, job.task_name, message(&*panic),
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

/// Decides whether a job whose attempt failed is tried again.
///
/// [`RetryStrategy`] is the one that most tasks need. A strategy of your own sees the error and the job, and may change
/// the job's priority, queue and lock.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::Job;
/// use procrastinate::retry::{AttemptError, RetryPolicy, Retry, RetryDecision};
///
/// /// Tries again in a quieter queue, unless the file is gone.
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
pub trait RetryPolicy: Send + Sync + 'static {
    /// When the job is tried again after this error; `None`: not at all, it fails. `job.attempts` does not count the
    /// attempt that has just failed: it is 0 after the first one.
    fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision>;

    /// How often a job is tried again at most, if there is a limit: for
    /// [`JobContext::is_last_attempt`](crate::JobContext::is_last_attempt), and for tasks that ask for another attempt
    /// themselves. Unless written: there is none.
    fn max_attempts(&self) -> Option<u32> {
        None
    }
}

/// When a job is tried again, and with what.
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
#[must_use = "a decision does nothing until a strategy returns it"]
pub struct RetryDecision {
    pub(crate) retry_at: RetryTime,
    pub(crate) priority: Option<i32>,
    pub(crate) queue: Option<String>,
    pub(crate) lock: Option<String>,
}

/// When to try again. A delay counts from when the ending of the attempt is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetryTime {
    At(DateTime<Utc>),
    In(Duration),
}

impl RetryDecision {
    /// Not before this time.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_at("2030-01-01T08:00:00Z".parse()?);
    /// # Ok::<_, chrono::ParseError>(())
    /// ```
    pub fn retry_at(time: DateTime<Utc>) -> Self {
        Self { retry_at: RetryTime::At(time), priority: None, queue: None, lock: None }
    }

    /// Not before this much time has passed.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60));
    /// ```
    pub fn retry_in(delay: Duration) -> Self {
        Self { retry_at: RetryTime::In(delay), priority: None, queue: None, lock: None }
    }

    /// With this priority from now on. Unless set: the one it has.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).priority(-1);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// In this queue from now on. Unless set: the one it is in.
    ///
    /// ```
    /// # use procrastinate::retry::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).queue("slow");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// With this lock from now on. Unless set: the one it has, if any.
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

    /// When that is, counted from now; `None`: at once, by the database's clock.
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

    /// Whether the database can store what the strategy decided.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(queue) = &self.queue {
            check_name("queue name", queue)?;
        }
        check_lock("lock", self.lock.as_deref())?;
        match self.retry_at {
            RetryTime::At(time) if time.year() > LAST_YEAR || time < DateTime::<Utc>::UNIX_EPOCH => {
                Err(Error::invalid("retry_at", time.to_string(), "it must be in the years from 1970 to 9999"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for RetryDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.retry_at {
            RetryTime::At(time) => write!(f, "at {time}"),
            RetryTime::In(delay) if delay.is_zero() => f.write_str("at once"),
            RetryTime::In(delay) => write!(f, "in {delay:?}"),
        }
    }
}

/// When a job is retried whose wait ends later than that.
fn last_time() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(LAST_YEAR, 12, 31, 0, 0, 0).single().unwrap_or(DateTime::<Utc>::MAX_UTC)
}
