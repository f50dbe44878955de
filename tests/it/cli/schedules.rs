//! Schedules of periodic tasks.

use procrastinate::{App, PeriodicTask, task};
use serde_json::{Value, json};
use throwaway_postgres::Database;

use super::{on, run};
use crate::support::{connect, connector, database, rows};

fn listed(database: &Database) -> Vec<Value> {
    let out = run(on(database, &["schedules", "list", "--json", "--next", "2"])).well();
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_schedule_is_created_listed_changed_paused_and_removed() {
    let database = database();
    let well = |arguments: &[&str]| run(on(&database, arguments)).well();
    assert_eq!(run(on(&database, &["schedules", "list"])).with(0), "no schedules\n");
    let options = ["--queue", "q", "--priority", "-3", "--lock", "l", "--queueing-lock", "k", "--max-delay", "5m"];
    let keys = ["--start-within", "90m", "--limit-key", "tenant-7"];
    let policies = ["--missed", "last", "--overlap", "skip", "--time-zone", "UTC", "--args", r#"{"customer": 7}"#];
    let create = ["schedules", "create", "report", "0 8 * * *", "--id", "morning"];
    let created = well(&[&create[..], &options, &keys, &policies].concat());
    assert_eq!(created, "created the schedule \"morning\" of report\n");

    let [schedule] = <[Value; 1]>::try_from(listed(&database)).unwrap();
    let mut expected = json!({
        "task": "report", "periodic_id": "morning", "in_code": false, "cron": "0 8 * * *", "interval_seconds": null,
        "time_zone": null, "args": { "customer": 7 }, "queue": "q", "priority": -3, "lock": "l", "queueing_lock": "k",
        "start_within_seconds": 5400.0, "limit_key": "tenant-7", "missed": "last", "max_delay_seconds": 300, "overlap": "skip", "paused_at": null, "paused_by": null,
        "pause_reason": null, "run_requested_at": null, "last_job_id": null, "last_tick": null, "problem": null,
    });
    expected["next_ticks"] = schedule["next_ticks"].clone();
    assert_eq!(schedule, expected);
    let ticks: Vec<_> = schedule["next_ticks"].as_array().unwrap().iter().map(|tick| tick.as_str().unwrap()).collect();
    assert!(ticks.len() == 2 && ticks.iter().all(|tick| tick.ends_with("T08:00:00Z")), "{ticks:?}");

    well(&["schedules", "change", "report", "--id", "morning", "--cron", "@daily", "--reset-options", "--queue", "r"]);
    let schedule = listed(&database).remove(0);
    assert_eq!(
        (&schedule["cron"], &schedule["queue"], &schedule["lock"], &schedule["limit_key"]),
        (&json!("@daily"), &json!("r"), &json!(null), &json!(null))
    );
    assert_eq!(schedule["start_within_seconds"], json!(null));
    assert_eq!(schedule["args"], json!({ "customer": 7 }));

    let pause = ["schedules", "pause", "report", "--id", "morning", "--by", "Ada", "--reason", "moving"];
    assert_eq!(well(&pause), "the schedule \"morning\" of report is paused\n");
    assert_eq!(well(&pause), "the schedule \"morning\" of report is already paused\n");
    let table = well(&["schedules", "list"]);
    assert!(table.contains("by Ada: moving") && table.contains("@daily"), "{table}");
    assert_eq!(
        well(&["schedules", "resume", "report", "--id", "morning"]),
        "the schedule \"morning\" of report is resumed\n"
    );
    well(&["schedules", "run", "report", "--id", "morning"]);
    assert!(listed(&database)[0]["run_requested_at"].is_string());
    assert!(well(&["schedules", "list"]).contains("active, will run now"));

    let remove = ["schedules", "remove", "report", "--id", "morning"];
    let error = run(on(&database, &remove)).with(2);
    assert!(error.contains("use --yes to confirm"), "{error}");
    well(&[&remove[..], &["--yes"]].concat());
    assert_eq!(listed(&database), [] as [Value; 0]);
}

#[test]
fn a_wrong_value_and_a_missing_schedule_say_what_to_do() {
    let database = database();
    for (arguments, status, expected) in [
        (&["create", "report", "at eight"][..], 2, "invalid cron expression \"at eight\""),
        (&["create", "report", "@daily", "--time-zone", "Atlantis"], 2, "invalid time zone \"Atlantis\""),
        (&["create", "report", "@daily", "--missed", "some"], 2, "must be procrastinate, skip, last or all"),
        (&["create", "report", "@daily", "--overlap", "wait"], 2, "must be allow or skip"),
        (&["create", "report", "@daily", "--start-within", "0"], 2, "must be greater than zero"),
        (&["change", "report", "--priority", "3"], 1, "run `schedules list` to see the existing schedules"),
    ] {
        let error = run(on(&database, &[&["schedules"], arguments].concat())).with(status);
        assert!(error.contains(expected), "{error}");
    }
    run(on(&database, &["schedules", "create", "report", "@daily"])).well();
    let error = run(on(&database, &["schedules", "create", "report", "@hourly"])).with(1);
    assert!(error.contains("run `schedules change` to change it"), "{error}");
}

#[tokio::test]
async fn a_schedule_in_code_is_listed_and_can_be_paused() {
    #[task]
    async fn report(timestamp: i64) {
        let _ = timestamp;
    }

    let database = database();
    let every_hour = PeriodicTask::every::<report>(std::time::Duration::from_secs(3_600));
    let app = App::builder(connector(&database).await).task::<report>().periodic(every_hour).build().unwrap();
    app.periodic_deferrer().defer_due("2020-02-29T08:30:00Z".parse().unwrap()).await;
    let table = run(on(&database, &["schedules", "list"])).well();
    assert!(table.contains("every 3600 s") && table.contains("code"), "{table}");
    let error = run(on(&database, &["schedules", "remove", "report", "--yes"])).with(1);
    assert!(error.contains("a program has it in its code"), "{error}");
    run(on(&database, &["schedules", "pause", "report"])).well();
    let paused = "SELECT paused_at IS NOT NULL, paused_by FROM procrastinate_diesel_schedules";
    assert_eq!(rows(&mut connect(&database), paused), ["true | NULL"]);
}
