//! A retry strategy with delays that grow with each attempt: by Procrastinate's formula, or by a factor.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::job::Job;
use crate::job::interruption::Interrupted;
use crate::retry::{AttemptError, RetryDecision, RetryPolicy, find_cause};

/// The default of `max_wait`, one day. Exponential growth soon reaches months otherwise.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

type ErrorFilter = Arc<dyn Fn(&AttemptError) -> bool + Send + Sync>;

/// Delays that grow with each attempt.
///
/// | set with | delay after an attempt |
/// |---|---|
/// | [`wait`](Self::wait), [`linear_wait`](Self::linear_wait), [`exponential_wait`](Self::exponential_wait) | `wait + linear_wait × attempts + exponential_wait ^ (attempts + 1)` seconds, which is Procrastinate's formula |
/// | [`backoff`](Self::backoff) | `base × factor ^ attempts` |
///
/// `attempts` is 0 after the first attempt. No delay exceeds `max_wait`. By default, jobs are retried immediately and
/// without a limit.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use procrastinate::retry::RetryStrategy;
///
/// let strategy = RetryStrategy::new().max_attempts(5).wait(1).linear_wait(10).exponential_wait(2);
/// let waits: Vec<u64> = (0..3).map(|attempts| strategy.wait_after(attempts).as_secs()).collect();
/// assert_eq!(waits, [1 + 0 + 2, 1 + 10 + 4, 1 + 20 + 8]);
/// ```
#[derive(Clone)]
#[must_use = "a strategy does nothing until a task uses it"]
pub struct RetryStrategy {
    max_attempts: Option<u32>,
    wait: u32,
    linear_wait: u32,
    exponential_wait: u32,
    /// A base and a factor, instead of the three above.
    backoff: Option<(Duration, f64)>,
    max_wait: Duration,
    jitter: f64,
    filter: Option<ErrorFilter>,
}

impl Default for RetryStrategy {
    fn default() -> Self {
        Self {
            max_attempts: None,
            wait: 0,
            linear_wait: 0,
            exponential_wait: 0,
            backoff: None,
            max_wait: LONGEST_WAIT,
            jitter: 0.0,
            filter: None,
        }
    }
}

