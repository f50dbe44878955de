//! How a line of the log is written: as JSON, or by one of Python's formats, which deployments of Procrastinate have.

use std::fmt::Write as _;
use std::process;
use std::time::Instant;

use chrono::{DateTime, Local, Utc};

/// Python's own default.
pub(crate) const BASIC_FORMAT: &str = "%(levelname)s:%(name)s:%(message)s";

/// What Python calls the attributes of a record, as far as they have a meaning here.
const ATTRIBUTES: [&str; 17] = [
    "asctime",
    "created",
    "filename",
    "funcName",
    "levelname",
    "levelno",
    "lineno",
    "message",
    "module",
    "msecs",
    "name",
    "pathname",
    "process",
    "processName",
    "relativeCreated",
    "thread",
    "threadName",
];

/// What is known of a line.
pub(crate) struct Record<'r> {
    pub(crate) level: tracing::Level,
    pub(crate) target: &'r str,
    pub(crate) file: Option<&'r str>,
    pub(crate) line: Option<u32>,
    pub(crate) message: &'r str,
    pub(crate) time: DateTime<Utc>,
    pub(crate) start: Instant,
}

/// A format of Python's, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFormat(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Attribute { name: &'static str, pad: Pad },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pad {
    width: usize,
    left: bool,
    zero: bool,
}

impl LogFormat {
    /// Takes a format apart, in one of Python's three styles.
    pub(crate) fn parse(format: &str, style: char) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = format;
        while let Some(first) = rest.chars().next() {
            if let Some((sign, after)) = escaped(rest, style) {
                text.push(sign);
                rest = after;
            } else if let Some((name, pad, after)) = attribute(rest, style)? {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Attribute { name: known(name)?, pad: parse_pad(pad, style)? });
                rest = after;
            } else {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        pieces.push(Piece::Text(text));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            let example = match style {
                '{' => "{levelname} {message}",
                '$' => "$levelname $message",
                _ => "%(levelname)s %(message)s",
            };
            return Err(format!("it names nothing of a line; try {example}, or json"));
        }
        Ok(Self(pieces))
    }

    /// The line, without its end.
    pub(crate) fn write(&self, record: &Record<'_>) -> String {
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Attribute { name, pad } => pad.write(&value(name, record), &mut line),
            }
        }
        line
    }
}

impl Pad {
    fn write(self, value: &str, line: &mut String) {
        let Self { width, left, zero } = self;
        let _ = match (left, zero) {
            (true, _) => write!(line, "{value:<width$}"),
            (false, true) => write!(line, "{value:0>width$}"),
            (false, false) => write!(line, "{value:>width$}"),
        };
    }
}

/// A doubled sign of the style, which stands for itself, and what follows it.
fn escaped(rest: &str, style: char) -> Option<(char, &str)> {
    let signs = if style == '{' { &['{', '}'][..] } else { &[style][..] };
    let mut characters = rest.chars();
    let first = characters.next().filter(|first| signs.contains(first))?;
    (characters.next() == Some(first)).then_some((first, characters.as_str()))
}

/// An attribute at the start of the text: its name, how it is padded, and what follows.
fn attribute(rest: &str, style: char) -> Result<Option<(&str, &str, &str)>, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match style {
        '%' => {
            let Some(start) = rest.strip_prefix("%(") else { return Ok(None) };
            let (name, after) = start.split_once(')').ok_or("a bracket is not closed")?;
            let end = after.find(|c: char| c.is_ascii_alphabetic()).ok_or("an attribute ends with s, d or f")?;
            Ok(Some((name, &after[..end], &after[end + 1..])))
        }
        '{' => {
            let Some(start) = rest.strip_prefix('{') else { return Ok(None) };
            let (inner, after) = start.split_once('}').ok_or("a brace is not closed")?;
            let (name, pad) = inner.split_once(':').unwrap_or((inner, ""));
            Ok(Some((name, pad.trim_end_matches(['s', 'd', 'f']), after)))
        }
        _ => {
            let Some(start) = rest.strip_prefix('$') else { return Ok(None) };
            if let Some(braced) = start.strip_prefix('{') {
                let (name, after) = braced.split_once('}').ok_or("a brace is not closed")?;
                return Ok(Some((name, "", after)));
            }
            let end = start.find(|c| !is_name(c)).unwrap_or(start.len());
            Ok(Some((&start[..end], "", &start[end..])))
        }
    }
}

