//! The page of one job.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};

use crate::admin::action::Action;
use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::moment::span;
use crate::admin::pages::PageResult;
use crate::admin::pages::actions::outcome_of;
use crate::admin::pages::address::Address;
use crate::admin::pages::change::{JOB_ACTIONS, VALUE_ACTIONS};
use crate::admin::reading::Reading;
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateAction;
use crate::database::statements::admin::job::{
    ErrorsOfPage, EventsOfPage, JobOfPage, JobsOfLock, MOST_CHARACTERS, ShownError, ShownJob,
};
use crate::database::statements::inspect::{JobFilter, ListJobsQuery};
use crate::error::Error;
use crate::queue::bulk::record::list_actions_on_job;
use crate::queue::explanation::explain;
use crate::queue::explanation::phrase::{Part, Phrase};

/// How many events, errors and jobs of the same lock a page shows.
const MOST: i64 = 50;

/// An event, and how long after the one before.
struct Event {
    label: String,
    at: Option<DateTime<Utc>>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    layout: Layout,
    job: ShownJob,
    arguments_are_hidden: bool,
    /// Whether the reasons show keys, which can come from the arguments.
    shows_keys: bool,
    events: Vec<Event>,
    has_more_events: bool,
    errors: Vec<ShownError>,
    same_lock: Vec<(i64, String, String)>,
    /// Why the job is not running, or what became of it.
    reasons: Vec<Phrase>,
    /// What a change did that the visitor has just made.
    outcome: Option<ProcrastinateAction>,
    /// Whether a form found this job instead of deferring another one: `again`, `kept` or empty.
    defer: String,
    /// What the visitor may do.
    actions: Vec<Action>,
    /// What the visitor may change to another value.
    values: Vec<Action>,
    /// What operators did to the job.
    history: Vec<ProcrastinateAction>,
}

impl JobPage {
    fn is_cut(&self, characters: &i32) -> bool {
        *characters > MOST_CHARACTERS
    }

    fn duration(&self, seconds: &f64) -> String {
        let length = std::time::Duration::try_from_secs_f64(*seconds).ok();
        length.and_then(|length| TimeDelta::from_std(length).ok()).map(span).unwrap_or_default()
    }
}

/// `GET /jobs/{id}`
pub(crate) async fn job(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> PageResult {
    let address = Address::read(&query.unwrap_or_default());
    let missing = || {
        let text = "It was deleted, or it never existed. Finished jobs can be deleted after some time.";
        Problem::new(StatusCode::NOT_FOUND, format!("There is no job {id}"), text)
    };
    let number = id.parse().map_err(|_| missing())?;
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let page = read(layout, number, &address, &mut started.reading).await?;
        started.reading.end().await?;
        Ok::<_, Error>(page)
    };
    let page = found.await.map_err(|error| shared.problem(began, &error))?;
    let mut page = page.ok_or_else(missing)?;
    let shown = shared.shown_arguments(&page.layout.access, &page.job.task, &page.job.arguments);
    page.shows_keys = shared.may_search_arguments(&page.layout.access);
    page.arguments_are_hidden = shown != page.job.arguments;
    page.job.arguments = shown;
    Ok(html(&page))
}

async fn read(layout: Layout, id: i64, address: &Address, reading: &mut Reading) -> Result<Option<JobPage>, Error> {
    let Some(job) = reading.load(JobOfPage { id }).await?.pop() else { return Ok(None) };
    let mut events = reading.load(EventsOfPage { id, limit: MOST + 1 }).await?;
    let has_more_events = i64::try_from(events.len()).is_ok_and(|events| events > MOST);
    events.truncate(usize::try_from(MOST).unwrap_or(usize::MAX));
    events.reverse();
    let errors = if layout.has_companions { reading.load(ErrorsOfPage { id, limit: MOST }).await? } else { Vec::new() };
    let same_lock = match &job.lock {
        Some(lock) => reading.load(JobsOfLock { lock: lock.clone(), limit: MOST }).await?,
        None => Vec::new(),
    };
    let events = timeline(events.into_iter().map(|(kind, at)| (kind, at.into())).collect());
    let reasons = reasons(id, layout.now, reading).await?;
    let outcome = outcome_of(address, &layout, reading).await?;
    let history =
        if layout.has_companions { list_actions_on_job(id.into(), None, 20, reading).await? } else { Vec::new() };
    // A live worker runs the job already.
    let is_stalled = reasons.iter().any(|phrase| phrase.0.iter().any(|part| matches!(part, Part::OrRetry)));
    let is_scheduled = job.scheduled_at.is_some_and(|time| time > layout.now);
    let is_of_use = |action: Action| match action {
        Action::Retry => job.status != "doing" || is_stalled,
        Action::RunNow => is_scheduled,
        _ => true,
    };
    let suits = |action: Action| action.suits(&job.status) && is_of_use(action);
    let is_possible = |action: &Action| layout.has_companions && layout.allows(*action) && suits(*action);
    let actions = JOB_ACTIONS.into_iter().filter(is_possible).collect();
    let values = VALUE_ACTIONS.into_iter().filter(is_possible).collect();
    Ok(Some(JobPage {
        layout,
        job,
        arguments_are_hidden: false,
        shows_keys: false,
        events,
        has_more_events,
        errors,
        same_lock,
        reasons,
        outcome,
        defer: address.get("defer").to_owned(),
        actions,
        values,
        history,
    }))
}

/// Why the job is not running, or what became of it.
async fn reasons(id: i64, now: DateTime<Utc>, reading: &mut Reading) -> Result<Vec<Phrase>, Error> {
    let filter = JobFilter { id: Some(id.into()), ..JobFilter::default() };
    match reading.load(ListJobsQuery { filter, limit: Some(1) }).await?.pop() {
        Some(job) => explain(&job, now, reading).await,
        None => Ok(Vec::new()),
    }
}

/// The events with the time between them. The time of a scheduled event is in the future, so it does not count.
fn timeline(events: Vec<(String, Option<DateTime<Utc>>)>) -> Vec<Event> {
    let mut last: Option<DateTime<Utc>> = None;
    events
        .into_iter()
        .map(|(kind, at)| {
            let is_scheduled = kind == "scheduled";
            let after = at.zip(last).filter(|_| !is_scheduled).map(|(at, last)| span(at.signed_duration_since(last)));
            if !is_scheduled {
                last = at.or(last);
            }
            Event { label: label(&kind), at, after }
        })
        .collect()
}

/// What an event says.
fn label(kind: &str) -> String {
    match kind {
        "deferred" => "deferred".to_owned(),
        "started" => "started".to_owned(),
        "deferred_for_retry" => "will be retried".to_owned(),
        "retried" => "retried manually".to_owned(),
        "abort_requested" => "abort requested".to_owned(),
        "scheduled" => "scheduled for".to_owned(),
        other => other.replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_has_the_time_between_events_but_not_to_the_time_of_a_schedule() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0);
        let kinds = [("scheduled", 3_600), ("deferred", 0), ("started", 3_601), ("succeeded", 3_602)];
        let events = kinds.map(|(kind, seconds)| (kind.to_owned(), at(seconds)));
        let after: Vec<_> = timeline(events.into()).into_iter().map(|event| event.after).collect();
        assert_eq!(after, [None, None, Some("1 h".to_owned()), Some("1 s".to_owned())]);
    }
}
