//! The pages of schedules.
//!
//! | file | contents |
//! |---|---|
//! | `mod` | the list of schedules, and one schedule |
//! | `health` | why a schedule does not fire |
//! | `form` | creates and edits a schedule |
//! | `change` | runs, pauses, resumes and removes a schedule |

pub(crate) mod change;
pub(crate) mod form;
pub(crate) mod health;

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};

use self::health::{Hint, SEEN_WITHIN, hint};
use crate::admin::action::Action;
use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::moment::span;
use crate::admin::pages::PageResult;
use crate::admin::pages::actions::outcome_of;
use crate::admin::pages::address::Address;
use crate::admin::pages::workers::STALLED_AFTER;
use crate::admin::reading::Reading;
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateAction, ProcrastinateSchedule};
use crate::database::statements::admin::job::MOST_CHARACTERS;
use crate::database::statements::admin::overview::IsWorkerAlive;
use crate::database::statements::admin::schedules::{
    ArgumentsOfSchedule, ListOfSchedules, ListedSchedule, ScheduleOfPage, TickWithoutSchedule, TicksWithoutSchedule,
};
use crate::database::statements::schedules::ScheduleKey;
use crate::error::Error;
use crate::schedule::cron::words::in_words;

/// How many schedules a page lists.
const PAGE_SIZE: i64 = 100;

/// How many schedules the overview checks.
const MOST_CHECKED: i64 = 500;

/// How many ticks of other programs a page lists.
const MOST_TICKS: i64 = 100;

/// How many next ticks a list shows, and the page of one schedule.
const NEXT_IN_LIST: usize = 3;
const NEXT_OF_ONE: usize = 10;

/// What a schedule does with missed ticks, in words.
const MISSED_TICKS: [(&str, &str); 4] = [
    ("procrastinate", "the rule of Procrastinate"),
    ("skip", "skip them"),
    ("last", "defer the last one"),
    ("all", "defer all"),
];

/// What a schedule does while its last job is not finished, in words.
const OVERLAPS: [(&str, &str); 2] = [("allow", "defer another one"), ("skip", "skip the tick")];

/// The words of a stored value.
fn words<'w>(of: &[(&str, &'w str)], value: &'w str) -> &'w str {
    of.iter().find(|(stored, _)| *stored == value).map_or(value, |(_, words)| words)
}

/// What can be done to a schedule with a button, in this order.
const ACTIONS: [Action; 4] =
    [Action::RunSchedule, Action::PauseSchedule, Action::ResumeSchedule, Action::RemoveSchedule];

/// The buttons of a list.
const BUTTONS_IN_LIST: [Action; 3] = [Action::RunSchedule, Action::PauseSchedule, Action::ResumeSchedule];

/// A schedule as the pages show it.
#[derive(Debug, Clone)]
pub(crate) struct ShownSchedule {
    pub(crate) row: ListedSchedule,
    /// When it ticks, in words.
    words: String,
    /// Whether no worker has had it in its code for long.
    is_gone_from_code: bool,
    pub(crate) hint: Option<Hint>,
    last_tick: Option<DateTime<Utc>>,
    next: Vec<DateTime<Utc>>,
}

impl ShownSchedule {
    /// Describes a schedule, with at most so many of its next ticks.
    pub(crate) fn new(row: ListedSchedule, now: DateTime<Utc>, is_worker_alive: bool, most: usize) -> Self {
        let schedule = &row.schedule;
        let words = match (&schedule.cron, schedule.interval_seconds) {
            (Some(cron), _) => in_words(cron).unwrap_or_default(),
            (None, seconds) => {
                let length = seconds.and_then(TimeDelta::try_seconds);
                format!("every {}", length.map(span).unwrap_or_default())
            }
        };
        let next = match schedule.recurrence() {
            Ok(recurrence) if !schedule.is_paused() => {
                let after = schedule.ticks_after.map_or(now, |ticks_after| ticks_after.max(now));
                let ticks = std::iter::successors(recurrence.next(after), |tick| recurrence.next(*tick));
                ticks.take(most).collect()
            }
            _ => Vec::new(),
        };
        Self {
            words,
            is_gone_from_code: row.schedule.seen_in_code_at.is_some_and(|seen| now - seen > SEEN_WITHIN),
            hint: hint(&row, now, is_worker_alive),
            last_tick: row.last_tick.and_then(|tick| DateTime::from_timestamp(tick, 0)),
            next,
            row,
        }
    }

    pub(crate) fn schedule(&self) -> &ProcrastinateSchedule {
        &self.row.schedule
    }

    /// As in `report`, or `"customer-7" of report`.
    pub(crate) fn name(&self) -> String {
        name(&self.schedule().task_name, &self.schedule().periodic_id)
    }

