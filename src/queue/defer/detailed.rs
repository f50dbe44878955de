//! Deferring with a result that says whether a job was stored, or has replaced or kept a pending one.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_async::{AsyncConnectionCore, AsyncPgConnection};

use crate::database::connection::run::{Async, Blocking, complete};
use crate::error::Error;
use crate::queue::defer::JobToDefer;
use crate::queue::defer::batch::{checked_jobs, defer_all};
use crate::queue::defer::if_enqueued::Deferred;
use crate::queue::defer::insert::insert_or_find;

impl JobToDefer {
    /// Defers the job like [`defer`](Self::defer), and says whether it was stored, or whether it has replaced or kept a
    /// pending one.
    ///
    /// Use it with [`if_enqueued`](Self::if_enqueued). Without this option the job is always new.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer).
    ///
    /// # Example
    ///
    /// See [`Deferred`].
    pub async fn defer_detailed<C>(self, connection: &mut C) -> Result<Deferred, Error>
    where
        C: AsyncConnectionCore<Backend = Pg>,
    {
        insert_or_find(self.into_checked_job()?, &mut Async(connection)).await
    }

    /// Does the same as [`defer_detailed`](Self::defer_detailed) on a blocking connection.
    ///
    /// # Errors
    ///
    /// As [`defer`](Self::defer).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::{IfEnqueued, task};
    /// # #[task] async fn index(page: i64) { let _ = page; }
    /// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
    /// let job = index(7).queueing_lock("index-7").if_enqueued(IfEnqueued::Replace);
    /// println!("{:?}", job.defer_detailed_blocking(connection)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn defer_detailed_blocking<C>(self, connection: &mut C) -> Result<Deferred, Error>
    where
        C: LoadConnection<Backend = Pg>,
    {
        complete(insert_or_find(self.into_checked_job()?, &mut Blocking(connection)))
    }

    /// Does the same as [`defer_detailed`](Self::defer_detailed) on a shared connection.
    ///
    /// Use it to send several statements at the same time. See [`defer_pipelined`](Self::defer_pipelined).
    ///
    /// # Errors
    ///
    /// As [`defer_pipelined`](Self::defer_pipelined).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use procrastinate::{IfEnqueued, task};
    /// # #[task] async fn index(page: i64) { let _ = page; }
    /// # #[task] async fn report() {}
    /// # async fn example(connection: &diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
    /// let job = index(7).queueing_lock("index-7").if_enqueued(IfEnqueued::Replace);
    /// let (index, report) =
    ///     tokio::try_join!(job.defer_detailed_pipelined(connection), report().defer_pipelined(connection))?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn defer_detailed_pipelined(self, mut connection: &AsyncPgConnection) -> Result<Deferred, Error> {
        self.defer_detailed(&mut connection).await
    }
}

/// Defers any number of jobs like [`batch_defer`](crate::batch_defer()), and says for each whether it was stored, or
/// whether it has replaced or kept a pending one.
///
/// The jobs are deferred as if one after the other. So a job can replace an earlier one of the batch.
///
/// # Errors
///
/// As [`batch_defer`](crate::batch_defer()).
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{IfEnqueued, task};
/// # #[task(queueing_lock = "index-{page}")] async fn index(page: i64) { let _ = page; }
/// # async fn example(connection: &mut diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// let jobs = (1..=100).map(|page| index(page).if_enqueued(IfEnqueued::Replace));
/// let deferred = procrastinate::batch_defer_detailed(jobs, connection).await?;
/// println!("{} jobs are new", deferred.iter().filter(|deferred| deferred.is_new()).count());
/// # Ok(())
/// # }
/// ```
pub async fn batch_defer_detailed<C>(
    jobs: impl IntoIterator<Item = JobToDefer>,
    connection: &mut C,
) -> Result<Vec<Deferred>, Error>
where
    C: AsyncConnectionCore<Backend = Pg>,
{
    defer_all(checked_jobs(jobs)?, &mut Async(connection)).await
}

/// Does the same as [`batch_defer_detailed`] on a blocking connection.
///
/// # Errors
///
/// As [`batch_defer`](crate::batch_defer()).
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{IfEnqueued, task};
/// # #[task(queueing_lock = "index-{page}")] async fn index(page: i64) { let _ = page; }
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// let jobs = [7, 8].map(|page| index(page).if_enqueued(IfEnqueued::Replace));
/// let deferred = procrastinate::batch_defer_detailed_blocking(jobs, connection)?;
/// # Ok(())
/// # }
/// ```
pub fn batch_defer_detailed_blocking<C>(
    jobs: impl IntoIterator<Item = JobToDefer>,
    connection: &mut C,
) -> Result<Vec<Deferred>, Error>
where
    C: LoadConnection<Backend = Pg>,
{
    complete(defer_all(checked_jobs(jobs)?, &mut Blocking(connection)))
}

/// Does the same as [`batch_defer_detailed`] on a shared connection.
///
/// Use it to send other statements at the same time. See [`JobToDefer::defer_pipelined`].
///
/// # Errors
///
/// As [`batch_defer`](crate::batch_defer()).
///
/// # Example
///
/// ```no_run
/// # use procrastinate::{IfEnqueued, task};
/// # #[task(queueing_lock = "index-{page}")] async fn index(page: i64) { let _ = page; }
/// # #[task] async fn report() {}
/// # async fn example(connection: &diesel_async::AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// let jobs = [7, 8].map(|page| index(page).if_enqueued(IfEnqueued::Replace));
/// let (deferred, report) = tokio::try_join!(
///     procrastinate::batch_defer_detailed_pipelined(jobs, connection),
///     report().defer_pipelined(connection),
/// )?;
/// # Ok(())
/// # }
/// ```
pub async fn batch_defer_detailed_pipelined(
    jobs: impl IntoIterator<Item = JobToDefer>,
    mut connection: &AsyncPgConnection,
) -> Result<Vec<Deferred>, Error> {
    batch_defer_detailed(jobs, &mut connection).await
}
