//! `age_priorities` and `list_priority_ageings`: let pending jobs gain priority while they wait.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, JsonArray};
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::Table;
use crate::cli::terminal::times;
use crate::cli::terminal::values;
use crate::database::models::ProcrastinatePriorityAgeing;
use crate::queue::job_manager::{age_priorities, list_priority_ageings, stop_ageing};

/// Let the pending jobs of a queue gain priority while they wait
///
/// This replaces its former settings. Workers raise the priorities.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  age_priorities reports --every 1m --up-to 10\n  age_priorities reports --stop")]
pub(crate) struct AgePriorities {
    queue: String,
    /// The period after which a job gains priority: seconds, or 5m, 2h, 7d
    #[arg(long, value_name = "SECONDS", value_parser = values::duration, requires = "up_to", allow_negative_numbers = true)]
    every: Option<Duration>,
    /// How much priority a job gains in a period
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = values::limit, allow_negative_numbers = true)]
    step: u32,
    /// The highest priority that a job reaches by waiting
    #[arg(long, value_name = "PRIORITY", value_parser = values::priority, requires = "every", allow_negative_numbers = true)]
    up_to: Option<i32>,
    /// Stop it; the jobs keep their priorities
    #[arg(long, conflicts_with = "every")]
    stop: bool,
}

impl AgePriorities {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let Self { queue, every, step, up_to, stop } = self;
        if stop {
            let was_ageing = session.app.perform(stop_ageing(&queue)).await?;
            let outcome = if was_ageing { "do not age any more" } else { "did not age" };
            return session.output.line(format!("the priorities of queue {queue:?} {outcome}"));
        }
        let (Some(every), Some(up_to)) = (every, up_to) else {
            return Err(Failure::usage("ageing needs --every and --up-to; use --stop to stop it"));
        };
        session.app.perform(age_priorities(&queue).every(every).step(step).up_to(up_to)).await?;
        session.output.line(format!("the priorities of queue {queue:?} age"))
    }
}

/// List the queues whose priorities age
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListPriorityAgeings {
    /// Show the clock time
    #[arg(long)]
    exact: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListPriorityAgeings {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let ageings = session.app.perform(list_priority_ageings()).await?;
        if self.json {
            let mut array = JsonArray::start(&mut session.output)?;
            for ageing in &ageings {
                array.push(&as_json(ageing), &mut session.output)?;
            }
            return array.end(&mut session.output);
        }
        if ageings.is_empty() {
            session.output.note("no priorities age");
            return Ok(());
        }
        let times = session.times(self.exact).await?;
        let mut table = Table::new(&["queue", "gains", "up to", "last raised"]);
        for ageing in &ageings {
            table.row(vec![
                (ageing.queue_name.clone(), Colour::Plain),
                (format!("{} in {} s", ageing.step, ageing.every_seconds), Colour::Plain),
                (ageing.max_priority.to_string(), Colour::Plain),
                (ageing.last_aged_at.map(|at| times.show(at)).unwrap_or_default(), Colour::Plain),
            ]);
        }
        table.write(&mut session.output)
    }
}

fn as_json(ageing: &ProcrastinatePriorityAgeing) -> Value {
    json!({
        "queue": ageing.queue_name,
        "every_seconds": ageing.every_seconds,
        "step": ageing.step,
        "max_priority": ageing.max_priority,
        "last_aged_at": times::json(ageing.last_aged_at),
    })
}
