//! `healthchecks`: checks everything that the queue needs.

use serde_json::{Value, json};

use crate::cli::commands::controls::{controls, summary};
use crate::cli::commands::workers::{alive, workers};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::database::migrations::MIGRATIONS;
use crate::database::statements::cli::ServerInfo;
use crate::database::statements::flow_control::FetchesPastFlowControl;
use crate::queue::job_manager::check_connection;

/// Check the connection, the tables, the migrations, the tasks and the workers
///
/// Prints a line for each check that passes. The first failure stops it with exit status 1.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Healthchecks {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Healthchecks {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let mut report = Report { is_json: self.json, checks: Vec::new() };
        let result = check(&mut report, session).await;
        if self.json {
            let is_ok = result.is_ok();
            session.output.json(&json!({ "ok": is_ok, "checks": report.checks }))?;
        }
        result
    }
}

/// The results so far.
struct Report {
    is_json: bool,
    checks: Vec<Value>,
}

impl Report {
    /// Records a check. Returns its failure, if any.
    fn add(&mut self, name: &str, found: Result<String, Failure>, session: &mut Session<'_>) -> Result<(), Failure> {
        match found {
            Ok(detail) => {
                let shown = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
                self.checks.push(json!({ "name": name, "ok": true, "detail": detail }));
                if self.is_json { Ok(()) } else { session.output.line(format!("{name}: OK{shown}")) }
            }
            Err(failure) => {
                let reason = failure.message().unwrap_or_default();
                self.checks.push(json!({ "name": name, "ok": false, "detail": reason.trim_end() }));
                if !self.is_json {
                    session.output.line(format!("{name}: FAILED"))?;
                }
                Err(failure)
            }
        }
    }
}

async fn check(report: &mut Report, session: &mut Session<'_>) -> Result<(), Failure> {
    let tasks = session.app.task_names().len();
    let detail = if session.has_tasks {
        format!("{tasks} {}", if tasks == 1 { "task" } else { "tasks" })
    } else {
        "no tasks in this program".to_owned()
    };
    report.add("App configuration", Ok(detail), session)?;
    let found = connection(session).await;
    report.add("DB connection", found, session)?;
    let found = tables(session).await;
    report.add("Found procrastinate_jobs table", found, session)?;
    let found = migrations(session).await;
    report.add("Migrations", found, session)?;
    // A worker listens on a connection outside of the pool.
    let found = session.app.connector().dedicated("open a worker's connection").await;
    report.add("Worker pool", found.map(|_| String::new()).map_err(Failure::from), session)?;
    let found = live_workers(session).await;
    report.add("Workers", found, session)?;
    let found = flow_controls(session).await;
    report.add("Pauses and limits", found, session)
}

async fn connection(session: &Session<'_>) -> Result<String, Failure> {
    let rows = session.load(ServerInfo).await?;
    let (version, database, schema, role) = rows.into_iter().next().unwrap_or_default();
    let schema = schema.unwrap_or_else(|| "(missing)".to_owned());
    Ok(format!("PostgreSQL {version}, database {database}, schema {schema}, as {role}"))
}

async fn tables(session: &Session<'_>) -> Result<String, Failure> {
    if session.app.perform(check_connection()).await? {
        return Ok(String::new());
    }
    Err(Failure::failed(
        "could not find the table procrastinate_jobs",
        "run `schema apply`; if the table exists, add its schema to search_path",
    ))
}

async fn migrations(session: &Session<'_>) -> Result<String, Failure> {
    let connector = session.app.connector();
    let status = connector.migration_status(MIGRATIONS).await?;
    if status.is_up_to_date() {
        return Ok(format!("{} applied", status.applied.len()));
    }
    let is_of_another = status.applied.is_empty() && !session.has_tasks;
    if is_of_another && connector.check_contract().await.is_ok() {
        return Ok("of Python's Procrastinate; run `schema adopt` before you run Rust workers".to_owned());
    }
    let pending = status.pending.join(", ");
    Err(Failure::failed(format!("there are pending migrations: {pending}"), "run `schema apply`"))
}

async fn flow_controls(session: &Session<'_>) -> Result<String, Failure> {
    let controls = controls(session).await?;
    let functions = session.load(FetchesPastFlowControl).await?.into_iter().flatten().next();
    if let Some(functions) = functions.filter(|_| !controls.is_empty()) {
        return Err(Failure::failed(
            format!("workers that call these functions ignore pauses and limits: {functions}"),
            "use a version of Procrastinate that this version of the crate knows",
        ));
    }
    Ok(if controls.is_empty() { "none".to_owned() } else { summary(&controls, session.times(false).await?) })
}

async fn live_workers(session: &Session<'_>) -> Result<String, Failure> {
    let workers = workers(session).await?;
    Ok(alive(&workers, session.now().await?))
}
