//! A side task that listens for new jobs on a connection of its own, and wakes the loop.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::StreamExt;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::backoff::Backoff;
use crate::connector::DieselConnector;

/// How long nothing may be heard before the connection is tried: a network that went away says nothing.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest name of a channel, in bytes.
const LONGEST_CHANNEL: usize = 63;

/// The channel of all queues.
const ANY_QUEUE_CHANNEL: &str = "procrastinate_any_queue_v1";

/// The channels on which jobs of these queues are announced. A queue whose name is too long for a channel of its own is
/// announced on the channel of all queues only.
pub(super) fn channels(queues: Option<&[String]>) -> Vec<String> {
    let own = |queue: &String| format!("procrastinate_queue_v1#{queue}");
    match queues {
        Some(queues) if queues.iter().all(|queue| own(queue).len() <= LONGEST_CHANNEL) => {
            queues.iter().map(own).collect()
        }
        _ => vec![ANY_QUEUE_CHANNEL.to_owned()],
    }
}

/// Why listening ended.
enum Ended {
    /// The connection broke or could not be made: worth another try.
    Lost(String),
    /// The connection delivers no notifications at all: polling has to do.
    Silent,
}

/// Listens until it is dropped. `ready` is told once interest is registered, or has failed to be, so that the loop looks
/// at the table only after.
pub(super) async fn listen(
    connector: DieselConnector,
    channels: Vec<String>,
    wake: Arc<Notify>,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    let mut backoff = Backoff::default();
    loop {
        let ended = listen_once(&connector, &channels, &wake, &mut ready, &mut backoff).await;
        ready = None;
        match ended {
            Ended::Silent => {
                tracing::warn!(
                    action = "listener_silent",
                    "the pool's connections deliver no notifications, so jobs are found by polling only; a connection \
                     made with AsyncPgConnection::try_from(client) is like that, try_from_client_and_connection is not",
                );
                return;
            }
            Ended::Lost(reason) => {
                let wait = backoff.next_wait();
                tracing::warn!(
                    action = "listener_lost",
                    "not listening for new jobs, polling goes on; listening again in {wait:?}: {reason}",
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn listen_once(
    connector: &DieselConnector,
    channels: &[String],
    wake: &Notify,
    ready: &mut Option<oneshot::Sender<()>>,
    backoff: &mut Backoff,
) -> Ended {
    let mut connection = match connector.dedicated("listen for new jobs").await {
        Ok(connection) => connection,
        Err(error) => return Ended::Lost(error.to_string()),
    };
    if let Err(reason) = register_interest(&mut connection, channels).await {
        return Ended::Lost(reason);
    }
    match ready.take() {
        // At the start, see once whether notifications come through.
        Some(ready) => {
            let delivers = delivers_notifications(&mut connection).await;
            let _ = ready.send(());
            match delivers {
                Ok(true) => {}
                Ok(false) => return Ended::Silent,
                Err(reason) => return Ended::Lost(reason),
            }
        }
        // Later, look once: what came in while nobody listened was not heard.
        None => wake.notify_one(),
    }
    backoff.reset();
    pass_on(&mut connection, wake).await
}

async fn register_interest(connection: &mut AsyncPgConnection, channels: &[String]) -> Result<(), String> {
    let statements: String = channels.iter().map(|channel| format!("LISTEN {};", quote_identifier(channel))).collect();
    answer(connection.batch_execute(&statements)).await
}

/// Sends a notification to itself, on a channel of its own, and sees whether it arrives.
async fn delivers_notifications(connection: &mut AsyncPgConnection) -> Result<bool, String> {
    const LONGEST_WAIT: Duration = Duration::from_secs(2);
    answer(connection.batch_execute("LISTEN procrastinate_diesel_probe")).await?;
    // Whatever arrives will do, also another worker's probe.
    answer(connection.batch_execute("NOTIFY procrastinate_diesel_probe")).await?;
    let arrived = {
        let mut notifications = pin!(connection.notifications_stream());
        timeout(LONGEST_WAIT, notifications.next()).await
    };
    answer(connection.batch_execute("UNLISTEN procrastinate_diesel_probe")).await?;
    match arrived {
        Ok(Some(Ok(_))) => Ok(true),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Err("the connection was closed".to_owned()),
        Err(_) => Ok(false),
    }
}

/// Wakes the loop at each notification. The payload is not needed: it says to look at the table.
async fn pass_on(connection: &mut AsyncPgConnection, wake: &Notify) -> Ended {
    loop {
        let next = {
            let mut notifications = pin!(connection.notifications_stream());
            // Dropping the stream keeps what has arrived.
            timeout(PING_INTERVAL, notifications.next()).await
        };
        match next {
            Ok(Some(Ok(_))) => wake.notify_one(),
            Ok(Some(Err(error))) => return Ended::Lost(error.to_string()),
            Ok(None) => return Ended::Lost("the connection was closed".to_owned()),
            Err(_) => {
                if let Err(reason) = answer(connection.batch_execute("SELECT 1")).await {
                    return Ended::Lost(reason);
                }
            }
        }
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
    fn each_queue_has_its_channel_unless_a_name_is_too_long_for_one() {
        let fits = "q".repeat(LONGEST_CHANNEL - "procrastinate_queue_v1#".len());
        assert_eq!(channels(None), ["procrastinate_any_queue_v1"]);
        assert_eq!(
            channels(Some(&["a".into(), fits.clone()])),
            ["procrastinate_queue_v1#a", &format!("procrastinate_queue_v1#{fits}")]
        );
        assert_eq!(channels(Some(&["a".into(), format!("{fits}q")])), ["procrastinate_any_queue_v1"]);
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quote_identifier(r#"a"b"#), r#""a""b""#);
    }
}
