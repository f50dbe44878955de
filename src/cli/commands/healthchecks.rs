//! `healthchecks`: whether all is there that the queue needs.

use chrono::Utc;
use serde_json::{Value, json};

use crate::cli::commands::workers::{alive, workers};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::database::migrations::MIGRATIONS;
use crate::database::statements::cli::ServerInfo;
use crate::queue::job_manager::check_connection;

/// Check the connection, the tables, the migrations, the application and what its workers need
///
/// A line for each that is well. The first that is not ends it, with the reason and exit status 1.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Healthchecks {
    /// As JSON
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

/// What was found so far.
struct Report {
    is_json: bool,
    checks: Vec<Value>,
}

impl Report {
    /// A check's line, if it went well. Answers with its failure otherwise.
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
        "a program without tasks".to_owned()
    };
    report.add("App configuration", Ok(detail), session)?;
    let found = connection(session).await;
    report.add("DB connection", found, session)?;
    let found = tables(session).await;
    report.add("Found procrastinate_jobs table", found, session)?;
    let found = migrations(session).await;
    report.add("Migrations", found, session)?;
    // A worker listens on a connection outside of the pool.
    let found = session.app.connector().dedicated("make the connection of a worker").await;
    report.add("Worker pool", found.map(|_| String::new()).map_err(Failure::from), session)?;
    let found = living_workers(session).await;
    report.add("Workers", found, session)
}

async fn connection(session: &Session<'_>) -> Result<String, Failure> {
    let rows = session.load(ServerInfo).await?;
    let (version, database, schema, role) = rows.into_iter().next().unwrap_or_default();
    let schema = schema.unwrap_or_else(|| "that is not there".to_owned());
    Ok(format!("PostgreSQL {version}, database {database}, schema {schema}, as {role}"))
}

async fn tables(session: &Session<'_>) -> Result<String, Failure> {
    if session.app.execute(check_connection()).await? {
        return Ok(String::new());
    }
    Err(Failure::failed(
        "the database answers, but has no table procrastinate_jobs",
        "`schema apply` creates it; if it is there, search_path has to name its schema",
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
        return Ok("Procrastinate's own; `schema adopt` adds what workers in Rust need".to_owned());
    }
    let pending = status.pending.join(", ");
    Err(Failure::failed(format!("these migrations are pending: {pending}"), "`schema apply` runs them"))
}

async fn living_workers(session: &Session<'_>) -> Result<String, Failure> {
    let workers = workers(session).await?;
    Ok(alive(&workers, Utc::now()))
}