    /// The last job, if it is not that of the last tick.
    fn other_job(&self) -> Option<i64> {
        self.row.last_job_id.filter(|id| Some(*id) != self.row.tick_job_id)
    }

    fn zone(&self) -> &str {
        self.schedule().time_zone.as_deref().unwrap_or("UTC")
    }

    /// The tick as the clock of the schedule shows it.
    fn local(&self, tick: &DateTime<Utc>) -> String {
        let recurrence = self.schedule().recurrence();
        recurrence.map(|recurrence| recurrence.shown(*tick)).unwrap_or_default()
    }

    /// What it does with missed ticks and while its last job is not finished, if that is not the default.
    fn policies(&self) -> Vec<String> {
        let schedule = self.schedule();
        let mut texts = Vec::new();
        if schedule.missed_ticks != "procrastinate" {
            texts.push(format!("missed ticks: {}", words(&MISSED_TICKS, &schedule.missed_ticks)));
        }
        if schedule.overlap != "allow" {
            texts.push(format!("while its last job is not finished: {}", words(&OVERLAPS, &schedule.overlap)));
        }
        texts
    }

    fn missed_ticks(&self) -> &str {
        words(&MISSED_TICKS, &self.schedule().missed_ticks)
    }

    fn overlap(&self) -> &str {
        words(&OVERLAPS, &self.schedule().overlap)
    }

    /// Whether a button for this makes sense.
    fn suits(&self, action: Action) -> bool {
        match action {
            Action::PauseSchedule => !self.schedule().is_paused(),
            Action::ResumeSchedule => self.schedule().is_paused(),
            Action::ChangeSchedule => !self.schedule().is_in_code(),
            // One in code can be removed if no worker has it in its code any more.
            Action::RemoveSchedule => !self.schedule().is_in_code() || self.is_gone_from_code,
            _ => true,
        }
    }
}

/// As in `report`, or `"customer-7" of report`.
pub(crate) fn name(task: &str, periodic_id: &str) -> String {
    if periodic_id.is_empty() { task.to_owned() } else { format!("\"{periodic_id}\" of {task}") }
}

/// The query that names a schedule.
fn query(key: &ScheduleKey) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("task", &key.task_name);
    if !key.periodic_id.is_empty() {
        query.append_pair("id", &key.periodic_id);
    }
    query.finish()
}

/// The schedule that a form or an address names.
fn key(form: &Address) -> ScheduleKey {
    ScheduleKey { task_name: form.get("task").to_owned(), periodic_id: form.get("id").to_owned() }
}

#[derive(Template)]
#[template(path = "schedules/list.html")]
struct SchedulesPage {
    layout: Layout,
    task: String,
    schedules: Vec<ShownSchedule>,
    /// The address of the next page.
    next_page: Option<String>,
    is_first: bool,
    others: Vec<TickWithoutSchedule>,
    outcome: Option<ProcrastinateAction>,
}

impl SchedulesPage {
    fn query(&self, shown: &ShownSchedule) -> String {
        let ProcrastinateSchedule { task_name, periodic_id, .. } = shown.schedule();
        query(&ScheduleKey { task_name: task_name.clone(), periodic_id: periodic_id.clone() })
    }

    fn can_change(&self) -> bool {
        BUTTONS_IN_LIST.into_iter().any(|action| self.layout.allows(action))
    }

    fn buttons(&self, shown: &ShownSchedule) -> Vec<Action> {
        BUTTONS_IN_LIST.into_iter().filter(|action| self.layout.allows(*action) && shown.suits(*action)).collect()
    }

    fn name(&self, task: &str, periodic_id: &str) -> String {
        name(task, periodic_id)
    }
}

/// `GET /schedules`
pub(crate) async fn schedules(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    let address = Address::exact(&query.unwrap_or_default());
    let task = address.get("task").to_owned();
    let after = (!address.get("after").is_empty()).then(|| ScheduleKey {
        task_name: address.get("after").to_owned(),
        periodic_id: address.get("after_id").to_owned(),
    });
    let is_first = after.is_none();
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let reading = &mut started.reading;
        let mut rows = Vec::new();
        if layout.has_companions {
            let task = Some(task.clone()).filter(|task| !task.is_empty());
            rows = reading.load(ListOfSchedules { after, task, limit: PAGE_SIZE + 1 }).await?;
        }
        let is_alive = is_worker_alive(reading).await?;
        let others = if is_first && task.is_empty() {
            let has_companions = layout.has_companions;
            reading.load(TicksWithoutSchedule { has_companions, limit: MOST_TICKS }).await?
        } else {
            Vec::new()
        };
        let outcome = outcome_of(&address, &layout, reading).await?;
        started.reading.end().await?;
        Ok::<_, Error>((rows, is_alive, others, outcome))
    };
    let (mut rows, is_alive, others, outcome) = found.await.map_err(|error| shared.problem(began, &error))?;
    let has_more = i64::try_from(rows.len()).is_ok_and(|rows| rows > PAGE_SIZE);
    rows.truncate(usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX));
    let next_page = rows.last().filter(|_| has_more).map(|row| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("task", &task);
        query.append_pair("after", &row.schedule.task_name).append_pair("after_id", &row.schedule.periodic_id);
        query.finish()
    });
    let shown = |row| ShownSchedule::new(row, layout.now, is_alive, NEXT_IN_LIST);
    let schedules = rows.into_iter().map(shown).collect();
    Ok(html(&SchedulesPage { layout, task, schedules, next_page, is_first, others, outcome }))
}

