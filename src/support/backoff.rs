//! Delays between attempts to reach the database.

use std::time::Duration;

/// The delay after the first failure.
const FIRST: Duration = Duration::from_millis(100);

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(5);

/// Counts consecutive failures.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The delay after another failure. It doubles each time, up to five seconds.
    ///
    /// A random half is subtracted, so that workers that lost a server together do not reconnect together.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_five_seconds_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        for longest in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let wait = backoff.next_wait();
            assert!(wait <= Duration::from_millis(longest) && wait >= Duration::from_millis(longest / 2), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
