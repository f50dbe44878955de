//! The connection with which due jobs are deferred.

use std::time::Duration;

use tokio::time::timeout;

use crate::database::connection::{Connection, Connector};
use crate::database::statements::periodic::DeferPeriodicJob;
use crate::error::Error;
use crate::queue::defer::tick::{TickOutcome, defer_periodic_job, defer_periodic_jobs};

/// How long the server may take to respond.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why something could not be done in the database.
pub(super) enum Failure {
    /// The database cannot be reached at the moment.
    Away(String),
    /// The job is invalid, or the database returned an error.
    Refused(String),
}

/// The connection of one call.
#[derive(Debug)]
pub(super) struct Session {
    connector: Connector,
    connection: Option<Connection>,
    /// Why there is no connection. One failed attempt is enough.
    is_away: Option<String>,
}

impl Session {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, connection: None, is_away: None }
    }

    /// Defers one job.
    pub(super) async fn defer(&mut self, job: Result<DeferPeriodicJob, Error>) -> Result<TickOutcome, Failure> {
        let job = job.map_err(|error| Failure::Refused(error.to_string()))?;
        self.run("defer the periodic task", async |connection: &mut Connection| {
            defer_periodic_job(job, connection).await
        })
        .await
    }

    /// Defers several jobs in one statement, all or none.
    pub(super) async fn defer_all(&mut self, jobs: Vec<DeferPeriodicJob>) -> Result<Vec<TickOutcome>, Failure> {
        self.run("defer the periodic tasks", async |connection: &mut Connection| {
            defer_periodic_jobs(jobs, connection).await
        })
        .await
    }

    /// Runs statements on the connection, or on a new one. A connection that has failed is not used again.
    pub(super) async fn run<T>(
        &mut self,
        action: &'static str,
        statements: impl AsyncFnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        if let Some(reason) = &self.is_away {
            return Err(Failure::Away(reason.clone()));
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match self.connector.get(action).await {
                Ok(connection) => connection,
                Err(error) => return Err(self.away(error.to_string())),
            },
        };
        match timeout(ANSWER_TIMEOUT, statements(&mut connection)).await {
            Ok(Ok(result)) => {
                self.connection = Some(connection);
                Ok(result)
            }
            Ok(Err(error)) => Err(Failure::Refused(error.to_string())),
            Err(_) => Err(self.away(format!("the server did not respond within {ANSWER_TIMEOUT:?}"))),
        }
    }

    fn away(&mut self, reason: String) -> Failure {
        self.is_away = Some(reason.clone());
        Failure::Away(reason)
    }

    /// Returns the connection to the pool.
    pub(super) fn release(&mut self) {
        self.connection = None;
        self.is_away = None;
    }
}
