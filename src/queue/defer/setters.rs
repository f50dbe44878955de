//! The options of a job, as methods of the job.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::queue::defer::JobToDefer;
use crate::queue::defer::if_enqueued::IfEnqueued;
use crate::queue::defer::options::option_setters;

impl JobToDefer {
    option_setters! {
        /// Sets the queue; see [`JobOptions::queue`](crate::JobOptions::queue).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).queue("mails");
        /// ```
        queue(queue: impl Into<String>);

        /// Sets the priority; see [`JobOptions::priority`](crate::JobOptions::priority).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).priority(10);
        /// ```
        priority(priority: i32);

        /// Sets the lock; see [`JobOptions::lock`](crate::JobOptions::lock).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).lock("customer-7");
        /// ```
        lock(lock: impl Into<String>);

        /// Sets the queueing lock; see [`JobOptions::queueing_lock`](crate::JobOptions::queueing_lock).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).queueing_lock("bill-7");
        /// ```
        queueing_lock(queueing_lock: impl Into<String>);

        /// Sets the earliest time at which the job may start; see
        /// [`JobOptions::schedule_at`](crate::JobOptions::schedule_at).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).schedule_at("2030-01-01T08:00:00Z".parse()?);
        /// # Ok::<_, chrono::ParseError>(())
        /// ```
        schedule_at(at: DateTime<Utc>);

        /// Sets the delay before the job may start; see [`JobOptions::schedule_in`](crate::JobOptions::schedule_in).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).schedule_in(std::time::Duration::from_secs(300));
        /// ```
        schedule_in(delay: Duration);

        /// Sets the time by which the job must start; see
        /// [`JobOptions::start_before`](crate::JobOptions::start_before).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).start_before("2100-01-01T08:00:00Z".parse()?);
        /// # Ok::<_, chrono::ParseError>(())
        /// ```
        start_before(time: DateTime<Utc>);

        /// Sets how soon the job must start; see [`JobOptions::start_within`](crate::JobOptions::start_within).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).start_within(std::time::Duration::from_secs(3_600));
        /// ```
        start_within(period: Duration);

        /// Sets the key for limits of each key; see [`JobOptions::limit_key`](crate::JobOptions::limit_key).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).limit_key("tenant-7");
        /// ```
        limit_key(limit_key: impl Into<String>);

        /// Sets a unique key; see [`JobOptions::unique`](crate::JobOptions::unique).
        ///
        /// ```
        /// let job = procrastinate::configure_task("bill", serde_json::json!({})).unique("bill-7");
        /// ```
        unique(key: impl Into<String>);

        /// Sets what happens if another pending job holds the queueing lock; see
        /// [`JobOptions::if_enqueued`](crate::JobOptions::if_enqueued).
        ///
        /// ```
        /// # use procrastinate::{IfEnqueued, configure_task};
        /// let job = configure_task("bill", serde_json::json!({})).queueing_lock("bill-7").if_enqueued(IfEnqueued::Replace);
        /// ```
        if_enqueued(if_enqueued: IfEnqueued);
    }

    /// Sets a unique key that the job also holds for a period after it has ended; see
    /// [`JobOptions::unique_for`](crate::JobOptions::unique_for).
    ///
    /// ```
    /// # use std::time::Duration;
    /// let job = procrastinate::configure_task("bill", serde_json::json!({})).unique_for("bill-7", Duration::from_secs(3_600));
    /// ```
    pub fn unique_for(mut self, key: impl Into<String>, period: Duration) -> Self {
        self.options = self.options.unique_for(key, period);
        self
    }

    /// Keeps the pending job that holds the queueing lock; see
    /// [`JobOptions::unless_enqueued`](crate::JobOptions::unless_enqueued).
    ///
    /// ```
    /// # use procrastinate::{configure_task, JobToDefer};
    /// let job = configure_task("bill", serde_json::json!({})).queueing_lock("bill-7").unless_enqueued();
    /// ```
    pub fn unless_enqueued(mut self) -> Self {
        self.options = self.options.unless_enqueued();
        self
    }
}
