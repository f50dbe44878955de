//! The operations on schedules, without a worker.

use std::time::Duration;

use diesel::prelude::*;
use procrastinate::job_manager::{
    ListedSchedule, change_schedule, create_schedule, list_schedules, pause_schedule, remove_schedule, resume_schedule,
    run_schedule_now,
};
use procrastinate::models::ProcrastinateSchedule;
use procrastinate::schema::procrastinate_diesel_schedules::dsl;
use procrastinate::{Error, MissedTicks, Overlap, PeriodicTask};
use serde_json::json;

use super::deferring::{app_with, at, report};
use crate::support::{connect, database, rows, sql};

fn only_schedule(connection: &mut PgConnection) -> ProcrastinateSchedule {
    let [ListedSchedule { schedule, .. }] =
        <[_; 1]>::try_from(list_schedules().execute_blocking(connection).unwrap()).unwrap();
    schedule
}

#[test]
fn a_schedule_is_stored_with_its_values_and_changed_where_they_are_set() {
    let database = database();
    let mut connection = connect(&database);
    create_schedule("report", "0 8 * * *").execute_blocking(&mut connection).unwrap();
    let plain = only_schedule(&mut connection);
    assert_eq!(
        (plain.cron.as_deref(), plain.periodic_id.as_str(), plain.args.clone()),
        (Some("0 8 * * *"), "", json!({}))
    );
    assert_eq!((plain.time_zone.clone(), plain.queue_name.clone(), plain.priority), (None, None, None));
    assert_eq!((plain.missed_ticks.as_str(), plain.overlap.as_str()), ("procrastinate", "allow"));
    assert_eq!((plain.max_delay_seconds, plain.is_paused(), plain.is_in_code()), (None, false, false));
    assert_eq!(plain.ticks_after, Some(plain.created_at));

    let change = change_schedule("report", "").args(json!({ "customer": 7 })).queue("slow").priority(3).lock("l");
    let change = change.start_within(Duration::from_millis(1_500)).limit_key("tenant");
    let change = change.queueing_lock("q").max_delay(Duration::from_secs(90)).missed(MissedTicks::All);
    change.overlap(Overlap::Skip).execute_blocking(&mut connection).unwrap();
    let changed = only_schedule(&mut connection);
    assert!(changed.version > plain.version && changed.changed_at > plain.changed_at);
    let mut expected = plain.clone();
    expected.args = json!({ "customer": 7 });
    expected.queue_name = Some("slow".into());
    expected.priority = Some(3);
    expected.lock = Some("l".into());
    expected.queueing_lock = Some("q".into());
    expected.start_within_seconds = Some(1.5);
    expected.limit_key = Some("tenant".into());
    expected.max_delay_seconds = Some(90);
    expected.missed_ticks = "all".into();
    expected.overlap = "skip".into();
    (expected.version, expected.changed_at) = (changed.version, changed.changed_at);
    // Its times are the same, so its ticks go on.
    assert_eq!(changed, expected);

    change_schedule("report", "").time_zone("Europe/Vienna").execute_blocking(&mut connection).unwrap();
    let vienna = only_schedule(&mut connection);
    assert_eq!(vienna.time_zone.as_deref(), Some("Europe/Vienna"));
    assert!(vienna.ticks_after > plain.ticks_after);
    change_schedule("report", "").cron("@daily").time_zone("UTC").execute_blocking(&mut connection).unwrap();
    let daily = only_schedule(&mut connection);
    assert_eq!((daily.cron.as_deref(), daily.time_zone.as_deref()), (Some("@daily"), None));
    assert!(daily.ticks_after > vienna.ticks_after);

    change_schedule("report", "").reset_options().priority(1).execute_blocking(&mut connection).unwrap();
    let reset = only_schedule(&mut connection);
    assert_eq!((reset.queue_name, reset.priority, reset.lock, reset.queueing_lock), (None, Some(1), None, None));
}

