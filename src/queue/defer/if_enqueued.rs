//! What happens to a job whose queueing lock is taken, and what has happened.

use crate::job::JobId;

/// What deferring a job does if another pending job holds its queueing lock.
///
/// Set it with [`JobToDefer::if_enqueued`](crate::JobToDefer::if_enqueued), for several jobs with
/// [`JobOptions::if_enqueued`](crate::JobOptions::if_enqueued), or on the task with `if_enqueued = "…"`. See
/// [Debounce and throttle](crate::guide::deferring#debounce-throttle-and-replace) for examples.
///
/// # Example
///
/// Each call moves the job, so it runs when there were no calls for a minute:
///
/// ```
/// use std::time::Duration;
/// use procrastinate::{IfEnqueued, task};
///
/// #[task(queueing_lock = "index-{page}")]
/// async fn index(page: i64) {
///     println!("the index of page {page}");
/// }
///
/// let job = index(7).schedule_in(Duration::from_secs(60)).if_enqueued(IfEnqueued::Replace);
/// assert!(job.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IfEnqueued {
    /// Deferring the job fails with [`Error::AlreadyEnqueued`](crate::Error::AlreadyEnqueued).
    #[default]
    Fail,
    /// The pending job stays as it is. [`unless_enqueued`](crate::JobToDefer::unless_enqueued) does the same.
    #[doc(alias = "throttle")]
    Keep,
    /// The pending job gets the task, queue, arguments, priority, lock and schedule of the new one.
    ///
    /// A new job without a schedule makes the pending one due immediately.
    #[doc(alias = "debounce")]
    #[doc(alias = "upsert")]
    Replace,
    /// The pending job gets all of these but the schedule. It starts when it would have started, also if it waits for a
    /// retry.
    #[doc(alias = "preserve_run_at")]
    #[doc(alias = "throttle")]
    ReplaceExceptSchedule,
}

impl IfEnqueued {
    /// Whether the pending job may be changed.
    pub(crate) fn is_replacing(self) -> bool {
        matches!(self, Self::Replace | Self::ReplaceExceptSchedule)
    }

    /// The value with this label.
    #[cfg(feature = "cli")]
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        [Self::Fail, Self::Keep, Self::Replace, Self::ReplaceExceptSchedule]
            .into_iter()
            .find(|one| one.label() == label)
    }

    /// The name in SQL and in attributes.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Keep => "keep",
            Self::Replace => "replace",
            Self::ReplaceExceptSchedule => "replace_except_schedule",
        }
    }
}

/// What deferring a job has done. [`JobToDefer::defer_detailed`](crate::JobToDefer::defer_detailed) returns it.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{Deferred, IfEnqueued, task};
///
/// # #[task] async fn index(page: i64) { let _ = page; }
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// let job = index(7).queueing_lock("index-7").if_enqueued(IfEnqueued::Replace);
/// match job.defer_detailed(connection).await? {
///     Deferred::New(id) => println!("job {id} was stored"),
///     Deferred::Replaced(id) => println!("the pending job {id} was replaced"),
///     Deferred::Kept(id) => println!("the pending job {id} stays as it is"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deferred {
    /// The job was stored, with this ID.
    New(JobId),
    /// The pending job with this ID was replaced.
    Replaced(JobId),
    /// The pending job with this ID stays as it is.
    Kept(JobId),
}

impl Deferred {
    /// Returns the ID of the stored, replaced or kept job.
    ///
    /// ```
    /// # use procrastinate::{Deferred, JobId};
    /// assert_eq!(Deferred::Replaced(JobId::from(7)).id(), JobId::from(7));
    /// ```
    #[must_use]
    pub fn id(self) -> JobId {
        match self {
            Self::New(id) | Self::Replaced(id) | Self::Kept(id) => id,
        }
    }

    /// The word for it in SQL and on the command line.
    #[cfg(feature = "cli")]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::New(_) => "new",
            Self::Replaced(_) => "replaced",
            Self::Kept(_) => "kept",
        }
    }

    /// Whether the job was stored.
    ///
    /// ```
    /// # use procrastinate::{Deferred, JobId};
    /// assert!(!Deferred::Kept(JobId::from(7)).is_new());
    /// ```
    #[must_use]
    pub fn is_new(self) -> bool {
        matches!(self, Self::New(_))
    }
}
