//! The current time, by this machine's clock or by the time that a test has set.

use chrono::{DateTime, Utc};

#[cfg(feature = "testing")]
tokio::task_local! {
    /// The time for the code of one test. It is set around that code and only read here.
    static TIME: DateTime<Utc>;
}

/// The current time.
pub(crate) fn now() -> DateTime<Utc> {
    time_of_test().unwrap_or_else(Utc::now)
}

/// The time that a test has set, if any.
pub(crate) fn time_of_test() -> Option<DateTime<Utc>> {
    #[cfg(feature = "testing")]
    return TIME.try_with(|time| *time).ok();
    #[cfg(not(feature = "testing"))]
    None
}

/// Runs the future with this time as the current one.
#[cfg(feature = "testing")]
pub(crate) fn at<F: Future>(time: DateTime<Utc>, future: F) -> impl Future<Output = F::Output> {
    TIME.scope(time, future)
}

/// Runs blocking code with this time as the current one. With `None`, the thread's own time applies.
pub(crate) fn at_blocking<T>(time: Option<DateTime<Utc>>, work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "testing")]
    if let Some(time) = time {
        return TIME.sync_scope(time, work);
    }
    let _ = time;
    work()
}
