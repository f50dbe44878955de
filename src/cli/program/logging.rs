//! The log of a program whose command line is this crate's.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::program::log_format::{BASIC_FORMAT, LogFormat, Record, level_name};
use crate::cli::terminal::environment;
use crate::cli::terminal::failure::Failure;

/// What the log shows, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// Show more: the level debug [env: PROCRASTINATE_VERBOSE, a number]
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    verbose: u8,

    /// Show what is at least this important; info unless set [env: PROCRASTINATE_LOG_LEVEL]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = parse_level)]
    log_level: Option<LevelFilter>,

    /// How a line looks: json, or a format of Python's logging, %(levelname)s:%(name)s:%(message)s unless set
    /// [env: PROCRASTINATE_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,

    /// The style of a format of Python's: %, { or $; % unless set [env: PROCRASTINATE_LOG_FORMAT_STYLE]
    #[arg(long, global = true, value_name = "STYLE", value_parser = parse_style)]
    log_format_style: Option<char>,
}

impl Logging {
    /// Has the log written to standard error, unless the program has seen to its log itself.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let level = self.level()?;
        let format = environment::or_variable(
            self.log_format.clone(),
            "PROCRASTINATE_LOG_FORMAT",
            crate::cli::terminal::values::text,
        )?;
        let style = environment::or_variable(self.log_format_style, "PROCRASTINATE_LOG_FORMAT_STYLE", parse_style)?;
        let format = format.unwrap_or_else(|| BASIC_FORMAT.to_owned());
        let format = if format == "json" {
            None
        } else {
            let parsed = LogFormat::parse(&format, style.unwrap_or('%'));
            Some(parsed.map_err(|rule| Failure::usage(format!("invalid log format {format:?}: {rule}")))?)
        };
        let lines = LineLayer { format, start: Instant::now() };
        // A program that has a subscriber of its own keeps it.
        let _ = tracing_subscriber::registry().with(level).with(lines).try_init();
        Ok(())
    }

    fn level(&self) -> Result<LevelFilter, Failure> {
        // Any flag wins over both variables.
        if self.verbose > 0 {
            return Ok(LevelFilter::DEBUG);
        }
        if let Some(level) = environment::or_variable(self.log_level, "PROCRASTINATE_LOG_LEVEL", parse_level)? {
            return Ok(level);
        }
        let verbose = environment::or_variable(None, "PROCRASTINATE_VERBOSE", |text| {
            text.trim().parse::<u32>().map_err(|_| "it is a number, and 0 unless set".to_owned())
        })?;
        Ok(if verbose.unwrap_or(0) > 0 { LevelFilter::DEBUG } else { LevelFilter::INFO })
    }
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warning" => Ok(LevelFilter::WARN),
        "error" => Ok(LevelFilter::ERROR),
        // Nothing here is graver than an error.
        "critical" => Ok(LevelFilter::OFF),
        _ => Err("it is debug, info, warning, error or critical".to_owned()),
    }
}

fn parse_style(text: &str) -> Result<char, String> {
    match text {
        "%" => Ok('%'),
        "{" => Ok('{'),
        "$" => Ok('$'),
        _ => Err("it is %, { or $".to_owned()),
    }
}

/// Writes each event as a line: by a format, or as JSON.
struct LineLayer {
    format: Option<LogFormat>,
    start: Instant,
}

/// The fields of a span, kept for its events.
struct SpanFields(Map<String, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LineLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if self.format.is_none()
            && let Some(span) = context.span(id)
        {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields.others));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = match &self.format {
            Some(format) => format.write(&Record {
                level: *metadata.level(),
                target: metadata.target(),
                file: metadata.file(),
                line: metadata.line(),
                message: &fields.message,
                time: Utc::now(),
                start: self.start,
            }),
            None => json_line(event, fields, &context, Utc::now()),
        };
        // There is nobody to be told that the log cannot be written.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

fn json_line<S>(event: &Event<'_>, fields: Fields, context: &Context<'_, S>, time: DateTime<Utc>) -> String
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut line = Map::new();
    line.insert("timestamp".to_owned(), time.to_rfc3339_opts(SecondsFormat::Micros, true).into());
    line.insert("level".to_owned(), level_name(*event.metadata().level()).into());
    line.insert("target".to_owned(), event.metadata().target().into());
    line.insert("message".to_owned(), fields.message.into());
    for span in context.event_scope(event).into_iter().flatten() {
        if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>() {
            line.extend(fields.clone());
        }
    }
    line.extend(fields.others);
    Value::Object(line).to_string()
}

/// Gathers the fields of an event or a span.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.insert(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.insert(field, value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }
}
