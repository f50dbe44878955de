//! Logging of programs that use this command line.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::terminal::environment::or_variable;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::allows_colour;
use crate::cli::terminal::values;

/// The logging flags.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Logging {
    /// Log more (level debug) [env: PROCRASTINATE_VERBOSE, a number]
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    verbose: u8,

    /// The minimum level. Default: info [env: PROCRASTINATE_LOG_LEVEL]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = parse_level)]
    log_level: Option<LevelFilter>,

    /// The format: text or json. Default: text [env: PROCRASTINATE_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = parse_format)]
    log_format: Option<LogFormat>,

    /// Accepted for compatibility, without effect [env: PROCRASTINATE_LOG_FORMAT_STYLE]
    #[arg(long, global = true, value_name = "STYLE", hide = true)]
    log_format_style: Option<String>,
}

/// The format of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LogFormat {
    Text,
    Json,
    /// A format of Python's logging, from a deployment of Procrastinate.
    Python(String),
}

impl Logging {
    /// Writes the log to standard error, unless the program has installed a subscriber.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let level = self.level()?;
        let format = or_variable(self.log_format.clone(), "PROCRASTINATE_LOG_FORMAT", parse_format)?;
        let style = or_variable(self.log_format_style.clone(), "PROCRASTINATE_LOG_FORMAT_STYLE", values::text)?;
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
            Some(LogFormat::Json) => {
                fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(std::io::stderr).boxed()
            }
            _ => fmt::layer()
                .with_ansi(allows_colour() && std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                .boxed(),
        };
        // A program's own subscriber stays.
        let _ = tracing_subscriber::registry().with(layer.with_filter(level)).try_init();
        if let Some(LogFormat::Python(format)) = format {
            tracing::warn!("the log format {format:?} is not supported; using text");
        } else if style.is_some() {
            tracing::warn!("--log-format-style is not supported and has no effect");
        }
        Ok(())
    }

    fn level(&self) -> Result<LevelFilter, Failure> {
        // Any flag overrides both variables.
        if self.verbose > 0 {
            return Ok(LevelFilter::DEBUG);
        }
        if let Some(level) = or_variable(self.log_level, "PROCRASTINATE_LOG_LEVEL", parse_level)? {
            return Ok(level);
        }
        let verbose = or_variable(None, "PROCRASTINATE_VERBOSE", |text| {
            text.trim().parse::<u32>().map_err(|_| "must be a number".to_owned())
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
        // Nothing here is logged at a higher level than error.
        "critical" => Ok(LevelFilter::OFF),
        _ => Err("must be debug, info, warning, error or critical".to_owned()),
    }
}

fn parse_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other if other.contains(['%', '{', '$']) => Ok(LogFormat::Python(other.to_owned())),
        _ => Err("must be text or json".to_owned()),
    }
}
