//! Rows that people or other versions have written: each is read and shown, and stops nothing behind it.

use std::time::Duration;

use diesel::prelude::*;
use procrastinate::job_manager::{list_jobs, list_queues};
use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
use procrastinate::retry::RetryStrategy;
use procrastinate::{App, Error, JobStatus, task};
use throwaway_postgres::Database;

use crate::support::{Running, connect, connector, database, eventually, jobs, rows, sql};

#[task(retry = RetryStrategy::new().max_attempts(3))]
async fn note() -> Result<(), std::io::Error> {
    Ok(())
}

#[task(retry = RetryStrategy::new().exponential_wait(2))]
async fn fall_over() -> Result<(), std::io::Error> {
    Err(std::io::Error::other("it fell over"))
}

/// The columns of jobs at their extremes. Those of tasks that exist run; the last of them is an ordinary job.
const EXTREMES: &str = r#"
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, attempts) VALUES
        ('q', 'note', 2147483647, NULL, NULL, '{}', NULL, 2147483647),
        ('q', 'fall_over', 2147483647, NULL, NULL, '{}', NULL, 2147483647),
        ('q', 'fall_over', 0, NULL, NULL, '{}', NULL, 2147483646),
        ('q', 'note', -2147483648, '', '', '{}', '-infinity', -2147483648),
        ('q', 'fall_over', -2147483648, 'l', 'q', '{}', '4713-01-01 BC', -1),
        ('q', 'note', 0, NULL, NULL, '{}', 'infinity', 0),
        ('q', 'note', 0, NULL, NULL, '{}', '294276-12-31', 0),
        ('', '', 0, NULL, NULL, '{}', '0001-01-01 BC', 0),
        ('q', '', 0, NULL, NULL, '{}', NULL, 0),
        ('q', 'note', 0, NULL, NULL, '[]', NULL, 0),
        ('q', 'note', 0, NULL, NULL, 'null', NULL, 0),
        ('q', 'note', 0, NULL, NULL, '"text"', NULL, 0),
        ('q', 'note', 0, NULL, NULL, '1e400', NULL, 0),
        ('q', 'note', 0, NULL, NULL, '{"a": {"b": [1e400, -0.0, 1e-400]}}', NULL, 0),
        ('q', E'\x01\u202e\u2066', 0, E'\x1b[31m', E'\n', '{"\u202e": "\u0001"}', NULL, 0);
    INSERT INTO procrastinate_jobs (id, queue_name, task_name) VALUES
        (-9223372036854775808, 'q', 'note'), (-1, 'q', 'note'), (0, 'q', 'note'), (9223372036854775807, 'q', 'note');
    INSERT INTO procrastinate_workers (last_heartbeat) VALUES ('infinity'), ('294276-12-31');
    INSERT INTO procrastinate_events (job_id, type, at) VALUES (1, NULL, NULL), (1, 'scheduled', '-infinity'),
        (1, 'retried', '4713-01-01 BC'), (1, 'deferred', '294276-12-31'), (1, 'failed', 'infinity');
    INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, duration_seconds, at) VALUES
        (1, -2147483648, '', 'NaN', '-infinity'), (1, 2147483647, E'\x1b[2J', 'infinity', 'infinity'), (2, 0, '', -1e308, now());
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority) VALUES ('q', 'note', -2147483648);"#;

/// The application, which knows both tasks.
async fn app(database: &Database) -> App {
    App::builder(connector(database).await).task::<note>().task::<fall_over>().build().unwrap()
}

