//! Changes that are recorded in their own transaction.

use std::fmt::Display;

use axum::http::StatusCode;

use crate::admin::guard::Problem;
use crate::admin::pages::WITHOUT_COMPANIONS;
use crate::admin::pages::address::beginning;
use crate::admin::shared::Shared;
use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::statements::actions::Record;
use crate::database::statements::admin::PageTime;
use crate::error::Error;
use crate::queue::bulk::record;

/// Why nothing was changed: for the form in which the values were typed, or as a page.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// A value that breaks a rule.
    pub(crate) fn value(what: &str, value: &str, rule: impl Display) -> Self {
        let shown = beginning(value);
        let dots = if shown.len() < value.len() { "…" } else { "" };
        Self::new(StatusCode::BAD_REQUEST, format!("invalid {what} \"{shown}{dots}\": {rule}"))
    }

    /// Somebody else was faster, or it was never different.
    pub(crate) fn nothing_to_do(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    /// The refusal as a page.
    pub(crate) fn into_problem(self, title: &str) -> Problem {
        Problem::new(self.status, title, format!("Nothing was changed. The reason: {}", self.text))
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Invalid { .. } | Error::UnknownTask { .. } => StatusCode::BAD_REQUEST,
            Error::ScheduleNotFound { .. } => StatusCode::NOT_FOUND,
            Error::ScheduleExists { .. }
            | Error::ScheduleInCode { .. }
            | Error::AlreadyEnqueued { .. }
            | Error::NotUnique { .. } => StatusCode::CONFLICT,
            _ => {
                tracing::warn!(action = "admin_error", "could not do what an operator asked for: {error}");
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, error.to_string())
    }
}

/// Whether the database has the tables of this crate. One of Python's alone has no record.
pub(crate) async fn has_companions(connection: &mut Connection) -> Result<bool, Error> {
    let (_, has_companions) = connection.load_one(PageTime).await?;
    Ok(has_companions)
}

/// Does something and records it, both or neither. It returns the ID of the record. In a database of Python's alone,
/// where there is no record, it does nothing.
pub(crate) async fn recorded<T>(
    shared: &Shared,
    what: Record,
    work: impl AsyncFnOnce(&mut Connection) -> Result<T, Refused>,
) -> Result<i64, Refused> {
    let mut connection = shared.app.connector().get_limited("change it", shared.statement_timeout).await?;
    if !has_companions(&mut connection).await? {
        return Err(Refused::new(StatusCode::CONFLICT, WITHOUT_COMPANIONS));
    }
    Ok(record::recorded(what, &mut connection, work).await?.0)
}
