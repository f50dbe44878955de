//! Notifications for programs of one's own.

use std::time::Duration;

use procrastinate::job_manager::Notification;
use procrastinate::{App, Error};

use crate::support::{connect, connector, database, eventually, rows, sql, within_patience};

const LISTENERS: &str = "SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'";

fn notify(number: usize) -> String {
    format!(
        "SELECT pg_notify('procrastinate_any_queue_v1', json_build_object('type', 'job_inserted', 'job_id', id)::text)
         FROM generate_series(1, {number}) AS id"
    )
}

#[tokio::test]
async fn notifications_that_nobody_reads_end_the_listening_and_not_the_memory() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).build().unwrap();
    let mut notifications = app.listen_for_jobs(&[]).await.unwrap();
    sql(&mut connection, &notify(10_001));
    eventually("its connection is closed", || rows(&mut connection, LISTENERS).is_empty()).await;
    for id in 1..=10_000 {
        let notification = within_patience(notifications.next()).await.unwrap();
        assert!(matches!(notification, Notification::JobInserted(job_id) if job_id == id), "{notification:?}");
    }
    for _ in 0..2 {
        let end = within_patience(notifications.next()).await;
        assert!(matches!(end, Err(Error::Listening { .. })), "{end:?}");
        assert!(end.unwrap_err().to_string().contains("more than 10000 notifications"));
    }
}

#[tokio::test]
async fn notifications_are_kept_while_nobody_waits_for_them_and_a_dropped_listener_is_gone() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).build().unwrap();
    let mut notifications = app.listen_for_jobs(&[]).await.unwrap();
    sql(&mut connection, &notify(3));
    for id in 1..=3 {
        let dropped = tokio::time::timeout(Duration::ZERO, notifications.next()).await;
        let notification = match dropped {
            Ok(notification) => notification.unwrap(),
            Err(_) => within_patience(notifications.next()).await.unwrap(),
        };
        assert!(matches!(notification, Notification::JobInserted(job_id) if job_id == id), "{notification:?}");
    }
    drop(notifications);
    eventually("its connection is closed", || rows(&mut connection, LISTENERS).is_empty()).await;
}
