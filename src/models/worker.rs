use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::schema::procrastinate_workers;

/// A row of `procrastinate_workers`: a worker that is running, in whatever language.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::{ProcrastinateJob, ProcrastinateWorker};
///
/// fn busy_with(connection: &mut PgConnection, worker: &ProcrastinateWorker) -> QueryResult<Vec<ProcrastinateJob>> {
///     ProcrastinateJob::belonging_to(worker).select(ProcrastinateJob::as_select()).load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, HasQuery, Identifiable)]
#[diesel(table_name = procrastinate_workers)]
#[diesel(check_for_backend(diesel::pg::Pg))]
#[non_exhaustive]
pub struct ProcrastinateWorker {
    /// Its number: what `procrastinate_jobs.worker_id` refers to.
    pub id: i64,
    /// When it last said that it is alive.
    pub last_heartbeat: DateTime<Utc>,
}
