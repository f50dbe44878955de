//! The job manager of an application, on connections from its pool.

use crate::database::connection::Connector;
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::batch::{checked_jobs, defer_all, ids};
use crate::queue::defer::concurrent::ConcurrentDefers;
use crate::queue::defer::if_enqueued::Deferred;
use crate::queue::defer::insert::none_if_enqueued;
use crate::queue::job_manager::Operation;
use crate::queue::listener::Notifications;
use crate::validation::check_name;

/// Defers jobs, executes operations and listens, on connections from the application's pool.
///
/// Get one from [`App::job_manager`](crate::App::job_manager), or in a running job from
/// [`JobContext::job_manager`](crate::JobContext::job_manager). It is cheap to clone. In your own transaction, use
/// [`JobToDefer::defer`](crate::JobToDefer::defer) and [`Operation::execute`] instead.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{JobManager, job_manager::list_queues, task};
///
/// #[task]
/// async fn sum(a: i64, b: i64) {
///     println!("{}", a + b);
/// }
///
/// # async fn example(job_manager: JobManager) -> Result<(), procrastinate::Error> {
/// job_manager.defer(sum(3, 5)).await?;
/// let queues = job_manager.perform(list_queues()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct JobManager {
    connector: Connector,
    defers: ConcurrentDefers,
}

impl JobManager {
    pub(crate) fn new(connector: Connector) -> Self {
        let defers = ConcurrentDefers::new(connector.clone());
        Self { connector, defers }
    }

    /// Defers a job on a connection from the pool. When it returns, the job is committed.
    ///
    /// A lone call sends its statement immediately. Calls that come while this statement is in flight wait for it.
    /// Their jobs then travel together in the next one, with one commit and one notification for each queue. That is
    /// several times faster than a statement for each job, because PostgreSQL commits transactions that notify one
    /// after the other. Clones of the [`App`](crate::App) share statements, and so do threads that block on a call.
    ///
    /// Each call gets the result of its own job. The jobs of a statement get their IDs in the order of the calls. If
    /// the database refuses the statement, each call sends its job alone, so only the refused job fails. The same
    /// happens if the statement has to wait for another transaction for more than 50 ms. A statement has at most 1,000
    /// jobs and about 4 MiB of arguments.
    ///
    /// A job that may replace a pending one ([`if_enqueued`](crate::JobOptions::if_enqueued)) is always sent alone.
    ///
    /// If you drop the future before its statement is sent, the job is not stored. After that, it may be stored.
    ///
    /// # Errors
    ///
    /// As [`JobToDefer::defer`], and [`Error::Pool`] if the pool returns no connection. [`Error::NoAnswer`] if the
    /// server does not respond within 30 seconds. The job may have been stored then, and also if an [`Error::Database`]
    /// says that the connection broke.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn sum(a: i64, b: i64) { let _ = a + b; }
    /// # async fn example(job_manager: procrastinate::JobManager) -> Result<(), procrastinate::Error> {
    /// let id = job_manager.defer(sum(3, 5).priority(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "defer_job")]
    pub async fn defer(&self, job: JobToDefer) -> Result<JobId, Error> {
        self.defer_detailed(job).await.map(Deferred::id)
    }

