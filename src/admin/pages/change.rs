//! Changes of jobs: of one, of a selection, or of all that match a filter.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use chrono::NaiveDateTime;

use crate::admin::action::Action;
use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::address::{Address, count, label};
use crate::admin::pages::forms::FormBody;
use crate::admin::pages::forms::recorded::has_companions;
use crate::admin::pages::{PageResult, without_companions};
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::jobs::{CountMatching, NewestJob};
use crate::error::Error;
use crate::job::{JobId, JobStatus, STATUSES};
use crate::queue::bulk::change::Change;
use crate::queue::bulk::targets::Targets;
use crate::queue::bulk::{BulkChange, BulkOutcome};
use crate::support::values;

/// How a browser sends a time.
const TIME_FORMATS: [&str; 2] = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];

/// How long the server may take for one step of a change.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// What can be done to jobs with a button, in this order.
pub(crate) const JOB_ACTIONS: [Action; 5] =
    [Action::Retry, Action::RunNow, Action::Cancel, Action::Abort, Action::Delete];

/// What takes a value, for a single job.
pub(crate) const VALUE_ACTIONS: [Action; 3] = [Action::Reschedule, Action::ChangePriority, Action::ChangeQueue];

/// The fields of the form.
#[derive(Debug, Default)]
struct Form {
    action: String,
    /// The new time, priority or queue.
    value: String,
    /// The selected jobs, each with the status that the visitor has seen, as in `7:failed`.
    ids: Vec<String>,
    /// The status of the job whose page the visitor has seen.
    seen: String,
    /// The query of the list of jobs, whose jobs are changed if there are no IDs.
    query: String,
    is_confirmed: bool,
    selected: Option<i64>,
    newest: Option<i64>,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    layout: Layout,
    action: Action,
    ids: Vec<String>,
    query: String,
    /// How many jobs there are, up to the ceiling.
    selected: i64,
    /// The newest job. Later ones are not changed.
    newest: Option<i64>,
    /// Whether there can be more than that, because not all jobs were searched.
    is_minimum: bool,
    filter: Vec<(String, String)>,
}

impl ConfirmPage {
    fn count(&self) -> String {
        count(self.selected)
    }
}

impl Form {
    fn read(body: &str) -> Self {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body.as_bytes()) {
            match &*name {
                "action" => form.action = value.into_owned(),
                "value" => form.value = value.into_owned(),
                "seen" => form.seen = value.into_owned(),
                "id" => form.ids.push(value.into_owned()),
                "query" => form.query = value.into_owned(),
                "confirmed" => form.is_confirmed = value == "yes",
                "selected" => form.selected = value.parse().ok(),
                "newest" => form.newest = value.parse().ok(),
                _ => {}
            }
        }
        form
    }

    /// The change that the action makes.
    fn change(&self, action: Action) -> Result<Change, Problem> {
        let wrong = |rule: &str| unusable(format!("{:?} must be {rule}.", self.value));
        Ok(match action {
            Action::Retry => Change::Retry { at: None, priority: None, queue: None },
            Action::RunNow => Change::RunNow,
            Action::Cancel => Change::Cancel,
            Action::Abort => Change::Abort,
            Action::Delete => Change::Delete,
            Action::Reschedule => {
                let time = TIME_FORMATS
                    .iter()
                    .find_map(|format| NaiveDateTime::parse_from_str(self.value.trim(), format).ok());
                Change::Reschedule { at: time.ok_or_else(|| wrong("a time, such as 2030-01-31T12:00"))?.and_utc() }
            }
            Action::ChangePriority => Change::Priority(
                values::priority(&self.value).map_err(|rule| unusable(format!("{:?} {rule}.", self.value)))?,
            ),
            Action::ChangeQueue => Change::Queue(self.value.clone()),
            _ => return Err(unusable("It is not about jobs.".to_owned())),
        })
    }

    /// The selected jobs, as long as they have the status that the visitor has seen.
    fn selected(&self, address: &Address) -> Result<Targets, Problem> {
        let seen = if self.seen.is_empty() { address.get("status") } else { &self.seen };
        let mut statuses = BTreeSet::new();
        let mut ids = Vec::new();
        for text in &self.ids {
            let (id, status) = text.split_once(':').unwrap_or((text, seen));
            ids.push(job_id(id)?);
            statuses.insert(status);
        }
        let seen = statuses.pop_first().unwrap_or_default();
        if !statuses.is_empty() {
            return Err(unusable("The selected jobs have several statuses. Select jobs of one status.".to_owned()));
        }
        if seen.is_empty() {
            return Ok(Targets::Ids(ids));
        }
        let status = STATUSES.into_iter().find(|status| status.as_str() == seen);
        let status = status.ok_or_else(|| unusable(format!("{seen:?} is not the status of a job.")))?;
        Ok(Targets::IdsWithStatus(ids, status))
    }
}

pub(crate) fn job_id(text: &str) -> Result<JobId, Problem> {
    let number: i64 = text.parse().map_err(|_| unusable(format!("{text:?} is not the ID of a job.")))?;
    Ok(JobId::from(number))
}

/// Aborting a pending job cancels it, which is an action of its own.
fn only_running(action: Action, targets: &Targets) -> Result<(), Problem> {
    let is_running = match targets {
        Targets::IdsWithStatus(_, status) => *status == JobStatus::Doing,
        Targets::Matching(selection) => selection.filter.status == Some(JobStatus::Doing),
        Targets::Ids(_) => false,
    };
    if action == Action::Abort && !is_running {
        return Err(unusable("Only running jobs can be aborted. Cancel pending ones.".to_owned()));
    }
    Ok(())
}