impl RetryStrategy {
    /// Creates a strategy that retries immediately, without a limit.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// assert!(RetryStrategy::new().wait_after(7).is_zero());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of retries. Default: no limit.
    ///
    /// With 5, the job fails after its sixth attempt.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// let strategy = RetryStrategy::new().max_attempts(5);
    /// ```
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = Some(max_attempts);
        self
    }

    /// Sets a fixed delay before each retry, in seconds. Default: 0.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().wait(3).wait_after(7).as_secs(), 3);
    /// ```
    pub fn wait(mut self, seconds: u32) -> Self {
        self.wait = seconds;
        self.backoff = None;
        self
    }

    /// Sets the seconds that are added to the delay with each attempt. Default: 0.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().linear_wait(3).wait_after(2).as_secs(), 6);
    /// ```
    pub fn linear_wait(mut self, seconds: u32) -> Self {
        self.linear_wait = seconds;
        self.backoff = None;
        self
    }

    /// Sets the base of an exponential delay, in seconds. Default: 0, which adds nothing.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().exponential_wait(3).wait_after(2).as_secs(), 27);
    /// ```
    pub fn exponential_wait(mut self, seconds: u32) -> Self {
        self.exponential_wait = seconds;
        self.backoff = None;
        self
    }

    /// Sets the delays `base`, `base × factor`, `base × factor²` and so on.
    ///
    /// It replaces `wait`, `linear_wait` and `exponential_wait`, and a later call of one of them replaces it. A factor
    /// below 1 counts as 1.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// use std::time::Duration;
    ///
    /// let strategy = RetryStrategy::new().backoff(Duration::from_secs(60), 2.0).jitter(0.1);
    /// let waits: Vec<u64> = (0..4).map(|attempts| strategy.wait_after(attempts).as_secs()).collect();
    /// assert_eq!(waits, [60, 120, 240, 480]);
    /// ```
    pub fn backoff(mut self, base: Duration, factor: f64) -> Self {
        (self.wait, self.linear_wait, self.exponential_wait) = (0, 0, 0);
        // `max` returns the other value if one is not a number.
        self.backoff = Some((base, factor.max(1.0)));
        self
    }

    /// Sets the longest delay, also with jitter. Default: one day. Procrastinate has no such limit.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// use std::time::Duration;
    ///
    /// let strategy = RetryStrategy::new().exponential_wait(10).max_wait(Duration::from_secs(600));
    /// assert_eq!(strategy.wait_after(20).as_secs(), 600);
    /// ```
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Varies each delay at random by up to this fraction of it. Default: 0.
    ///
    /// With 0.1, a delay of 60 seconds becomes one of 54 to 66. No delay exceeds `max_wait`. Use it so that jobs that
    /// failed together are not retried together. Values below 0 count as 0, and values above 1 as 1.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// let strategy = RetryStrategy::new().wait(60).jitter(0.1);
    /// ```
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        self
    }

    /// Retries only after errors for which the function returns true. Default: after any error, including panics.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// let strategy = RetryStrategy::new().retry_if(|error| error.to_string().contains("timed out"));
    /// ```
    pub fn retry_if(mut self, filter: impl Fn(&AttemptError) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Retries after errors of this type, or with a source of this type. Default: after any error.
    ///
    /// Call it once for each type.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// let strategy = RetryStrategy::new().retry_on::<std::io::Error>().retry_on::<std::fmt::Error>();
    /// ```
    #[doc(alias = "retry_exceptions")]
    pub fn retry_on<E: StdError + 'static>(mut self) -> Self {
        let others = self.filter.take();
        self.retry_if(move |error| {
            find_cause::<E>(error).is_some() || others.as_ref().is_some_and(|others| others(error))
        })
    }

    /// Returns the delay after this attempt, without jitter. The first attempt is 0.
    ///
    /// ```
    /// # use procrastinate::retry::RetryStrategy;
    /// assert_eq!(RetryStrategy::new().exponential_wait(2).wait_after(3).as_secs(), 16);
    /// ```
    #[must_use]
    pub fn wait_after(&self, attempts: u32) -> Duration {
        let delay = match self.backoff {
            // Zero times infinity is not a number.
            Some((base, _)) if base.is_zero() => base,
            Some((base, factor)) => {
                let seconds = base.as_secs_f64() * factor.powf(f64::from(attempts));
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
            None => {
                let linear = u64::from(self.linear_wait).saturating_mul(u64::from(attempts));
                let exponential = u64::from(self.exponential_wait).saturating_pow(attempts.saturating_add(1));
                Duration::from_secs(u64::from(self.wait).saturating_add(linear).saturating_add(exponential))
            }
        };
        delay.min(self.max_wait)
    }
}

impl RetryStrategy {
    /// Returns the delay after this attempt, with jitter by a random number from 0 to 1.
    ///
    /// The longest delays are spread over a range that ends at `max_wait`, so they too do not end together.
    fn jittered_wait_after(&self, attempts: u32, random: f64) -> Duration {
        let (wait, longest) = (self.wait_after(attempts).as_secs_f64(), self.max_wait.as_secs_f64());
        let middle = wait.min(longest / (1.0 + self.jitter));
        let wait = middle * (1.0 + self.jitter * (2.0 * random - 1.0));
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX).min(self.max_wait)
    }
}

impl fmt::Debug for RetryStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryStrategy")
            .field("max_attempts", &self.max_attempts)
            .field("wait", &self.wait)
            .field("linear_wait", &self.linear_wait)
            .field("exponential_wait", &self.exponential_wait)
            .field("backoff", &self.backoff)
            .field("max_wait", &self.max_wait)
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}

