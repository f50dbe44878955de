//! `list_flow_controls`, and how pauses and limits are described.

use serde_json::{Value, json};

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, JsonArray};
use crate::cli::terminal::session::Session;
use crate::cli::terminal::table::Table;
use crate::cli::terminal::times::{self, Times};
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::Statement;
use crate::database::statements::flow_control::ListFlowControlsQuery;
use crate::queue::explanation::controls::{self, key_field, key_limit_text, limit_text, pause};

/// List the paused and limited queues and tasks
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListFlowControls {
    /// Show the clock time
    #[arg(long)]
    exact: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListFlowControls {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let controls = controls(session).await?;
        if self.json {
            let mut array = JsonArray::start(&mut session.output)?;
            for control in &controls {
                array.push(&as_json(control), &mut session.output)?;
            }
            return array.end(&mut session.output);
        }
        if controls.is_empty() {
            session.output.note("nothing is paused or limited");
            return Ok(());
        }
        let times = session.times(self.exact).await?;
        let mut table = Table::new(&["kind", "name", "pause", "limit"]);
        for control in &controls {
            table.row(vec![
                (control.kind.clone(), Colour::Plain),
                (control.name.clone(), Colour::Plain),
                (pause_text(control, times).unwrap_or_default(), Colour::Bad),
                (limits(control), Colour::Plain),
            ]);
        }
        table.write(&mut session.output)
    }
}

fn limits(control: &ProcrastinateFlowControl) -> String {
    [limit_text(control), key_limit_text(control)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Describes what is paused or limited, as in `queue mails: paused 3 min ago`.
pub(crate) fn summary(controls: &[ProcrastinateFlowControl], times: Times) -> String {
    let text = |control: &ProcrastinateFlowControl| {
        let limits = [limit_text(control), key_limit_text(control)].into_iter().flatten();
        let limits = limits.map(|limit| format!("limited to {limit}"));
        let parts: Vec<String> = pause_text(control, times).into_iter().chain(limits).collect();
        format!("{} {}: {}", control.kind, control.name, parts.join(", "))
    };
    controls.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// Describes the pause, as in `paused 3 min ago by anna: the mail server is down`.
fn pause_text(control: &ProcrastinateFlowControl, times: Times) -> Option<String> {
    Some(times.tell(&pause(control)?))
}

fn as_json(control: &ProcrastinateFlowControl) -> Value {
    json!({
        "kind": control.kind,
        "name": control.name,
        "paused_at": times::json(control.paused_at),
        "paused_by": control.paused_by,
        "pause_reason": control.pause_reason,
        "skips_ticks": control.skips_ticks,
        "max_running": control.max_running,
        "max_starts": control.max_starts,
        "start_period_seconds": control.start_period_seconds,
        "key": key_field(control),
        "key_max_running": control.key_max_running,
        "key_max_starts": control.key_max_starts,
        "key_start_period_seconds": control.key_start_period_seconds,
    })
}

/// Loads what is paused or limited.
pub(crate) async fn controls(session: &Session<'_>) -> Result<Vec<ProcrastinateFlowControl>, Failure> {
    let mut connection = session.app.connector().get(ListFlowControlsQuery::ACTION).await?;
    Ok(controls::controls(&mut connection).await?)
}
