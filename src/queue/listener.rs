//! Listening for notifications about jobs.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::database::connection::{Connection, Connector};
use crate::database::notification::{Notification, channels};
use crate::error::Error;

/// Why nothing is heard on a connection that is otherwise as it should be.
pub(crate) const SILENT: &str = "the connections that are made for it deliver no notifications: they go through a pooler \
     that gives each transaction another connection to the server (see `DieselConnector::dedicated_connections`), or are \
     made with AsyncPgConnection::try_from(client) instead of try_from_client_and_connection";

/// How long the server may take to answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may be heard before the connection is tried: a network that went away says nothing.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Hears of jobs that are deferred or are to be aborted, on a connection of its own: what workers hear.
///
/// # Example
///
/// See [`App::listen_for_jobs`](crate::App::listen_for_jobs).
pub struct Notifications {
    connection: Connection,
}

impl Notifications {
    pub(crate) async fn listen(connector: &Connector, queues: Option<&[String]>) -> Result<Self, Error> {
        let mut connection = connector.dedicated("listen for jobs").await?;
        if !connector.holds_sessions() || !delivers_notifications(&mut connection, connector).await? {
            return Err(lost(SILENT.to_owned()));
        }
        register_interest(&mut connection, &channels(queues)).await.map_err(lost)?;
        Ok(Self { connection })
    }

    /// The next notification, whenever it comes. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// [`Error::Listening`] when the connection is lost. What is announced meanwhile is not heard: listen again, and look
    /// at the table.
    ///
    /// # Example
    ///
    /// See [`App::listen_for_jobs`](crate::App::listen_for_jobs).
    pub async fn next(&mut self) -> Result<Notification, Error> {
        loop {
            match hear(&mut self.connection, Instant::now() + PING_INTERVAL).await.map_err(lost)? {
                Some(notification) => return Ok(notification),
                None => ping(&mut self.connection).await.map_err(lost)?,
            }
        }
    }
}

fn lost(reason: String) -> Error {
    Error::Listening { source: reason.into() }
}

impl fmt::Debug for Notifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifications").finish_non_exhaustive()
    }
}

/// Listens on the channels.
pub(crate) async fn register_interest(connection: &mut Connection, channels: &[String]) -> Result<(), String> {
    let statements: String = channels.iter().map(|channel| format!("LISTEN {};", quote_identifier(channel))).collect();
    match connection {
        Connection::Pooled(connection) => answer(connection.batch_execute(&statements)).await,
        #[cfg(feature = "testing")]
        Connection::InMemory(connection) => {
            connection.listen(channels);
            Ok(())
        }
    }
}

/// Has a notification sent to it, on a channel of its own, and sees whether it arrives.
///
/// Another connection sends it, while this one does nothing: through a pooler that gives each transaction another
/// connection to the server, a notification of one's own may arrive by chance, and none after that. For the same reason
/// this comes before interest in the queues is registered, which there would stay behind on a connection of others.
pub(crate) async fn delivers_notifications(connection: &mut Connection, connector: &Connector) -> Result<bool, Error> {
    const LONGEST_WAIT: Duration = Duration::from_secs(2);
    let Some(connection) = connection.database_mut() else { return Ok(true) };
    answer(connection.batch_execute("LISTEN procrastinate_diesel_probe")).await.map_err(lost)?;
    let mut sender = connector.dedicated("try whether notifications arrive").await?;
    let Some(sender) = sender.database_mut() else { return Ok(true) };
    answer(sender.batch_execute("NOTIFY procrastinate_diesel_probe")).await.map_err(lost)?;
    // Whatever arrives will do, also another worker's probe.
    let arrived = {
        let mut notifications = pin!(connection.notifications_stream());
        timeout(LONGEST_WAIT, notifications.next()).await
    };
    answer(connection.batch_execute("UNLISTEN procrastinate_diesel_probe")).await.map_err(lost)?;
    match arrived {
        Ok(Some(Ok(_))) => Ok(true),
        Ok(Some(Err(error))) => Err(lost(error.to_string())),
        Ok(None) => Err(lost("the connection was closed".to_owned())),
        Err(_) => Ok(false),
    }
}

/// The next notification, or none by that time.
pub(crate) async fn hear(connection: &mut Connection, until: Instant) -> Result<Option<Notification>, String> {
    #[cfg(feature = "testing")]
    if let Connection::InMemory(connection) = connection {
        let message = timeout_at(until, connection.next_message()).await;
        return Ok(message.ok().map(|message| Notification::from_payload(&message)));
    }
    let Some(connection) = connection.database_mut() else { return Ok(None) };
    // Dropping the stream keeps what has arrived.
    let mut notifications = pin!(connection.notifications_stream());
    match timeout_at(until, notifications.next()).await {
        Ok(Some(Ok(notification))) => Ok(Some(Notification::from_payload(&notification.payload))),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Err("the connection was closed".to_owned()),
        Err(_) => Ok(None),
    }
}

/// Tries the connection.
pub(crate) async fn ping(connection: &mut Connection) -> Result<(), String> {
    match connection.database_mut() {
        Some(connection) => answer(connection.batch_execute("SELECT 1")).await,
        None => Ok(()),
    }
}

/// What the server answers, if it does so in time. After a time-out the connection is not used again.
async fn answer(statement: impl Future<Output = diesel::QueryResult<()>>) -> Result<(), String> {
    match timeout(ANSWER_TIMEOUT, statement).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the server did not answer within {ANSWER_TIMEOUT:?}")),
    }
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quote_identifier(r#"a"b"#), r#""a""b""#);
    }
}