    /// Does the same as [`defer`](Self::defer), and says whether the job was stored, or whether it has replaced a
    /// pending one.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::{IfEnqueued, task};
    /// # #[task] async fn report() {}
    /// # async fn example(job_manager: procrastinate::JobManager) -> Result<(), procrastinate::Error> {
    /// let job = report().queueing_lock("report").if_enqueued(IfEnqueued::Replace);
    /// println!("{:?}", job_manager.defer_detailed(job).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer_detailed(&self, job: JobToDefer) -> Result<Deferred, Error> {
        self.defers.insert_or_find(job.into_checked_job()?).await
    }

    /// Defers a job like [`defer`](Self::defer), but returns `Ok(None)` if the queueing lock is already taken.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer), without [`Error::AlreadyEnqueued`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn report() {}
    /// # async fn example(job_manager: procrastinate::JobManager) -> Result<(), procrastinate::Error> {
    /// let deferred = job_manager.defer_unless_enqueued(report().queueing_lock("report")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer_unless_enqueued(&self, job: JobToDefer) -> Result<Option<JobId>, Error> {
        none_if_enqueued(self.defer(job.or_fail()).await)
    }

    /// Defers any number of jobs in one statement on a connection from the pool, all or none.
    ///
    /// It returns their IDs in the order of the input.
    ///
    /// # Errors
    ///
    /// As [`batch_defer`](crate::batch_defer()), and [`Error::Pool`] if the pool returns no connection.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn sum(a: i64, b: i64) { let _ = a + b; }
    /// # async fn example(job_manager: procrastinate::JobManager) -> Result<(), procrastinate::Error> {
    /// let ids = job_manager.batch_defer((0..100).map(|n| sum(n, n))).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "batch_defer_jobs")]
    pub async fn batch_defer(&self, jobs: impl IntoIterator<Item = JobToDefer>) -> Result<Vec<JobId>, Error> {
        self.batch_defer_detailed(jobs).await.map(ids)
    }

    /// Does the same as [`batch_defer`](Self::batch_defer), and says for each job whether it was stored, or whether it
    /// has replaced a pending one.
    ///
    /// # Errors
    ///
    /// As [`batch_defer`](Self::batch_defer).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::{Deferred, IfEnqueued, task};
    /// # #[task(queueing_lock = "index-{page}")] async fn index(page: i64) { let _ = page; }
    /// # async fn example(job_manager: procrastinate::JobManager) -> Result<(), procrastinate::Error> {
    /// let jobs = (1..=100).map(|page| index(page).if_enqueued(IfEnqueued::Replace));
    /// let deferred = job_manager.batch_defer_detailed(jobs).await?;
    /// println!("{} jobs are new", deferred.iter().filter(|deferred| deferred.is_new()).count());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn batch_defer_detailed(
        &self,
        jobs: impl IntoIterator<Item = JobToDefer>,
    ) -> Result<Vec<Deferred>, Error> {
        let jobs = checked_jobs(jobs)?;
        let mut connection = self.connector.get("defer the jobs").await?;
        defer_all(jobs, &mut connection).await
    }

    /// Performs an operation of the [job manager](crate::job_manager) on a connection from the pool.
    ///
    /// # Errors
    ///
    /// Those of the operation, and [`Error::Pool`] if the pool returns no connection.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(job_manager: procrastinate::JobManager) -> Result<(), procrastinate::Error> {
    /// for queue in job_manager.perform(procrastinate::job_manager::list_queues()).await? {
    ///     println!("{} pending jobs in {}", queue.todo, queue.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    // Not `execute`, because `diesel_async::RunQueryDsl` gives each type a method of that name.
    pub async fn perform<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        let mut connection = self.connector.get("execute the operation").await?;
        operation.execute_pooled(&mut connection).await
    }

    /// Subscribes to notifications about new jobs and abort requests in these queues, on a dedicated connection.
    ///
    /// An empty list means all queues.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Listening`] if no connection could be established.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use procrastinate::job_manager::Notification;
    ///
    /// # async fn example(job_manager: procrastinate::JobManager) -> Result<(), procrastinate::Error> {
    /// let mut notifications = job_manager.listen_for_jobs(&["mails"]).await?;
    /// while let Notification::JobInserted(id) = notifications.next().await? {
    ///     println!("job {id} was deferred");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn listen_for_jobs(&self, queues: &[&str]) -> Result<Notifications, Error> {
        queues.iter().try_for_each(|queue| check_name("queue name", queue))?;
        let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        Notifications::listen(&self.connector, (!queues.is_empty()).then_some(&queues)).await
    }

    /// Returns the connector that provides the connections.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(job_manager: &procrastinate::JobManager) {
    /// let connector = job_manager.connector().clone();
    /// # }
    /// ```
    #[must_use]
    pub fn connector(&self) -> &Connector {
        &self.connector
    }
}
