//! What is deferred when. The time is a parameter here.

use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use procrastinate::models::{ProcrastinateJob, ProcrastinatePeriodicDefer};
use procrastinate::{App, JobContext, JobStatus, MissedTicks, PeriodicTask, periodic, task};
use serde_json::json;
use throwaway_postgres::Database;
use tokio::sync::Barrier;

use crate::support::{Running, connect, connector, database, eventually, jobs, sql, statuses, within_patience};

#[task(queue = "reports")]
pub async fn report(timestamp: i64) {
    let _ = timestamp;
}

pub fn at(time: &str) -> DateTime<Utc> {
    format!("2020-02-29T{time}Z").parse().unwrap()
}

pub async fn app_with(database: &Database, schedules: impl IntoIterator<Item = PeriodicTask>) -> App {
    let builder = App::builder(connector(database).await).task::<report>();
    schedules.into_iter().fold(builder, procrastinate::AppBuilder::periodic).build().unwrap()
}

/// The times of the ticks that have jobs, in the order of the jobs.
pub fn ticks(database: &Database) -> Vec<String> {
    let time = |job: ProcrastinateJob| {
        let timestamp = job.args["timestamp"].as_i64().unwrap();
        DateTime::from_timestamp(timestamp, 0).unwrap().format("%H:%M").to_string()
    };
    jobs(&mut connect(database)).into_iter().map(time).collect()
}

