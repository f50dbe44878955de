//! The program `procrastinate`: the command line for any Procrastinate database, without tasks.

use std::process::ExitCode;

/// One thread is enough for a single command, and starts faster than several.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    procrastinate::cli::stand_alone().await
}