/// Refuses a request that makes no sense.
pub(crate) fn unusable(text: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "The request cannot be used", format!("Nothing was changed. {text}"))
}

/// The action of a form, if the visitor may do it.
pub(crate) fn requested(known: &[Action], name: &str, layout: &Layout) -> Result<Action, Problem> {
    let known = known.iter().copied().find(|action| action.as_str() == name);
    let action = known.ok_or_else(|| unusable(format!("There is no action {name:?}.")))?;
    allowed(layout, action)?;
    Ok(action)
}

/// Refuses an action that the visitor may not do.
pub(crate) fn allowed(layout: &Layout, action: Action) -> Result<(), Problem> {
    if layout.allows(action) {
        return Ok(());
    }
    let text = format!("Nothing was changed. The application does not allow you to {}.", action.label());
    Err(Problem::new(StatusCode::FORBIDDEN, "You cannot do this", text))
}

/// `POST /jobs/{id}/change`
pub(crate) async fn change_job(
    State(shared): State<Arc<Shared>>,
    layout: Layout,
    Path(id): Path<String>,
    FormBody(body): FormBody,
) -> PageResult {
    let mut form = Form::read(&body);
    let action = requested(&[&JOB_ACTIONS[..], &VALUE_ACTIONS[..]].concat(), &form.action, &layout)?;
    form.ids = vec![id.clone()];
    let targets = form.selected(&Address::default())?;
    only_running(action, &targets)?;
    let outcome = perform(&shared, layout.visitor(), form.change(action)?, targets, (Some(1), None)).await?;
    // A deleted job has no page any more.
    let page = if action == Action::Delete && outcome.changed > 0 { "jobs".to_owned() } else { format!("jobs/{id}") };
    Ok(Redirect::to(&format!("{}{page}?outcome={}", layout.root, outcome.action_id)).into_response())
}

/// `POST /jobs/change`
pub(crate) async fn change_jobs(
    State(shared): State<Arc<Shared>>,
    layout: Layout,
    FormBody(body): FormBody,
) -> PageResult {
    let form = Form::read(&body);
    let action = requested(&JOB_ACTIONS, &form.action, &layout)?;
    let address = Address::read(&form.query);
    let targets = if form.ids.is_empty() { Targets::Matching(address.selection()?) } else { form.selected(&address)? };
    only_running(action, &targets)?;
    if !form.is_confirmed {
        return confirm(&shared, layout, action, form, targets).await;
    }
    let told = (form.selected, form.newest);
    let outcome = perform(&shared, layout.visitor(), form.change(action)?, targets, told).await?;
    let query = address.with("outcome", &outcome.action_id.to_string());
    Ok(Redirect::to(&format!("{}jobs?{query}", layout.root)).into_response())
}

/// Shows what would be changed.
async fn confirm(shared: &Shared, mut layout: Layout, action: Action, form: Form, targets: Targets) -> PageResult {
    let mut newest = None;
    let (selected, has_more) = match targets {
        Targets::Matching(_) => {
            let mut filter = Address::read(&form.query).filter(layout.now)?;
            let mut started = shared.read().await?;
            let began = started.began();
            let counted = async {
                started.complete(&mut layout).await?;
                filter.has_companions = layout.has_companions;
                newest = started.reading.load(NewestJob).await?.pop();
                let counted = started.reading.load_one(CountMatching(filter)).await?;
                started.reading.end().await?;
                Ok::<_, Error>(counted)
            };
            let counted = counted.await.map_err(|error| shared.problem(began, &error))?;
            if !layout.has_companions {
                return Err(without_companions());
            }
            counted
        }
        Targets::Ids(ids) | Targets::IdsWithStatus(ids, _) => {
            shared.need_companions(&mut layout).await?;
            (i64::try_from(ids.len()).unwrap_or(i64::MAX), false)
        }
    };
    let address = Address::read(&form.query);
    let filter = address.fields().into_iter().map(|(name, value)| (label(name), value.to_owned())).collect();
    let is_minimum = has_more && selected <= CEILING;
    Ok(html(&ConfirmPage { layout, action, ids: form.ids, query: form.query, selected, newest, is_minimum, filter }))
}

async fn perform(
    shared: &Shared,
    visitor: &str,
    change: Change,
    targets: Targets,
    (selected, newest): (Option<i64>, Option<i64>),
) -> Result<BulkOutcome, Problem> {
    let change = BulkChange { change, targets, actor: visitor.to_owned(), selected, newest };
    let connection = shared.app.connector().get_limited("change jobs", STEP_TIMEOUT).await;
    let performed = async {
        let mut connection = connection?;
        if !has_companions(&mut connection).await? {
            return Ok(None);
        }
        change.perform(&mut connection).await.map(Some)
    };
    let outcome = performed.await.map_err(|error| {
        if matches!(error, Error::Invalid { .. }) {
            return unusable(format!("{error}."));
        }
        tracing::warn!(action = "admin_error", "could not change jobs: {error}");
        if matches!(error, Error::NoAnswer { .. }) {
            let text = format!("{error}. It may still change them. The page of actions says what was changed.");
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The database works on the change", text);
        }
        let text = format!("{error}. The page of actions says what was changed before.");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The jobs could not be changed", text)
    })?;
    outcome.ok_or_else(without_companions)
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn a_form_can_have_many_ids() {
        let form = Form::read("action=retry&id=1&id=22&query=status%3Dfailed&confirmed=yes&selected=2&other=x");
        assert_eq!((form.action.as_str(), form.query.as_str()), ("retry", "status=failed"));
        assert_eq!((form.ids.len(), form.is_confirmed, form.selected), (2, true, Some(2)));
    }
}