#[test]
fn an_invalid_value_is_refused_before_anything_is_stored() {
    let database = database();
    let mut connection = connect(&database);
    let create = || create_schedule("report", "0 8 * * *");
    let long = "x".repeat(3_000);
    for (operation, expected) in [
        (create_schedule("", "0 8 * * *"), "invalid task name \"\": must not be empty"),
        (create_schedule("report", "at eight"), "invalid cron expression \"at eight\""),
        (create().periodic_id("\0"), "invalid periodic_id \"\\0\": must not contain the NUL character"),
        (create().time_zone("Atlantis"), "invalid time zone \"Atlantis\""),
        (create().args(7), "invalid arguments of the task \"report\": must be a JSON object"),
        (
            create().args(json!({ "timestamp": 7 })),
            "invalid arguments of the task \"report\": must not contain \"timestamp\"",
        ),
        (create().queue(""), "invalid queue name \"\": must not be empty"),
        (create().lock(long.clone()), "invalid lock"),
        (create().queueing_lock(long.clone()), "invalid queueing lock"),
        (create().max_delay(Duration::MAX), "invalid max_delay"),
    ] {
        let error = operation.execute_blocking(&mut connection).unwrap_err();
        assert!(error.is_invalid() && error.to_string().starts_with(expected), "{error}");
    }
    let error = change_schedule("report", "").cron("at eight").execute_blocking(&mut connection).unwrap_err();
    assert!(error.to_string().starts_with("invalid cron expression"), "{error}");
    let error = pause_schedule("report", "").reason("\0").execute_blocking(&mut connection).unwrap_err();
    assert!(error.to_string().starts_with("invalid reason of the pause"), "{error}");
    assert_eq!(list_schedules().execute_blocking(&mut connection).unwrap(), []);
}

#[test]
fn a_schedule_that_does_not_exist_or_exists_already_is_an_error_that_leaves_the_transaction_intact() {
    let database = database();
    let mut connection = connect(&database);
    let result: Result<(), Error> = connection.transaction(|connection| {
        let missing = [
            change_schedule("report", "x").priority(1).execute_blocking(connection).unwrap_err(),
            pause_schedule("report", "x").execute_blocking(connection).unwrap_err(),
            resume_schedule("report", "x").execute_blocking(connection).unwrap_err(),
            remove_schedule("report", "x").execute_blocking(connection).unwrap_err(),
            run_schedule_now("report", "x").execute_blocking(connection).unwrap_err(),
        ];
        for (error, action) in missing.iter().zip(["change", "pause", "resume", "remove", "run"]) {
            let expected = format!("could not {action} the schedule \"x\" of the task \"report\": there is no such schedule");
            assert_eq!(error.to_string(), expected);
        }
        create_schedule("report", "0 8 * * *").execute_blocking(connection)?;
        let twice = create_schedule("report", "0 9 * * *").execute_blocking(connection).unwrap_err();
        assert_eq!(
            twice.to_string(),
            "could not create the schedule of the task \"report\": it is already in the database; choose another periodic_id"
        );
        Ok(())
    });
    result.unwrap();
    assert_eq!(only_schedule(&mut connection).cron.as_deref(), Some("0 8 * * *"));

    remove_schedule("report", "").execute_blocking(&mut connection).unwrap();
    assert_eq!(ProcrastinateSchedule::query().load(&mut connection).unwrap(), []);
}

#[test]
fn a_pause_says_who_and_why_and_is_made_once() {
    let database = database();
    let mut connection = connect(&database);
    create_schedule("report", "0 8 * * *").execute_blocking(&mut connection).unwrap();
    let pause = pause_schedule("report", "").by("Ada").reason("moving");
    assert!(pause.clone().execute_blocking(&mut connection).unwrap());
    assert!(!pause.by("Grace").execute_blocking(&mut connection).unwrap());
    let paused: Vec<ProcrastinateSchedule> =
        ProcrastinateSchedule::query().filter(dsl::paused_at.is_not_null()).load(&mut connection).unwrap();
    assert_eq!((paused[0].paused_by.as_deref(), paused[0].pause_reason.as_deref()), (Some("Ada"), Some("moving")));

    assert!(resume_schedule("report", "").execute_blocking(&mut connection).unwrap());
    assert!(!resume_schedule("report", "").execute_blocking(&mut connection).unwrap());
    let resumed = only_schedule(&mut connection);
    assert_eq!((resumed.paused_at, resumed.paused_by, resumed.pause_reason), (None, None, None));
    assert!(resumed.ticks_after > Some(resumed.created_at));
}

#[test]
fn the_next_ticks_of_a_schedule_are_those_of_its_expression_and_time_zone() {
    let database = database();
    let mut connection = connect(&database);
    create_schedule("report", "0 8 * * *").time_zone("Asia/Tokyo").execute_blocking(&mut connection).unwrap();
    let schedule = only_schedule(&mut connection);
    let next = schedule.next_ticks(3).unwrap();
    assert_eq!(next.len(), 3);
    assert!(next[0] > chrono::Utc::now() && next[1] - next[0] == chrono::TimeDelta::days(1));
    assert_eq!(next[0].format("%H:%M:%S").to_string(), "23:00:00");
    sql(&mut connection, "UPDATE procrastinate_diesel_schedules SET time_zone = 'Atlantis'");
    let error = only_schedule(&mut connection).next_ticks(1).unwrap_err();
    assert!(error.to_string().starts_with("invalid time zone \"Atlantis\""), "{error}");
}

