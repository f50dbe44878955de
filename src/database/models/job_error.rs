use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::ProcrastinateJob;
use crate::database::models::stored::StoredTime;
use crate::job::JobId;
use procrastinate_schema::schema::procrastinate_diesel_job_errors;

/// A row of `procrastinate_diesel_job_errors`: the error of a failed attempt at a job.
///
/// Only workers of this crate write them. The last hundred errors of a job are kept. They are deleted together with the
/// job.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::{ProcrastinateJob, ProcrastinateJobError};
///
/// fn last_error(connection: &mut PgConnection, job: &ProcrastinateJob) -> QueryResult<Option<ProcrastinateJobError>> {
///     ProcrastinateJobError::belonging_to(job)
///         .select(ProcrastinateJobError::as_select())
///         .order(ProcrastinateJobError::newest_first())
///         .first(connection)
///         .optional()
/// }
/// ```
///
/// One query for the last error of each job:
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::schema::procrastinate_diesel_job_errors::job_id;
/// use procrastinate::models::{ProcrastinateJob, ProcrastinateJobError};
///
/// fn last_errors(
///     connection: &mut PgConnection,
///     jobs: &[ProcrastinateJob],
/// ) -> QueryResult<Vec<ProcrastinateJobError>> {
///     ProcrastinateJobError::belonging_to(jobs)
///         .select(ProcrastinateJobError::as_select())
///         .distinct_on(job_id)
///         .order((job_id, ProcrastinateJobError::newest_first()))
///         .load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, HasQuery, Identifiable, Associations)]
#[diesel(table_name = procrastinate_diesel_job_errors)]
#[diesel(primary_key(job_id, attempt))]
#[diesel(belongs_to(ProcrastinateJob, foreign_key = job_id))]
#[diesel(check_for_backend(Pg))]
#[non_exhaustive]
pub struct ProcrastinateJobError {
    /// The job.
    pub job_id: i64,
    /// The number of the attempt. The first one is 1.
    pub attempt: i32,
    /// The error with all its sources, or the message and location of the panic. At most 10,000 bytes are kept.
    pub error: String,
    /// The worker that ran the job. `None` if the worker died.
    pub worker_id: Option<i64>,
    /// The name of that worker.
    pub worker_name: Option<String>,
    /// How long the attempt took, in seconds. `None` if the worker died.
    pub duration_seconds: Option<f64>,
    /// The time when the error was stored.
    #[diesel(deserialize_as = StoredTime)]
    pub at: DateTime<Utc>,
}

impl ProcrastinateJobError {
    /// Starts a query of all errors, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateJobError;
    ///
    /// let query = ProcrastinateJobError::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_diesel_job_errors::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_diesel_job_errors::table.select(Self::as_select())
    }

    /// Selects the errors of this job.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobId;
    /// use procrastinate::models::ProcrastinateJobError;
    ///
    /// let query = ProcrastinateJobError::query().filter(ProcrastinateJobError::of_job(JobId::from(7)));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""job_id" = $1"#));
    /// ```
    #[must_use]
    pub fn of_job(job_id: JobId) -> dsl::Eq<procrastinate_diesel_job_errors::job_id, JobId> {
        procrastinate_diesel_job_errors::job_id.eq(job_id)
    }

    /// Orders errors from the first attempt to the last.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateJobError;
    /// let query = ProcrastinateJobError::query().order(ProcrastinateJobError::oldest_first());
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""attempt" ASC"#));
    /// ```
    #[must_use]
    pub fn oldest_first() -> dsl::Asc<procrastinate_diesel_job_errors::attempt> {
        procrastinate_diesel_job_errors::attempt.asc()
    }

    /// Orders errors from the last attempt to the first.
    ///
    /// # Example
    ///
    /// See [`ProcrastinateJobError`].
    #[must_use]
    pub fn newest_first() -> dsl::Desc<procrastinate_diesel_job_errors::attempt> {
        procrastinate_diesel_job_errors::attempt.desc()
    }
}
