use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::stored::{StoredTime, StoredTimeOrNone};
use procrastinate_schema::schema::procrastinate_diesel_flow_controls;

/// A row of `procrastinate_diesel_flow_controls`: a queue or task that is paused or limited.
///
/// Change it with the operations of the [job manager](crate::job_manager), such as
/// [`pause_queue`](crate::job_manager::pause_queue()) and [`limit_task`](crate::job_manager::limit_task()).
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinateFlowControl;
/// use procrastinate::schema::procrastinate_diesel_flow_controls::paused_at;
///
/// fn paused(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinateFlowControl>> {
///     ProcrastinateFlowControl::query().filter(paused_at.is_not_null()).load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, HasQuery, Identifiable)]
#[diesel(table_name = procrastinate_diesel_flow_controls)]
#[diesel(primary_key(kind, name))]
#[diesel(check_for_backend(Pg))]
#[non_exhaustive]
pub struct ProcrastinateFlowControl {
    /// `queue` or `task`.
    pub kind: String,
    /// The name of the queue or task.
    pub name: String,
    /// When it was paused. `None` if it is not paused.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why it was paused.
    pub pause_reason: Option<String>,
    /// Whether periodic tasks defer no jobs during the pause.
    pub skips_ticks: bool,
    /// How many of its jobs may run at the same time. `None` if that is not limited.
    pub max_running: Option<i32>,
    /// How many of its jobs may start within any period of `start_period_seconds`. `None` if that is not limited.
    pub max_starts: Option<i32>,
    /// The period of `max_starts`.
    pub start_period_seconds: Option<f64>,
    /// Where the key of a job is in its arguments, as names of nested fields. `None` if there is no limit for each key.
    pub key_path: Option<Vec<Option<String>>>,
    /// How many of the jobs of each key may run at the same time. `None` if that is not limited.
    pub key_max_running: Option<i32>,
    /// How many of the jobs of each key may start within any period of `key_start_period_seconds`. `None` if that is
    /// not limited.
    pub key_max_starts: Option<i32>,
    /// The period of `key_max_starts`.
    pub key_start_period_seconds: Option<f64>,
    /// The time of the last change.
    #[diesel(deserialize_as = StoredTime)]
    pub changed_at: DateTime<Utc>,
    /// When the limit for each key was set, or the place of the key was changed.
    #[diesel(deserialize_as = StoredTime)]
    pub keys_changed_at: DateTime<Utc>,
}

/// The query of all pauses and limits.
type FlowControlsQuery = dsl::Filter<
    dsl::Select<procrastinate_diesel_flow_controls::table, dsl::AsSelect<ProcrastinateFlowControl, Pg>>,
    dsl::NotEq<procrastinate_diesel_flow_controls::kind, &'static str>,
>;

/// The kind of the rows that only say that some jobs must start by some time.
const DEADLINE: &str = "deadline";

impl ProcrastinateFlowControl {
    /// Starts a query of all pauses and limits, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateFlowControl;
    ///
    /// let query = ProcrastinateFlowControl::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> FlowControlsQuery {
        let table = procrastinate_diesel_flow_controls::table;
        table.select(Self::as_select()).filter(procrastinate_diesel_flow_controls::kind.ne(DEADLINE))
    }

    /// Whether no job of it starts.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::models::ProcrastinateFlowControl;
    ///
    /// fn paused(controls: &[ProcrastinateFlowControl]) -> usize {
    ///     controls.iter().filter(|control| control.is_paused()).count()
    /// }
    /// ```
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }
}
