//! The notifications. Every message must have one of the forms below, because another one would permanently stop the
//! listener of another client.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use super::queue::Queue;
use crate::support::{PATIENCE, rows, sql};

const ANY_QUEUE: &str = "procrastinate_any_queue_v1";
const MAILS: &str = "procrastinate_queue_v1#mails";
const OTHER: &str = "procrastinate_queue_v1#other";

/// A queue that is listened to, with these jobs in it.
fn heard_queue(jobs: Value) -> Queue {
    let mut queue = Queue::with_jobs(jobs);
    queue.listen(&[ANY_QUEUE, MAILS, OTHER, "procrastinate_queue_v1#default"]);
    queue
}

/// The messages since the last call: channel, type and job.
fn heard(queue: &mut Queue) -> Vec<(String, String, i64)> {
    let message = |(channel, payload): (String, String)| {
        let message: Value = serde_json::from_str(&payload).unwrap();
        let members: Vec<_> = message.as_object().unwrap().keys().collect();
        assert_eq!(members, ["job_id", "type"]);
        (channel, message["type"].as_str().unwrap().to_owned(), message["job_id"].as_i64().unwrap())
    };
    queue.notifications().into_iter().map(message).collect()
}

fn message(channel: &str, message_type: &str, job: i64) -> (String, String, i64) {
    (channel.to_owned(), message_type.to_owned(), job)
}

// ---- New jobs ----

/// What a trigger of the application's does meanwhile is no part of what is written and announced in one go.
#[test]
fn a_job_that_a_trigger_inserts_while_others_finish_has_its_events_and_notifications() {
    let mut queue = heard_queue(json!([]));
    queue.register_worker();
    queue.add(json!([{ "queue_name": "other", "status": "doing", "worker_id": 1 }]));
    queue.run(
        "CREATE FUNCTION follow_up() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)
             VALUES ('mails', 't', NULL), ('mails', 't', now() + interval '1 day');
             UPDATE procrastinate_jobs SET status = 'cancelled' WHERE id = 3;
             RETURN NULL;
         END $$;
         CREATE TRIGGER follow_up AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW
         WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION follow_up()",
    );
    queue.run("SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{1}', '{succeeded}', '{other}', 0)");
    assert_eq!(queue.events(1).last().unwrap(), "succeeded");
    assert_eq!(queue.events(2), ["deferred"]);
    assert_eq!(queue.events(3), ["cancelled", "deferred", "scheduled"]);
    let (on_mails, on_any): (Vec<_>, Vec<_>) =
        heard(&mut queue).into_iter().partition(|(channel, ..)| channel == MAILS);
    assert_eq!(on_mails, [message(MAILS, "job_inserted", 2), message(MAILS, "job_inserted", 3)]);
    assert_eq!(on_any, [message(ANY_QUEUE, "job_inserted", 2), message(ANY_QUEUE, "job_inserted", 3)]);
}

#[test]
fn a_new_job_is_announced_on_its_queue_and_then_on_all_queues() {
    let mut queue = heard_queue(json!([]));
    queue.add(json!([{ "queue_name": "mails" }]));
    assert_eq!(heard(&mut queue), [message(MAILS, "job_inserted", 1), message(ANY_QUEUE, "job_inserted", 1)]);
}

#[test]
fn the_functions_that_defer_announce_their_jobs() {
    let mut queue = heard_queue(json!([]));
    for deferring in [
        "SELECT procrastinate_defer_jobs_v1('{\"(mails,send,0,,,\\\"{}\\\",)\"}')",
        "SELECT procrastinate_defer_periodic_job_v2('mails', NULL, NULL, 'send', 0, '', 60, '{}')",
        "SELECT job_id FROM procrastinate_diesel_defer_jobs_v1(
             '{mails}', '{send}', '{0}', '{NULL}', '{NULL}', '{\"{}\"}', '{NULL}')",
        "SELECT job_id FROM procrastinate_diesel_defer_each_job_v1(
             '{mails}', '{send}', '{0}', '{NULL}', '{NULL}', '{\"{}\"}', '{NULL}')",
    ] {
        queue.row(deferring);
        let job = queue.row("SELECT max(id) FROM procrastinate_jobs").parse().unwrap();
        let expected = [message(MAILS, "job_inserted", job), message(ANY_QUEUE, "job_inserted", job)];
        assert_eq!(heard(&mut queue), expected, "{deferring}");
    }
}

