//! Listening for notifications about jobs.

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::database::connection::{Connection, Connector};
use crate::database::notification::{Notification, channels};
use crate::error::Error;

/// Why a working connection receives no notifications.
pub(crate) const SILENT: &str = "the dedicated connections receive no notifications. Either they go through a \
     pooler in transaction mode (use `DieselConnector::dedicated_connections`), or they are made with \
     AsyncPgConnection::try_from(client) (use try_from_client_and_connection)";

/// How long the server may take to respond.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a notification before pinging the connection. A failed network sends no error.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How many notifications are kept until they are read.
const MOST_UNREAD: usize = 10_000;

/// Notifications about new jobs and abort requests, on a dedicated connection. Workers receive the same ones.
///
/// Up to 10,000 unread notifications are kept. With one more, listening ends with an error.
///
/// # Example
///
/// See [`App::listen_for_jobs`](crate::App::listen_for_jobs).
pub struct Notifications {
    received: mpsc::Receiver<Notification>,
    /// Why no more are received. Set before the channel is closed.
    end: Arc<OnceLock<String>>,
    /// Owns the connection.
    reader: AbortHandle,
}

impl Notifications {
    pub(crate) async fn listen(connector: &Connector, queues: Option<&[String]>) -> Result<Self, Error> {
        let mut connection = connector.dedicated("listen for jobs").await?;
        if !connector.holds_sessions() || !delivers_notifications(&mut connection, connector).await? {
            return Err(lost(SILENT.to_owned()));
        }
        register_interest(&mut connection, &channels(queues)).await.map_err(lost)?;
        let (sender, received) = mpsc::channel(MOST_UNREAD);
        let end = Arc::new(OnceLock::new());
        let is_ended = end.clone();
        let reader = tokio::spawn(async move {
            let Err(reason) = read(connection, &sender).await;
            let _ = is_ended.set(reason);
        });
        Ok(Self { received, end, reader: reader.abort_handle() })
    }

    /// Waits for the next notification. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// [`Error::Listening`] if the connection is lost, or if too many notifications were not read in time.
    /// Notifications sent in the meantime are lost too, so listen again and read the table.
    ///
    /// # Example
    ///
    /// See [`App::listen_for_jobs`](crate::App::listen_for_jobs).
    pub async fn next(&mut self) -> Result<Notification, Error> {
        match self.received.recv().await {
            Some(notification) => Ok(notification),
            None => {
                let reason = self.end.get().map_or("the runtime of the connection has ended", String::as_str);
                Err(lost(reason.to_owned()))
            }
        }
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Passes notifications on until the connection is lost, or too many are unread.
async fn read(mut connection: Connection, sender: &mpsc::Sender<Notification>) -> Result<Infallible, String> {
    loop {
        match hear(&mut connection, Instant::now() + PING_INTERVAL).await? {
            Some(heard) => sender
                .try_send(heard.notification)
                .map_err(|_| format!("more than {MOST_UNREAD} notifications were not read in time"))?,
            None => ping(&mut connection).await?,
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

/// Starts listening on the channels.
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

/// Sends a notification to the connection, on a separate channel, and checks whether it arrives.
///
/// Another connection sends it while this one is idle. Through a pooler in transaction mode, a connection may receive
/// its own notification by chance, and none after that. For the same reason this check comes before `LISTEN` on the
/// queues, which would stay behind on another client's connection.
pub(crate) async fn delivers_notifications(connection: &mut Connection, connector: &Connector) -> Result<bool, Error> {
    const LONGEST_WAIT: Duration = Duration::from_secs(2);
    let Some(connection) = connection.database_mut() else { return Ok(true) };
    answer(connection.batch_execute("LISTEN procrastinate_diesel_probe")).await.map_err(lost)?;
    let mut sender = connector.dedicated("check whether notifications arrive").await?;
    let Some(sender) = sender.database_mut() else { return Ok(true) };
    answer(sender.batch_execute("NOTIFY procrastinate_diesel_probe")).await.map_err(lost)?;
    // Any notification will do, including another worker's probe.
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

/// A notification, and the channel on which it arrived.
pub(crate) struct Heard {
    pub(crate) channel: String,
    pub(crate) notification: Notification,
}

/// Waits for the next notification until that time.
pub(crate) async fn hear(connection: &mut Connection, until: Instant) -> Result<Option<Heard>, String> {
    let heard = |channel, payload: &str| Heard { channel, notification: Notification::from_payload(payload) };
    #[cfg(feature = "testing")]
    if let Connection::InMemory(connection) = connection {
        let message = timeout_at(until, connection.next_message()).await;
        return Ok(message.ok().map(|(channel, payload)| heard(channel, &payload)));
    }
    let Some(connection) = connection.database_mut() else { return Ok(None) };
    // Dropping the stream keeps the notifications that have arrived.
    let mut notifications = pin!(connection.notifications_stream());
    match timeout_at(until, notifications.next()).await {
        Ok(Some(Ok(notification))) => Ok(Some(heard(notification.channel, &notification.payload))),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Err("the connection was closed".to_owned()),
        Err(_) => Ok(None),
    }
}

/// Checks whether the connection still works.
pub(crate) async fn ping(connection: &mut Connection) -> Result<(), String> {
    match connection.database_mut() {
        Some(connection) => answer(connection.batch_execute("SELECT 1")).await,
        None => Ok(()),
    }
}

/// Waits for the server's response. The connection is not used again after a timeout.
async fn answer(statement: impl Future<Output = diesel::QueryResult<()>>) -> Result<(), String> {
    match timeout(ANSWER_TIMEOUT, statement).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the server did not respond within {ANSWER_TIMEOUT:?}")),
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
