//! `schema`: the queue's tables and functions, and their migrations.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::cli::commands::jobs::act::some_jobs;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::Output;
use crate::cli::terminal::session::Session;
use crate::database::migrations::{MIGRATIONS, SQL_MIGRATIONS, revert_migrations, write_migrations};
use crate::database::statements::cli::AreTablesOurs;
use crate::error::Error;
use crate::queue::job_manager;

/// Create the queue's tables and functions, or inspect them
///
/// Default: `schema apply`, which runs pending migrations, if there are any.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Schema {
    /// Same as `schema apply`
    #[arg(long, group = "what")]
    apply: bool,

    /// Same as `schema read`
    #[arg(long, group = "what")]
    read: bool,

    /// Same as `schema migrations-path`
    #[arg(long, group = "what")]
    migrations_path: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Run pending migrations, one process at a time
    Apply,
    /// List applied and pending migrations
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare the tables, functions, triggers and unique indexes with the expected ones
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revert the last migration, or all of them
    Revert {
        /// Revert all migrations and drop their tables and jobs; keeps tables that Python's Procrastinate created
        #[arg(long)]
        all: bool,
        /// Skip the confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Adopt a database created by Python's Procrastinate
    Adopt,
    /// Print the SQL that creates the schema in an empty database
    Read,
    /// Write the migrations into a directory for the Diesel CLI
    Eject {
        /// The directory, which must exist
        #[arg(default_value = "migrations")]
        directory: PathBuf,
    },
    /// Print the path of a directory with the migrations as SQL files
    MigrationsPath,
}

impl Schema {
    fn action(&self) -> Action {
        match &self.action {
            Some(action) => action.clone(),
            None if self.read => Action::Read,
            None if self.migrations_path => Action::MigrationsPath,
            None => Action::Apply,
        }
    }

    /// Whether the command needs a database.
    pub(crate) fn needs_database(&self) -> bool {
        !matches!(self.action(), Action::Read | Action::Eject { .. } | Action::MigrationsPath)
    }

    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let connector = session.app.connector();
        match self.action() {
            Action::Apply => apply(session).await,
            Action::Status { json } => {
                let status = connector.migration_status(MIGRATIONS).await?;
                if json {
                    let crate::database::migrations::MigrationStatus { applied, pending, unknown } = status;
                    return session.output.json(&json!({ "applied": applied, "pending": pending, "unknown": unknown }));
                }
                session.output.line(status)
            }
            Action::Check { json } => {
                let checked = connector.check_contract().await;
                if json {
                    let error = checked.as_ref().err().map(ToString::to_string);
                    session.output.json(&json!({ "ok": error.is_none(), "error": error }))?;
                    return Ok(checked?);
                }
                checked?;
                session.output.line("the tables, functions, triggers and unique indexes are as expected")
            }
            Action::Revert { all, yes } => revert(all, yes, session).await,
            Action::Adopt => match connector.check_contract().await {
                Ok(()) => apply(session).await,
                Err(error @ Error::SchemaMissing { .. }) => {
                    Err(Failure::failed(error, "run `schema apply` to create the schema"))
                }
                Err(error) => Err(error.into()),
            },
            _ => self.run_without_database(&mut session.output),
        }
    }

    pub(crate) fn run_without_database(self, output: &mut Output<'_>) -> Result<(), Failure> {
        match self.action() {
            Action::Read => output.text(whole_schema()),
            Action::Eject { directory } => {
                for path in write_migrations(&directory)? {
                    output.line(path.display())?;
                }
                Ok(())
            }
            _ => output.line(unpacked()?.display()),
        }
    }
}

async fn apply(session: &mut Session<'_>) -> Result<(), Failure> {
    session.output.note("Applying schema");
    let versions = session.app.connector().run_pending_migrations(MIGRATIONS).await?;
    for migration in SQL_MIGRATIONS.iter().filter(|migration| versions.iter().any(|v| v == version(migration.name))) {
        session.output.line(format!("applied {}", migration.name))?;
    }
    session.output.note(if versions.is_empty() { "Done: nothing was pending" } else { "Done" });
    Ok(())
}

async fn revert(all: bool, yes: bool, session: &mut Session<'_>) -> Result<(), Failure> {
    let connector = session.app.connector().clone();
    let mut applied = connector.migration_status(MIGRATIONS).await?.applied;
    let most = if all { applied.len() } else { 1 };
    let targets = applied.split_off(applied.len().saturating_sub(most));
    if targets.is_empty() {
        return session.output.line("nothing to revert");
    }
    let takes_tables = targets.iter().any(|name| name == SQL_MIGRATIONS[1].name);
    let loss = if takes_tables && session.load(AreTablesOurs).await? == [true] {
        let queues = session.app.perform(job_manager::list_queues()).await?;
        let jobs: i64 = queues.iter().map(|queue| queue.jobs_count).sum();
        format!(", and drop their tables, with {} in them", some_jobs(jobs))
    } else if takes_tables {
        ", and keep the tables and jobs of Python's Procrastinate".to_owned()
    } else {
        String::new()
    };
    if !session.confirm(yes, &format!("Revert {}{loss}?", targets.join(", ")))? {
        session.output.note("nothing changed");
        return Ok(());
    }
    let reverted =
        connector.blocking("revert migrations", move |connection| revert_migrations(connection, MIGRATIONS, most));
    for name in reverted.await? {
        session.output.line(format!("reverted {name}"))?;
    }
    Ok(())
}

fn version(name: &str) -> &str {
    name.split('_').next().unwrap_or_default()
}

/// Returns the SQL for an empty database. It records the migrations, so that a later `apply` knows them.
fn whole_schema() -> String {
    let mut sql = String::from(
        "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (\n    version varchar(50) PRIMARY KEY,\n    \
         run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP\n);\n",
    );
    for migration in SQL_MIGRATIONS {
        sql.push_str(&format!("\n-- {}\nBEGIN;\n{}\n", migration.name, migration.up.trim_end()));
        sql.push_str(&format!(
            "INSERT INTO __diesel_schema_migrations (version) VALUES ('{}');\n",
            version(migration.name)
        ));
        sql.push_str("COMMIT;\n");
    }
    sql
}

/// Writes the embedded migrations as files.
fn unpacked() -> Result<PathBuf, Failure> {
    let directory = cache_directory().join(concat!("migrations-", env!("CARGO_PKG_VERSION")));
    std::fs::create_dir_all(&directory).map_err(|source| {
        Failure::failed(
            format!("could not create {}: {source}", directory.display()),
            "use `schema eject DIRECTORY` to choose a directory",
        )
    })?;
    write_migrations(&directory)?;
    Ok(directory)
}

fn cache_directory() -> PathBuf {
    let of = |variable: &str| std::env::var_os(variable).filter(|value| Path::new(value).is_absolute());
    let cache = of("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || of("HOME").map(|home| Path::new(&home).join(".cache"));
    cache.or_else(home).unwrap_or_else(std::env::temp_dir).join("procrastinate")
}
