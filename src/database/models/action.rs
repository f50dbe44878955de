use chrono::{DateTime, Utc};
use diesel::dsl;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool};

use crate::database::models::stored::{StoredArgs, StoredTime, StoredTimeOrNone};
use crate::job::JobId;
use procrastinate_schema::schema::procrastinate_diesel_actions;

/// A row of `procrastinate_diesel_actions`: who did what to jobs, queues or schedules in the admin pages.
///
/// Actions are kept for about a year.
///
/// # Example
///
/// ```
/// use diesel::prelude::*;
/// use procrastinate::models::ProcrastinateAction;
///
/// fn latest(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinateAction>> {
///     ProcrastinateAction::query().order(ProcrastinateAction::newest_first()).limit(20).load(connection)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, HasQuery, Identifiable)]
#[diesel(table_name = procrastinate_diesel_actions)]
#[diesel(check_for_backend(Pg))]
#[non_exhaustive]
pub struct ProcrastinateAction {
    /// The ID of the action.
    pub id: i64,
    /// When it began.
    #[diesel(deserialize_as = StoredTime)]
    pub at: DateTime<Utc>,
    /// Who did it, as the application names them.
    pub actor: String,
    /// What was done, such as `retry` or `pause`.
    pub action: String,
    /// To what, in words: `job 7`, `queue mails`, `jobs with queue=mails status=failed`.
    pub target: String,
    /// The options of the action, such as a new priority.
    #[diesel(deserialize_as = StoredArgs)]
    pub details: serde_json::Value,
    /// How many jobs the action was for, as the actor was told. `None` if that was not known.
    pub selected: Option<i64>,
    /// How many jobs it has changed so far.
    pub changed: i64,
    /// How many jobs it left as they were, because their status had changed meanwhile.
    pub skipped: i64,
    /// How many jobs the database refused to change.
    pub refused: i64,
    /// When it was finished. `None` while it goes on, and if it was interrupted.
    #[diesel(deserialize_as = StoredTimeOrNone)]
    pub finished_at: Option<DateTime<Utc>>,
    /// The first error: of a job that the database refused to change, or of the action.
    pub problem: Option<String>,
}

impl ProcrastinateAction {
    /// Starts a query of all actions, with this model as its selection.
    ///
    /// Its backend is PostgreSQL, so it can also be counted. Diesel's `HasQuery::query` leaves the backend open.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateAction;
    ///
    /// let query = ProcrastinateAction::query().count();
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("COUNT"));
    /// ```
    #[must_use]
    pub fn query() -> dsl::Select<procrastinate_diesel_actions::table, dsl::AsSelect<Self, Pg>> {
        procrastinate_diesel_actions::table.select(Self::as_select())
    }

    /// Selects the actions of this actor.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::models::ProcrastinateAction;
    ///
    /// let query = ProcrastinateAction::query().filter(ProcrastinateAction::by("anna"));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains(r#""actor" = $1"#));
    /// ```
    #[must_use]
    pub fn by(actor: &str) -> dsl::Eq<procrastinate_diesel_actions::actor, &str> {
        procrastinate_diesel_actions::actor.eq(actor)
    }

    /// Selects the actions that have changed this job.
    ///
    /// # Example
    ///
    /// ```
    /// # use diesel::prelude::*;
    /// use procrastinate::JobId;
    /// use procrastinate::models::ProcrastinateAction;
    ///
    /// let query = ProcrastinateAction::query().filter(ProcrastinateAction::on_job(JobId::from(7)));
    /// # assert!(diesel::debug_query::<diesel::pg::Pg, _>(&query).to_string().contains("@> ARRAY[$1]"));
    /// ```
    #[must_use]
    pub fn on_job(job: impl Into<JobId>) -> ActionsOnJob {
        ActionsOnJob(job.into())
    }

    /// Orders actions from the newest to the oldest.
    ///
    /// # Example
    ///
    /// See [`ProcrastinateAction`].
    #[must_use]
    pub fn newest_first() -> dsl::Desc<procrastinate_diesel_actions::id> {
        procrastinate_diesel_actions::id.desc()
    }
}

/// The condition for actions that have changed a job.
///
/// # Example
///
/// See [`ProcrastinateAction::on_job`].
#[derive(Debug, Clone, Copy)]
pub struct ActionsOnJob(JobId);

impl Expression for ActionsOnJob {
    type SqlType = Bool;
}

impl<QS> AppearsOnTable<QS> for ActionsOnJob where procrastinate_diesel_actions::id: AppearsOnTable<QS> {}

impl<QS> SelectableExpression<QS> for ActionsOnJob where procrastinate_diesel_actions::id: SelectableExpression<QS> {}

impl ValidGrouping<()> for ActionsOnJob {
    type IsAggregate = is_aggregate::No;
}

impl QueryId for ActionsOnJob {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Pg> for ActionsOnJob {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            r#""procrastinate_diesel_actions"."id" = ANY (ARRAY(
                SELECT chunk.action_id FROM procrastinate_diesel_action_jobs AS chunk WHERE chunk.job_ids @> ARRAY["#,
        );
        out.push_bind_param::<BigInt, _>(&self.0)?;
        out.push_sql("]))");
        Ok(())
    }
}
