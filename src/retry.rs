//! When a job whose task failed is tried again.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::checks::{check_lock, check_name};
use crate::error::Error;
use crate::job::Job;

/// The longest wait unless another is set: a day. Growth by powers soon waits for months otherwise.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The last time that a job is retried at: the end of the last year that every reader of dates understands.
const LAST_TIME: DateTime<Utc> = DateTime::<Utc>::from_naive_utc_and_offset(
    chrono::NaiveDateTime::new(
        match chrono::NaiveDate::from_ymd_opt(9999, 12, 31) {
            Some(date) => date,
            None => chrono::NaiveDate::MAX,
        },
        chrono::NaiveTime::MIN,
    ),
    Utc,
);

/// Why an attempt failed, as a strategy sees it.
pub type AttemptError = dyn StdError + Send + Sync;

/// What a task does about its failures: a strategy, or nothing.
///
/// It is made from `true` (again at once, for ever), a number (again at once, that many times), a [`RetryStrategy`] or any
/// type of yours that implements [`BaseRetryStrategy`]; the default is not to try again.
///
/// # Example
///
/// ```
/// use procrastinate::{Retry, RetryStrategy};
///
/// let never = Retry::default();
/// let five_times = Retry::from(5);
/// let with_care = Retry::from(RetryStrategy::new().max_attempts(10).exponential_wait(2));
/// ```
#[derive(Clone, Default)]
pub struct Retry(Option<Arc<dyn BaseRetryStrategy>>);

impl Retry {
    /// Whether, and how, the job is tried again after this error.
    pub(crate) fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
        self.0.as_ref()?.get_retry_decision(error, job)
    }
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

impl<S: BaseRetryStrategy> From<S> for Retry {
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
/// use procrastinate::{AttemptError, BaseRetryStrategy, Job, Retry, RetryDecision};
///
/// /// Tries again in a quieter queue, unless the file is gone.
/// struct Later;
///
/// impl BaseRetryStrategy for Later {
///     fn get_retry_decision(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
///         let gone = error
///             .downcast_ref::<std::io::Error>()
///             .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
///         (!gone && job.attempts < 3).then(|| RetryDecision::retry_in(Duration::from_secs(60)).queue("slow"))
///     }
/// }
///
/// let retry = Retry::from(Later);
/// ```
pub trait BaseRetryStrategy: Send + Sync + 'static {
    /// When the job is tried again after this error; `None`: not at all, it fails. `job.attempts` does not count the
    /// attempt that has just failed: it is 0 after the first one.
    fn get_retry_decision(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision>;
}

/// When a job is tried again, and with what.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::RetryDecision;
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
    /// # use procrastinate::RetryDecision;
    /// let decision = RetryDecision::retry_at("2030-01-01T08:00:00Z".parse()?);
    /// # Ok::<_, chrono::ParseError>(())
    /// ```
    pub fn retry_at(time: DateTime<Utc>) -> Self {
        Self { retry_at: RetryTime::At(time), priority: None, queue: None, lock: None }
    }

    /// Not before this much time has passed.
    ///
    /// ```
    /// # use procrastinate::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60));
    /// ```
    pub fn retry_in(delay: Duration) -> Self {
        Self { retry_at: RetryTime::In(delay), priority: None, queue: None, lock: None }
    }

    /// With this priority from now on. Unless set: the one it has.
    ///
    /// ```
    /// # use procrastinate::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).priority(-1);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// In this queue from now on. Unless set: the one it is in.
    ///
    /// ```
    /// # use procrastinate::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).queue("slow");
    /// ```
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// With this lock from now on. Unless set: the one it has, if any.
    ///
    /// ```
    /// # use procrastinate::RetryDecision;
    /// let decision = RetryDecision::retry_in(std::time::Duration::from_secs(60)).lock("one-at-a-time");
    /// ```
    pub fn lock(mut self, lock: impl Into<String>) -> Self {
        self.lock = Some(lock.into());
        self
    }

