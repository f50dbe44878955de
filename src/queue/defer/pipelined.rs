//! Deferring on a shared connection, at the same time as other statements.

use diesel_async::AsyncPgConnection;

use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::batch::batch_defer;

impl JobToDefer {
    /// Defers the job like [`defer`](Self::defer), but on a shared connection.
    ///
    /// Use it to send several statements at the same time on one connection, for example with `tokio::try_join!`. They
    /// then cost one round trip, once they are prepared on this connection. Statements that are sent at the same time
    /// must not depend on each other's effects.
    ///
    /// `try_join!` returns at the first error and drops the other futures. The server may still run their statements.
    /// So roll the transaction back after an error. Outside of a transaction, the other jobs may be stored.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer). If one statement of a transaction fails, those behind it fail too. `try_join!` may
    /// return the error of any of them.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use diesel_async::AsyncPgConnection;
    /// # use procrastinate::task;
    /// # #[task] async fn welcome(customer: i64) { let _ = customer; }
    /// # #[task] async fn count(customer: i64) { let _ = customer; }
    ///
    /// async fn register(connection: &AsyncPgConnection, customer: i64) -> Result<(), procrastinate::Error> {
    ///     tokio::try_join!(
    ///         welcome(customer).defer_pipelined(connection),
    ///         count(customer).queue("statistics").defer_pipelined(connection),
    ///     )?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn defer_pipelined(self, mut connection: &AsyncPgConnection) -> Result<JobId, Error> {
        self.defer(&mut connection).await
    }

    /// Defers the job like [`defer_unless_enqueued`](Self::defer_unless_enqueued), but on a shared connection.
    ///
    /// With [`defer_pipelined`](Self::defer_pipelined), a taken queueing lock is an error, at which `try_join!` drops
    /// the other futures. Here it is `None`, and the other statements continue.
    ///
    /// # Errors
    ///
    /// As [`defer_pipelined`](Self::defer_pipelined), without [`Error::AlreadyEnqueued`].
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::task;
    /// # #[task] async fn report(year: i32) { let _ = year; }
    /// # async fn example(connection: &diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
    /// let job = |year: i32| report(year).queueing_lock(format!("report-{year}"));
    /// let (this_year, last_year) = tokio::try_join!(
    ///     job(2026).defer_unless_enqueued_pipelined(connection),
    ///     job(2025).defer_unless_enqueued_pipelined(connection),
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer_unless_enqueued_pipelined(
        self,
        mut connection: &AsyncPgConnection,
    ) -> Result<Option<JobId>, Error> {
        self.defer_unless_enqueued(&mut connection).await
    }
}

/// Defers any number of jobs, as [`batch_defer`] does, on a shared connection.
///
/// The jobs of a batch need no pipelining among themselves. Use it to send other statements at the same time. See
/// [`JobToDefer::defer_pipelined`].
///
/// # Errors
///
/// As [`batch_defer`].
///
/// # Example
///
/// ```no_run
/// # use procrastinate::task;
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
/// # #[task] async fn report() {}
/// # async fn example(connection: &diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// let (ids, report) = tokio::try_join!(
///     procrastinate::batch_defer_pipelined((1..=1_000).map(welcome), connection),
///     report().defer_pipelined(connection),
/// )?;
/// # Ok(())
/// # }
/// ```
pub async fn batch_defer_pipelined(
    jobs: impl IntoIterator<Item = JobToDefer>,
    mut connection: &AsyncPgConnection,
) -> Result<Vec<JobId>, Error> {
    batch_defer(jobs, &mut connection).await
}
