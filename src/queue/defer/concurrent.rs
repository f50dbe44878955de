//! Defers a job while other defers are in flight: one transaction stores it, and another one notifies workers.
//!
//! PostgreSQL commits transactions that have called `NOTIFY` one after the other, so that listeners receive the
//! notifications in order. Each takes a lock of the whole server and keeps it until its commit is durable
//! (`PreCommit_Notify` in PostgreSQL's source). With many producers, this lock is the bottleneck. A transaction that
//! only notifies has nothing to make durable and holds the lock for microseconds. The transactions that store jobs are
//! made durable together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::Instrument;

use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::statements::Statement;
use crate::database::statements::defer::{AnnounceJob, InsertJob};
use crate::error::Error;
use crate::queue::defer::insert::{CheckedJob, Deferred, NamesOfJob, Notify, insert_or_find};

/// The number of jobs that the application is deferring now, one by one, on connections from its pool.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlightDefers(Arc<AtomicUsize>);

impl InFlightDefers {
    /// Counts one more defer until the returned value is dropped.
    pub(crate) fn enter(&self) -> InFlightDefer {
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlightDefer(self.0.clone())
    }
}

/// A defer that is in flight.
pub(crate) struct InFlightDefer(Arc<AtomicUsize>);

impl InFlightDefer {
    /// Whether other defers are in flight. The result may be outdated, because it only affects speed.
    pub(crate) fn has_others(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Drop for InFlightDefer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stores a job and then notifies workers, on a connection where each statement is a transaction.
///
/// The second step runs even if the caller is dropped in between.
pub(crate) async fn store_and_announce(job: CheckedJob, mut connection: Connection) -> Result<Deferred, Error> {
    let both = async move {
        let NamesOfJob { task_name, queue, .. } = NamesOfJob::of(&job.row);
        let deferred = insert_or_find(job, Notify::Later, &mut connection).await?;
        if let Deferred::New(job_id) = deferred
            && let Err(error) = connection.load(AnnounceJob { job_id, queue }).await
        {
            tracing::warn!(
                action = "announce_job_error",
                job.id = i64::from(job_id),
                job.task_name = %task_name,
                "could not notify workers about job {job_id} of task {task_name}, which is stored; they find it \
                 when they poll next: {error}",
            );
        }
        Ok(deferred)
    };
    match tokio::spawn(both.in_current_span()).await {
        Ok(result) => result,
        Err(error) => Err(Error::Pool { action: InsertJob::ACTION, source: error.into() }),
    }
}
