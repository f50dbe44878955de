//! Schedules with their last ticks, and the ticks of programs that do not write their schedules.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::admin::job::MOST_CHARACTERS;
use crate::database::statements::schedules::ScheduleKey;
use crate::database::statements::statement;
use procrastinate_schema::schema::procrastinate_diesel_schedules;

/// A schedule, and what became of its last tick. Lists do not have its arguments.
#[derive(Debug, Clone, diesel::Queryable)]
pub(crate) struct ListedSchedule {
    pub(crate) schedule: ProcrastinateSchedule,
    /// In Unix seconds.
    pub(crate) last_tick: Option<i64>,
    /// The job of the last tick. It may be deleted.
    pub(crate) tick_job_id: Option<i64>,
    /// The last job, of a tick or of a request, with its status and whether it has a queueing lock.
    pub(crate) last_job_id: Option<i64>,
    pub(crate) last_job_status: Option<String>,
    pub(crate) has_queueing_lock: Option<bool>,
    /// The pending job with the queueing lock of the schedule.
    pub(crate) holder_id: Option<i64>,
}

type ListedScheduleSql = (
    procrastinate_diesel_schedules::SqlType,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Bool>,
    Nullable<BigInt>,
);

/// Reads schedules in the order of the primary key.
pub(crate) struct ListOfSchedules {
    /// Only the schedules after this one.
    pub(crate) after: Option<ScheduleKey>,
    /// Only those of this task.
    pub(crate) task: Option<String>,
    pub(crate) limit: i64,
}

/// Reads one schedule.
pub(crate) struct ScheduleOfPage {
    pub(crate) key: ScheduleKey,
}

fn write_columns(args: &str, out: &mut AstPass<'_, '_, Pg>) {
    out.push_sql("SELECT schedule.task_name, schedule.periodic_id, cron, interval_seconds, time_zone, ");
    out.push_sql(args);
    out.push_sql(
        ", schedule.queue_name, schedule.priority, schedule.lock, schedule.queueing_lock, start_within_seconds, \
         limit_key, missed_ticks, max_delay_seconds, overlap, ticks_after, paused_at, paused_by, pause_reason, run_requested_at, last_job_id, \
         seen_in_code_at, created_at, changed_at, version, \
         tick.defer_timestamp, tick.job_id, last.id, last.status::text, last.queueing_lock IS NOT NULL, \
         (SELECT holder.id FROM procrastinate_jobs AS holder \
          WHERE holder.status = 'todo' AND holder.queueing_lock = schedule.queueing_lock) \
         FROM (SELECT * FROM procrastinate_diesel_schedules",
    );
}

/// Each subquery has a limit, so that the planner cannot read a whole table instead.
const WHAT_BECAME_OF_IT: &str = ") AS schedule \
     LEFT JOIN LATERAL ( \
        SELECT known.defer_timestamp, known.job_id FROM procrastinate_periodic_defers AS known \
        WHERE known.task_name = schedule.task_name AND known.periodic_id = schedule.periodic_id \
          AND known.defer_timestamp IS NOT NULL \
        ORDER BY known.defer_timestamp DESC LIMIT 1) AS tick ON true \
     LEFT JOIN LATERAL ( \
        SELECT job.id, job.status, job.queueing_lock FROM procrastinate_jobs AS job \
        WHERE job.id = greatest(schedule.last_job_id, tick.job_id) LIMIT 1) AS last ON true \
     ORDER BY schedule.task_name, schedule.periodic_id";

fn write_key<'b>(key: &'b ScheduleKey, operator: &str, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql(" (task_name, periodic_id) ");
    out.push_sql(operator);
    out.push_sql(" (");
    out.push_bind_param::<Text, _>(&key.task_name)?;
    out.push_sql("::varchar, ");
    out.push_bind_param::<Text, _>(&key.periodic_id)?;
    out.push_sql("::varchar)");
    Ok(())
}

