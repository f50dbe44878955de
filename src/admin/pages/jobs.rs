//! The list of jobs.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};

use crate::admin::action::Action;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::actions::outcome_of;
use crate::admin::pages::address::{Address, count, grouped, unsuccessful};
use crate::admin::pages::change::JOB_ACTIONS;
use crate::admin::reading::Reading;
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateAction;
use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::jobs::{
    Cursor, EndOfWindow, FirstJobSince, ListOfJobs, ListedJob, PageFilter, WINDOWS,
};
use crate::database::statements::admin::locks::{LOCK_CEILING, LocksByName};
use crate::database::statements::admin::overview::CountByStatus;
use crate::error::Error;
use crate::job::JobStatus;

/// How many jobs a page lists.
const PAGE_SIZE: i64 = 25;

/// A status with its number of jobs, as a link.
struct Tab {
    label: &'static str,
    query: String,
    count: Option<String>,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    layout: Layout,
    address: Address,
    tabs: Vec<Tab>,
    jobs: Vec<ListedJob>,
    /// The addresses of the next pages.
    newer: Option<String>,
    older: Option<String>,
    /// The last job that was passed by, if the search stopped before the end.
    searched_to: Option<i64>,
    is_filtered: bool,
    /// Whether the filter has more than a status.
    has_details: bool,
    window: String,
    /// Whether a text is searched in errors only.
    skips_arguments: bool,
    windows: [i64; 3],
    /// What a change did that the visitor has just made.
    outcome: Option<ProcrastinateAction>,
    /// What the visitor may do.
    actions: Vec<Action>,
    /// Whether all jobs that match can be changed together.
    is_selection: bool,
    query: String,
}

/// `GET /jobs`
pub(crate) async fn jobs(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    let address = Address::read(&query.unwrap_or_default());
    let (mut filter, cursor) = (address.filter(layout.now)?, address.cursor()?);
    let skips_arguments = !shared.may_search_arguments(&layout.access);
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        // By the clock of the database.
        filter = address.filter(layout.now).unwrap_or(filter);
        filter.has_companions = layout.has_companions;
        filter.skips_arguments = skips_arguments;
        limit_by_age(&mut filter, address.created(layout.now), &mut started.reading).await?;
        let counts = started.reading.load_one(CountByStatus { has_companions: layout.has_companions }).await?;
        filter.are_pending_few = counts.0 <= CEILING;
        filter.are_few_of_lock = are_few_of_lock(&filter, &mut started.reading).await?;
        let list = ListOfJobs { filter: filter.clone(), cursor, limit: PAGE_SIZE + 1 };
        let jobs = started.reading.load(list).await?;
        let is_short = i64::try_from(jobs.len()).is_ok_and(|jobs| jobs <= PAGE_SIZE);
        let end = if is_short && filter.is_selective() {
            started.reading.load_one(EndOfWindow { filter: filter.clone(), cursor }).await?
        } else {
            None
        };
        let outcome = outcome_of(&address, &layout, &mut started.reading).await?;
        started.reading.end().await?;
        Ok::<_, Error>(Found { counts, jobs, end, window: filter.window(), outcome })
    };
    let mut found = found.await.map_err(|error| shared.problem(began, &error))?;
    for job in &mut found.jobs {
        job.arguments = shared.shown_arguments(&layout.access, &job.task, &job.arguments);
    }
    Ok(html(&page(layout, address, cursor, found, skips_arguments)))
}

/// Narrows the IDs to those of jobs that were created in this time.
async fn limit_by_age(
    filter: &mut PageFilter,
    [since, before]: [Option<DateTime<Utc>>; 2],
    reading: &mut Reading,
) -> Result<(), Error> {
    if let Some(since) = since {
        filter.first = filter.first.max(reading.load(FirstJobSince(since)).await?.pop());
    }
    if let Some(before) = before
        && let Some(first) = reading.load(FirstJobSince(before)).await?.pop()
    {
        filter.last = Some(filter.last.map_or(first - 1, |last| last.min(first - 1)));
    }
    Ok(())
}

