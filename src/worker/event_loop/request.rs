//! Requests to the database, and their responses.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::fetches::Fetch;
use super::refusals::Mode;
use crate::database::connection::{Connection, Connector};
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::job::JobId;
use crate::queue::listener::ping;
use crate::retry::RetryDecision;
use crate::worker::deletion::DeleteJobs;
use crate::worker::executor::Finished;
use crate::worker::outcome::Outcome;
use crate::worker::settings::Settings;
use crate::worker::storage::{FinishedAndFetched, draw_worker_id, finish_and_fetch, jobs_of_worker, reregister_worker};

/// What requests do, for errors.
const ACTION: &str = "finish jobs and fetch new ones";

/// A request without a response yet.
pub(super) struct InFlight(BoxFuture<'static, ResponseOrFailure>);

/// A response and the connection for the next request, or why there is none.
pub(super) type ResponseOrFailure = Result<(Connection, Response), Failure>;

/// Why there is no response.
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether the server may have processed the request, or may process it later: the network can delay it.
    pub(super) is_in_doubt: bool,
}

impl InFlight {
    /// Sends the request on the kept connection, or on one from the pool. After a failure, that connection is not used
    /// again.
    pub(super) fn send(
        request: Request,
        kept: Option<Connection>,
        connector: Connector,
        longest_wait: Duration,
    ) -> Self {
        let operation = async move {
            let deadline = Instant::now() + longest_wait;
            let late = || Error::NoAnswer { action: ACTION, timeout: longest_wait };
            let connection = match kept {
                Some(connection) => Ok(connection),
                None => timeout_at(deadline, connector.get(ACTION)).await.unwrap_or_else(|_| Err(late())),
            };
            let mut connection = connection.map_err(|error| Failure { error, is_in_doubt: false })?;
            match timeout_at(deadline, request.send(&mut connection)).await {
                Ok(Ok(response)) => Ok((connection, response)),
                Ok(Err(error)) => {
                    // The server processes requests in order. If it responds to the next one, this one has failed.
                    let is_in_doubt = ping(&mut connection).await.is_err();
                    if is_in_doubt {
                        connection.discard();
                    }
                    Err(Failure { error, is_in_doubt })
                }
                Err(_) => Err(Failure { error: late(), is_in_doubt: true }),
            }
        };
        Self(operation.boxed())
    }
}

/// Waits for the response to the request in flight. Pending if there is none. Dropping this future loses nothing.
pub(super) async fn response(in_flight: &mut Option<InFlight>) -> ResponseOrFailure {
    match in_flight {
        Some(InFlight(operation)) => operation.await,
        None => pending().await,
    }
}

/// A request to the database.
pub(super) enum Request {
    /// Stores outcomes, and fetches jobs.
    Exchange { sent: Sent, statement: Box<FinishAndFetchJobs> },
    /// Draws an ID under which the worker can re-register.
    DrawId,
    /// Registers the worker under the new ID, with the jobs that it holds and their attempts.
    Reregister { former_id: i64, new_id: i64, held: Vec<(JobId, i32)> },
    /// Loads those of these jobs that belong to the worker.
    Recover { worker_id: i64, job_ids: Vec<JobId> },
}

impl Request {
    async fn send(self, connection: &mut Connection) -> Result<Response, Error> {
        match self {
            Self::Exchange { sent, statement } => {
                let result = finish_and_fetch(connection, *statement).await?;
                Ok(Response::Exchanged { sent, result })
            }
            Self::DrawId => Ok(Response::IdDrawn(draw_worker_id(connection).await?)),
            Self::Reregister { former_id, new_id, held } => {
                let sent_at = Instant::now();
                let held = reregister_worker(connection, former_id, new_id, held).await?;
                Ok(Response::Reregistered { new_id, held, sent_at })
            }
            Self::Recover { worker_id, job_ids } => {
                Ok(Response::Recovered(jobs_of_worker(connection, worker_id, job_ids).await?))
            }
        }
    }
}

/// The task of an exchange: how many outcomes to store, in which mode, and which jobs to fetch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) mode: Mode,
    pub(super) stored: usize,
    pub(super) fetch: Fetch,
}

/// The response to a request.
pub(super) enum Response {
    /// The outcomes are stored, except for those that the database refused, and jobs are fetched.
    Exchanged { sent: Sent, result: FinishedAndFetched },
    /// The worker can re-register under this ID.
    IdDrawn(i64),
    /// The worker is registered under the new ID, and holds these jobs, each with its attempts.
    Reregistered { new_id: i64, held: Vec<(JobId, i32)>, sent_at: Instant },
    /// These jobs belong to the worker, which did not have them.
    Recovered(Vec<FetchedJob>),
}

impl Response {
    /// Whether the database refused to store outcomes or to fetch jobs.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Exchanged { result, .. } if !result.refused.is_empty() || result.fetch_problem.is_some())
    }

    /// Whether it was a fetch that found nothing.
    pub(super) fn is_fruitless(&self) -> bool {
        matches!(self, Self::Exchanged { sent, result } if sent.stored == 0 && result.fetched.is_empty())
    }
}

/// Adds the outcome of a job to the statement that stores it.
pub(crate) fn add_outcome(statement: &mut FinishAndFetchJobs, finished: &Finished, settings: &Settings) {
    let Finished { job_id, attempts, outcome, duration } = finished;
    statement.deletes_failed = settings.delete_jobs == DeleteJobs::Always;
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
    let is_deleted = settings.delete_jobs.deletes(outcome);
    if is_deleted {
        statement.delete(*job_id, *attempts, end_status);
    } else if !end_status.is_empty() {
        statement.finish(*job_id, *attempts, end_status);
    }
    // The error of a deleted job is needed only if the database refuses to delete it.
    let error = outcome.error_to_keep().filter(|_| !is_deleted || statement.one_by_one);
    if let Some(error) = error {
        statement.keep_error(*job_id, *attempts, error, &settings.name, *duration);
    }
}
