//! Statements about priorities that age. Their SQL functions are in the migration `…_procrastinate_ageing`.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz, Varchar};

use crate::database::models::ProcrastinatePriorityAgeing;
use crate::database::statements::statement;

/// Lets the priorities of a queue age. It returns whether the settings are new.
pub(crate) struct SetAgeingQuery {
    pub(crate) queue: String,
    pub(crate) every_seconds: f64,
    pub(crate) step: i32,
    pub(crate) max_priority: i32,
}

statement!(
    "let priorities age": SetAgeingQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_set_ageing_v1"(
        queue: Text as "varchar", every_seconds: Double, step: Integer, max_priority: Integer)
);

/// Ends the ageing of a queue. It returns whether there was one.
pub(crate) struct StopAgeingQuery {
    pub(crate) queue: String,
}

statement!(
    "stop the ageing of priorities": StopAgeingQuery -> bool: Bool,
    select "*" from "procrastinate_diesel_stop_ageing_v1"(queue: Text as "varchar")
);

/// All queues whose priorities age, sorted by name.
pub(crate) struct ListPriorityAgeingsQuery;

statement!(
    "list the ageing of priorities":
    ListPriorityAgeingsQuery -> ProcrastinatePriorityAgeing:
    (Varchar, Double, Integer, Integer, Nullable<Timestamptz>, Timestamptz),
    |_, out| {
        out.push_sql(
            "SELECT queue_name, every_seconds, step, max_priority, last_aged_at, changed_at \
             FROM procrastinate_diesel_priority_ageings ORDER BY queue_name COLLATE \"C\"",
        );
        Ok(())
    }
);

/// What a step of ageing did: its queue, how many jobs it raised, and whether to continue immediately. If not, how many
/// seconds to wait. The last value is the error of a job that the database refused to change.
pub(crate) type AgedPriorities = (Option<String>, i64, bool, Option<f64>, Option<String>);

/// Raises the priorities of jobs that have waited, in one queue, and reads about so many jobs.
pub(crate) struct AgePrioritiesQuery {
    /// The time. `None`: the time of the database.
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) most: i32,
}

statement!(
    "raise the priorities of jobs that have waited":
    AgePrioritiesQuery -> AgedPriorities: (Nullable<Text>, BigInt, Bool, Nullable<Double>, Nullable<Text>),
    select "queue_name::text, raised, has_more, wait_seconds, problem"
    from "procrastinate_diesel_age_priorities_v1"(due_at: Nullable<Timestamptz>, most: Integer)
);