#[tokio::test]
async fn rows_at_the_extremes_are_read_and_run_and_stop_nothing_behind_them() {
    // What is logged is computed, too.
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::sink).finish();
    let _log = tracing::subscriber::set_default(log);
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, EXTREMES);
    let all = jobs(&mut connection);
    assert!(all.iter().all(|job| !format!("{job} {job:?}").is_empty()));
    let app = app(&database).await;
    assert_eq!(app.perform(list_jobs()).await.unwrap().len(), all.len());
    app.perform(list_queues()).await.unwrap();

    let worker = app.worker().concurrency(3).fetch_job_polling_interval(Duration::from_millis(50));
    // So long it tries to store the outcomes of attempts that cannot be counted, before it stops.
    let worker = worker.update_heartbeat_interval(Duration::from_millis(300));
    let worker = worker.stalled_worker_timeout(Duration::from_secs(3));
    let worker = Running::start(worker.delete_jobs_older_than(JobStatus::Cancelled, Duration::from_secs(1)));
    let last = "SELECT status FROM procrastinate_jobs WHERE task_name = 'note' AND args = '{}' AND scheduled_at IS NULL
                AND attempts BETWEEN 0 AND 1";
    eventually("the ordinary jobs have run", || rows(&mut connection, last).iter().all(|status| status == "succeeded"))
        .await;
    let unreadable = "SELECT status FROM procrastinate_jobs WHERE jsonb_typeof(args) NOT IN ('object', 'array')";
    eventually("the unreadable jobs have failed", || rows(&mut connection, unreadable).iter().all(|it| it == "failed"))
        .await;
    assert!(!worker.has_ended());
    // An attempt that cannot be counted may stay without an outcome, which the worker reports.
    match worker.stop().await {
        Ok(()) | Err(Error::UnsavedJobs { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    jobs(&mut connection);
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_shows_rows_at_the_extremes_and_labels_of_later_versions() {
    use crate::cli::{on, run};

    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, EXTREMES);
    add_labels(&mut connection);
    for command in [
        &["list_jobs"][..],
        &["list_jobs", "--json"],
        &["list_queues"],
        &["list_tasks"],
        &["list_locks"],
        &["healthchecks"],
        &["show", "1"],
        &["show", "9223372036854775807"],
        &["why", "1"],
        &["why", "6"],
        &["list_workers"],
        &["shell", "list_jobs", "details"],
    ] {
        let ended = run(on(&database, command));
        assert!(ended.status <= 1 && !ended.err.contains("panicked"), "{command:?}: {ended:?}");
        assert!(ended.status == 0 || command[0] == "healthchecks", "{command:?}: {ended:?}");
    }
}

/// Labels that a later version may add, and rows with them.
fn add_labels(connection: &mut PgConnection) {
    sql(connection, "ALTER TYPE procrastinate_job_status ADD VALUE 'paused'");
    sql(connection, "ALTER TYPE procrastinate_job_event_type ADD VALUE 'paused'");
    sql(
        connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 'note', 'paused'), ('q', 'note', 'aborting');
         INSERT INTO procrastinate_events (job_id, type) SELECT max(id), 'paused' FROM procrastinate_jobs WHERE status = 'paused'",
    );
}

#[tokio::test]
async fn labels_of_later_versions_are_read_and_stop_nothing() {
    let database = database();
    let mut connection = connect(&database);
    add_labels(&mut connection);
    let app = app(&database).await;
    app.defer(note()).await.unwrap();
    let found = app.perform(list_jobs()).await.unwrap();
    assert!(found.iter().any(|job| job.status.to_string() == "paused"));
    let events: Vec<ProcrastinateEvent> = ProcrastinateEvent::query().load(&mut connection).unwrap();
    assert!(events.iter().any(|event| event.event_type.as_ref().is_some_and(|kind| kind.to_string() == "paused")));
    let paused = JobStatus::from("paused");
    let paused: Vec<ProcrastinateJob> =
        ProcrastinateJob::query().filter(ProcrastinateJob::has_status(paused)).load(&mut connection).unwrap();
    assert_eq!(paused.len(), 1);
    app.perform(list_queues()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(
        rows(&mut connection, "SELECT status FROM procrastinate_jobs ORDER BY id"),
        ["paused", "aborting", "succeeded"]
    );
}
