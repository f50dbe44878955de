//! The end of a command: reports its failure and returns the exit status.

use std::process::ExitCode;

use crate::cli::terminal::failure::{Failure, exit_code, status_of};
use crate::cli::terminal::output::Output;

/// Reports the failure, if any.
pub(crate) fn finish(result: Result<(), Failure>, output: &mut Output<'_>) -> ExitCode {
    let result = result.and_then(|()| output.flush());
    if let Err(failure) = &result {
        output.report(failure);
    }
    exit_code(status_of(&result))
}