#[test]
fn a_job_for_later_is_announced_too() {
    let mut queue = heard_queue(json!([]));
    queue.add(json!([{ "queue_name": "mails", "scheduled_at": "tomorrow" }]));
    assert_eq!(heard(&mut queue).len(), 2);
}

#[test]
fn an_inserted_job_that_is_not_pending_is_not_announced() {
    let mut queue = heard_queue(json!([]));
    for status in ["doing", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
        queue.add(json!([{ "queue_name": "mails", "status": status }]));
    }
    assert_eq!(heard(&mut queue), []);
}

#[test]
fn many_jobs_in_one_statement_are_announced_at_least_once_to_each_queue() {
    let mut queue = heard_queue(json!([]));
    let jobs = (0..100).map(|n| json!({ "queue_name": if n % 2 == 0 { "mails" } else { "other" } })).collect();
    queue.add(Value::Array(jobs));

    let messages = heard(&mut queue);

    let channels: BTreeSet<_> = messages.iter().map(|(channel, ..)| channel.as_str()).collect();
    assert_eq!(channels, BTreeSet::from([ANY_QUEUE, MAILS, OTHER]));
    for (channel, message_type, job) in messages {
        assert_eq!(message_type, "job_inserted");
        let queue_name = queue.job(job, "queue_name");
        assert!(channel == ANY_QUEUE || channel.ends_with(&format!("#{queue_name}")), "{channel}: {job}");
    }
}

#[test]
fn a_job_is_announced_when_its_transaction_is_committed_and_only_then() {
    let mut queue = heard_queue(json!([]));
    queue.run("BEGIN");
    queue.add(json!([{ "queue_name": "mails" }]));
    assert_eq!(heard(&mut queue), []);
    queue.run("ROLLBACK; BEGIN");
    queue.add(json!([{ "queue_name": "mails" }]));
    queue.run("COMMIT");
    assert_eq!(heard(&mut queue), [message(MAILS, "job_inserted", 2), message(ANY_QUEUE, "job_inserted", 2)]);
}

#[test]
fn another_connection_receives_the_notification() {
    let mut queue = Queue::new();
    let mut listener = queue.another_connection();
    sql(&mut listener, &format!("LISTEN \"{ANY_QUEUE}\""));
    queue.add(json!([{}]));
    let start = Instant::now();
    let notification = loop {
        rows(&mut listener, "SELECT 1");
        if let Some(notification) = listener.notifications_iter().next() {
            break notification.unwrap();
        }
        assert!(start.elapsed() < PATIENCE, "nothing was heard");
    };
    assert_eq!(notification.channel, ANY_QUEUE);
    assert_eq!(serde_json::from_str::<Value>(&notification.payload).unwrap()["job_id"], 1);
}

// ---- Long names ----

#[test]
fn a_queue_with_a_name_too_long_for_a_channel_is_notified_on_all_queues_only() {
    // A channel has at most 63 bytes, of which 23 are `procrastinate_queue_v1#`.
    let mut queue = heard_queue(json!([]));
    for (name, has_a_channel) in [
        ("x".repeat(40), true),
        ("ü".repeat(20), true),
        ("x".repeat(41), false),
        ("ü".repeat(20) + "x", false),
        ("ü".repeat(128), false),
    ] {
        queue.start_over(json!([]));
        let channel = format!("procrastinate_queue_v1#{name}");
        if has_a_channel {
            queue.listen(&[&channel]);
        }
        let channels = if has_a_channel { vec![channel.as_str(), ANY_QUEUE] } else { vec![ANY_QUEUE] };
        let expected =
            |message_type| channels.iter().map(|channel| message(channel, message_type, 1)).collect::<Vec<_>>();

        queue.add(json!([{ "queue_name": name }]));
        assert_eq!(heard(&mut queue), expected("job_inserted"), "{name}");

        assert_eq!(queue.fetch(&format!("'{{{name}}}'")), Some(1));
        queue.row("SELECT procrastinate_cancel_job_v1(1, true, false)");
        assert_eq!(heard(&mut queue), expected("abort_job_requested"), "{name}");
    }
}

#[test]
fn a_queue_may_have_any_name() {
    let mut queue = heard_queue(json!([]));
    for name in ["with space", "it's", "say \"hi\"", "Größe", "#", "a,b"] {
        queue.start_over(json!([]));
        queue.listen(&[&format!("procrastinate_queue_v1#{}", name.replace('"', "\"\""))]);
        queue.add(json!([{ "queue_name": name }]));
        let channel = format!("procrastinate_queue_v1#{name}");
        assert_eq!(heard(&mut queue), [message(&channel, "job_inserted", 1), message(ANY_QUEUE, "job_inserted", 1)]);
    }
}

