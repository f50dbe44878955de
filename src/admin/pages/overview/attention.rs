//! What needs attention.

use chrono::TimeDelta;

use crate::admin::moment::span;
use crate::admin::pages::address::{count, grouped};
use crate::admin::pages::schedules::Failing;
use crate::admin::pages::workers::STALLED_AFTER;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::admin::overview::ListedQueue;

/// A queue whose first job waits for this long, while none runs, may have no worker.
const LONG_WAIT: TimeDelta = TimeDelta::minutes(10);

/// How many queues, tasks or schedules with the same problem are named.
const MOST_NAMED: usize = 5;

/// How many characters of the differences from the contract are shown.
const MOST_CHARACTERS: usize = 600;

/// Something that needs attention: a text, and the page that says more. Without such a page, the link is empty.
pub(crate) struct Attention {
    pub(crate) text: String,
    pub(crate) link: String,
}

/// What the overview knows.
pub(crate) struct State<'s> {
    pub(crate) now: chrono::DateTime<chrono::Utc>,
    pub(crate) stalled: usize,
    pub(crate) alive: usize,
    pub(crate) pending: i64,
    pub(crate) queues: &'s [ListedQueue],
    pub(crate) controls: &'s [ProcrastinateFlowControl],
    /// The schedules that do not fire.
    pub(crate) failing: &'s [Failing],
    /// How many jobs failed in the last hour, and whether that is an estimate.
    pub(crate) failed: (i64, bool),
    /// What differs from the contract.
    pub(crate) drift: Option<&'s str>,
}

impl State<'_> {
    /// What needs attention, the most urgent first.
    pub(crate) fn attention(&self) -> Vec<Attention> {
        let mut found = Vec::new();
        let mut add = |text: String, link: &str| found.push(Attention { text, link: link.to_owned() });
        if let Some(drift) = self.drift {
            add(drift_text(drift), "");
        }
        if self.stalled > 0 {
            let which =
                if self.stalled == 1 { "One worker has".to_owned() } else { format!("{} workers have", self.stalled) };
            add(format!("{which} sent no heartbeat for {}. Others rescue their jobs.", span(STALLED_AFTER)), "workers");
        }
        if self.alive == 0 && self.pending > 0 {
            let pending = self.pending;
            let jobs = if pending == 1 { "one job is".to_owned() } else { format!("{} jobs are", count(pending)) };
            add(format!("No worker is alive, and {jobs} pending."), "workers");
        }
        let paused = || self.controls.iter().filter(|control| control.paused_at.is_some());
        for control in paused().take(MOST_NAMED) {
            let reason = control.pause_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let link = if control.kind == "task" { "tasks" } else { "queues" };
            add(format!("The {} {} is paused{reason}.", control.kind, control.name), link);
        }
        add_rest(&mut add, paused().count(), "queue or task is paused", "queues or tasks are paused", "queues");
        for (queue, waited) in self.unserved().take(MOST_NAMED) {
            let text = format!(
                "No job of the queue {} runs, and its first one has been pending for {}. Does a worker serve it?",
                queue.name,
                span(waited)
            );
            add(text, "queues");
        }
        let unserved = self.unserved().count();
        add_rest(&mut add, unserved, "queue has waited long", "queues have waited long", "queues");
        self.add_schedules(&mut add);
        let (failed, is_estimate) = self.failed;
        if failed > 0 {
            let about = if is_estimate { "About " } else { "" };
            let which = if failed == 1 { "one job has".to_owned() } else { format!("{} jobs have", grouped(failed)) };
            let which = if about.is_empty() { which.replacen("one", "One", 1) } else { which };
            add(format!("{about}{which} failed in the last hour."), "jobs?status=failed&ended_since=1h");
        }
        found
    }

    /// Adds the schedules that do not fire. If no worker is alive, that is reason enough.
    fn add_schedules(&self, add: &mut impl FnMut(String, &str)) {
        if self.alive == 0 && !self.failing.is_empty() {
            let which = if self.failing.len() == 1 { "One schedule does" } else { "Schedules do" };
            return add(format!("{which} not fire, because no worker is alive."), "schedules");
        }
        for schedule in self.failing.iter().take(MOST_NAMED) {
            add(format!("The schedule {}: {}", schedule.name, schedule.text), &schedule.link);
        }
        add_rest(add, self.failing.len(), "schedule does not fire", "schedules do not fire", "schedules");
    }

    /// The queues of which no job runs, while the first one has waited long.
    fn unserved(&self) -> impl Iterator<Item = (&ListedQueue, TimeDelta)> {
        let is_paused = |name: &str| {
            let is_of_queue = |control: &&ProcrastinateFlowControl| control.kind == "queue" && control.name == name;
            self.controls.iter().filter(is_of_queue).any(|control| control.paused_at.is_some())
        };
        let idle = self.queues.iter().filter(move |queue| queue.running == 0 && !is_paused(&queue.name));
        let waited = |queue: &ListedQueue| queue.waiting_since.map(|since| self.now.signed_duration_since(since));
        idle.filter_map(move |queue| Some((queue, waited(queue)?)))
            .filter(|(_, waited)| *waited > LONG_WAIT && self.alive > 0)
    }
}

/// Adds how many more there are than those that are named.
fn add_rest(add: &mut impl FnMut(String, &str), found: usize, one: &str, several: &str, link: &str) {
    match found.saturating_sub(MOST_NAMED) {
        0 => {}
        1 => add(format!("One more {one}."), link),
        more => add(format!("{more} more {several}."), link),
    }
}

fn drift_text(drift: &str) -> String {
    let mut text: String = drift.chars().take(MOST_CHARACTERS).collect();
    if text.len() < drift.len() {
        text.push('…');
    }
    text
}