#[test]
fn the_table_accepts_only_what_the_operations_would_store() {
    let database = database();
    let mut connection = connect(&database);
    create_schedule("report", "0 8 * * *").execute_blocking(&mut connection).unwrap();
    for change in [
        "task_name = ''",
        "cron = NULL",
        "cron = ''",
        "interval_seconds = 60",
        "cron = NULL, interval_seconds = 0",
        "cron = NULL, interval_seconds = 60, time_zone = 'Europe/Vienna'",
        "time_zone = ''",
        "args = '[]'",
        "args = '{\"timestamp\": null}'",
        "queue_name = ''",
        "lock = repeat('x', 2601)",
        "queueing_lock = repeat('x', 2601)",
        "start_within_seconds = 0",
        "limit_key = repeat('x', 2601)",
        "missed_ticks = 'some'",
        "max_delay_seconds = -1",
        "overlap = 'wait'",
        "paused_by = 'Ada'",
        "pause_reason = 'moving'",
        "version = 1",
    ] {
        let update = format!("UPDATE procrastinate_diesel_schedules SET {change}");
        diesel::sql_query(&update).execute(&mut connection).expect_err(change);
    }
}

#[tokio::test]
async fn a_schedule_in_code_is_listed_and_can_be_paused_but_not_changed_or_removed() {
    let database = database();
    let mut connection = connect(&database);
    let schedules = [
        PeriodicTask::new::<report>("0 8 * * *").queue("slow").arg("customer", 7),
        PeriodicTask::every::<report>(Duration::from_secs(90)).periodic_id("often"),
    ];
    let app = app_with(&database, schedules).await;
    app.periodic_deferrer().defer_due(at("07:00:00")).await;

    let listed = list_schedules().execute_blocking(&mut connection).unwrap();
    let [daily, often] = <[_; 2]>::try_from(listed).unwrap();
    assert_eq!(
        (daily.schedule.cron.as_deref(), daily.schedule.queue_name.as_deref()),
        (Some("0 8 * * *"), Some("slow"))
    );
    assert_eq!((daily.schedule.args.clone(), daily.schedule.max_delay_seconds), (json!({ "customer": 7 }), Some(600)));
    assert!(daily.schedule.is_in_code() && daily.last_tick.is_none());
    assert_eq!((often.schedule.interval_seconds, often.schedule.next_ticks(2).unwrap().len()), (Some(90), 2));
    assert_eq!(often.last_tick, Some(at("07:00:00")));

    let refused = [
        change_schedule("report", "").priority(1).execute_blocking(&mut connection).unwrap_err(),
        remove_schedule("report", "").execute_blocking(&mut connection).unwrap_err(),
    ];
    for (error, action) in refused.iter().zip(["change", "remove"]) {
        let expected =
            format!("could not {action} the schedule of the task \"report\": a program has it in its code (last seen ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let error = create_schedule("report", "@daily").execute_blocking(&mut connection).unwrap_err();
    assert!(matches!(error, Error::ScheduleExists { is_in_code: true, .. }), "{error}");

    // A pause outlasts the programs, and the same code writes nothing again.
    pause_schedule("report", "often").execute_blocking(&mut connection).unwrap();
    let state =
        "SELECT xmin::text, periodic_id, paused_at, seen_in_code_at FROM procrastinate_diesel_schedules ORDER BY 2";
    let before = rows(&mut connection, state);
    app.periodic_deferrer().defer_due(at("07:30:00")).await;
    assert_eq!(rows(&mut connection, state), before);

    // Other code is written, and code that is gone can be removed.
    let changed = PeriodicTask::new::<report>("0 9 * * *");
    let app = app_with(&database, [changed]).await;
    app.periodic_deferrer().defer_due(at("07:00:00")).await;
    let listed = list_schedules().execute_blocking(&mut connection).unwrap();
    assert_eq!((listed[0].schedule.cron.as_deref(), listed.len()), (Some("0 9 * * *"), 2));
    sql(
        &mut connection,
        "UPDATE procrastinate_diesel_schedules SET seen_in_code_at = seen_in_code_at - interval '3 hours'",
    );
    remove_schedule("report", "often").execute_blocking(&mut connection).unwrap();
    app.periodic_deferrer().defer_due(at("07:00:00")).await;
    let error = remove_schedule("report", "").execute_blocking(&mut connection).unwrap_err();
    assert!(matches!(error, Error::ScheduleInCode { .. }), "the worker has seen it again: {error}");
}
