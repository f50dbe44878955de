//! Deferring one job while other tasks of the program do so, too: it is stored in one transaction and announced in another.
//!
//! PostgreSQL commits transactions that have notified one after the other, so that listeners hear of them in their order: each
//! takes one lock of the whole server, and keeps it until its commit is durable (`PreCommit_Notify` in its source). With many
//! producers that is what they wait for. A transaction that does nothing but notify has nothing to make durable, and keeps the
//! lock for microseconds; the ones that store become durable together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::Instrument;

use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::statements::Statement;
use crate::database::statements::defer::{AnnounceJob, InsertJob, NewJob, StoreJob};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::defer::NamesOfJob;

/// How many jobs an application is deferring at this time, one by one, on connections of its pool. Written by each of those
/// calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlightDefers(Arc<AtomicUsize>);

impl InFlightDefers {
    /// One more, until this is dropped.
    pub(crate) fn enter(&self) -> InFlightDefer {
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlightDefer(self.0.clone())
    }
}

/// A call among those that are under way.
pub(crate) struct InFlightDefer(Arc<AtomicUsize>);

impl InFlightDefer {
    /// Whether there are others. What they do next is open, so this may be wrong either way; it decides about speed alone.
    pub(crate) fn has_others(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Drop for InFlightDefer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stores a job and then announces it, on a connection where each statement is a transaction. The caller may go away
/// meanwhile: what was stored is announced all the same.
pub(crate) async fn store_and_announce(job: NewJob, mut connection: Connection) -> Result<JobId, Error> {
    let both = async move {
        let names = NamesOfJob::of(&job);
        let stored = connection.load(StoreJob(job)).await?;
        let job_id = names.deferred(stored.first().copied().flatten())?;
        let NamesOfJob { task_name, queue, .. } = names;
        if let Err(error) = connection.load(AnnounceJob { job_id, queue }).await {
            tracing::warn!(
                action = "announce_job_error",
                job.id = i64::from(job_id),
                job.task_name = %task_name,
                "job {job_id} of task {task_name} is stored, but could not be announced; workers find it when they next \
                 look for jobs: {error}",
            );
        }
        Ok(job_id)
    };
    match tokio::spawn(both.in_current_span()).await {
        Ok(result) => result,
        Err(error) => Err(Error::Pool { action: InsertJob::ACTION, source: error.into() }),
    }
}
