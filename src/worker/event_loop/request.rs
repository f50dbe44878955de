//! Requests to the database, and their responses.

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
    FinishedAndFetched, finish_and_fetch, jobs_of_worker, reregister_worker, update_heartbeat,
};

/// A request without a response yet.
pub(super) struct InFlight {
    operation: BoxFuture<'static, ResponseOrError>,
    /// When the loop abandons the request.
    pub(super) abandon_at: Instant,
}

/// A response, and the connection for the next request. After an error the connection is dropped, and the pool tests
/// it.
pub(super) type ResponseOrError = Result<(Connection, Response), Error>;

impl InFlight {
    /// Sends the request on the kept connection, or on one from the pool. The future owns everything it needs, so it
    /// can be detached.
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

    /// Detaches the request with its connection, which cannot be used for anything else. Its effects are recovered in
    /// the same way as after a lost response.
    pub(super) fn abandon(self) {
        tokio::spawn(self.operation);
    }
}

/// Waits for the response to the request in flight. Pending if there is none. Dropping this future loses nothing.
pub(super) async fn response(in_flight: &mut Option<InFlight>) -> ResponseOrError {
    match in_flight {
        Some(in_flight) => (&mut in_flight.operation).await,
        None => pending().await,
    }
}

/// A request to the database.
pub(super) enum Request {
    /// Stores outcomes, and fetches jobs.
    Exchange { sent: Sent, statement: FinishAndFetchJobs },
    /// Registers the worker again, with the jobs that it holds and their attempts.
    Register { held: Vec<(JobId, i32)> },
    /// Renews the lease, and lists the worker's jobs.
    Heartbeat { worker_id: i64 },
    /// Loads those of these jobs that belong to the worker.
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
                let (worker_id, kept) = reregister_worker(connection, held).await?;
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

/// The task of an exchange: how many outcomes to store, in which mode, and for how many slots to fetch jobs.
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
    /// The worker is registered again, and holds these of its jobs.
    Registered { worker_id: i64, kept: Vec<JobId> },
    /// The result of a heartbeat.
    Heartbeat(HeartbeatReport),
    /// These jobs belong to the worker, which did not have them.
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
