//! The program `procrastinate`: the command line without task code, for a database that any application shares.

use std::process::ExitCode;

/// One thread is enough for somebody who asks a question, and starts sooner than several.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    procrastinate::cli::stand_alone().await
}
