//! Statements about the schedules of periodic tasks.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz};
use serde_json::Value;

use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::statement;
use procrastinate_schema::schema::procrastinate_diesel_schedules;

/// After this time, a schedule that no worker has in its code any more can be removed.
const REMOVABLE_AFTER: &str = "interval '2 hours'";

/// What identifies a schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScheduleKey {
    pub(crate) task_name: String,
    pub(crate) periodic_id: String,
}

impl ScheduleKey {
    fn write<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(" WHERE task_name = ");
        out.push_bind_param::<Text, _>(&self.task_name)?;
        out.push_sql(" AND periodic_id = ");
        out.push_bind_param::<Text, _>(&self.periodic_id)
    }
}

/// Creates a schedule with these values, by column. It returns whether there was none.
///
/// In all statements, `at` is the time of a test. `None` means the time of the database.
#[derive(Debug)]
pub(crate) struct CreateScheduleQuery {
    pub(crate) key: ScheduleKey,
    pub(crate) values: Value,
    pub(crate) at: Option<DateTime<Utc>>,
}

statement!(
    "create the schedule": CreateScheduleQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_create_schedule_v1"(
        key.task_name: Text, key.periodic_id: Text, values: Jsonb, at: Nullable<Timestamptz>)
);

/// Changes these values of a schedule in the database, by column. It returns whether there is one.
#[derive(Debug)]
pub(crate) struct ChangeScheduleQuery {
    pub(crate) key: ScheduleKey,
    pub(crate) values: Value,
    pub(crate) at: Option<DateTime<Utc>>,
}

statement!(
    "change the schedule": ChangeScheduleQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_change_schedule_v1"(
        key.task_name: Text, key.periodic_id: Text, values: Jsonb, at: Nullable<Timestamptz>)
);

/// Pauses a schedule. It returns no row if there is none that is active.
#[derive(Debug)]
pub(crate) struct PauseScheduleQuery {
    pub(crate) key: ScheduleKey,
    pub(crate) by: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) at: Option<DateTime<Utc>>,
}

statement!("pause the schedule": PauseScheduleQuery -> bool: Bool, |statement, out| {
    out.push_sql("UPDATE procrastinate_diesel_schedules SET paused_at = coalesce(");
    out.push_bind_param::<Nullable<Timestamptz>, _>(&statement.at)?;
    out.push_sql(", now()), paused_by = ");
    out.push_bind_param::<Nullable<Text>, _>(&statement.by)?;
    out.push_sql(", pause_reason = ");
    out.push_bind_param::<Nullable<Text>, _>(&statement.reason)?;
    statement.key.write(out)?;
    out.push_sql(" AND paused_at IS NULL RETURNING true");
    Ok(())
});

/// Resumes a schedule. It returns no row if there is none that is paused.
#[derive(Debug)]
pub(crate) struct ResumeScheduleQuery {
    pub(crate) key: ScheduleKey,
    pub(crate) at: Option<DateTime<Utc>>,
}

statement!("resume the schedule": ResumeScheduleQuery -> bool: Bool, |statement, out| {
    out.push_sql(
        "UPDATE procrastinate_diesel_schedules SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, \
         ticks_after = coalesce(",
    );
    out.push_bind_param::<Nullable<Timestamptz>, _>(&statement.at)?;
    out.push_sql(", now())");
    statement.key.write(out)?;
    out.push_sql(" AND paused_at IS NOT NULL RETURNING true");
    Ok(())
});

/// Removes a schedule. It returns no row if there is none, or if a worker has it in its code.
#[derive(Debug)]
pub(crate) struct RemoveScheduleQuery {
    pub(crate) key: ScheduleKey,
    pub(crate) at: Option<DateTime<Utc>>,
}

statement!("remove the schedule": RemoveScheduleQuery -> bool: Bool, |statement, out| {
    out.push_sql("DELETE FROM procrastinate_diesel_schedules");
    statement.key.write(out)?;
    out.push_sql(" AND (seen_in_code_at IS NULL OR seen_in_code_at < coalesce(");
    out.push_bind_param::<Nullable<Timestamptz>, _>(&statement.at)?;
    out.push_sql(", now()) - ");
    out.push_sql(REMOVABLE_AFTER);
    out.push_sql(") RETURNING true");
    Ok(())
});

/// Asks workers to run the task of a schedule now. It returns no row if there is no such schedule.
#[derive(Debug)]
pub(crate) struct RunScheduleQuery {
    pub(crate) key: ScheduleKey,
    pub(crate) at: Option<DateTime<Utc>>,
}

statement!("run the schedule": RunScheduleQuery -> bool: Bool, |statement, out| {
    out.push_sql("UPDATE procrastinate_diesel_schedules SET run_requested_at = coalesce(run_requested_at, ");
    out.push_bind_param::<Nullable<Timestamptz>, _>(&statement.at)?;
    out.push_sql(", now())");
    statement.key.write(out)?;
    out.push_sql(" RETURNING true");
    Ok(())
});

/// Reads all schedules or one of them, each with its latest tick in Unix seconds, sorted.
#[derive(Debug)]
pub(crate) struct ListSchedulesQuery {
    pub(crate) key: Option<ScheduleKey>,
}

statement!(
    filtered "list the schedules": ListSchedulesQuery -> (ProcrastinateSchedule, Option<i64>):
        (procrastinate_diesel_schedules::SqlType, Nullable<BigInt>),
    |statement, out| {
        out.push_sql(
            "SELECT task_name, periodic_id, cron, interval_seconds, time_zone, args, queue_name, priority, lock, \
             queueing_lock, start_within_seconds, limit_key, missed_ticks, max_delay_seconds, overlap, ticks_after, \
             paused_at, paused_by, pause_reason, run_requested_at, last_job_id, seen_in_code_at, created_at, \
             changed_at, version, \
             (SELECT max(tick.defer_timestamp) FROM procrastinate_periodic_defers AS tick \
             WHERE tick.task_name = schedule.task_name AND tick.periodic_id = schedule.periodic_id) \
             FROM procrastinate_diesel_schedules AS schedule",
        );
        if let Some(key) = &statement.key {
            key.write(out)?;
        }
        out.push_sql(" ORDER BY task_name COLLATE \"C\", periodic_id COLLATE \"C\"");
        Ok(())
    }
);

/// Writes the schedules that a worker has in its code. It returns how many rows were written.
#[derive(Debug)]
pub(crate) struct RegisterSchedulesQuery {
    /// An array of objects with names of columns.
    pub(crate) schedules: Value,
}

statement!(
    "register the schedules": RegisterSchedulesQuery -> i32: Integer,
    select "*" from "procrastinate_diesel_register_schedules_v1"(schedules: Jsonb)
);
