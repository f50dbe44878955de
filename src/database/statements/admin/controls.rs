//! Pauses and limits, as the pages show and change them.

use diesel::sql_types::{BigInt, Text};

use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::flow_control::SELECT_CONTROLS;
use crate::database::statements::statement;
use procrastinate_schema::schema::procrastinate_diesel_flow_controls;

/// How many pauses and limits a page knows.
pub(crate) const MOST_CONTROLS: i64 = 2_000;

/// The first pauses and limits, by kind and name.
pub(crate) struct ControlsOfPage;

statement!(
    "list the pauses and limits":
    ControlsOfPage -> ProcrastinateFlowControl: procrastinate_diesel_flow_controls::SqlType,
    |_, out| {
        out.push_sql(SELECT_CONTROLS);
        out.push_sql(" ORDER BY kind, name LIMIT ");
        out.push_bind_param::<BigInt, _>(&MOST_CONTROLS)?;
        Ok(())
    }
);

/// The pause and limits of one queue or task, if it has any.
pub(crate) struct ControlOfPage {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// Whether the transaction is about to change them.
    pub(crate) locks: bool,
}

statement!(
    filtered "look up the pause and limits":
    ControlOfPage -> ProcrastinateFlowControl: procrastinate_diesel_flow_controls::SqlType,
    |statement, out| {
        out.push_sql(SELECT_CONTROLS);
        out.push_sql(" AND kind = ");
        out.push_bind_param::<Text, _>(&statement.kind)?;
        out.push_sql(" AND name = ");
        out.push_bind_param::<Text, _>(&statement.name)?;
        out.push_sql("::varchar");
        if statement.locks {
            out.push_sql(" FOR UPDATE");
        }
        Ok(())
    }
);