// ---- Aborts ----

fn running(queue_name: &str) -> Value {
    json!({ "queue_name": queue_name, "status": "doing" })
}

#[test]
fn an_abort_of_a_running_job_is_announced_once() {
    let mut queue = heard_queue(json!([running("mails")]));
    let abort = "SELECT procrastinate_cancel_job_v1(1, true, false)";
    queue.row(abort);
    let expected = [message(MAILS, "abort_job_requested", 1), message(ANY_QUEUE, "abort_job_requested", 1)];
    assert_eq!(heard(&mut queue), expected);
    queue.row(abort);
    assert_eq!(heard(&mut queue), []);
}

#[test]
fn an_abort_is_announced_even_with_delete_job() {
    let mut queue = heard_queue(json!([running("mails")]));
    queue.row("SELECT procrastinate_cancel_job_v1(1, true, true)");
    assert_eq!(heard(&mut queue).len(), 2);
}

#[test]
fn every_abort_has_its_own_message() {
    let mut queue = heard_queue(json!([running("mails"), running("mails"), running("other")]));
    queue.run("UPDATE procrastinate_jobs SET abort_requested = true");
    let mut messages = heard(&mut queue);
    messages.sort();
    let mut expected = Vec::new();
    for (channel, job) in [(MAILS, 1), (MAILS, 2), (OTHER, 3)] {
        expected.push(message(channel, "abort_job_requested", job));
        expected.push(message(ANY_QUEUE, "abort_job_requested", job));
    }
    expected.sort();
    assert_eq!(messages, expected);
}

#[test]
fn an_abort_of_a_job_that_is_not_running_is_not_announced() {
    let mut queue = heard_queue(json!([{}, { "status": "failed" }, { "status": "cancelled" }]));
    for job in [1, 2, 3] {
        queue.row(&format!("SELECT procrastinate_cancel_job_v1({job}, true, false)"));
    }
    queue.run("UPDATE procrastinate_jobs SET abort_requested = true");
    assert_eq!(heard(&mut queue), []);
}

// ---- Silence ----

#[test]
fn nothing_else_is_announced() {
    let mut queue = heard_queue(json!([
        {},
        {},
        { "queueing_lock": "q" },
        running("mails"),
        running("mails"),
        running("mails"),
        running("other"),
        { "status": "failed" },
        { "status": "doing", "abort_requested": true },
        {},
    ]));
    for silent in [
        "SELECT * FROM procrastinate_register_worker_v1()",
        "SELECT id FROM procrastinate_fetch_job_v2(NULL, 1)",
        "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{1}', '{succeeded}', '{default}', 1)",
        "SELECT procrastinate_cancel_job_v1(3, false, false)",
        "SELECT procrastinate_finish_job_v1(4, 'succeeded', false)",
        "SELECT procrastinate_finish_job_v1(5, 'succeeded', true)",
        "SELECT procrastinate_retry_job_v1(6, now(), NULL, 'other', NULL)",
        "SELECT procrastinate_retry_job_v2(7, NULL, NULL, NULL, NULL)",
        "SELECT procrastinate_retry_job_v2(8, NULL, NULL, NULL, NULL)",
        "SELECT procrastinate_retry_job_v2(9, NULL, NULL, NULL, NULL)",
        "SELECT procrastinate_cancel_job_v1(10, true, true)",
        "SELECT procrastinate_update_heartbeat_v1(1)",
        "SELECT procrastinate_prune_stalled_workers_v1(-1)",
    ] {
        queue.rows(silent);
        assert_eq!(heard(&mut queue), [], "{silent}");
    }
    let standing = "SELECT status FROM procrastinate_jobs WHERE id <> 5 AND id <> 10 ORDER BY id";
    let expected = ["succeeded", "doing", "cancelled", "succeeded", "todo", "todo", "todo", "failed"];
    assert_eq!(queue.rows(standing), expected);
    for silent in [
        "UPDATE procrastinate_jobs SET abort_requested = false",
        "UPDATE procrastinate_jobs SET queue_name = 'mails', priority = 3, scheduled_at = 'tomorrow'",
        "DELETE FROM procrastinate_jobs",
    ] {
        queue.run(silent);
        assert_eq!(heard(&mut queue), [], "{silent}");
    }
}
