use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::ProcrastinateJob;
use crate::database::models::stored::StoredTimeOrNone;
use crate::job::JobId;
use procrastinate_schema::schema::procrastinate_diesel_job_options;

/// A row of `procrastinate_diesel_job_options`: options that few jobs have.
///
/// A job without such an option has no row. The row of a deleted job is deleted some time later.
///
/// # Example
///
/// The jobs that were cancelled because no worker has started them in time:
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::JobId;
/// use procrastinate::models::ProcrastinateJobOptions;
/// use procrastinate::schema::procrastinate_diesel_job_options::is_expired;
///
/// fn expired(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinateJobOptions>> {
///     ProcrastinateJobOptions::query().filter(is_expired).load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, HasQuery, Identifiable, Associations)]
#[diesel(table_name = procrastinate_diesel_job_options)]
#[diesel(primary_key(job_id))]
#[diesel(belongs_to(ProcrastinateJob, foreign_key = job_id))]
#[diesel(check_for_backend(Pg))]
#[non_exhaustive]
pub struct ProcrastinateJobOptions {
    /// The job.
    pub job_id: i64,
    /// The time by which the job must start. `None` if it may start at any time.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub start_before: Option<DateTime<Utc>>,
    /// The key for limits of each key.
    pub limit_key: Option<String>,
    /// When the job was compared with `start_before`, once that time had come.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub checked_at: Option<DateTime<Utc>>,
    /// Whether the job was cancelled because it had not started before `start_before`.
    pub is_expired: bool,
}

impl ProcrastinateJobOptions {
    /// Starts a query of the options of all jobs, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateJobOptions;
    ///
    /// let query = ProcrastinateJobOptions::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_diesel_job_options::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_diesel_job_options::table.select(Self::as_select())
    }

    /// Selects the options of a job.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobId;
    /// use procrastinate::models::ProcrastinateJobOptions;
    ///
    /// fn is_expired(connection: &mut PgConnection, job: JobId) -> QueryResult<bool> {
    ///     let options = ProcrastinateJobOptions::query().filter(ProcrastinateJobOptions::of_job(job));
    ///     let options: Option<ProcrastinateJobOptions> = options.first(connection).optional()?;
    ///     Ok(options.is_some_and(|options| options.is_expired))
    /// }
    /// ```
    #[must_use]
    pub fn of_job(job: impl Into<JobId>) -> dsl::Eq<procrastinate_diesel_job_options::job_id, JobId> {
        procrastinate_diesel_job_options::job_id.eq(job.into())
    }
}