fn known(name: &str) -> Result<&'static str, String> {
    let found = ATTRIBUTES.iter().find(|attribute| **attribute == name);
    found.copied().ok_or_else(|| format!("there is no attribute {name:?}; there are {}", ATTRIBUTES.join(", ")))
}

fn parse_pad(text: &str, style: char) -> Result<Pad, String> {
    // In the style `{` texts stand on the left unless told otherwise.
    let mut pad = Pad { left: style == '{', ..Pad::default() };
    let mut digits = text;
    for (sign, left) in [('-', true), ('<', true), ('>', false)] {
        if let Some(after) = digits.strip_prefix(sign) {
            (digits, pad.left) = (after, left);
        }
    }
    if let Some(after) = digits.strip_prefix('0') {
        (digits, pad.zero, pad.left) = (after, true, false);
    }
    // A precision is left out: nothing here has one.
    let width = digits.split('.').next().unwrap_or_default();
    if !width.is_empty() {
        pad.width = width.parse().ok().filter(|width| *width <= 1_000).ok_or(format!("{text:?} is no width"))?;
    }
    Ok(pad)
}

/// The name of a level, as Python has it.
pub(crate) fn level_name(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "ERROR",
        tracing::Level::WARN => "WARNING",
        tracing::Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

fn value(name: &str, record: &Record<'_>) -> String {
    let file = || record.file.unwrap_or_default();
    let filename = || file().rsplit('/').next().unwrap_or_default().to_owned();
    match name {
        "asctime" => record.time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S,%3f").to_string(),
        "created" => format!("{}.{:06}", record.time.timestamp(), record.time.timestamp_subsec_micros()),
        "msecs" => record.time.timestamp_subsec_millis().to_string(),
        "relativeCreated" => record.start.elapsed().as_millis().to_string(),
        "filename" => filename(),
        "module" => filename().trim_end_matches(".rs").to_owned(),
        "pathname" => file().to_owned(),
        "lineno" => record.line.unwrap_or_default().to_string(),
        "levelname" => level_name(record.level).to_owned(),
        "levelno" => match level_name(record.level) {
            "ERROR" => "40",
            "WARNING" => "30",
            "INFO" => "20",
            _ => "10",
        }
        .to_owned(),
        "message" => record.message.to_owned(),
        "name" => record.target.replace("::", "."),
        "process" => process::id().to_string(),
        "processName" => "MainProcess".to_owned(),
        "threadName" => std::thread::current().name().unwrap_or_default().to_owned(),
        "thread" => format!("{:?}", std::thread::current().id()).replace(|c: char| !c.is_ascii_digit(), ""),
        // `funcName`: Rust does not say.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{BASIC_FORMAT, Instant, LogFormat, Record};

    fn written(format: &str, style: char) -> String {
        let record = Record {
            level: tracing::Level::WARN,
            target: "procrastinate::worker",
            file: Some("src/worker/run.rs"),
            line: Some(7),
            message: "a job is late",
            time: "2030-01-31T08:00:00.045Z".parse().unwrap(),
            start: Instant::now(),
        };
        LogFormat::parse(format, style).unwrap().write(&record)
    }

    #[test]
    fn the_three_styles_of_python_write_the_same_line() {
        let expected = "WARNING:procrastinate.worker:a job is late";
        assert_eq!(written(BASIC_FORMAT, '%'), expected);
        assert_eq!(written("{levelname}:{name}:{message}", '{'), expected);
        assert_eq!(written("$levelname:${name}:$message", '$'), expected);
    }

    #[test]
    fn attributes_are_padded_and_signs_escaped() {
        assert_eq!(written("%(levelname)-9s|%(levelname)9s|%(msecs)03d%%", '%'), "WARNING  |  WARNING|045%");
        assert_eq!(written("{{{levelname:<9}|{levelname:>9}}}", '{'), "{WARNING  |  WARNING}");
        assert_eq!(written("$$ $module:$lineno", '$'), "$ run:7");
    }

    #[test]
    fn a_format_that_python_would_refuse_is_refused() {
        for (format, style) in
            [("%(nonsense)s", '%'), ("plain", '%'), ("%(message", '%'), ("{message", '{'), ("${x", '$')]
        {
            assert!(LogFormat::parse(format, style).is_err(), "{format}");
        }
    }
}
