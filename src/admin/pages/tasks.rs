//! The list of tasks.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, TimeDelta, Utc};

use crate::admin::layout::{Layout, html};
use crate::admin::moment::span;
use crate::admin::pages::PageResult;
use crate::admin::pages::actions::outcome_of;
use crate::admin::pages::address::{Address, count_up_to, grouped};
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateAction, ProcrastinateFlowControl};
use crate::database::statements::admin::controls::ControlsOfPage;
use crate::database::statements::admin::tasks::{
    CountedTask, CountsOfTasks, MeasuredTask, MeasuredTasks, NamesOfTasks,
};
use crate::database::statements::admin::{CEILING, FAILED_CEILING};
use crate::error::Error;

/// The most tasks that a page lists.
const MOST_TASKS: i64 = 300;

/// How many pending jobs a page counts, of all tasks together.
const MOST_COUNTED: i64 = 10_000;

/// How many pending jobs of a task a page counts at least.
const LOWEST_CEILING: i64 = 50;

/// A row of the page.
struct Row {
    name: String,
    pending: String,
    running: String,
    failed: String,
    measured: Option<Measured>,
    control: Option<ProcrastinateFlowControl>,
}

/// How the newest jobs of a task ended.
struct Measured {
    runs: String,
    failed: String,
    median: String,
    longest: String,
}

#[derive(Template)]
#[template(path = "tasks.html")]
struct TasksPage {
    layout: Layout,
    outcome: Option<ProcrastinateAction>,
    tasks: Vec<Row>,
    has_more: bool,
    most: i64,
    /// How many jobs were measured, and when the first of them ended.
    runs: String,
    since: Option<DateTime<Utc>>,
}

impl Row {
    fn is_paused(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.paused_at.is_some())
    }
}

/// What the database said.
struct Found {
    counts: Vec<CountedTask>,
    ceiling: i64,
    measured: Vec<MeasuredTask>,
    controls: Vec<ProcrastinateFlowControl>,
}

/// `GET /tasks`
pub(crate) async fn tasks(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    let address = Address::read(&query.unwrap_or_default());
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let (reading, has_companions) = (&mut started.reading, layout.has_companions);
        let mut names = reading.load(NamesOfTasks { has_companions, limit: MOST_TASKS + 1 }).await?;
        let has_more = i64::try_from(names.len()).is_ok_and(|names| names > MOST_TASKS);
        names.truncate(usize::try_from(MOST_TASKS).unwrap_or(usize::MAX));
        let ceiling = ceiling(names.len());
        let found = Found {
            counts: reading.load(CountsOfTasks { names, ceiling, has_companions }).await?,
            ceiling,
            measured: reading.load(MeasuredTasks { has_companions }).await?,
            controls: if has_companions { reading.load(ControlsOfPage).await? } else { Vec::new() },
        };
        let outcome = outcome_of(&address, &layout, &mut started.reading).await?;
        started.reading.end().await?;
        Ok::<_, Error>(TasksPage { outcome, ..page(layout, found, has_more) })
    };
    let page = found.await.map_err(|error| shared.problem(began, &error))?;
    Ok(html(&page))
}

/// How many pending jobs of each task are counted. It is less if there are many tasks.
fn ceiling(tasks: usize) -> i64 {
    let tasks = i64::try_from(tasks).unwrap_or(i64::MAX).max(1);
    (MOST_COUNTED / tasks).clamp(LOWEST_CEILING, CEILING)
}

fn page(layout: Layout, found: Found, has_more: bool) -> TasksPage {
    let runs: i64 = found.measured.iter().map(|task| task.runs).sum();
    let since = found.measured.iter().map(|task| task.since).min();
    // A count of all tasks together that has stopped is a minimum for each of them.
    let has_stopped = |of: fn(&CountedTask) -> i64, at: i64| found.counts.iter().map(of).sum::<i64>() > at;
    let stopped = [
        !layout.has_companions && has_stopped(|task| task.pending, CEILING),
        has_stopped(|task| task.running, CEILING),
        !layout.has_companions || has_stopped(|task| task.failed, FAILED_CEILING),
    ];
    let minimum = |jobs: i64, has_stopped: bool| {
        if has_stopped && jobs > 0 { format!("{}+", grouped(jobs)) } else { grouped(jobs) }
    };
    let measured: HashMap<_, _> = found.measured.iter().map(|task| (&task.name, task)).collect();
    let controls = found.controls.into_iter().filter(|control| control.kind == "task");
    let mut controls: HashMap<_, _> = controls.map(|control| (control.name.clone(), control)).collect();
    let tasks = found.counts.iter().map(|task| Row {
        pending: if stopped[0] { minimum(task.pending, true) } else { count_up_to(task.pending, found.ceiling) },
        running: minimum(task.running, stopped[1]),
        failed: minimum(task.failed, stopped[2]),
        measured: measured.get(&task.name).map(|task| Measured::new(task)),
        control: controls.remove(&task.name),
        name: task.name.clone(),
    });
    let tasks = tasks.collect();
    TasksPage { outcome: None, tasks, has_more, most: MOST_TASKS, runs: grouped(runs), since, layout }
}

impl Measured {
    fn new(task: &MeasuredTask) -> Self {
        let length = |seconds: Option<f64>| seconds.map_or_else(String::new, length);
        Self {
            runs: grouped(task.runs),
            failed: percent(task.failed, task.runs),
            median: length(task.median_seconds),
            longest: length(task.longest_seconds),
        }
    }
}

/// A number of seconds as a text, such as `250 ms`.
pub(crate) fn length(seconds: f64) -> String {
    let millis = (seconds.clamp(0.0, 1e12) * 1_000.0).round();
    // In this range no number is cut.
    #[allow(clippy::cast_possible_truncation, reason = "it is below 1e15")]
    span(TimeDelta::milliseconds(millis as i64))
}

/// A part as a percentage. It is 0 or 100 only if it is none or all.
fn percent(part: i64, of: i64) -> String {
    let tenths = (part * 1_000 + of / 2) / of.max(1);
    match tenths {
        _ if part == 0 => "0 %".to_owned(),
        _ if part == of => "100 %".to_owned(),
        0 => "< 0.1 %".to_owned(),
        1_000.. => "99.9 %".to_owned(),
        _ => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_does_not_hide_the_few_that_differ() {
        for (part, of, expected) in [
            (0, 0, "0 %"),
            (0, 9, "0 %"),
            (9, 9, "100 %"),
            (1, 3, "33.3 %"),
            (1, 100_000, "< 0.1 %"),
            (99_999, 100_000, "99.9 %"),
        ] {
            assert_eq!(percent(part, of), expected, "{part} of {of}");
        }
    }

    #[test]
    fn fewer_jobs_of_each_task_are_counted_if_there_are_many_tasks() {
        assert_eq!([0, 1, 10, 100, 500].map(ceiling), [CEILING, CEILING, 1_000, 100, LOWEST_CEILING]);
    }
}
