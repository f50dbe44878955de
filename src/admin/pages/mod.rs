//! One file a page.

pub(crate) mod actions;
pub(crate) mod address;
pub(crate) mod change;
pub(crate) mod forms;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod locks;
pub(crate) mod overview;
pub(crate) mod queues;
pub(crate) mod schedules;
pub(crate) mod tasks;
pub(crate) mod workers;

use std::time::Instant;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};

use crate::admin::guard::Problem;
use crate::admin::layout::Layout;
use crate::admin::reading::Reading;
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::statements::admin::PageTime;
use crate::error::Error;

/// The result of a page: what it shows, or why it cannot.
pub(crate) type PageResult = Result<axum::response::Response, Problem>;

pub(crate) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is no such page", "The links above lead to those that exist.")
}

pub(crate) async fn only_forms() -> Problem {
    let text = "Nothing was changed. A button of a page leads here. The links above lead to the pages.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "There is no such page", text)
}

/// Why nothing can be changed in a database of Python's alone.
pub(crate) const WITHOUT_COMPANIONS: &str = "This database has only the tables of Python's Procrastinate. To change \
                                             anything here, apply the migrations of this crate.";

/// The page of a form in a database of Python's alone.
pub(crate) fn without_companions() -> Problem {
    Problem::new(StatusCode::CONFLICT, "Nothing can be changed here", WITHOUT_COMPANIONS)
}

/// A page's reading, and since when it reads.
pub(crate) struct Started {
    pub(crate) reading: Reading,
    began: Instant,
}

impl Shared {
    /// Begins to read for a page.
    pub(crate) async fn read(&self) -> Result<Started, Problem> {
        let began = Instant::now();
        match Reading::begin(self.app.connector(), self.statement_timeout).await {
            Ok(reading) => Ok(Started { reading, began }),
            Err(error) => Err(unreadable(&error, false)),
        }
    }

    /// Refuses a form in a database of Python's alone. It has no record of actions, so nothing can be changed there.
    pub(crate) async fn need_companions(&self, layout: &mut Layout) -> Result<(), Problem> {
        let mut started = self.read().await?;
        let began = started.began();
        let completed = match started.complete(layout).await {
            Ok(()) => started.reading.end().await,
            Err(error) => Err(error),
        };
        completed.map_err(|error| self.problem(began, &error))?;
        if layout.has_companions {
            return Ok(());
        }
        Err(without_companions())
    }

    /// Says why a page could not be read.
    pub(crate) fn problem(&self, began: Instant, error: &Error) -> Problem {
        unreadable(error, began.elapsed() >= self.statement_timeout)
    }
}

impl Started {
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Reads what every page needs.
    pub(crate) async fn complete(&mut self, layout: &mut Layout) -> Result<(), Error> {
        (layout.now, layout.has_companions) = self.page_time().await?;
        Ok(())
    }

    /// The time by the clock of the database, and whether it has the tables of this crate.
    async fn page_time(&mut self) -> Result<(DateTime<Utc>, bool), Error> {
        self.reading.load_one(PageTime).await
    }
}

/// The message of the server may contain values of jobs, which is all right for a visitor who sees the jobs.
fn unreadable(error: &Error, took_long: bool) -> Problem {
    tracing::warn!(action = "admin_error", "could not show a page: {error}");
    if took_long {
        return Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The database took too long",
            "Nothing was changed. The server is busy, or the page asks for too much. Try again, or narrow the filter.",
        );
    }
    let advice = match error {
        Error::SchemaMissing { .. } => ". The program does that with the command: procrastinate schema --apply",
        _ => "",
    };
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The database could not be read",
        format!("Nothing was changed. The reason: {error}{advice}"),
    )
}
