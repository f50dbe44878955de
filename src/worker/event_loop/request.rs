//! A request to the database, its response, and the future between them.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::refusals::Mode;
use crate::database::connection::{Connection, Connector};
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::job::JobId;
use crate::retry::RetryDecision;
use crate::worker::executor::Finished;
use crate::worker::heartbeat::HeartbeatReport;
use crate::worker::outcome::Outcome;
use crate::worker::settings::Settings;
use crate::worker::storage::{
    FinishedAndFetched, finish_and_fetch, jobs_of_worker, register_worker_again, update_heartbeat,
};

/// A request that has no response yet.
pub(super) struct InFlight {
    operation: BoxFuture<'static, ResponseOrError>,
    /// When the loop stops waiting for it.
    pub(super) abandon_at: Instant,
}

/// A response, and the connection for what comes next. A connection that has failed is dropped, and the pool tests it.
pub(super) type ResponseOrError = Result<(Connection, Response), Error>;

impl InFlight {
    /// Sends the request on the connection that was kept, or on one from the pool. The future owns all that it needs, so
    /// that it can be detached.
    pub(super) fn send(
        request: Request,
        kept: Option<Connection>,
        connector: Connector,
        longest_wait: Duration,
    ) -> Self {
        let operation = async move {
            let mut connection = match kept {
                Some(connection) => connection,
                None => connector.get("finish jobs and fetch new ones").await?,
            };
            let response = request.send(&mut connection).await?;
            Ok((connection, response))
        };
        Self { operation: operation.boxed(), abandon_at: Instant::now() + longest_wait }
    }

    /// Detaches the request with its connection, which is of no use for anything else. What it stores and fetches is
    /// recovered as after a lost response.
    pub(super) fn abandon(self) {
        tokio::spawn(self.operation);
    }
}

/// The response to the request in flight; pending if there is none. Dropping this future loses nothing.
pub(super) async fn response(in_flight: &mut Option<InFlight>) -> ResponseOrError {
    match in_flight {
        Some(in_flight) => (&mut in_flight.operation).await,
        None => pending().await,
    }
}

/// A request to the database.
pub(super) enum Request {
    /// Store outcomes, and fetch jobs.
    Exchange { sent: Sent, statement: FinishAndFetchJobs },
    /// Register the worker again, with the jobs that it holds and their attempts.
    Register { held: Vec<(JobId, i32)> },
    /// Renew the lease, and list the worker's jobs.
    Heartbeat { worker_id: i64 },
    /// Load those of these jobs that are the worker's.
    Recover { worker_id: i64, job_ids: Vec<JobId> },
}

impl Request {
    async fn send(self, connection: &mut Connection) -> Result<Response, Error> {
        match self {
            Self::Exchange { sent, statement } => {
                let result = finish_and_fetch(connection, statement).await?;
                Ok(Response::Exchanged { sent, result })
            }
            Self::Register { held } => {
                let (worker_id, kept) = register_worker_again(connection, held).await?;
                Ok(Response::Registered { worker_id, kept })
            }
            Self::Heartbeat { worker_id } => {
                let sent_at = Instant::now();
                let heartbeat = update_heartbeat(connection, worker_id).await?;
                Ok(Response::Heartbeat(HeartbeatReport { worker_id, sent_at, heartbeat }))
            }
            Self::Recover { worker_id, job_ids } => {
                Ok(Response::Recovered(jobs_of_worker(connection, worker_id, job_ids).await?))
            }
        }
    }
}

/// What an exchange was to do: how many outcomes to store, in which mode, and for how many slots to fetch jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) mode: Mode,
    pub(super) stored: usize,
    pub(super) free_slots: usize,
}

/// The response to a request.
pub(super) enum Response {
    /// The outcomes are stored, except for those that the database refused, and jobs are fetched.
    Exchanged { sent: Sent, result: FinishedAndFetched },
    /// The worker is registered again, and has these of its jobs.
    Registered { worker_id: i64, kept: Vec<JobId> },
    /// What the database knows of the worker.
    Heartbeat(HeartbeatReport),
    /// These jobs are the worker's, and it did not know them.
    Recovered(Vec<FetchedJob>),
}

/// Adds the outcome of a job to the statement that stores it.
pub(crate) fn add_outcome(statement: &mut FinishAndFetchJobs, finished: &Finished, settings: &Settings) {
    let Finished { job_id, attempts, outcome, duration } = finished;
    let end_status = match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::Aborted { .. } => "aborted",
        Outcome::Retried { decision, .. } | Outcome::Interrupted { decision, .. } => {
            statement.retry(*job_id, *attempts, decision, true);
            ""
        }
        Outcome::Snoozed { decision, .. } => {
            statement.retry(*job_id, *attempts, decision, false);
            ""
        }
        Outcome::NotStarted => {
            statement.retry(*job_id, *attempts, &RetryDecision::at_once(), false);
            ""
        }
    };
    if settings.delete_jobs.deletes(outcome) {
        statement.delete(*job_id);
        return;
    }
    if !end_status.is_empty() {
        statement.finish(*job_id, end_status);
    }
    if let Some(error) = outcome.error_to_keep() {
        statement.keep_error(*job_id, *attempts, error, &settings.name, *duration);
    }
}
