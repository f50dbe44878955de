//! The output of commands and its style.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::cli::terminal::failure::Failure;

/// Standard output and standard error, or replacements in tests.
pub(crate) struct Output<'w> {
    out: &'w mut (dyn Write + Send),
    err: &'w mut (dyn Write + Send),
    style: Style,
}

/// The style that the output supports.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) colours: bool,
    /// The width of the terminal. `None` if it is not a terminal, so lines can have any length.
    pub(crate) width: Option<usize>,
}

impl Style {
    /// The style of standard output: colours on a terminal, unless the user disables them (<https://no-color.org>).
    pub(crate) fn of_standard_output() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::default();
        }
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self { colours: allows_colour(), width }
    }

    /// Colours the text, if colours are enabled.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        match (self.colours, colour.code()) {
            (true, Some(code)) => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// Whether the user allows colours on a terminal.
pub(crate) fn allows_colour() -> bool {
    let is_set = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colours, named by their use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Colour {
    #[default]
    Plain,
    Heading,
    Faint,
    Good,
    Busy,
    Bad,
    Waiting,
}

impl Colour {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Busy => Some("33"),
            Self::Bad => Some("31"),
            Self::Waiting => Some("36"),
        }
    }
}

impl<'w> Output<'w> {
    pub(crate) fn new(out: &'w mut (dyn Write + Send), err: &'w mut (dyn Write + Send), style: Style) -> Self {
        Self { out, err, style }
    }

    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Writes a line of the result.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Writes text without a line end.
    pub(crate) fn text(&mut self, text: impl Display) -> Result<(), Failure> {
        Ok(write!(self.out, "{text}")?)
    }

    /// Writes JSON on one line.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(value)
    }

    /// Writes a message for people to standard error.
    pub(crate) fn note(&mut self, text: impl Display) {
        // There is nowhere to report a failed write.
        let _ = writeln!(self.err, "{text}");
    }

    /// Writes a message that the next one replaces on a terminal.
    pub(crate) fn progress(&mut self, text: impl Display) {
        let _ = if std::io::stderr().is_terminal() && self.style.width.is_some() {
            write!(self.err, "\r\x1b[K{text}")
        } else {
            writeln!(self.err, "{text}")
        };
        let _ = self.err.flush();
    }

    /// Writes a question, without a line end.
    pub(crate) fn ask(&mut self, text: impl Display) {
        let _ = write!(self.err, "{text} ");
        let _ = self.err.flush();
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Writes the message of a failure.
    pub(crate) fn report(&mut self, failure: &Failure) {
        // Results that were found before the failure come first.
        let _ = self.out.flush();
        if let Some(message) = failure.message() {
            let _ = write!(self.err, "{message}");
        }
    }
}

/// A JSON array with one element per line, written while it is read.
pub(crate) struct JsonArray {
    is_empty: bool,
}

impl JsonArray {
    pub(crate) fn start(output: &mut Output<'_>) -> Result<Self, Failure> {
        output.text("[")?;
        Ok(Self { is_empty: true })
    }

    pub(crate) fn push(&mut self, value: &Value, output: &mut Output<'_>) -> Result<(), Failure> {
        output.text(if self.is_empty { "\n" } else { ",\n" })?;
        self.is_empty = false;
        output.text(value)
    }

    pub(crate) fn end(self, output: &mut Output<'_>) -> Result<(), Failure> {
        output.line(if self.is_empty { "]" } else { "\n]" })
    }
}
