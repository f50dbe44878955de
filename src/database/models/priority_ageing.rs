use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::database::models::stored::{StoredTime, StoredTimeOrNone};
use procrastinate_schema::schema::procrastinate_diesel_priority_ageings;

/// A row of `procrastinate_diesel_priority_ageings`: a queue whose pending jobs gain priority while they wait.
///
/// Change it with [`age_priorities`](crate::job_manager::age_priorities()) and
/// [`stop_ageing`](crate::job_manager::stop_ageing()).
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinatePriorityAgeing;
///
/// fn ageing(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinatePriorityAgeing>> {
///     ProcrastinatePriorityAgeing::query().load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, HasQuery, Identifiable)]
#[diesel(table_name = procrastinate_diesel_priority_ageings)]
#[diesel(primary_key(queue_name))]
#[diesel(check_for_backend(Pg))]
#[non_exhaustive]
pub struct ProcrastinatePriorityAgeing {
    /// The name of the queue.
    pub queue_name: String,
    /// The period. A job gains `step` for each full period that it has waited.
    pub every_seconds: f64,
    /// How much priority a job gains in a period.
    pub step: i32,
    /// The highest priority that a job reaches by waiting.
    pub max_priority: i32,
    /// When the workers last began to raise the priorities of all its jobs. `None` before the first time.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub last_aged_at: Option<DateTime<Utc>>,
    /// The time of the last change of the settings.
    #[diesel(deserialize_as = StoredTime)]
    pub changed_at: DateTime<Utc>,
}

impl ProcrastinatePriorityAgeing {
    /// Starts a query of all queues whose priorities age, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinatePriorityAgeing;
    ///
    /// let query = ProcrastinatePriorityAgeing::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_diesel_priority_ageings::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_diesel_priority_ageings::table.select(Self::as_select())
    }
}
