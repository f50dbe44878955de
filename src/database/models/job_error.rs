use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::ProcrastinateJob;
use crate::job::JobId;
use crate::schema::procrastinate_diesel_job_errors;

/// A row of `procrastinate_diesel_job_errors`: why an attempt at a job did not come to a good end. Workers of this crate
/// write them, one for each such attempt, of which the last hundred of a job are kept; Python's do not. They go with the
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
/// The last error of each of these jobs, in one query:
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
    /// Which attempt it was: 1 for the first.
    pub attempt: i32,
    /// The error with all its sources, or the message of the panic and its place. At most 10,000 bytes are kept.
    pub error: String,
    /// The worker that ran the job; `None` when it died.
    pub worker_id: Option<i64>,
    /// The name of that worker.
    pub worker_name: Option<String>,
    /// How long the attempt took, in seconds; `None` when its worker died.
    pub duration_seconds: Option<f64>,
    /// When it was stored.
    pub at: DateTime<Utc>,
}

impl ProcrastinateJobError {
    /// A query of all errors, with this model as its selection. See
    /// [`ProcrastinateEvent::query`](crate::models::ProcrastinateEvent::query).
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

    /// The errors of this job.
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

    /// The order of the attempts, from the first on.
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

    /// The order of the attempts, from the last on.
    ///
    /// # Example
    ///
    /// See [`ProcrastinateJobError`].
    #[must_use]
    pub fn newest_first() -> dsl::Desc<procrastinate_diesel_job_errors::attempt> {
        procrastinate_diesel_job_errors::attempt.desc()
    }
}
