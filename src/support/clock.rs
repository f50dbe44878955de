//! What time it is: by this machine's clock, or by the one that a test has set.

use chrono::{DateTime, Utc};

#[cfg(feature = "testing")]
tokio::task_local! {
    /// The time for the code of one test. Set around that code, read here only.
    static TIME: DateTime<Utc>;
}

/// What time it is.
pub(crate) fn now() -> DateTime<Utc> {
    time_of_test().unwrap_or_else(Utc::now)
}

/// The time that a test has set, if one has.
pub(crate) fn time_of_test() -> Option<DateTime<Utc>> {
    #[cfg(feature = "testing")]
    return TIME.try_with(|time| *time).ok();
    #[cfg(not(feature = "testing"))]
    None
}

/// Has the future see this time as the present.
#[cfg(feature = "testing")]
pub(crate) fn at<F: Future>(time: DateTime<Utc>, future: F) -> impl Future<Output = F::Output> {
    TIME.scope(time, future)
}

/// Has code that blocks its thread see this time as the present; with `None`, what its thread sees anyway.
pub(crate) fn at_blocking<T>(time: Option<DateTime<Utc>>, work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "testing")]
    if let Some(time) = time {
        return TIME.sync_scope(time, work);
    }
    let _ = time;
    work()
}