/// Whether all pending jobs with the lock of the filter can be read for a page.
async fn are_few_of_lock(filter: &PageFilter, reading: &mut Reading) -> Result<bool, Error> {
    let (Some(JobStatus::Todo), Some(lock), true) = (&filter.status, &filter.lock, filter.has_companions) else {
        return Ok(false);
    };
    let locks = reading.load(LocksByName { names: vec![lock.clone()], has_companions: true }).await?;
    Ok(locks.first().is_some_and(|lock| lock.pending <= LOCK_CEILING))
}

type Counts = (i64, i64, i64, i64, i64, i64);

/// What the database said.
struct Found {
    counts: Counts,
    jobs: Vec<ListedJob>,
    /// Where the search stopped before the end.
    end: Option<i64>,
    window: i64,
    outcome: Option<ProcrastinateAction>,
}

fn page(layout: Layout, address: Address, cursor: Cursor, found: Found, skips_arguments: bool) -> JobsPage {
    let Found { counts, mut jobs, end, window, outcome } = found;
    let has_more = i64::try_from(jobs.len()).is_ok_and(|jobs| jobs > PAGE_SIZE);
    jobs.truncate(usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX));
    let is_upwards = matches!(cursor, Cursor::After(_));
    if is_upwards {
        jobs.reverse();
    }
    let newest = jobs.first().map(|job| job.id);
    let oldest = jobs.last().map(|job| job.id);
    // Where the page goes on: behind its last job, or where the search stopped.
    let (up, down) = match cursor {
        Cursor::After(id) => (if has_more { newest } else { end }, oldest.or(Some(id.saturating_add(1)))),
        Cursor::Before(id) => (newest.or(Some(id.saturating_sub(1))), if has_more { oldest } else { end }),
        Cursor::Newest => (None, if has_more { oldest } else { end }),
    };
    JobsPage {
        tabs: tabs(&address, counts, layout.has_companions),
        newer: up.map(|id| address.with("after", &id.to_string())),
        older: down.map(|id| address.with("before", &id.to_string())),
        searched_to: end.filter(|_| !has_more),
        is_filtered: !address.fields().is_empty(),
        has_details: address.fields().iter().any(|(name, _)| *name != "status"),
        window: grouped(window),
        skips_arguments,
        windows: WINDOWS,
        outcome,
        actions: actions(&layout, address.get("status")),
        is_selection: address.is_selection(),
        query: address.with("", ""),
        layout,
        address,
        jobs,
    }
}

/// What the visitor may do with jobs of this status, or of any if it is empty.
fn actions(layout: &Layout, status: &str) -> Vec<Action> {
    let suits = |action: &Action| status.is_empty() || action.suits(status);
    let is_possible = |action: &Action| layout.has_companions && layout.allows(*action) && suits(action);
    JOB_ACTIONS.into_iter().filter(is_possible).collect()
}

fn tabs(address: &Address, (todo, doing, failed, cancelled, aborted, all): Counts, has_companions: bool) -> Vec<Tab> {
    // What is left of the estimate.
    let succeeded = all - todo - doing - failed - cancelled - aborted;
    let tabs = [
        ("All", "", None),
        ("Pending", "todo", Some(count(todo))),
        ("Running", "doing", Some(count(doing))),
        ("Failed", "failed", Some(unsuccessful(failed, has_companions))),
        ("Succeeded", "succeeded", (succeeded > 0).then(|| format!("≈ {}", grouped(succeeded)))),
        ("Cancelled", "cancelled", Some(unsuccessful(cancelled, has_companions))),
        ("Aborted", "aborted", Some(unsuccessful(aborted, has_companions))),
    ];
    let tab = |(label, status, count)| Tab {
        label,
        query: address.with("status", status),
        count,
        is_current: address.get("status") == status,
    };
    tabs.into_iter().map(tab).collect()
}
