//! A pending job that can start no more, because its time is over, does not take the place of new jobs.

use std::time::Duration;

use chrono::Utc;
use diesel::PgConnection;
use procrastinate::IfEnqueued::{Fail, Keep, Replace, ReplaceExceptSchedule};
use procrastinate::{App, Deferred, Error, IfEnqueued, JobId, JobToDefer, batch_defer_blocking, task};

use crate::support::{connect, connector, database, rows, sql};

const HOUR: Duration = Duration::from_secs(3_600);
const LATE: &str = "UPDATE procrastinate_diesel_job_options SET start_before = now() - interval '1 second'";
const JOBS: &str = "SELECT id, status FROM procrastinate_jobs ORDER BY id";

#[task]
async fn greet(name: String) {
    let _ = name;
}

fn ada() -> JobToDefer {
    greet("Ada".to_owned())
}

/// Jobs of which only one can be pending, in each way to say so.
const ALIKE: [fn() -> JobToDefer; 8] = [
    || locked(Fail),
    || locked(Keep),
    || locked(Replace),
    || locked(ReplaceExceptSchedule),
    || ada().unique("a"),
    || ada().unique("a").unless_enqueued(),
    // Jobs with further options are stored by another statement.
    || locked(Fail).limit_key("k"),
    || locked(Keep).start_within(HOUR),
];

fn locked(if_enqueued: IfEnqueued) -> JobToDefer {
    ada().queueing_lock("a").if_enqueued(if_enqueued)
}

/// Leaves a pending job that can start no more, and returns its ID.
fn late(job: JobToDefer, connection: &mut PgConnection) -> JobId {
    let id = job.start_within(HOUR).defer_blocking(connection).unwrap();
    sql(connection, LATE);
    id
}

#[tokio::test]
async fn a_job_that_can_start_no_more_takes_no_place_however_the_next_one_is_deferred() {
    let database = database();
    let app = App::builder(connector(&database).await).task::<greet>().build().unwrap();
    let mut connection = connect(&database);
    for (index, job) in ALIKE.into_iter().enumerate() {
        for way in ["one", "batch", "application", "callers at the same time"] {
            let old = late(job(), &mut connection);
            let new = match way {
                "one" => job().defer_detailed_blocking(&mut connection).unwrap(),
                "batch" => {
                    let ids = batch_defer_blocking([ada(), job(), ada()], &mut connection).unwrap();
                    Deferred::New(ids[1])
                }
                "application" => app.defer_detailed(job()).await.unwrap(),
                _ => {
                    let (_, new, _) = tokio::join!(app.defer(ada()), app.defer_detailed(job()), app.defer(ada()));
                    new.unwrap()
                }
            };
            assert!(matches!(new, Deferred::New(id) if id > old), "{way}: {new:?} after {old} for job {index}");
            let statuses = rows(&mut connection, JOBS);
            assert!(statuses.contains(&format!("{old} | cancelled")), "{way}: {statuses:?}");
            assert!(statuses.contains(&format!("{} | todo", new.id())), "{way}: {statuses:?}");
            sql(&mut connection, "TRUNCATE procrastinate_jobs, procrastinate_diesel_unique_keys CASCADE");
        }
    }
}

#[test]
fn a_job_that_has_been_started_or_is_in_time_takes_its_place() {
    let database = database();
    let mut connection = connect(&database);
    let job = || locked(Keep);
    let in_time = job().start_within(HOUR).defer_blocking(&mut connection).unwrap();
    assert_eq!(job().defer_detailed_blocking(&mut connection).unwrap(), Deferred::Kept(in_time));
    // Its first start was in time.
    sql(&mut connection, "SELECT procrastinate_fetch_job_v2(NULL, (SELECT procrastinate_register_worker_v1()))");
    sql(&mut connection, &format!("SELECT procrastinate_retry_job_v2({in_time}, now(), NULL, NULL, NULL)"));
    sql(&mut connection, LATE);
    assert_eq!(job().defer_detailed_blocking(&mut connection).unwrap(), Deferred::Kept(in_time));
    let error = ada().queueing_lock("a").defer_blocking(&mut connection).unwrap_err();
    assert!(matches!(error, Error::AlreadyEnqueued { .. }), "{error}");
}

#[test]
fn if_the_transaction_is_rolled_back_the_late_job_is_as_it_was() {
    let database = database();
    let mut connection = connect(&database);
    let job = || locked(Fail);
    let old = late(job(), &mut connection);
    sql(&mut connection, "BEGIN");
    job().defer_blocking(&mut connection).unwrap();
    sql(&mut connection, "ROLLBACK");
    assert_eq!(rows(&mut connection, JOBS), [format!("{old} | todo")]);
    // One that somebody is about to start counts as pending.
    let mut other = connect(&database);
    sql(&mut other, &format!("BEGIN; SELECT FROM procrastinate_jobs WHERE id = {old} FOR UPDATE"));
    job().defer_blocking(&mut connection).unwrap_err();
    sql(&mut other, "COMMIT");
    job().defer_blocking(&mut connection).unwrap();
}

#[tokio::test]
async fn a_schedule_defers_its_job_if_the_last_one_can_start_no_more() {
    let database = database();
    let mut connection = connect(&database);
    for (queueing_lock, overlap) in [("'a'", "allow"), ("NULL", "skip")] {
        let old = late(locked(Fail), &mut connection);
        sql(
            &mut connection,
            &format!(
                "SELECT procrastinate_diesel_create_schedule_v1(
                     'greet', 'daily', '{{ \"cron\": \"0 0 * * *\", \"time_zone\": \"UTC\" }}', NULL);
                 UPDATE procrastinate_diesel_schedules SET overlap = '{overlap}', last_job_id = {old}"
            ),
        );
        let tick = format!(
            "SELECT outcome FROM procrastinate_diesel_defer_scheduled_job_v1('default', NULL, {queueing_lock}, \
             'greet', 0, 'daily', {}, '{{}}', (SELECT version FROM procrastinate_diesel_schedules), NULL)",
            Utc::now().timestamp() + 5
        );
        assert_eq!(rows(&mut connection, &tick), ["deferred"]);
        sql(&mut connection, "TRUNCATE procrastinate_jobs, procrastinate_diesel_schedules CASCADE");
    }
}
