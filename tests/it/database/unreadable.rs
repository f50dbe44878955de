//! Values that the database can hold and Rust's types cannot: one row does not make the others unreadable.

use std::sync::Mutex;

use diesel::prelude::*;
use procrastinate::models::{ProcrastinateEvent, ProcrastinateJobError, ProcrastinateWorker};
use procrastinate::{App, JobStatus, configure_task, task};
use serde_json::json;

use crate::support::{connect, connector, database, errors, jobs, sql, statuses};

/// 1e400 as PostgreSQL writes it in jsonb.
fn huge() -> String {
    format!("1{}", "0".repeat(400))
}

#[test]
fn models_read_what_rust_cannot_hold_as_well_as_possible() {
    let database = database();
    let mut connection = connect(&database);
    for _ in 0..4 {
        configure_task("work", json!({})).defer_blocking(&mut connection).unwrap();
    }
    let (opening, closing) = ("[".repeat(300), "]".repeat(300));
    sql(
        &mut connection,
        &format!(
            "UPDATE procrastinate_jobs SET args = '{{\"n\": [1e400, -1], \"m\": 1.5}}', scheduled_at = '290000-01-01'
                 WHERE id = 1;
             UPDATE procrastinate_jobs SET args = '{{\"a\": {opening}{closing}}}', scheduled_at = '-infinity' WHERE id = 2;
             UPDATE procrastinate_events SET at = 'infinity' WHERE job_id = 1;
             UPDATE procrastinate_events SET at = '290000-01-01' WHERE job_id = 2;
             INSERT INTO procrastinate_workers (last_heartbeat) VALUES ('infinity'), ('-infinity'), (now());
             INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, at) VALUES (1, 1, 'e', 'infinity')"
        ),
    );

    let jobs = jobs(&mut connection);
    assert_eq!(jobs.len(), 4);
    assert_eq!(jobs[0].args, json!({ "n": [huge(), -1], "m": 1.5 }));
    assert!(jobs[0].scheduled_at.unwrap().to_rfc3339().starts_with("+262142-12-"), "{:?}", jobs[0].scheduled_at);
    assert_eq!(jobs[1].scheduled_at, None);
    assert!(jobs[1].to_string().starts_with("work[2](a=[[["), "{}", jobs[1]);
    assert_eq!(jobs[2].args, json!({}));

    let events: Vec<ProcrastinateEvent> =
        ProcrastinateEvent::query().order(ProcrastinateEvent::oldest_first()).load(&mut connection).unwrap();
    assert_eq!(events[0].at, None);
    assert!(events[1].at.is_some() && events.len() >= 4);
    let workers: Vec<ProcrastinateWorker> = ProcrastinateWorker::query().load(&mut connection).unwrap();
    assert!(workers[0].last_heartbeat > workers[2].last_heartbeat);
    assert!(workers[1].last_heartbeat < workers[2].last_heartbeat);
    let errors: Vec<ProcrastinateJobError> = ProcrastinateJobError::query().load(&mut connection).unwrap();
    assert!(errors[0].at > workers[2].last_heartbeat);
}

#[tokio::test]
async fn a_worker_is_not_held_up_by_a_job_that_it_cannot_read() {
    static RAN: Mutex<Vec<i64>> = Mutex::new(Vec::new());

    #[task(retry = true)]
    async fn record(n: i64) {
        RAN.lock().unwrap().push(n);
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<record>().build().unwrap();
    app.batch_defer((1..=4).map(record)).await.unwrap();
    let mut connection = connect(&database);
    let (opening, closing) = ("[".repeat(200), "]".repeat(200));
    sql(
        &mut connection,
        &format!(
            "UPDATE procrastinate_jobs SET args = '{{\"n\": 2, \"m\": [{{\"o\": 1e400}}]}}' WHERE id = 2;
             UPDATE procrastinate_jobs SET args = '{{\"n\": 3, \"deep\": {opening}{closing}}}' WHERE id = 3"
        ),
    );
    app.worker().concurrency(4).stop_when_empty().run().await.unwrap();
    use JobStatus::{Failed, Succeeded};
    assert_eq!(statuses(&mut connection), [Succeeded, Failed, Failed, Succeeded]);
    RAN.lock().unwrap().sort_unstable();
    assert_eq!(*RAN.lock().unwrap(), [1, 4]);
    assert_eq!(
        errors(&mut connection, 2.into()),
        [
            "1: could not read the arguments of job 2 of the task \"record\": the number at m[0].o is out of the range of \
          Rust's numbers"
        ]
    );
    let [deep] = <[_; 1]>::try_from(errors(&mut connection, 3.into())).unwrap();
    assert!(deep.starts_with("1: could not read the arguments of job 3 of the task \"record\": the value at deep[0]"));
    assert!(deep.ends_with(" is nested more than 127 levels deep"), "{deep}");
}
