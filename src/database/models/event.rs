use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::ProcrastinateJob;
use crate::database::models::stored::StoredTimeOrNone;
use crate::job::{JobEventType, JobId};
use procrastinate_schema::schema::procrastinate_events;

/// A row of `procrastinate_events`: an event in the life of a job.
///
/// Triggers write the events. They are deleted together with the job.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
///
/// fn history(connection: &mut PgConnection, job: &ProcrastinateJob) -> QueryResult<Vec<ProcrastinateEvent>> {
///     ProcrastinateEvent::belonging_to(job)
///         .select(ProcrastinateEvent::as_select())
///         .order(ProcrastinateEvent::oldest_first())
///         .load(connection)
/// }
/// ```
///
/// One query for jobs with their events, which repeats the job for each event:
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::schema::{procrastinate_events, procrastinate_jobs};
/// use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
///
/// fn history(connection: &mut PgConnection) -> QueryResult<Vec<(ProcrastinateJob, Vec<ProcrastinateEvent>)>> {
///     let rows: Vec<(ProcrastinateJob, Option<ProcrastinateEvent>)> = procrastinate_jobs::table
///         .left_join(procrastinate_events::table)
///         .filter(ProcrastinateJob::in_queue("mails"))
///         .order((ProcrastinateJob::newest_first(), ProcrastinateEvent::oldest_first()))
///         .select((ProcrastinateJob::as_select(), Option::<ProcrastinateEvent>::as_select()))
///         .load(connection)?;
///     let mut jobs: Vec<(ProcrastinateJob, Vec<ProcrastinateEvent>)> = Vec::new();
///     for (job, event) in rows {
///         match jobs.last_mut() {
///             Some((last, events)) if last.id == job.id => events.extend(event),
///             _ => jobs.push((job, event.into_iter().collect())),
///         }
///     }
///     Ok(jobs)
/// }
/// ```
///
/// Two queries, for example for one page of jobs that can have many events:
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
///
/// fn events_of(
///     connection: &mut PgConnection,
///     jobs: Vec<ProcrastinateJob>,
/// ) -> QueryResult<Vec<(ProcrastinateJob, Vec<ProcrastinateEvent>)>> {
///     let events: Vec<ProcrastinateEvent> = ProcrastinateEvent::belonging_to(&jobs)
///         .select(ProcrastinateEvent::as_select())
///         .order(ProcrastinateEvent::oldest_first())
///         .load(connection)?;
///     let events = events.grouped_by(&jobs);
///     Ok(jobs.into_iter().zip(events).collect())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, HasQuery, Identifiable, Associations)]
#[diesel(table_name = procrastinate_events)]
#[diesel(belongs_to(ProcrastinateJob, foreign_key = job_id))]
#[diesel(check_for_backend(Pg))]
#[cfg_attr(feature = "writable-models", derive(AsChangeset), diesel(treat_none_as_null = true))]
#[non_exhaustive]
pub struct ProcrastinateEvent {
    /// The event's ID.
    pub id: i64,
    /// The job.
    pub job_id: i64,
    /// The type of the event.
    #[diesel(column_name = type_)]
    pub event_type: Option<JobEventType>,
    /// The time of the event. For [`JobEventType::Scheduled`], the time for which the job was scheduled.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub at: Option<DateTime<Utc>>,
}

impl ProcrastinateEvent {
    /// Starts a query of all events, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateEvent;
    ///
    /// let query = ProcrastinateEvent::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_events::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_events::table.select(Self::as_select())
    }

    /// Selects the events of this job.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobId;
    /// use procrastinate::models::ProcrastinateEvent;
    ///
    /// let query = ProcrastinateEvent::query().filter(ProcrastinateEvent::of_job(JobId::from(7)));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""job_id" = $1"#));
    /// ```
    #[must_use]
    pub fn of_job(job_id: JobId) -> dsl::Eq<procrastinate_events::job_id, JobId> {
        procrastinate_events::job_id.eq(job_id)
    }

    /// Selects the events of this type.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobEventType;
    /// use procrastinate::models::ProcrastinateEvent;
    ///
    /// let query = ProcrastinateEvent::query().filter(ProcrastinateEvent::of_type(JobEventType::Failed));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""type" = $1"#));
    /// ```
    #[must_use]
    pub fn of_type(event_type: JobEventType) -> dsl::Eq<procrastinate_events::type_, JobEventType> {
        procrastinate_events::type_.eq(event_type)
    }

    /// Orders events from the latest to the first.
    ///
    /// # Example
    ///
    /// One query for the latest event of each job:
    ///
    /// ```
    /// use diesel::prelude::*;
    /// use procrastinate::schema::procrastinate_events::job_id;
    /// use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
    ///
    /// fn latest(connection: &mut PgConnection, jobs: &[ProcrastinateJob]) -> QueryResult<Vec<ProcrastinateEvent>> {
    ///     ProcrastinateEvent::belonging_to(jobs)
    ///         .select(ProcrastinateEvent::as_select())
    ///         .distinct_on(job_id)
    ///         .order((job_id, ProcrastinateEvent::newest_first()))
    ///         .load(connection)
    /// }
    /// ```
    #[must_use]
    pub fn newest_first() -> dsl::Desc<procrastinate_events::id> {
        procrastinate_events::id.desc()
    }

    /// Orders events from the first to the latest.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// # use procrastinate::models::ProcrastinateEvent;
    /// let query = ProcrastinateEvent::query().order(ProcrastinateEvent::oldest_first());
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""id" ASC"#));
    /// ```
    #[must_use]
    pub fn oldest_first() -> dsl::Asc<procrastinate_events::id> {
        procrastinate_events::id.asc()
    }
}
