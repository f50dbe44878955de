//! `schedules list`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, JsonArray};
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::Table;
use crate::cli::terminal::times::{self, Times};
use crate::database::models::ProcrastinateSchedule;
use crate::error::Error;
use crate::queue::job_manager::{ListedSchedule, list_schedules};

/// List the schedules in the database and in the code of programs, with their last and next ticks
#[derive(Debug, Clone, clap::Args)]
pub(super) struct List {
    /// How many next ticks to show
    #[arg(long, value_name = "TICKS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    next: u16,

    /// Show the clock time
    #[arg(long)]
    exact: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let schedules = session.app.perform(list_schedules()).await?;
        let times = session.times(self.exact).await?;
        let mut table = Table::new(&["task", "id", "schedule", "in", "state", "last tick", "next tick"]);
        let mut array = if self.json { Some(JsonArray::start(&mut session.output)?) } else { None };
        for listed in &schedules {
            let next = listed.schedule.next_ticks(self.next.into());
            if let Some(array) = &mut array {
                array.push(&json_row(listed, &next), &mut session.output)?;
            }
            table.row(cells(listed, next, problem(&listed.schedule, session), times));
        }
        if let Some(array) = array {
            return array.end(&mut session.output);
        }
        if schedules.is_empty() {
            session.output.note("no schedules");
            return Ok(());
        }
        table.write(&mut session.output)
    }
}

fn cells(
    listed: &ListedSchedule,
    next: Result<Vec<DateTime<Utc>>, Error>,
    problem: Option<&str>,
    times: Times,
) -> Vec<(String, Colour)> {
    let ListedSchedule { schedule, last_tick, .. } = listed;
    let plain = |text: &str| (text.to_owned(), Colour::Plain);
    let next = match next {
        _ if schedule.is_paused() => plain(""),
        Ok(ticks) if ticks.is_empty() && schedule.next_ticks(1).is_ok_and(|ticks| ticks.is_empty()) => plain("never"),
        Ok(ticks) => (ticks.into_iter().map(|tick| times.show(tick)).collect::<Vec<_>>().join(", "), Colour::Plain),
        Err(error) => (error.to_string(), Colour::Bad),
    };
    vec![
        plain(&schedule.task_name),
        plain(&schedule.periodic_id),
        (recurrence(schedule), Colour::Plain),
        plain(origin(schedule)),
        state(schedule, problem, times),
        (times.show_some(*last_tick), Colour::Plain),
        next,
    ]
}

/// Formats `0 8 * * * Europe/Vienna`, or `every 90 s`.
fn recurrence(schedule: &ProcrastinateSchedule) -> String {
    let cron = schedule.cron.iter().chain(&schedule.time_zone).cloned().collect::<Vec<_>>().join(" ");
    schedule.interval_seconds.map_or(cron, |seconds| format!("every {seconds} s"))
}

fn origin(schedule: &ProcrastinateSchedule) -> &'static str {
    if schedule.is_in_code() { "code" } else { "database" }
}

/// Why workers of this program defer no jobs of the schedule.
fn problem(schedule: &ProcrastinateSchedule, session: &Session<'_>) -> Option<&'static str> {
    if !session.has_tasks {
        return None;
    }
    match super::configure_tick(session, &schedule.task_name, &schedule.args) {
        Err(Error::UnknownTask { .. }) => Some("not a task of this program"),
        Err(_) if !schedule.is_in_code() => Some("its arguments do not fit the task"),
        _ => None,
    }
}

/// Formats `active`, or `paused 3 min ago by Ada: moving`.
fn state(schedule: &ProcrastinateSchedule, problem: Option<&str>, times: Times) -> (String, Colour) {
    let Some(paused_at) = schedule.paused_at else {
        return match (problem, schedule.run_requested_at) {
            (Some(problem), _) => (problem.to_owned(), Colour::Bad),
            (None, Some(_)) => ("active, will run now".to_owned(), Colour::Busy),
            (None, None) => ("active".to_owned(), Colour::Good),
        };
    };
    let by = schedule.paused_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = schedule.pause_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    (format!("paused {}{by}{reason}", times.show(paused_at)), Colour::Waiting)
}

fn json_row(listed: &ListedSchedule, next: &Result<Vec<DateTime<Utc>>, Error>) -> Value {
    let ListedSchedule { schedule, last_tick, .. } = listed;
    let next_ticks =
        next.as_ref().ok().map(|ticks| ticks.iter().map(|tick| times::json(Some(*tick))).collect::<Value>());
    json!({
        "task": schedule.task_name,
        "periodic_id": schedule.periodic_id,
        "in_code": schedule.is_in_code(),
        "cron": schedule.cron,
        "interval_seconds": schedule.interval_seconds,
        "time_zone": schedule.time_zone,
        "args": schedule.args,
        "queue": schedule.queue_name,
        "priority": schedule.priority,
        "lock": schedule.lock,
        "queueing_lock": schedule.queueing_lock,
        "start_within_seconds": schedule.start_within_seconds,
        "limit_key": schedule.limit_key,
        "missed": schedule.missed_ticks,
        "max_delay_seconds": schedule.max_delay_seconds,
        "overlap": schedule.overlap,
        "paused_at": times::json(schedule.paused_at),
        "paused_by": schedule.paused_by,
        "pause_reason": schedule.pause_reason,
        "run_requested_at": times::json(schedule.run_requested_at),
        "last_job_id": schedule.last_job_id,
        "last_tick": times::json(*last_tick),
        "next_ticks": next_ticks,
        "problem": next.as_ref().err().map(ToString::to_string),
    })
}
