//! Jobs that must start by some time, and what deferring says about that.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use diesel::prelude::*;
use procrastinate::IfEnqueued::{Keep, Replace, ReplaceExceptSchedule};
use procrastinate::job_manager::list_flow_controls;
use procrastinate::models::{ProcrastinateFlowControl, ProcrastinateJobOptions};
use procrastinate::retry::RetryStrategy;
use procrastinate::schema::procrastinate_diesel_job_options;
use procrastinate::{
    App, Deferred, Error, JobContext, JobId, JobOptions, JobStatus, JobToDefer, batch_defer, batch_defer_blocking,
    batch_defer_pipelined, configure_task, task,
};
use serde_json::json;
use throwaway_postgres::Database;

use crate::support::{Running, connect, connector, database, eventually, pool, rows, sql, statuses};

const HOUR: Duration = Duration::from_secs(3_600);

#[task(retry = RetryStrategy::new().max_attempts(1).wait(7_200), pass_context)]
async fn greet(context: JobContext, name: String) -> Result<(), String> {
    if name == "fails" && context.job().attempts == 0 { Err("no paper".to_owned()) } else { Ok(()) }
}

fn ada() -> JobToDefer {
    greet("Ada".to_owned())
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The options of all jobs that have any.
fn options(connection: &mut PgConnection) -> Vec<ProcrastinateJobOptions> {
    let query = ProcrastinateJobOptions::query().order(procrastinate_diesel_job_options::job_id);
    query.load(connection).unwrap()
}

/// How many hours from now each of these jobs must start, if it must, and its key.
fn stored(connection: &mut PgConnection) -> Vec<(i64, Option<i64>, Option<String>)> {
    let hours = |time: DateTime<Utc>| (time - Utc::now() + TimeDelta::minutes(1)).num_hours();
    let options = options(connection).into_iter();
    options.map(|options| (options.job_id, options.start_before.map(hours), options.limit_key)).collect()
}

async fn app(database: &Database) -> App {
    App::builder(connector(database).await).task::<greet>().build().unwrap()
}

#[tokio::test]
async fn every_way_to_defer_stores_the_options() {
    let database = database();
    let (app, pool) = (app(&database).await, pool(&database).await);
    let mut connection = pool.get().await.unwrap();
    let job = || ada().start_within(HOUR).limit_key("tenant-7");
    job().defer(&mut connection).await.unwrap();
    job().defer_pipelined(&connection).await.unwrap();
    batch_defer([job(), ada(), job()], &mut connection).await.unwrap();
    batch_defer_pipelined([job()], &connection).await.unwrap();
    app.defer(job()).await.unwrap();
    app.batch_defer([job()]).await.unwrap();
    app.defer_unless_enqueued(job().queueing_lock("a")).await.unwrap().unwrap();
    assert_eq!(app.defer_unless_enqueued(job().queueing_lock("a")).await.unwrap(), None);
    let mut blocking = connect(&database);
    job().defer_blocking(&mut blocking).unwrap();
    batch_defer_blocking([job()], &mut blocking).unwrap();
    let shared = JobOptions::new().start_within(HOUR).limit_key("tenant-7");
    app.defer(app.configure_task("greet", json!({ "name": "Ada" })).unwrap().configure(&shared)).await.unwrap();
    let found = stored(&mut blocking);
    assert!(found.iter().all(|(_, hours, key)| (*hours, key.as_deref()) == (Some(1), Some("tenant-7"))), "{found:?}");
    let ids: Vec<i64> = found.into_iter().map(|(id, ..)| id).collect();
    // A taken lock has used up an ID.
    assert_eq!(ids, [1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13]);
    // Nothing else can be seen of it.
    assert!(app.perform(list_flow_controls()).await.unwrap().is_empty());
    assert_eq!(ProcrastinateFlowControl::query().count().get_result(&mut blocking), Ok(0));
}

#[test]
fn the_last_call_and_the_schedule_decide() {
    let database = database();
    let mut connection = connect(&database);
    let exact = time("2100-01-01T08:00:00.123456Z");
    ada().start_within(HOUR).start_before(exact).defer_blocking(&mut connection).unwrap();
    ada().start_before(exact).start_within(3 * HOUR).defer_blocking(&mut connection).unwrap();
    ada().schedule_in(5 * HOUR).start_within(HOUR).defer_blocking(&mut connection).unwrap();
    ada().schedule_at(time("2001-01-01T00:00:00Z")).start_within(2 * HOUR).defer_blocking(&mut connection).unwrap();
    ada().limit_key("k").defer_blocking(&mut connection).unwrap();
    assert_eq!(options(&mut connection)[0].start_before, Some(exact));
    let key = Some("k".to_owned());
    assert_eq!(
        stored(&mut connection)[1..],
        [(2, Some(3), None), (3, Some(6), None), (4, Some(2), None), (5, None, key)]
    );
}

#[test]
fn a_time_at_which_the_job_cannot_start_is_refused() {
    let later = time("2100-01-01T08:00:00Z");
    for (job, expected) in [
        (
            ada().start_before(time("2001-01-01T08:00:00Z")),
            "invalid start_before \"2001-01-01 08:00:00 UTC\": must be in the future",
        ),
        (
            ada().schedule_at(later).start_before(later),
            "invalid start_before \"2100-01-01 08:00:00 UTC\": must be later than the schedule of the job, \
             2100-01-01 08:00:00 UTC",
        ),
        (ada().start_within(Duration::ZERO), "invalid start_within \"0ns\": must be greater than zero"),
        (
            ada().start_within(Duration::MAX),
            "invalid start_within \"18446744073709551615.999999999s\": must not end after the last possible date",
        ),
        (ada().limit_key("x".repeat(2_601)), "must be at most 2600 bytes, but is 2601"),
    ] {
        let error = job.check().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_job_that_replaces_another_one_replaces_its_options() {
    let database = database();
    let mut connection = connect(&database);
    let job = |hours: u32| ada().queueing_lock("a").start_within(hours * HOUR).limit_key(format!("key {hours}"));
    let id = job(1).defer_blocking(&mut connection).unwrap();
    let raw = i64::from(id);
    let mut defer = |job: JobToDefer| {
        let deferred = job.defer_detailed_blocking(&mut connection).unwrap();
        (deferred, stored(&mut connection))
    };
    let key = |key: &str| Some(key.to_owned());
    assert_eq!(defer(job(2).if_enqueued(Keep)), (Deferred::Kept(id), vec![(raw, Some(1), key("key 1"))]));
    assert_eq!(defer(job(3).if_enqueued(Replace)), (Deferred::Replaced(id), vec![(raw, Some(3), key("key 3"))]));
    // The time is a part of the schedule.
    let throttled = job(4).if_enqueued(ReplaceExceptSchedule);
    assert_eq!(defer(throttled), (Deferred::Replaced(id), vec![(raw, Some(3), key("key 4"))]));
    let plain = || ada().queueing_lock("a");
    let throttled = plain().if_enqueued(ReplaceExceptSchedule);
    assert_eq!(defer(throttled), (Deferred::Replaced(id), vec![(raw, Some(3), None)]));
    assert_eq!(defer(plain().if_enqueued(Replace)), (Deferred::Replaced(id), vec![(raw, None, None)]));
    assert_eq!(defer(job(5).if_enqueued(Replace)), (Deferred::Replaced(id), vec![(raw, Some(5), key("key 5"))]));

    // In a batch, as if one after the other.
    let other = |hours: u32| job(hours).queueing_lock("b").if_enqueued(Replace);
    batch_defer_blocking([other(6), other(7), job(8).if_enqueued(Keep)], &mut connection).unwrap();
    assert_eq!(stored(&mut connection).last().unwrap().1, Some(7));
    // If one of them fails, nothing is stored.
    let before = stored(&mut connection);
    let error = batch_defer_blocking([other(9), job(9)], &mut connection).unwrap_err();
    assert!(matches!(error, Error::AlreadyEnqueued { .. }), "{error}");
    assert_eq!(stored(&mut connection), before);
}

#[tokio::test]
async fn a_job_that_is_not_started_in_time_ends_as_cancelled_and_a_retry_does_not() {
    let database = database();
    let mut connection = connect(&database);
    let app = app(&database).await;
    let fails = app.defer(greet("fails".to_owned()).start_within(HOUR)).await.unwrap();
    let mut worker = app.test_worker().unwrap();
    assert_eq!(worker.run_until_empty().await.unwrap().len(), 1);
    let late = app.defer(ada().start_within(HOUR).lock("l")).await.unwrap();
    let next = app.defer(ada().lock("l")).await.unwrap();
    worker.advance(3 * HOUR);
    let ran: Vec<JobId> = worker.run_until_empty().await.unwrap().iter().map(|ran| ran.job.id).collect();
    assert_eq!(ran, [fails, next]);
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Cancelled, JobStatus::Succeeded]);
    let expired = ProcrastinateJobOptions::query().filter(procrastinate_diesel_job_options::is_expired);
    let expired: Vec<ProcrastinateJobOptions> = expired.load(&mut connection).unwrap();
    assert_eq!(expired.iter().map(|options| options.job_id).collect::<Vec<_>>(), [i64::from(late)]);
}

#[tokio::test]
async fn a_worker_cancels_late_jobs_of_queues_that_nobody_serves_and_forgets_those_that_are_gone() {
    let database = database();
    let mut connection = connect(&database);
    let app = app(&database).await;
    app.defer(ada().queue("elsewhere").start_within(HOUR)).await.unwrap();
    let gone = app.defer(ada().start_within(HOUR)).await.unwrap();
    sql(
        &mut connection,
        &format!(
            "UPDATE procrastinate_diesel_job_options SET start_before = now() - interval '1 minute';
             DELETE FROM procrastinate_jobs WHERE id = {gone}"
        ),
    );
    let worker = Running::start(app.worker().queues(["here"]));
    eventually("the job is cancelled", || statuses(&mut connection) == [JobStatus::Cancelled]).await;
    let left = "SELECT job_id FROM procrastinate_diesel_job_options";
    eventually("the options of the other one are gone", || rows(&mut connection, left) == ["1"]).await;
    let markers = "SELECT name FROM procrastinate_diesel_flow_controls";
    eventually("fetches do not compare any more", || rows(&mut connection, markers).is_empty()).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn without_options_a_job_has_no_row() {
    let database = database();
    let mut connection = connect(&database);
    configure_task("greet", json!({})).schedule_in(HOUR).lock("a").defer_blocking(&mut connection).unwrap();
    assert_eq!(options(&mut connection), []);
    let exact = Utc::now().trunc_subsecs(6) + TimeDelta::hours(1);
    configure_task("greet", json!({})).start_before(exact).defer_blocking(&mut connection).unwrap();
    assert_eq!(options(&mut connection)[0].start_before, Some(exact));
}
