//! Listeners and their notifications.

use tokio::sync::mpsc;

use crate::database::notification::SCHEDULES_CHANNEL;
use crate::job::JobId;

/// A connection that listens.
#[derive(Debug)]
struct Listener {
    channels: Vec<String>,
    /// Each with its channel.
    messages: mpsc::UnboundedSender<(String, String)>,
}

#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Listener>);

impl Listeners {
    pub(super) fn add(&mut self, channels: &[String]) -> mpsc::UnboundedReceiver<(String, String)> {
        let (messages, receiver) = mpsc::unbounded_channel();
        self.0.push(Listener { channels: channels.to_vec(), messages });
        receiver
    }

    /// Notifies listeners that a job was inserted, possibly with others of its queue.
    pub(super) fn tell_of_job(&mut self, queue: &str, id: i64) {
        self.tell(queue, "job_inserted", id);
    }

    /// Notifies listeners that an abort of a running job was requested.
    pub(super) fn tell_of_abort(&mut self, queue: &str, id: i64) {
        self.tell(queue, "abort_job_requested", id);
    }

    /// Notifies listeners that a schedule was changed.
    pub(super) fn tell_of_schedules(&mut self) {
        self.send(&[SCHEDULES_CHANNEL], "");
    }

    /// Sends a message on a queue's channel and on the channel of all queues.
    fn tell(&mut self, queue: &str, message_type: &str, id: i64) {
        let message = serde_json::json!({ "type": message_type, "job_id": JobId::from(id) }).to_string();
        self.send(&[&format!("procrastinate_queue_v1#{queue}"), "procrastinate_any_queue_v1"], &message);
    }

    /// Sends a message on these channels. Closed listeners are removed.
    fn send(&mut self, channels: &[&str], message: &str) {
        self.0.retain(|listener| {
            let hears = |channel: &String| channels.contains(&channel.as_str());
            let told = listener.channels.iter().filter(|channel| hears(channel));
            told.map(|channel| listener.messages.send((channel.clone(), message.to_owned()))).all(|sent| sent.is_ok())
                && !listener.messages.is_closed()
        });
    }
}
