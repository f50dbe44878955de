use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::ProcrastinateJob;
use crate::schema::procrastinate_periodic_defers;

/// A row of `procrastinate_periodic_defers`: one tick of a periodic task that has been deferred.
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
    /// Its number.
    pub id: i64,
    /// The task.
    pub task_name: String,
    /// The tick, in Unix seconds.
    pub defer_timestamp: Option<i64>,
    /// The job it became, while that job exists.
    pub job_id: Option<i64>,
    /// Tells several schedules of one task apart; empty unless set.
    pub periodic_id: String,
}

impl ProcrastinatePeriodicDefer {
    /// A query of all periodic defers, with this model as its selection. It pins PostgreSQL as the backend, which the function of
    /// the same name in Diesel's `HasQuery` leaves open, so that it can be counted too.
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
