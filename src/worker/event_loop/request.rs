//! What the loop asks of the database, and what it is answered.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::database::connection::{Connection, Connector};
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::job::JobId;
use crate::retry::RetryDecision;
use crate::worker::executor::Finished;
use crate::worker::heartbeat::Report;
use crate::worker::outcome::Outcome;
use crate::worker::settings::{DeleteJobs, Options};
use crate::worker::storage::{
    FinishedAndFetched, finish_and_fetch, jobs_of_worker, register_worker_again, update_heartbeat,
};

/// A question that has no answer yet.
pub(crate) struct UnderWay {
    operation: BoxFuture<'static, Answered>,
    /// When it is not waited for any longer.
    pub(crate) give_up_at: Instant,
}

/// An answer, and the connection for what comes next. One that has failed is dropped, and the pool sees whether it is
/// broken.
pub(crate) type Answered = Result<(Connection, Answer), Error>;

impl UnderWay {
    /// Asks, on the connection that was kept or on one from the pool. The question owns all it needs, so that it can be
    /// left alone.
    pub(crate) fn ask(
        question: Question,
        kept: Option<Connection>,
        connector: Connector,
        longest_wait: Duration,
    ) -> Self {
        let operation = async move {
            let mut connection = match kept {
                Some(connection) => connection,
                None => connector.get("finish jobs and fetch new ones").await?,
            };
            let answer = question.put(&mut connection).await?;
            Ok((connection, answer))
        };
        Self { operation: operation.boxed(), give_up_at: Instant::now() + longest_wait }
    }

    /// Leaves it alone with its connection, which is not fit for anything else. It comes to its end some day: what it stores
    /// and fetches is found, as after an answer that was lost.
    pub(crate) fn abandon(self) {
        tokio::spawn(self.operation);
    }
}

/// The answer to what is under way; never, if nothing is. Dropping this future loses nothing.
pub(crate) async fn answer(under_way: &mut Option<UnderWay>) -> Answered {
    match under_way {
        Some(under_way) => (&mut under_way.operation).await,
        None => pending().await,
    }
}

/// What is asked.
pub(crate) enum Question {
    /// Store the endings of so many jobs, and fetch jobs for so many slots.
    Exchange { stored: usize, free_slots: usize, statement: FinishAndFetchJobs },
    /// Register the worker anew, with the jobs in its hands and their attempts.
    Register { held: Vec<(JobId, i32)> },
    /// Which jobs are the worker's.
    Beat { worker_id: i64 },
    /// Which of these jobs are the worker's, in full.
    Find { worker_id: i64, job_ids: Vec<JobId> },
}

impl Question {
    async fn put(self, connection: &mut Connection) -> Result<Answer, Error> {
        match self {
            Self::Exchange { stored, free_slots, statement } => {
                let answer = finish_and_fetch(connection, statement).await?;
                Ok(Answer::Exchanged { stored, free_slots, answer })
            }
            Self::Register { held } => {
                let (worker_id, kept) = register_worker_again(connection, held).await?;
                Ok(Answer::Registered { worker_id, kept })
            }
            Self::Beat { worker_id } => {
                let sent_at = Instant::now();
                let heartbeat = update_heartbeat(connection, worker_id).await?;
                Ok(Answer::Beaten(Report { worker_id, sent_at, heartbeat }))
            }
            Self::Find { worker_id, job_ids } => {
                Ok(Answer::Found(jobs_of_worker(connection, worker_id, job_ids).await?))
            }
        }
    }
}

/// What is answered.
pub(crate) enum Answer {
    /// The endings of so many jobs are stored, and jobs are fetched for so many slots.
    Exchanged { stored: usize, free_slots: usize, answer: FinishedAndFetched },
    /// The worker is registered anew, and has these of its jobs again.
    Registered { worker_id: i64, kept: Vec<JobId> },
    /// What the database knows of the worker.
    Beaten(Report),
    /// These jobs are the worker's, and it did not know.
    Found(Vec<FetchedJob>),
}

/// Adds the ending of a job to the statement that stores it.
pub(crate) fn add_ending(statement: &mut FinishAndFetchJobs, finished: &Finished, options: &Options) {
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
    let is_deleted = match options.delete_jobs {
        DeleteJobs::Never => false,
        DeleteJobs::Successful => *outcome == Outcome::Succeeded,
        DeleteJobs::Always => !end_status.is_empty(),
    };
    if is_deleted {
        statement.delete(*job_id);
        return;
    }
    if !end_status.is_empty() {
        statement.finish(*job_id, end_status);
    }
    if let Some(error) = outcome.error_to_keep() {
        statement.keep_error(*job_id, *attempts, error, &options.name, *duration);
    }
}