fn defers(database: &Database) -> Vec<(String, i64)> {
    let rows: Vec<ProcrastinatePeriodicDefer> =
        ProcrastinatePeriodicDefer::query().load(&mut connect(database)).unwrap();
    let mut rows: Vec<_> = rows.into_iter().map(|row| (row.periodic_id, row.defer_timestamp.unwrap())).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn an_interval_ticks_at_its_multiples_whenever_a_program_started() {
    #[periodic(every = "10min")]
    #[periodic(every = Duration::from_secs(7 * 60), periodic_id = "seven")]
    #[task(queue = "reports")]
    async fn often(timestamp: i64) {
        let _ = timestamp;
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<often>().build().unwrap();
    let mut first = app.periodic_deferrer();
    first.defer_due(at("08:03:21")).await;
    // This time is a multiple of both.
    assert_eq!(ticks(&database), ["08:00", "08:00"]);
    let mut second = app.periodic_deferrer();
    for time in ["08:06:59", "08:07:00", "08:10:02"] {
        first.defer_due(at(time)).await;
        second.defer_due(at(time)).await;
    }
    assert_eq!(ticks(&database), ["08:00", "08:00", "08:07", "08:10"]);
}

#[tokio::test]
async fn a_tick_becomes_a_job_with_the_options_and_arguments_of_its_schedule() {
    #[periodic(cron = "0 8 * * *", periodic_id = "morning", args(customer = "Ada"))]
    #[periodic(
        cron = "0 8,20 * * *",
        periodic_id = "twice",
        args(customer = "Grace"),
        queue = "slow",
        priority = 7,
        lock = "customer",
        queueing_lock = "waiting"
    )]
    #[task(name = "customer_report", queue = "reports", priority = 2)]
    async fn customer_report(timestamp: i64, customer: String) {
        drop((timestamp, customer));
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<customer_report>().build().unwrap();
    let mut deferrer = app.periodic_deferrer();

    assert_eq!(deferrer.defer_due(at("08:00:00.7")).await, at("08:01:00.7"));

    let jobs = jobs(&mut connect(&database));
    let eight = at("08:00:00").timestamp();
    let [morning, twice] = <[ProcrastinateJob; 2]>::try_from(jobs).unwrap();
    assert_eq!((morning.task_name.as_str(), morning.queue_name.as_str()), ("customer_report", "reports"));
    assert_eq!((morning.priority, morning.lock, morning.queueing_lock), (2, None, None));
    assert_eq!(morning.args, json!({ "timestamp": eight, "customer": "Ada" }));
    assert_eq!((twice.task_name.as_str(), twice.queue_name.as_str()), ("customer_report", "slow"));
    assert_eq!(twice.priority, 7);
    assert_eq!((twice.lock.as_deref(), twice.queueing_lock.as_deref()), (Some("customer"), Some("waiting")));
    assert_eq!(twice.args, json!({ "timestamp": eight, "customer": "Grace" }));
    assert_eq!((twice.scheduled_at, twice.status), (None, JobStatus::Todo));
    assert_eq!(defers(&database), [("morning".to_owned(), eight), ("twice".to_owned(), eight)]);

    // The same tick once, the next one of one schedule, and the day after.
    deferrer.defer_due(at("08:00:30")).await;
    sql(&mut connect(&database), "UPDATE procrastinate_jobs SET status = 'succeeded'");
    deferrer.defer_due(at("20:00:00")).await;
    assert_eq!(ticks(&database), ["08:00", "08:00", "20:00"]);
    assert_eq!(
        deferrer.defer_due("2020-03-01T07:59:30Z".parse().unwrap()).await.to_string(),
        "2020-03-01 08:00:00 UTC"
    );
}

#[tokio::test]
async fn each_policy_defers_its_own_choice_of_missed_ticks() {
    for (missed, at_start, held_up) in [
        (MissedTicks::Procrastinate, &["08:08"][..], &["08:12", "08:16", "08:20", "08:24"][..]),
        (MissedTicks::Skip, &[], &["08:24"]),
        (MissedTicks::Last, &["08:08"], &["08:24"]),
        (MissedTicks::All, &["08:00", "08:04", "08:08"], &["08:16", "08:20", "08:24"]),
    ] {
        let database = database();
        let app = app_with(&database, [PeriodicTask::new::<report>("*/4 * * * *").missed(missed)]).await;
        let mut deferrer = app.periodic_deferrer();
        deferrer.defer_due(at("08:09:30")).await;
        assert_eq!(ticks(&database), at_start, "{missed:?}");
        deferrer.defer_due(at("08:24:10")).await;
        assert_eq!(ticks(&database), [at_start, held_up].concat(), "{missed:?}");
        // Another worker that starts now finds nothing to do, whatever rows were deleted.
        app.periodic_deferrer().defer_due(at("08:25:00")).await;
        assert_eq!(ticks(&database), [at_start, held_up].concat(), "{missed:?}");
    }
}

#[tokio::test]
async fn the_longest_delay_is_the_schedules_or_the_applications_or_ten_minutes() {
    let daily = |id: &str| PeriodicTask::new::<report>("0 8 * * *").periodic_id(id);
    for (now, expected) in [("08:10:00", 2), ("08:10:01", 1), ("08:20:01", 0)] {
        let database = database();
        let app = app_with(&database, [daily("a"), daily("b").max_delay(Duration::from_secs(1200))]).await;
        app.periodic_deferrer().defer_due(at(now)).await;
        assert_eq!(ticks(&database).len(), expected, "{now}");
    }
    for (now, expected) in [("08:00:05", 1), ("08:00:06", 0)] {
        let database = database();
        let builder = App::builder(connector(&database).await).task::<report>().periodic(daily("a"));
        let app = builder.periodic_max_delay(Duration::from_secs(5)).build().unwrap();
        app.periodic_deferrer().defer_due(at(now)).await;
        assert_eq!(ticks(&database).len(), expected, "{now}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_deferrers_defer_a_tick_once() {
    const DEFERRERS: usize = 4;
    let database = database();
    let all = PeriodicTask::new::<report>("*/2 * * * *").missed(MissedTicks::All);
    let barrier = std::sync::Arc::new(Barrier::new(DEFERRERS));
    let app = app_with(&database, [all]).await;
    // All of them find five ticks, so that some fall behind others, whose rows they do not find any more.
    let running: Vec<_> = (0..DEFERRERS)
        .map(|_| {
            let (app, barrier) = (app.clone(), barrier.clone());
            tokio::spawn(async move {
                let mut deferrer = app.periodic_deferrer();
                barrier.wait().await;
                deferrer.defer_due(at("08:09:00")).await;
                barrier.wait().await;
                deferrer.defer_due(at("08:14:00")).await;
            })
        })
        .collect();
    for running in running {
        within_patience(running).await.unwrap();
    }
    let mut ticks = ticks(&database);
    let in_order = ticks.clone();
    ticks.sort();
    ticks.dedup();
    assert_eq!(ticks, in_order, "each once, in their order");
    assert_eq!(ticks.last().unwrap(), "08:14");
    assert_eq!(defers(&database).len(), 1);
}

#[tokio::test]
async fn a_tick_of_a_clock_that_is_ahead_delays_nothing() {
    let database = database();
    let app = app_with(&database, [PeriodicTask::new::<report>("* * * * *")]).await;
    let now = Utc::now();
    app.periodic_deferrer().defer_due(now + chrono::TimeDelta::days(365)).await;
    app.periodic_deferrer().defer_due(now).await;
    assert_eq!(ticks(&database).len(), 2);
}

#[tokio::test]
async fn a_clock_that_jumps_does_not_stop_later_ticks() {
    let database = database();
    let app = app_with(&database, [PeriodicTask::new::<report>("*/30 * * * *")]).await;
    let mut deferrer = app.periodic_deferrer();
    for time in ["08:00:00", "09:00:00", "08:25:00", "08:30:00", "08:29:59", "08:30:01", "12:00:00"] {
        deferrer.defer_due(at(time)).await;
    }
    // Until the clock is past where it has been, those ticks count as deferred.
    assert_eq!(ticks(&database), ["08:00", "08:30", "09:00", "09:30", "10:00", "10:30", "11:00", "11:30", "12:00"]);
}

#[cfg(feature = "chrono-tz")]
#[tokio::test]
async fn a_schedule_can_have_a_time_zone() {
    let database = database();
    let in_vienna = PeriodicTask::new::<report>("30 8 * * *").time_zone("Europe/Vienna");
    let app = app_with(&database, [in_vienna]).await;
    let mut deferrer = app.periodic_deferrer();
    for time in ["2020-03-28T07:29:59Z", "2020-03-28T07:30:00Z", "2020-03-29T06:29:59Z", "2020-03-29T06:30:00Z"] {
        deferrer.defer_due(time.parse().unwrap()).await;
    }
    assert_eq!(ticks(&database), ["07:30", "06:30"]);
}

#[tokio::test]
async fn a_worker_that_stops_when_empty_defers_due_ticks_before_it_fetches() {
    static SEEN: Mutex<Vec<i64>> = Mutex::new(Vec::new());

    #[periodic(cron = "0 0 1 1 *", max_delay = Duration::from_secs(400 * 86_400))]
    #[task]
    async fn yearly(timestamp: i64) {
        SEEN.lock().unwrap().push(timestamp);
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<yearly>().build().unwrap();

    app.worker().stop_when_empty().run().await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();

    let [tick] = <[i64; 1]>::try_from(SEEN.lock().unwrap().clone()).unwrap();
    assert!(DateTime::from_timestamp(tick, 0).unwrap().to_string().ends_with("-01-01 00:00:00 UTC"));
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded]);
}

#[tokio::test]
async fn running_workers_run_a_task_every_second_once_whichever_queues_they_serve() {
    static SEEN: Mutex<Vec<(i64, i64)>> = Mutex::new(Vec::new());

    // A task without the argument does without.
    #[periodic(cron = "* * * * * *")]
    #[task(queue = "seconds", pass_context)]
    async fn tick(context: JobContext) {
        let timestamp = context.job().args["timestamp"].as_i64().unwrap();
        SEEN.lock().unwrap().push((timestamp, Utc::now().timestamp_millis()));
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<tick>().build().unwrap();
    let serving = Running::start(app.worker().queues(["seconds"]));
    let other = Running::start(app.worker().queues(["other"]));
    eventually("three ticks have run", || SEEN.lock().unwrap().len() >= 4).await;
    serving.stop().await.unwrap();
    other.stop().await.unwrap();

    let seen = SEEN.lock().unwrap().clone();
    let timestamps: Vec<i64> = seen.iter().map(|(timestamp, _)| *timestamp).collect();
    let expected: Vec<i64> = (timestamps[0]..).take(timestamps.len()).collect();
    assert_eq!(timestamps, expected, "every second, each once");
    // Not before its time. The first one was over when the workers started.
    assert!(seen.iter().all(|(timestamp, ran_at)| *ran_at >= timestamp * 1000), "{seen:?}");
}
