//! Failures of commands: their messages and exit statuses.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use crate::error::Error;
use crate::support::causes;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Invalid usage.
    Usage(String),
    /// The command failed.
    Failed { error: Box<dyn StdError + Send + Sync>, advice: Option<String> },
    /// The command failed and has already reported why.
    Reported,
    /// The reader of the output has closed it, as `| head` does. This is not an error.
    OutputClosed,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A failure with advice.
    pub(crate) fn failed(error: impl Into<Box<dyn StdError + Send + Sync>>, advice: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), advice: Some(advice.into()) }
    }

    /// An error of the application.
    pub(crate) fn of(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let error = error.into();
        let advice = error.downcast_ref::<Error>().and_then(advice).map(str::to_owned);
        Self::Failed { error, advice }
    }

    /// Whether the failure concerns only one job, so that other jobs can still be processed.
    pub(crate) fn is_about_one_job(&self) -> bool {
        let Self::Failed { error, .. } = self else { return false };
        matches!(
            error.downcast_ref::<Error>(),
            Some(Error::JobNotFound { .. } | Error::WrongStatus { .. } | Error::QueueingLockTaken { .. })
        )
    }

    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed { .. } | Self::Reported => 1,
            Self::OutputClosed => 0,
        }
    }

    /// Returns the message: what failed, why, and what to do.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Usage(message) => Some(format!("error: {message}\n\nFor more, try --help.\n")),
            Self::Failed { error, advice } => {
                let mut message = format!("error: {}\n", chain(error.as_ref()).join("\n  caused by: "));
                if let Some(advice) = advice {
                    message.push_str(&format!("  what to do: {advice}\n"));
                }
                Some(message)
            }
            Self::Reported | Self::OutputClosed => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // The input was wrong, and the message explains why.
            Error::Invalid { .. } => Self::Usage(error.to_string()),
            error => Self::of(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::of(error) }
    }
}

/// Returns an error and its causes, without causes that the error before them already includes.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for message in causes::chain(error).map(ToString::to_string) {
        if !messages.iter().any(|said| said.contains(&message)) {
            messages.push(message);
        }
    }
    messages
}

fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::SchemaMissing { .. } => {
            Some("run `healthchecks` to find what is missing, and `schema apply` to create it")
        }
        Error::Pool { .. } => {
            Some("check that the server is running, and check the address, database, role and password")
        }
        error if error.says_that_permission_is_missing() => {
            Some("grant the role SELECT, INSERT, UPDATE and DELETE on the queue's tables, and USAGE on their sequences")
        }
        Error::AlreadyEnqueued { .. } | Error::NotUnique { .. } => {
            Some("use --ignore-already-enqueued if one job is enough")
        }
        Error::UnknownTask { .. } => Some("use --unknown if another program has the task"),
        Error::JobNotFound { .. } => Some("run `list_jobs` to see the existing jobs"),
        Error::ScheduleNotFound { .. } => Some("run `schedules list` to see the existing schedules; --id names one"),
        Error::ScheduleExists { is_in_code: false, .. } => Some("run `schedules change` to change it"),
        _ => None,
    }
}

/// Returns the exit status for this result.
pub(crate) fn status_of(result: &Result<(), Failure>) -> u8 {
    result.as_ref().err().map_or(0, Failure::status)
}

/// Converts a status to an exit code.
pub(crate) fn exit_code(status: u8) -> ExitCode {
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::{Error, Failure};

    #[test]
    fn a_failure_shows_each_cause_once_and_what_to_do() {
        let source = Error::Pool { action: "list the jobs", source: "connection refused".into() };
        let message = Failure::from(source).message().unwrap();
        assert_eq!(message.matches("connection refused").count(), 1, "{message}");
        assert!(message.starts_with("error: could not list the jobs"), "{message}");
        assert!(message.contains("what to do: "), "{message}");
    }

    #[test]
    fn invalid_input_is_invalid_usage() {
        assert_eq!(Failure::from(Error::invalid("queue name", "", "must not be empty")).status(), 2);
        assert_eq!(Failure::from(Error::JobNotFound { action: "retry", job_id: 7.into() }).status(), 1);
    }
}
