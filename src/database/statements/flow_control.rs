//! Statements that pause and limit queues and tasks. Their SQL functions are in the migration
//! `…_procrastinate_flow_control` and `…_procrastinate_limits_per_key`.

use diesel::sql_types::{Array, Bool, Double, Integer, Nullable, Text};

#[cfg(feature = "cli")]
use crate::database::migrations::FETCHES_PAST_FLOW_CONTROL;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::statement;
use procrastinate_schema::schema::procrastinate_diesel_flow_controls;

/// Pauses a queue or task. It returns whether it was not paused before.
pub(crate) struct PauseQuery {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) paused_by: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) skips_ticks: bool,
}

statement!(
    "pause": PauseQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_pause_v1"(
        kind: Text, name: Text as "varchar", paused_by: Nullable<Text>, reason: Nullable<Text>, skips_ticks: Bool)
);

/// Resumes a queue or task. It returns whether it was paused.
pub(crate) struct ResumeQuery {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
}

statement!(
    "resume": ResumeQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_resume_v1"(kind: Text, name: Text as "varchar")
);

/// Sets the limit of a queue or task, or removes it if all numbers are `None`. It returns whether there is or was one.
pub(crate) struct SetLimitQuery {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) max_running: Option<i32>,
    pub(crate) max_starts: Option<i32>,
    pub(crate) start_period_seconds: Option<f64>,
}

statement!(
    "set the limit": SetLimitQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_set_limit_v1"(
        kind: Text, name: Text as "varchar", max_running: Nullable<Integer>, max_starts: Nullable<Integer>,
        start_period_seconds: Nullable<Double>)
);

/// Sets the limit for each key of a queue or task, or removes it if there is no path. It returns whether there is or
/// was one.
pub(crate) struct LimitKeysQuery {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) path: Option<Vec<String>>,
    pub(crate) max_running: Option<i32>,
    pub(crate) max_starts: Option<i32>,
    pub(crate) start_period_seconds: Option<f64>,
}

statement!(
    "set the limit for each key": LimitKeysQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_limit_keys_v1"(
        kind: Text, name: Text as "varchar", path: Nullable<Array<Text>>, max_running: Nullable<Integer>,
        max_starts: Nullable<Integer>, start_period_seconds: Nullable<Double>)
);

/// A query of pauses and limits, to which conditions can be added.
pub(crate) const SELECT_CONTROLS: &str = "SELECT kind, name, paused_at, paused_by, pause_reason, skips_ticks, \
    max_running, max_starts, start_period_seconds, key_path, key_max_running, key_max_starts, \
    key_start_period_seconds, changed_at, keys_changed_at FROM procrastinate_diesel_flow_controls WHERE kind <> 'deadline'";

/// All pauses and limits, sorted by kind and name.
pub(crate) struct ListFlowControlsQuery;

statement!(
    "list the pauses and limits":
    ListFlowControlsQuery -> ProcrastinateFlowControl: procrastinate_diesel_flow_controls::SqlType,
    |_, out| {
        out.push_sql(SELECT_CONTROLS);
        out.push_sql(" ORDER BY kind, name");
        Ok(())
    }
);

/// Whether the table of pauses and limits exists.
#[cfg(any(feature = "cli", feature = "admin"))]
pub(crate) struct FlowControlsExist;

#[cfg(any(feature = "cli", feature = "admin"))]
statement!("look for pauses and limits": FlowControlsExist -> bool: Bool, |_, out| {
    out.push_sql("SELECT to_regclass('procrastinate_diesel_flow_controls') IS NOT NULL");
    Ok(())
});

/// The functions that fetch jobs without regard to pauses and limits, as one text, or NULL.
#[cfg(feature = "cli")]
pub(crate) struct FetchesPastFlowControl;

#[cfg(feature = "cli")]
statement!("look for functions that fetch jobs": FetchesPastFlowControl -> Option<String>: Nullable<Text>, |_, out| {
    out.push_sql(FETCHES_PAST_FLOW_CONTROL);
    Ok(())
});
