use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::ProcrastinateJob;
use procrastinate_schema::schema::procrastinate_periodic_defers;

/// A row of `procrastinate_periodic_defers`: a deferred tick of a periodic task.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinatePeriodicDefer;
/// use procrastinate::schema::procrastinate_periodic_defers::dsl;
///
/// fn last_tick(connection: &mut PgConnection, task: &str) -> QueryResult<Option<ProcrastinatePeriodicDefer>> {
///     ProcrastinatePeriodicDefer::query()
///         .filter(dsl::task_name.eq(task))
///         .order(dsl::defer_timestamp.desc())
///         .first(connection)
///         .optional()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, HasQuery, Identifiable, Associations)]
#[diesel(table_name = procrastinate_periodic_defers)]
#[diesel(belongs_to(ProcrastinateJob, foreign_key = job_id))]
#[diesel(check_for_backend(Pg))]
#[cfg_attr(feature = "writable-models", derive(AsChangeset), diesel(treat_none_as_null = true))]
#[non_exhaustive]
pub struct ProcrastinatePeriodicDefer {
    /// The row's ID.
    pub id: i64,
    /// The task.
    pub task_name: String,
    /// The tick, in Unix seconds.
    pub defer_timestamp: Option<i64>,
    /// The job of the tick, while that job exists.
    pub job_id: Option<i64>,
    /// The name that tells several schedules of one task apart. Default: empty.
    pub periodic_id: String,
}

impl ProcrastinatePeriodicDefer {
    /// Starts a query of all deferred ticks, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinatePeriodicDefer;
    ///
    /// let query = ProcrastinatePeriodicDefer::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_periodic_defers::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_periodic_defers::table.select(Self::as_select())
    }
}