impl RetryPolicy for RetryStrategy {
    fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
        let attempts = u32::try_from(job.attempts).unwrap_or(0);
        if self.max_attempts.is_some_and(|most| attempts >= most) {
            return None;
        }
        // A worker that stopped says nothing about the task.
        let of_task = !error.is::<Interrupted>();
        if of_task && self.filter.as_ref().is_some_and(|filter| !filter(error)) {
            return None;
        }
        Some(RetryDecision::retry_in(self.jittered_wait_after(attempts, fastrand::f64())))
    }

    fn max_attempts(&self) -> Option<u32> {
        self.max_attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_grows_by_its_factor_up_to_the_longest_delay() {
        let waits = |strategy: RetryStrategy| [0, 1, 2, 3, 100, u32::MAX].map(|attempts| strategy.wait_after(attempts));
        let seconds = |seconds: [f64; 6]| seconds.map(Duration::from_secs_f64);
        let day = 86_400.0;
        let backoff = |base: f64, factor: f64| RetryStrategy::new().backoff(Duration::from_secs_f64(base), factor);
        assert_eq!(waits(backoff(60.0, 2.0)), seconds([60.0, 120.0, 240.0, 480.0, day, day]));
        assert_eq!(waits(backoff(0.5, 1.5)), seconds([0.5, 0.75, 1.125, 1.6875, day, day]));
        assert_eq!(waits(backoff(60.0, f64::INFINITY)), seconds([60.0, day, day, day, day, day]));
        for factor in [1.0, 0.5, 0.0, -3.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(waits(backoff(60.0, factor)), seconds([60.0; 6]));
        }
        assert_eq!(waits(backoff(0.0, f64::INFINITY)), [Duration::ZERO; 6]);
        let short = backoff(60.0, 2.0).max_wait(Duration::from_secs(100));
        assert_eq!(waits(short), seconds([60.0, 100.0, 100.0, 100.0, 100.0, 100.0]));
    }

    #[test]
    fn the_later_of_a_backoff_and_another_delay_counts() {
        let minute = Duration::from_secs(60);
        let strategy = RetryStrategy::new().wait(1).exponential_wait(2).backoff(minute, 2.0);
        assert_eq!(strategy.wait_after(0), minute);
        assert_eq!(strategy.clone().wait(5).wait_after(1), Duration::from_secs(5));
        assert_eq!(strategy.clone().linear_wait(5).wait_after(1), Duration::from_secs(5));
        assert_eq!(strategy.clone().exponential_wait(5).wait(1).wait_after(1), Duration::from_secs(26));
        let jittered = strategy.jitter(0.1);
        assert_eq!(jittered.jittered_wait_after(1, 0.0), Duration::from_secs(108));
        assert_eq!(jittered.jittered_wait_after(1, 1.0), Duration::from_secs(132));
    }

    #[test]
    fn delays_saturate_and_jitter_keeps_to_the_longest_one() {
        let strategy = RetryStrategy::new().exponential_wait(10).jitter(1.0);
        for longest in [Duration::ZERO, Duration::from_secs(60), Duration::MAX] {
            let strategy = strategy.clone().max_wait(longest);
            for (attempts, random) in [(0, 1.0), (3, 0.0), (3, 1.0), (30, 0.5), (u32::MAX, 0.0), (u32::MAX, 1.0)] {
                assert!(strategy.jittered_wait_after(attempts, random) <= longest);
            }
        }
        // Delays that reach the longest one are still spread.
        let strategy = RetryStrategy::new().wait(1_000).max_wait(Duration::from_secs(110)).jitter(0.1);
        let waits = [0.0, 0.5, 1.0].map(|random| strategy.jittered_wait_after(0, random).as_secs_f64().round());
        assert_eq!(waits, [90.0, 100.0, 110.0]);
        assert_eq!(RetryStrategy::new().wait(60).jittered_wait_after(0, 0.9), Duration::from_secs(60));
    }
}