statement!(
    filtered "list the schedules": ListOfSchedules -> ListedSchedule: ListedScheduleSql,
    |statement, out| {
        write_columns("'{}'::jsonb", &mut out.reborrow());
        out.push_sql(" WHERE true");
        if let Some(task) = &statement.task {
            out.push_sql(" AND task_name = ");
            out.push_bind_param::<Text, _>(task)?;
        }
        if let Some(key) = &statement.after {
            out.push_sql(" AND");
            write_key(key, ">", &mut out.reborrow())?;
        }
        out.push_sql(" ORDER BY task_name, periodic_id LIMIT ");
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        out.push_sql(WHAT_BECAME_OF_IT);
        Ok(())
    }
);

statement!(
    "look up the schedule": ScheduleOfPage -> ListedSchedule: ListedScheduleSql,
    |statement, out| {
        write_columns("schedule.args", &mut out.reborrow());
        out.push_sql(" WHERE");
        write_key(&statement.key, "=", &mut out.reborrow())?;
        out.push_sql(WHAT_BECAME_OF_IT);
        Ok(())
    }
);

/// The arguments of a schedule as the server writes them, so that large numbers are exact, and their length.
pub(crate) struct ArgumentsOfSchedule {
    pub(crate) key: ScheduleKey,
}

statement!(
    "look up the schedule": ArgumentsOfSchedule -> (String, i32): (Text, Integer),
    |statement, out| {
        out.push_sql(&format!(
            "SELECT left(jsonb_pretty(args), {MOST_CHARACTERS}), length(jsonb_pretty(args)) \
             FROM procrastinate_diesel_schedules WHERE"
        ));
        write_key(&statement.key, "=", &mut out.reborrow())
    }
);

/// Locks a schedule, and reads its version, whether it is in code, and its arguments.
pub(crate) struct LockSchedule {
    pub(crate) key: ScheduleKey,
}

statement!(
    "lock the schedule": LockSchedule -> (i64, String): (BigInt, Text),
    |statement, out| {
        out.push_sql("SELECT version, jsonb_pretty(args) FROM procrastinate_diesel_schedules WHERE");
        write_key(&statement.key, "=", &mut out.reborrow())?;
        out.push_sql(" FOR NO KEY UPDATE");
        Ok(())
    }
);

/// The last ticks of periodic tasks that have no schedule in the table, such as those of Python's workers: the task,
/// its `periodic_id`, the tick, and its job. They are among the newest rows.
pub(crate) struct TicksWithoutSchedule {
    /// Whether there is a table of schedules.
    pub(crate) has_companions: bool,
    pub(crate) limit: i64,
}

/// A row of [`TicksWithoutSchedule`].
pub(crate) type TickWithoutSchedule = (String, String, Option<DateTime<Utc>>, Option<i64>);

/// How many of the newest ticks are read.
const NEWEST_TICKS: i64 = 1_000;

statement!(
    filtered "list the ticks": TicksWithoutSchedule -> TickWithoutSchedule:
        (Text, Text, Nullable<Timestamptz>, Nullable<BigInt>),
    |statement, out| {
        out.push_sql(&format!(
            "SELECT DISTINCT ON (newest.task_name, newest.periodic_id) newest.task_name::text, \
                newest.periodic_id::text, \
                CASE WHEN newest.defer_timestamp BETWEEN -62135596800 AND 253402300799 \
                     THEN to_timestamp(newest.defer_timestamp) END, newest.job_id \
             FROM (SELECT * FROM procrastinate_periodic_defers ORDER BY id DESC LIMIT {NEWEST_TICKS}) AS newest"
        ));
        if statement.has_companions {
            out.push_sql(
                " WHERE NOT EXISTS (SELECT FROM procrastinate_diesel_schedules AS schedule \
                 WHERE schedule.task_name = newest.task_name AND schedule.periodic_id = newest.periodic_id \
                 OFFSET 0)",
            );
        }
        out.push_sql(" ORDER BY newest.task_name, newest.periodic_id, newest.defer_timestamp DESC LIMIT ");
        out.push_bind_param::<BigInt, _>(&statement.limit)?;
        Ok(())
    }
);
