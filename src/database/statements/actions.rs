//! Statements of the admin pages that change many jobs, and record who did what.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz};
use serde_json::Value;

use crate::database::models::ProcrastinateAction;
use crate::database::statements::cli::JobSelection;
use crate::database::statements::statement;
use crate::job::{JobId, JobStatus};
use procrastinate_schema::schema::procrastinate_diesel_actions;

/// Who does what to what, with which options.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) actor: String,
    pub(crate) action: &'static str,
    pub(crate) target: String,
    pub(crate) details: Value,
}

/// Records an action that the same transaction does, and returns its ID.
pub(crate) struct RecordAction {
    pub(crate) record: Record,
    /// The job that it has changed.
    pub(crate) job_id: Option<JobId>,
}

statement!(
    "record the action": RecordAction -> i64: BigInt,
    select "*" from "procrastinate_diesel_record_action_v1"(
        record.actor: Text, record.action: Text, record.target: Text, record.details: Jsonb,
        job_id: Nullable<BigInt>)
);

/// Replaces the arguments of a job by this JSON, so that its numbers stay as they are written.
pub(crate) struct SetExactArgs {
    pub(crate) job_id: JobId,
    pub(crate) args: String,
}

statement!(
    "set the arguments": SetExactArgs -> bool: Bool,
    |statement, out| {
        out.push_sql("UPDATE procrastinate_jobs SET args = ");
        out.push_bind_param::<Text, _>(&statement.args)?;
        out.push_sql("::jsonb WHERE id = ");
        out.push_bind_param::<BigInt, _>(&statement.job_id)?;
        out.push_sql(" RETURNING true");
        Ok(())
    }
);

/// Records that a change of many jobs begins. It returns the ID of the action, after which job to begin, and the newest
/// job.
pub(crate) struct BeginAction {
    pub(crate) record: Record,
    /// How many jobs the actor was told that would be changed.
    pub(crate) selected: Option<i64>,
    /// The label of the status that all selected jobs have, if it is known.
    pub(crate) status: Option<&'static str>,
}

statement!(
    "record the action": BeginAction -> (i64, i64, i64): (BigInt, BigInt, BigInt),
    select "action_id, start_after, last_job_id" from "procrastinate_diesel_begin_action_v1"(
        record.actor: Text, record.action: Text, record.target: Text, record.details: Jsonb,
        selected: Nullable<BigInt>, status: Nullable<Text>)
);

/// Records that a change of many jobs has ended with an error. It returns whether it had not ended before.
pub(crate) struct EndAction {
    pub(crate) action_id: i64,
    pub(crate) problem: String,
}

statement!(
    "record the end of the action": EndAction -> bool: Bool,
    select "*" from "procrastinate_diesel_end_action_v1"(action_id: BigInt, problem: Text)
);

/// A change of jobs, as `procrastinate_diesel_change_jobs_v1` takes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangeArgs {
    pub(crate) change: &'static str,
    pub(crate) scheduled_at: Option<DateTime<Utc>>,
    pub(crate) priority: Option<i32>,
    pub(crate) queue: Option<String>,
    /// The label of the status that a job must still have.
    pub(crate) only_status: Option<String>,
}

impl ChangeArgs {
    fn write<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<Text, _>(&self.change)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.scheduled_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Integer>, _>(&self.priority)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, _>(&self.queue)?;
        out.push_sql("::varchar, ");
        out.push_bind_param::<Nullable<Text>, _>(&self.only_status)?;
        Ok(())
    }
}

/// The row of a step: how many jobs were changed, skipped and refused, the first errors, and the job at which the step
/// stopped, if it was not the last one.
pub(crate) type StepRow = (i64, i64, i64, Vec<String>, Option<i64>);

/// Changes these jobs as a step of an action.
pub(crate) struct ChangeJobsByIdQuery {
    pub(crate) action_id: i64,
    pub(crate) job_ids: Vec<JobId>,
    pub(crate) is_last: bool,
    pub(crate) args: ChangeArgs,
}

statement!(
    "change the jobs": ChangeJobsByIdQuery -> StepRow: (BigInt, BigInt, BigInt, Array<Text>, Nullable<BigInt>),
    |statement, out| {
        out.push_sql(
            "SELECT changed, skipped, refused, problems, NULL::bigint FROM procrastinate_diesel_change_some_jobs_v1(",
        );
        out.push_bind_param::<BigInt, _>(&statement.action_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&statement.job_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Bool, _>(&statement.is_last)?;
        out.push_sql(", ");
        statement.args.write(out)?;
        out.push_sql(")");
        Ok(())
    }
);

/// Changes the next selected jobs as a step of an action.
pub(crate) struct ChangeSelectedJobsQuery {
    pub(crate) action_id: i64,
    pub(crate) selection: JobSelection,
    /// Changes only jobs with an ID above `after`, up to `last`.
    pub(crate) after: i64,
    pub(crate) last: i64,
    /// How many jobs to change.
    pub(crate) most: i64,
    /// How many jobs to read, if no index has only the selected ones.
    pub(crate) most_read: i64,
    pub(crate) args: ChangeArgs,
}

statement!(
    filtered "change the jobs": ChangeSelectedJobsQuery -> StepRow:
        (BigInt, BigInt, BigInt, Array<Text>, Nullable<BigInt>),
    |statement, out| {
        statement.write_choice(out)?;
        out.push_sql(
            "SELECT step.changed, step.skipped, step.refused, step.problems, place.stopped_at \
             FROM place CROSS JOIN LATERAL procrastinate_diesel_change_some_jobs_v1(",
        );
        out.push_bind_param::<BigInt, _>(&statement.action_id)?;
        out.push_sql(", ARRAY(SELECT id FROM chosen), place.stopped_at IS NULL, ");
        statement.args.write(out)?;
        out.push_sql(") AS step");
        Ok(())
    }
);

/// How a step finds its jobs. No plan reads the whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// The selected jobs are few, such as the running ones. All of them are read.
    Few,
    /// An index has the selected jobs in the order of their IDs.
    Indexed,
    /// A limited number of jobs is read, in the order of their IDs.
    Window,
}