/// Whether a worker sends heartbeats.
async fn is_worker_alive(reading: &mut Reading) -> Result<bool, Error> {
    let within_seconds = i32::try_from(STALLED_AFTER.num_seconds()).unwrap_or(i32::MAX);
    reading.load_one(IsWorkerAlive { within_seconds }).await
}

/// A schedule that does not fire, why, and its page.
#[derive(Debug)]
pub(crate) struct Failing {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) link: String,
}

/// Which of the first schedules do not fire.
pub(crate) async fn failing_schedules(now: DateTime<Utc>, reading: &mut Reading) -> Result<Vec<Failing>, Error> {
    let rows = reading.load(ListOfSchedules { after: None, task: None, limit: MOST_CHECKED }).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let is_alive = is_worker_alive(reading).await?;
    let failing = |row: ListedSchedule| {
        let hint = hint(&row, now, is_alive)?;
        let ProcrastinateSchedule { task_name, periodic_id, .. } = row.schedule;
        let name = name(&task_name, &periodic_id);
        let link = format!("schedules/show?{}", query(&ScheduleKey { task_name, periodic_id }));
        Some(Failing { name, text: hint.text, link })
    };
    Ok(rows.into_iter().filter_map(failing).collect())
}

#[derive(Template)]
#[template(path = "schedules/one.html")]
struct SchedulePage {
    layout: Layout,
    shown: ShownSchedule,
    arguments: String,
    arguments_are_hidden: bool,
    characters: i32,
    query: String,
    outcome: Option<ProcrastinateAction>,
    /// What the visitor may do with a button.
    actions: Vec<Action>,
    can_edit: bool,
}

impl SchedulePage {
    fn is_cut(&self) -> bool {
        self.characters > MOST_CHARACTERS
    }

    fn delay(&self, seconds: &i64) -> String {
        TimeDelta::try_seconds(*seconds).map(span).unwrap_or_default()
    }
}

/// `GET /schedules/show`
pub(crate) async fn schedule(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(address): RawQuery,
) -> PageResult {
    let address = Address::exact(&address.unwrap_or_default());
    let key = key(&address);
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let found = if layout.has_companions { read(&key, &mut started.reading).await? } else { None };
        let outcome = outcome_of(&address, &layout, &mut started.reading).await?;
        started.reading.end().await?;
        Ok::<_, Error>((found, outcome))
    };
    let (found, outcome) = found.await.map_err(|error| shared.problem(began, &error))?;
    let (row, arguments, characters, is_alive) = found.ok_or_else(|| missing(&key))?;
    let shown_arguments = shared.shown_arguments(&layout.access, &key.task_name, &arguments);
    let arguments_are_hidden = shown_arguments != arguments;
    let arguments = shown_arguments;
    let shown = ShownSchedule::new(row, layout.now, is_alive, NEXT_OF_ONE);
    let may = |action: &Action| layout.allows(*action) && shown.suits(*action);
    let actions = ACTIONS.into_iter().filter(may).collect();
    let can_edit = may(&Action::ChangeSchedule);
    let query = query(&key);
    Ok(html(&SchedulePage {
        layout,
        shown,
        arguments,
        arguments_are_hidden,
        characters,
        query,
        outcome,
        actions,
        can_edit,
    }))
}

fn missing(key: &ScheduleKey) -> Problem {
    let title = format!("There is no schedule {}", name(&key.task_name, &key.periodic_id));
    let text = "It was removed, or no worker with it in its code has started yet.";
    Problem::new(StatusCode::NOT_FOUND, title, text)
}

/// A schedule, its arguments and their length, and whether a worker is alive.
type Found = (ListedSchedule, String, i32, bool);

async fn read(key: &ScheduleKey, reading: &mut Reading) -> Result<Option<Found>, Error> {
    let Some(row) = reading.load(ScheduleOfPage { key: key.clone() }).await?.pop() else { return Ok(None) };
    let arguments = reading.load(ArgumentsOfSchedule { key: key.clone() }).await?.pop();
    let (arguments, characters) = arguments.unwrap_or_default();
    Ok(Some((row, arguments, characters, is_worker_alive(reading).await?)))
}
