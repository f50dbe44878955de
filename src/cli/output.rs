//! Where a command writes to, and how what it writes looks.

use std::fmt::Display;
use std::io::Write;

use serde_json::Value;

use super::failure::Failure;

/// Standard output and standard error, or what stands for them.
pub(super) struct Output<'w> {
    out: &'w mut (dyn Write + Send),
    err: &'w mut (dyn Write + Send),
}

impl<'w> Output<'w> {
    pub(super) fn new(out: &'w mut (dyn Write + Send), err: &'w mut (dyn Write + Send)) -> Self {
        Self { out, err }
    }

    /// A line of what was asked for.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// The same, without the end of a line.
    pub(super) fn text(&mut self, text: impl Display) -> Result<(), Failure> {
        Ok(write!(self.out, "{text}")?)
    }

    /// A value for programs, on one line.
    pub(super) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(value)
    }

    /// A line beside it, for people: what is being done, what came of it.
    pub(super) fn note(&mut self, text: impl Display) {
        // Where nobody listens there is nobody to complain to.
        let _ = writeln!(self.err, "{text}");
    }

    /// A question, without the end of a line.
    pub(super) fn ask(&mut self, text: impl Display) {
        let _ = write!(self.err, "{text} ");
        let _ = self.err.flush();
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Says what a failure has to say.
    pub(super) fn report(&mut self, failure: &Failure) {
        // What was found before it failed comes first.
        let _ = self.out.flush();
        if let Some(message) = failure.message() {
            let _ = write!(self.err, "{message}");
        }
    }
}
