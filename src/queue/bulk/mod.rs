//! Changes of many jobs, and the record of who did what, for the admin pages.
//!
//! | file | purpose |
//! |---|---|
//! | `change` | what is done to each job |
//! | `targets` | which jobs are changed |
//! | `record` | records other actions, and lists actions |
//! | `tests` | all of it on a database |
//!
//! A change is made in steps of up to a thousand jobs. Each step is one statement, which changes the jobs and adds them
//! to the record. So a step is done and recorded, or neither, and a later step cannot undo it.

pub(crate) mod change;
pub(crate) mod record;
pub(crate) mod targets;
#[cfg(test)]
mod tests;

use crate::database::connection::run::Run;
use crate::database::statements::actions::{
    BeginAction, ChangeJobsByIdQuery, ChangeSelectedJobsQuery, EndAction, Record, StepRow,
};
use crate::database::statements::cli::JobSelection;
use crate::database::statements::inspect::JOBS_IN_STEP;
use crate::error::Error;
use crate::job::{JobId, JobStatus};
use crate::queue::bulk::change::Change;
use crate::queue::bulk::targets::Targets;

/// How many jobs a step changes. It takes some hundredths of a second, and the jobs are locked that long.
const STEP_SIZE: usize = 1_000;

/// How many errors are returned.
const MOST_PROBLEMS: usize = 5;

/// A change of many jobs by somebody.
#[derive(Debug, Clone)]
pub(crate) struct BulkChange {
    pub(crate) change: Change,
    pub(crate) targets: Targets,
    /// Who does it, as the application names them.
    pub(crate) actor: String,
    /// How many jobs the actor was told that would be changed.
    pub(crate) selected: Option<i64>,
    /// The newest job when the actor was told. Later ones are not meant.
    pub(crate) newest: Option<i64>,
}

/// What a change of many jobs did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BulkOutcome {
    /// The ID of the action in the record.
    pub(crate) action_id: i64,
    /// How many jobs were changed.
    pub(crate) changed: i64,
    /// How many jobs were left as they are, because their status does not allow the change any more, or they are gone.
    pub(crate) skipped: i64,
    /// How many jobs the database refused to change.
    pub(crate) refused: i64,
    /// The first errors of these jobs.
    pub(crate) problems: Vec<String>,
}

/// How much a step does.
#[derive(Debug, Clone, Copy)]
struct StepSize {
    jobs: usize,
    read: i64,
}

impl BulkChange {
    /// Changes the jobs step by step. On a connection without a transaction, each step is a transaction.
    ///
    /// After an error, the former steps stay done, and the record says so. If the future is dropped, or the database
    /// does not respond, the record has no end. A selection without a status gets the one that the change is for.
    pub(crate) async fn perform<R: Run>(self, run: &mut R) -> Result<BulkOutcome, Error> {
        self.perform_in_steps(StepSize { jobs: STEP_SIZE, read: JOBS_IN_STEP }, run).await
    }

    async fn perform_in_steps<R: Run>(mut self, size: StepSize, run: &mut R) -> Result<BulkOutcome, Error> {
        self.change.check()?;
        self.targets.check()?;
        let status = match &mut self.targets {
            Targets::Ids(ids) | Targets::IdsWithStatus(ids, _) => {
                ids.sort_unstable();
                ids.dedup();
                None
            }
            Targets::Matching(selection) => {
                self.change.narrow(selection)?;
                selection.filter.status.clone()
            }
        };
        let record = Record {
            actor: self.actor,
            action: self.change.label(),
            target: self.targets.describe(),
            details: self.change.details(),
        };
        record.check()?;
        let first_status = matches!(status, Some(JobStatus::Todo)).then_some("todo");
        let begin = BeginAction { record, selected: self.selected, status: first_status };
        let (action_id, after, last) = run.load_one(begin).await?;
        let last = self.newest.map_or(last, |newest| last.min(newest));
        let mut steps = Steps { action_id, size, change: self.change, outcome: BulkOutcome::default() };
        steps.outcome.action_id = action_id;
        let done = match self.targets {
            Targets::Ids(ids) => steps.by_id(&ids, None, run).await,
            Targets::IdsWithStatus(ids, status) => steps.by_id(&ids, Some(&status), run).await,
            Targets::Matching(selection) => steps.selected(&selection, after, last, run).await,
        };
        match done {
            Ok(()) => Ok(steps.outcome),
            // Whether that step was done is not known, and the connection still waits for it.
            Err(error @ Error::NoAnswer { .. }) => Err(error),
            Err(error) => {
                // If this fails too, the record shows an action without an end. The first error says more.
                let _ = run.load(EndAction { action_id, problem: error.to_string() }).await;
                Err(error)
            }
        }
    }
}

/// The steps of a change that was begun.
struct Steps {
    action_id: i64,
    size: StepSize,
    change: Change,
    outcome: BulkOutcome,
}

impl Steps {
    async fn by_id<R: Run>(&mut self, ids: &[JobId], status: Option<&JobStatus>, run: &mut R) -> Result<(), Error> {
        let mut rest = ids;
        loop {
            let (step, later) = rest.split_at(rest.len().min(self.size.jobs));
            let row = run.load_one(ChangeJobsByIdQuery {
                action_id: self.action_id,
                job_ids: step.to_vec(),
                is_last: later.is_empty(),
                args: self.change.args(status),
            });
            self.add(row.await?);
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    async fn selected<R: Run>(
        &mut self,
        selection: &JobSelection,
        mut after: i64,
        last: i64,
        run: &mut R,
    ) -> Result<(), Error> {
        loop {
            let row = run.load_one(ChangeSelectedJobsQuery {
                action_id: self.action_id,
                selection: selection.clone(),
                after,
                last,
                most: i64::try_from(self.size.jobs).unwrap_or(i64::MAX),
                most_read: self.size.read,
                args: self.change.args(selection.filter.status.as_ref()),
            });
            match self.add(row.await?) {
                Some(stopped_at) => after = stopped_at,
                None => return Ok(()),
            }
        }
    }

    /// Adds a step to the outcome, and returns the job at which it stopped.
    fn add(&mut self, (changed, skipped, refused, problems, stopped_at): StepRow) -> Option<i64> {
        self.outcome.changed += changed;
        self.outcome.skipped += skipped;
        self.outcome.refused += refused;
        let room = MOST_PROBLEMS - self.outcome.problems.len();
        self.outcome.problems.extend(problems.into_iter().take(room));
        stopped_at
    }
}
