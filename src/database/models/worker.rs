use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::stored::StoredTime;
use procrastinate_schema::schema::procrastinate_workers;

/// A row of `procrastinate_workers`: a running worker, in any language.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::{ProcrastinateJob, ProcrastinateWorker};
///
/// fn busy_with(connection: &mut PgConnection, worker: &ProcrastinateWorker) -> QueryResult<Vec<ProcrastinateJob>> {
///     ProcrastinateJob::belonging_to(worker).select(ProcrastinateJob::as_select()).load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, HasQuery, Identifiable)]
#[diesel(table_name = procrastinate_workers)]
#[diesel(check_for_backend(Pg))]
#[cfg_attr(feature = "writable-models", derive(AsChangeset), diesel(treat_none_as_null = true))]
#[non_exhaustive]
pub struct ProcrastinateWorker {
    /// The worker's ID, to which `procrastinate_jobs.worker_id` refers.
    pub id: i64,
    /// The time of its last heartbeat.
    #[diesel(deserialize_as = StoredTime)]
    pub last_heartbeat: DateTime<Utc>,
}

impl ProcrastinateWorker {
    /// Starts a query of all workers, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateWorker;
    ///
    /// let query = ProcrastinateWorker::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_workers::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_workers::table.select(Self::as_select())
    }
}
