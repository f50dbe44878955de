//! Notification channels and their messages.

use serde::Deserialize;

use crate::job::JobId;

/// The longest name of a channel, in bytes.
const LONGEST_CHANNEL: usize = 63;

/// The channel of all queues.
const ANY_QUEUE_CHANNEL: &str = "procrastinate_any_queue_v1";

/// What the channel of one queue begins with.
const QUEUE_CHANNEL: &str = "procrastinate_queue_v1#";

/// The channel for changes of schedules. The trigger on their table sends to it.
pub(crate) const SCHEDULES_CHANNEL: &str = "procrastinate_diesel_schedules";

/// The channels for notifications about these queues.
///
/// A queue whose name is too long for a channel only uses the channel of all queues.
pub(crate) fn channels(queues: Option<&[String]>) -> Vec<String> {
    let own = |queue: &String| format!("{QUEUE_CHANNEL}{queue}");
    match queues {
        Some(queues) if queues.iter().all(|queue| own(queue).len() <= LONGEST_CHANNEL) => {
            queues.iter().map(own).collect()
        }
        _ => vec![ANY_QUEUE_CHANNEL.to_owned()],
    }
}

/// The queue of a channel. `None` for the channel of all queues.
pub(crate) fn queue_of(channel: &str) -> Option<&str> {
    channel.strip_prefix(QUEUE_CHANNEL)
}

/// A notification about jobs.
///
/// # Example
///
/// See [`App::listen_for_jobs`](crate::App::listen_for_jobs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notification {
    /// A job was deferred or replaced, and possibly others with it.
    JobInserted(JobId),
    /// An abort of this job was requested.
    AbortJobRequested(JobId),
    /// Another message, perhaps of a later version. Read the table to be safe.
    Other,
}

impl Notification {
    pub(crate) fn from_payload(payload: &str) -> Self {
        #[derive(Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        enum Message {
            JobInserted { job_id: JobId },
            AbortJobRequested { job_id: JobId },
        }
        match serde_json::from_str(payload) {
            Ok(Message::JobInserted { job_id }) => Self::JobInserted(job_id),
            Ok(Message::AbortJobRequested { job_id }) => Self::AbortJobRequested(job_id),
            Err(_) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_its_channel_unless_a_name_is_too_long() {
        let fits = "q".repeat(LONGEST_CHANNEL - "procrastinate_queue_v1#".len());
        assert_eq!(channels(None), ["procrastinate_any_queue_v1"]);
        assert_eq!(
            channels(Some(&["a".into(), fits.clone()])),
            ["procrastinate_queue_v1#a", &format!("procrastinate_queue_v1#{fits}")]
        );
        assert_eq!(channels(Some(&["a".into(), format!("{fits}q")])), ["procrastinate_any_queue_v1"]);
        assert_eq!(channels(Some(&["a#b".into()])).first().and_then(|channel| queue_of(channel)), Some("a#b"));
        assert_eq!(queue_of("procrastinate_any_queue_v1"), None);
    }

    #[test]
    fn a_notification_names_the_job_and_other_messages_are_other() {
        let job = JobId::from(7);
        for (payload, expected) in [
            (r#"{"type": "abort_job_requested", "job_id": 7}"#, Notification::AbortJobRequested(job)),
            (r#"{"type": "job_inserted", "job_id": 7}"#, Notification::JobInserted(job)),
            (r#"{"type": "abort_job_requested"}"#, Notification::Other),
            (r#"{"type": "something_new", "job_id": 7}"#, Notification::Other),
            ("", Notification::Other),
            ("7", Notification::Other),
        ] {
            assert_eq!(Notification::from_payload(payload), expected, "{payload}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_payload_is_a_notification(payload in "\\PC*", id in proptest::prelude::any::<i64>()) {
            assert_eq!(Notification::from_payload(&payload), Notification::Other);
            let known = format!(r#"{{"type": "job_inserted", "job_id": {id}, "more": {{}}}}"#);
            assert_eq!(Notification::from_payload(&known), Notification::JobInserted(JobId::from(id)));
        }
    }
}