impl ChangeSelectedJobsQuery {
    fn search(&self) -> Search {
        let JobSelection { filter, are_stalled } = &self.selection;
        match &filter.status {
            _ if *are_stalled || filter.id.is_some() => Search::Few,
            Some(JobStatus::Doing) => Search::Few,
            Some(JobStatus::Failed | JobStatus::Cancelled | JobStatus::Aborted) => Search::Indexed,
            _ => Search::Window,
        }
    }

    /// Writes the tables `chosen`, with the jobs to change, and `place`, with the job at which this step stops.
    fn write_choice<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let search = self.search();
        out.push_sql(
            "WITH seen AS MATERIALIZED (SELECT id, queue_name, task_name, lock, queueing_lock, status, worker_id \
             FROM procrastinate_jobs WHERE id > ",
        );
        out.push_bind_param::<BigInt, _>(&self.after)?;
        out.push_sql(" AND id <= ");
        out.push_bind_param::<BigInt, _>(&self.last)?;
        if search != Search::Window {
            out.push_sql(" AND ");
            self.selection.write(out)?;
        }
        if search != Search::Few {
            out.push_sql(" ORDER BY id LIMIT ");
            out.push_bind_param::<BigInt, _>(if search == Search::Window { &self.most_read } else { &self.most })?;
        }
        out.push_sql("), chosen AS MATERIALIZED (SELECT id FROM seen WHERE ");
        self.selection.write(out)?;
        out.push_sql(" ORDER BY id LIMIT ");
        out.push_bind_param::<BigInt, _>(&self.most)?;
        out.push_sql("), place AS (SELECT CASE WHEN (SELECT count(*) FROM chosen) = ");
        out.push_bind_param::<BigInt, _>(&self.most)?;
        out.push_sql(" THEN (SELECT max(id) FROM chosen)");
        if search == Search::Window {
            out.push_sql(" WHEN (SELECT count(*) FROM seen) = ");
            out.push_bind_param::<BigInt, _>(&self.most_read)?;
            out.push_sql(" THEN (SELECT max(id) FROM seen)");
        }
        out.push_sql(" END AS stopped_at) ");
        Ok(())
    }
}

/// A page of the actions, newest first.
pub(crate) struct PageOfActions {
    pub(crate) beyond: Beyond,
    pub(crate) limit: i64,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beyond {
    /// At the newest action.
    Nothing,
    /// At the next older one than this.
    Before(i64),
    /// The page ends with the next newer one than this.
    After(i64),
}

const SELECT_ACTIONS: &str = "SELECT id, at, actor, action, target, details, selected, changed, skipped, refused, \
    finished_at, problem FROM ";

statement!(
    filtered "list the actions": PageOfActions -> ProcrastinateAction: procrastinate_diesel_actions::SqlType,
    |statement, out| {
        out.push_sql(SELECT_ACTIONS);
        match &statement.beyond {
            Beyond::Nothing => out.push_sql("procrastinate_diesel_actions"),
            Beyond::Before(id) => {
                out.push_sql("procrastinate_diesel_actions WHERE id < ");
                out.push_bind_param::<BigInt, _>(id)?;
            }
            Beyond::After(id) => {
                out.push_sql("(SELECT * FROM procrastinate_diesel_actions WHERE id > ");
                out.push_bind_param::<BigInt, _>(id)?;
                out.push_sql(" ORDER BY id LIMIT ");
                out.push_bind_param::<BigInt, _>(&statement.limit)?;
                out.push_sql(") AS page");
            }
        }
        out.push_sql(" ORDER BY id DESC LIMIT ");
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        Ok(())
    }
);

/// The newest actions that have changed a job, before another action if one is given.
pub(crate) struct ActionsOnJobQuery {
    pub(crate) job_id: JobId,
    pub(crate) before: Option<i64>,
    pub(crate) limit: i32,
}

statement!(
    "list the actions on the job": ActionsOnJobQuery -> ProcrastinateAction: procrastinate_diesel_actions::SqlType,
    |statement, out| {
        out.push_sql(SELECT_ACTIONS);
        out.push_sql("procrastinate_diesel_actions_on_job_v1(");
        out.push_bind_param::<BigInt, _>(&statement.job_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<BigInt>, _>(&statement.before)?;
        out.push_sql(", ");
        out.push_bind_param::<Integer, _>(&statement.limit)?;
        out.push_sql(") AS action ORDER BY id DESC");
        Ok(())
    }
);