    /// When that is, counted from now; `None`: at once, by the database's clock.
    pub(crate) fn time(&self) -> Option<DateTime<Utc>> {
        match self.retry_at {
            RetryTime::At(time) => Some(time),
            RetryTime::In(Duration::ZERO) => None,
            RetryTime::In(delay) => {
                let time = TimeDelta::from_std(delay).ok().and_then(|delay| Utc::now().checked_add_signed(delay));
                Some(time.unwrap_or(LAST_TIME).min(LAST_TIME))
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
            RetryTime::At(time) if time > LAST_TIME || time < DateTime::<Utc>::UNIX_EPOCH => {
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

type ErrorFilter = Arc<dyn Fn(&AttemptError) -> bool + Send + Sync>;

/// Waits that grow with the attempts: Procrastinate's strategy and formula.
///
/// The wait after an attempt is `wait + linear_wait × attempts + exponential_wait ^ (attempts + 1)` seconds, where
/// `attempts` is 0 after the first one, and at most `max_wait`. Unless anything is set it is tried again at once, for ever.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::RetryStrategy;
///
/// let strategy = RetryStrategy::new().max_attempts(5).wait(1).linear_wait(10).exponential_wait(2);
/// let waits: Vec<u64> = (0..3).map(|attempts| strategy.wait_after(attempts).as_secs()).collect();
/// assert_eq!(waits, [1 + 0 + 2, 1 + 10 + 4, 1 + 20 + 8]);
/// ```
#[derive(Clone)]
#[must_use = "a strategy does nothing until a task has it"]
pub struct RetryStrategy {
    max_attempts: Option<u32>,
    wait: u32,
    linear_wait: u32,
    exponential_wait: u32,
    max_wait: Duration,
    filter: Option<ErrorFilter>,
}

impl Default for RetryStrategy {
    fn default() -> Self {
        Self { max_attempts: None, wait: 0, linear_wait: 0, exponential_wait: 0, max_wait: LONGEST_WAIT, filter: None }
    }
}

impl RetryStrategy {
    /// Again at once, for ever.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// assert!(RetryStrategy::new().wait_after(7).is_zero());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// How often a job is tried again: with 5, it fails for good with its sixth attempt. Unless set: without end.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// let strategy = RetryStrategy::new().max_attempts(5);
    /// ```
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = Some(max_attempts);
        self
    }

    /// Seconds to wait each time. Unless set: 0.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().wait(3).wait_after(7).as_secs(), 3);
    /// ```
    pub fn wait(mut self, seconds: u32) -> Self {
        self.wait = seconds;
        self
    }

    /// Seconds to wait longer after each attempt. Unless set: 0.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().linear_wait(3).wait_after(2).as_secs(), 6);
    /// ```
    pub fn linear_wait(mut self, seconds: u32) -> Self {
        self.linear_wait = seconds;
        self
    }

    /// The base, in seconds, of a wait that multiplies with each attempt. Unless set: 0, which adds nothing.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().exponential_wait(3).wait_after(2).as_secs(), 27);
    /// ```
    pub fn exponential_wait(mut self, seconds: u32) -> Self {
        self.exponential_wait = seconds;
        self
    }

    /// The longest wait. Unless set: a day. Procrastinate has none.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// use std::time::Duration;
    ///
    /// let strategy = RetryStrategy::new().exponential_wait(10).max_wait(Duration::from_secs(600));
    /// assert_eq!(strategy.wait_after(20).as_secs(), 600);
    /// ```
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Tries again only after errors for which this is true. Unless set: after any, a panic included.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// let strategy = RetryStrategy::new().retry_if(|error| error.to_string().contains("timed out"));
    /// ```
    pub fn retry_if(mut self, filter: impl Fn(&AttemptError) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Tries again after errors of this type too, be it the error itself or one of its sources. Without any such call,
    /// after errors of whatever type.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// let strategy = RetryStrategy::new().retry_exception::<std::io::Error>().retry_exception::<std::fmt::Error>();
    /// ```
    pub fn retry_exception<E: StdError + 'static>(mut self) -> Self {
        let others = self.filter.take();
        self.retry_if(move |error| is_caused_by::<E>(error) || others.as_ref().is_some_and(|others| others(error)))
    }

    /// How long is waited after the attempt with this number, 0 for the first.
    ///
    /// ```
    /// # use procrastinate::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().exponential_wait(2).wait_after(3).as_secs(), 16);
    /// ```
    #[must_use]
    pub fn wait_after(&self, attempts: u32) -> Duration {
        let linear = u64::from(self.linear_wait).saturating_mul(u64::from(attempts));
        let exponential = u64::from(self.exponential_wait).saturating_pow(attempts.saturating_add(1));
        let seconds = u64::from(self.wait).saturating_add(linear).saturating_add(exponential);
        Duration::from_secs(seconds).min(self.max_wait)
    }
}

impl fmt::Debug for RetryStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryStrategy")
            .field("max_attempts", &self.max_attempts)
            .field("wait", &self.wait)
            .field("linear_wait", &self.linear_wait)
            .field("exponential_wait", &self.exponential_wait)
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}

impl BaseRetryStrategy for RetryStrategy {
    fn get_retry_decision(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
        let attempts = u32::try_from(job.attempts).unwrap_or(0);
        if self.max_attempts.is_some_and(|most| attempts >= most) {
            return None;
        }
        if self.filter.as_ref().is_some_and(|filter| !filter(error)) {
            return None;
        }
        Some(RetryDecision::retry_in(self.wait_after(attempts)))
    }
}

fn is_caused_by<E: StdError + 'static>(error: &AttemptError) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}
