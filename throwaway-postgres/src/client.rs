//! Runs one statement on a separate connection, from blocking code.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::thread;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The error of a statement.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Option<SqlState>,
    message: String,
}

impl Failure {
    /// Another session is connected to the database that should be copied.
    pub(crate) fn is_object_in_use(&self) -> bool {
        self.code == Some(SqlState::OBJECT_IN_USE)
    }

    pub(crate) fn is_insufficient_privilege(&self) -> bool {
        self.code == Some(SqlState::INSUFFICIENT_PRIVILEGE)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Failure { code: error.code().cloned(), message }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure { code: None, message: error.to_string() }
    }
}

/// Runs one statement. Returns the first column of the first row, if there is one.
///
/// The connection has a separate thread with a separate runtime, because the caller can already be inside a runtime.
pub(crate) fn ask(url: &str, statement: &str) -> Result<Option<String>, Failure> {
    thread::scope(|scope| {
        let name = "throwaway-postgres".to_owned();
        let worker = thread::Builder::new().name(name).spawn_scoped(scope, || ask_on_this_thread(url, statement))?;
        worker.join().unwrap_or_else(|_| Err(Failure { code: None, message: "the thread panicked".to_owned() }))
    })
}

fn ask_on_this_thread(url: &str, statement: &str) -> Result<Option<String>, Failure> {
    let mut config: Config = url.parse()?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_LIMIT);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let result = client.simple_query(statement).await;
        // Close the connection properly, so that the server does not log a lost client.
        drop(client);
        let _ = connection.await;
        Ok(first_value(&result?))
    })
}

fn first_value(messages: &[SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
        _ => None,
    })
}
