//! Periodic tasks of both sides on one database.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use procrastinate::job_manager::create_schedule;
use procrastinate::models::ProcrastinatePeriodicDefer;
use procrastinate::{App, JobContext, PeriodicTask, Task, testing};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Meeting, on_both_databases};
use crate::support::{connect, connector, jobs};

on_both_databases!(
    python_defers_no_tick_that_we_have_deferred,
    we_defer_no_tick_that_python_has_deferred,
    a_schedule_in_the_database_shares_its_ticks_with_python,
    a_python_worker_and_ours_defer_each_tick_once,
);

/// The task of both sides.
#[derive(Serialize, Deserialize)]
struct Tick {
    timestamp: i64,
}

impl Task for Tick {
    const NAME: &'static str = "peer.echo";
    type Output = ();

    async fn run(self, _context: JobContext) {
        let _ = self.timestamp;
    }
}

async fn app_with(meeting: &Meeting, cron: &str) -> App {
    let connector = connector(&meeting.database).await;
    App::builder(connector).task::<Tick>().periodic(PeriodicTask::new::<Tick>(cron)).build().unwrap()
}

const EIGHT: i64 = 1_582_963_200;

fn eight() -> DateTime<Utc> {
    DateTime::from_timestamp(EIGHT, 0).unwrap()
}

async fn python_defers_no_tick_that_we_have_deferred(meeting: Meeting) {
    let app = app_with(&meeting, "0 8 * * *").await;
    app.periodic_deferrer().defer_due(eight()).await;

    let answers = meeting.python.ask("defer_ticks", json!({ "timestamps": [EIGHT] })).await;

    assert_eq!(answers, [json!({ "id": null })]);
    let [job] = <[_; 1]>::try_from(jobs(&mut connect(&meeting.database))).unwrap();
    assert_eq!((job.task_name.as_str(), job.args), ("peer.echo", json!({ "timestamp": EIGHT })));
}

async fn we_defer_no_tick_that_python_has_deferred(meeting: Meeting) {
    let answers = meeting.python.ask("defer_ticks", json!({ "timestamps": [EIGHT - 60, EIGHT] })).await;
    assert_eq!(answers, [json!({ "id": 1 }), json!({ "id": 2 })]);

    // The row of the first one is gone by now.
    let app = app_with(&meeting, "59,0 7,8 * * *").await;
    let mut deferrer = app.periodic_deferrer();
    deferrer.defer_due(eight() - chrono::TimeDelta::seconds(30)).await;
    deferrer.defer_due(eight()).await;

    assert_eq!(jobs(&mut connect(&meeting.database)).len(), 2);
}

async fn a_schedule_in_the_database_shares_its_ticks_with_python(meeting: Meeting) {
    let app = App::builder(connector(&meeting.database).await).task::<Tick>().build().unwrap();
    let before = eight() - chrono::TimeDelta::minutes(10);
    testing::at(before, app.perform(create_schedule(Tick::NAME, "0,5 8 * * *"))).await.unwrap();
    let mut deferrer = app.periodic_deferrer();

    meeting.python.ask("defer_ticks", json!({ "timestamps": [EIGHT] })).await;
    deferrer.defer_due(eight()).await;
    deferrer.defer_due(eight() + chrono::TimeDelta::minutes(5)).await;
    let answers = meeting.python.ask("defer_ticks", json!({ "timestamps": [EIGHT + 300] })).await;

    assert_eq!(answers, [json!({ "id": null })]);
    let jobs = jobs(&mut connect(&meeting.database));
    let args: Vec<_> = jobs.into_iter().map(|job| job.args).collect();
    assert_eq!(args, [json!({ "timestamp": EIGHT }), json!({ "timestamp": EIGHT + 300 })]);
}

async fn a_python_worker_and_ours_defer_each_tick_once(meeting: Meeting) {
    const STEP: usize = 3;
    const EVERY_STEP: &str = "* * * * * */3";
    let app = app_with(&meeting, EVERY_STEP).await;
    let options = json!({ "wait": true, "queues": ["not served"], "cron": EVERY_STEP });
    let mut theirs = meeting.python.start_worker(&options);
    theirs.did("periodic_task_deferred").await;
    let ours = tokio::spawn(async move {
        let mut deferrer = app.periodic_deferrer();
        loop {
            let again_at = deferrer.defer_due(Utc::now()).await;
            tokio::time::sleep((again_at - Utc::now()).to_std().unwrap_or_default()).await;
        }
    });
    // Python oversleeps by half a second, so from now on it is the later one.
    for _ in 0..2 {
        theirs.did("periodic_task_already_deferred").await;
    }
    ours.abort();
    theirs.stop().await;

    let mut connection = connect(&meeting.database);
    let jobs = jobs(&mut connection);
    let timestamps: Vec<i64> = jobs.iter().map(|job| job.args["timestamp"].as_i64().unwrap()).collect();
    let expected: Vec<i64> = (timestamps[0]..).step_by(STEP).take(timestamps.len()).collect();
    assert_eq!(timestamps, expected, "every third second, each once");
    assert!(timestamps.len() >= 3, "{timestamps:?}");
    let rows: Vec<ProcrastinatePeriodicDefer> = ProcrastinatePeriodicDefer::query().load(&mut connection).unwrap();
    assert_eq!(rows.len(), 1);
}
