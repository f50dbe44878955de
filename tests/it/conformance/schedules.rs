//! The schedules of periodic tasks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use procrastinate::job_manager::{
    change_schedule, create_schedule, finish_job, list_schedules, pause_schedule, remove_schedule, resume_schedule,
    run_schedule_now,
};
use procrastinate::{AppBuilder, JobStatus, MissedTicks, Overlap, PeriodicTask, task, testing};
use serde_json::json;

use super::on_both;
use super::side::{Side, time_text};

#[task(queue = "reports")]
async fn report(timestamp: i64) {
    let _ = timestamp;
}

fn at(time: &str) -> DateTime<Utc> {
    format!("2020-02-29T{time}Z").parse().unwrap()
}

/// Writes down all schedules. Their versions differ, because only one of the two draws some for nothing.
async fn look_at_schedules(side: &mut Side) {
    for listed in side.app.perform(list_schedules()).await.unwrap() {
        let mut schedule = listed.schedule;
        let times = [
            schedule.ticks_after.take(),
            schedule.paused_at.take(),
            schedule.run_requested_at.take(),
            schedule.seen_in_code_at.take(),
            Some(std::mem::take(&mut schedule.created_at)),
            Some(std::mem::take(&mut schedule.changed_at)),
        ]
        .map(time_text);
        schedule.version = 0;
        side.note(format!("{schedule:?} {times:?} {:?}", listed.last_tick));
    }
}

/// Executes operations at a time, writes down what was answered, and the schedules after each.
macro_rules! execute {
    ($side:ident, $time:literal: $($operation:expr),+ $(,)?) => {
        $(
            let answer = testing::at(at($time), $side.app.perform($operation)).await;
            $side.answer(stringify!($operation), answer);
            look_at_schedules($side).await;
        )+
    };
}

#[tokio::test]
async fn schedules_are_created_changed_paused_resumed_and_removed() {
    on_both(
        |app| app,
        async |side| {
            execute!(side, "08:00:00":
                create_schedule("b", "0 8 * * *").periodic_id("é").args(json!({ "a": 1e16, "b": [null] })),
                create_schedule("b", "0 8 * * *").periodic_id("Z").time_zone("Europe/Vienna").priority(-1),
                create_schedule("b", "@daily").periodic_id("Z"),
                create_schedule("a", "@daily").queue("q").lock("l").queueing_lock("k").missed(MissedTicks::Last),
                create_schedule("a", "@daily").periodic_id("k").limit_key("t").start_within(Duration::from_secs(90)),
            );
            execute!(side, "09:00:00.0000019":
                change_schedule("a", "").cron("@daily").max_delay(Duration::from_millis(1_900)),
                change_schedule("a", "").reset_options().lock("m").overlap(Overlap::Skip),
                change_schedule("b", "Z").time_zone("UTC"),
                change_schedule("b", "Z").cron("@hourly").args(json!({ "c": "d" })),
                change_schedule("b", "").priority(1),
                pause_schedule("b", "Z").by("Ada"),
                pause_schedule("b", "Z").by("Grace").reason("again"),
                pause_schedule("a", "").reason("moving"),
            );
            execute!(side, "10:00:00":
                run_schedule_now("a", ""),
                resume_schedule("a", ""),
                resume_schedule("a", ""),
            );
            execute!(side, "10:30:00":
                run_schedule_now("a", ""),
                remove_schedule("a", ""),
                remove_schedule("a", ""),
                resume_schedule("a", ""),
                run_schedule_now("a", ""),
            );
        },
    )
    .await;
}

#[tokio::test]
async fn schedules_in_code_are_written_and_cannot_be_changed() {
    let tasks = |app: AppBuilder| {
        let hourly = PeriodicTask::new::<report>("@hourly").arg("customer", 7).lock("l");
        let often = PeriodicTask::every::<report>(Duration::from_secs(60)).periodic_id("often");
        let often = often.overlap(Overlap::Skip).limit_key("t").start_within(Duration::from_millis(1_500));
        app.task::<report>().periodic(hourly).periodic(often.missed(MissedTicks::All))
    };
    on_both(tasks, async |side| {
        for _ in 0..2 {
            side.app.periodic_deferrer().defer_due(at("08:00:00")).await;
            look_at_schedules(side).await;
        }
        side.execute("create", create_schedule("report", "@daily")).await;
        side.execute("pause", pause_schedule("report", "often")).await;
        side.app.periodic_deferrer().defer_due(at("08:01:00")).await;
        side.execute("resume", resume_schedule("report", "often")).await;
        look_at_schedules(side).await;
        // Ticks of the past are before the end of the pause.
        side.app.periodic_deferrer().defer_due(at("08:02:00")).await;
    })
    .await;
}

#[tokio::test]
async fn ticks_and_requests_are_deferred_as_the_schedule_allows() {
    on_both(AppBuilder::task::<report>, async |side| {
        execute!(side, "08:00:30":
            create_schedule("report", "* * * * *").overlap(Overlap::Skip),
            create_schedule("report", "* * * * *").periodic_id("locked").queueing_lock("q"),
            create_schedule("unknown", "* * * * *"),
        );
        let mut deferrer = side.app.periodic_deferrer();
        for time in ["08:00:45", "08:01:00", "08:02:00"] {
            deferrer.defer_due(at(time)).await;
            side.look();
        }
        execute!(side, "08:02:10": run_schedule_now("report", ""), run_schedule_now("report", "locked"));
        deferrer.defer_due(at("08:02:20")).await;
        look_at_schedules(side).await;
        for job in side.jobs() {
            side.execute("finish", finish_job(&job, JobStatus::Succeeded)).await;
        }
        execute!(side, "08:02:40": run_schedule_now("report", ""), run_schedule_now("report", "locked"));
        deferrer.defer_due(at("08:03:00")).await;
        side.look();
        look_at_schedules(side).await;
    })
    .await;
}
