//! `defer`, with each of its flags and variables.

use chrono::{TimeDelta, Utc};
use procrastinate::JobStatus;
use serde_json::{Value, json};

use super::{on, run};
use crate::support::{connect, database, job, jobs, sql};

#[test]
fn every_flag_of_defer_is_stored_with_the_job() {
    let database = database();
    let arguments = [
        "defer",
        "sum",
        r#"{"a": 3, "b": "x"}"#,
        "--queue",
        "sums",
        "--lock",
        "l",
        "--queueing-lock",
        "q",
        "--at",
        "2099-01-31T08:00:00+01:00",
        "--priority",
        "-5",
        "--unknown",
    ];
    let ended = run(on(&database, &arguments));
    assert!(ended.err.contains(r#"Launching a job: sum(a=3, b="x")"#), "{ended:?}");
    assert_eq!(ended.well(), "deferred job 1\n");

    let job = job(&mut connect(&database), 1.into());
    assert_eq!((job.task_name.as_str(), job.queue_name.as_str(), job.priority), ("sum", "sums", -5));
    assert_eq!((job.lock.as_deref(), job.queueing_lock.as_deref()), (Some("l"), Some("q")));
    assert_eq!(job.args, json!({ "a": 3, "b": "x" }));
    assert_eq!(job.scheduled_at, Some("2099-01-31T07:00:00Z".parse().unwrap()));
}

#[test]
fn a_job_that_has_to_start_in_time_is_shown_with_that_and_why_it_was_cancelled() {
    let database = database();
    let mut connection = connect(&database);
    let said = |arguments: &[&str]| run(on(&database, arguments)).well();
    said(&["defer", "sum", "--unknown", "--start-before", "2099-01-31T08:00:00+01:00", "--limit-key", "tenant-7"]);
    let mut command = on(&database, &["defer", "sum", "--unknown"]);
    command.env("PROCRASTINATE_DEFER_START_WITHIN", "1h").env("PROCRASTINATE_DEFER_LIMIT_KEY", "tenant-8");
    run(command).well();
    let out = said(&["show", "1", "--exact"]);
    assert!(out.contains("start before        2099-01-31 07:00:00") && out.contains("tenant-7"), "{out}");
    assert!(said(&["list_jobs", "details", "--exact"]).contains("2099-01-31 07:00:00"));
    assert!(said(&["why", "1", "--exact"]).contains("the job is cancelled if it does not start before 2099-01-31"));
    sql(
        &mut connection,
        "UPDATE procrastinate_diesel_job_options SET start_before = now() WHERE job_id = 1;
         SELECT procrastinate_diesel_tend_job_options_v1(0)",
    );
    for arguments in [["show", "1"], ["why", "1"]] {
        let out = said(&arguments);
        assert!(out.contains("cancelled, because it was not started before "), "{out}");
    }
    assert!(said(&["list_jobs", "details"]).contains(", missed"));
    let jobs: Value = serde_json::from_str(&said(&["list_jobs", "--json"])).unwrap();
    assert_eq!((jobs[0]["is_expired"].as_bool(), jobs[1]["is_expired"].as_bool()), (Some(true), Some(false)));
    assert_eq!((&jobs[1]["limit_key"], jobs[1]["start_before"].is_string()), (&json!("tenant-8"), true));

    let ended = run(on(&database, &["defer", "sum", "--unknown", "--start-before", "2001-01-31"]));
    assert!(ended.err.contains("invalid start_before \"2001-01-31 00:00:00 UTC\": must be in the future"), "{ended:?}");
    let ended = run(on(&database, &["defer", "sum", "--start-before", "2099-01-31", "--start-within", "1"]));
    assert_eq!(ended.status, 2, "{ended:?}");
}

#[test]
fn a_unique_key_is_taken_and_shown() {
    let database = database();
    let said = |arguments: &[&str]| run(on(&database, arguments)).well();
    let defer = ["defer", "sum", "--unknown", "--unique", "report"];
    said(&[&defer[..], &["--unique-for", "1h"]].concat());
    let ended = run(on(&database, &defer));
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("job 1 holds the unique key \"report\""), "{ended:?}");
    assert_eq!(
        said(&[&defer[..], &["--if-enqueued", "keep"]].concat()),
        "job 1 has the same unique key or queueing lock\n"
    );
    said(&[&defer[..], &["--ignore-already-enqueued"]].concat());
    assert!(said(&["show", "1"]).contains("unique key          report, and 3600 s after the end"));
    assert_eq!(run(on(&database, &["defer", "sum", "--unknown", "--unique-for", "1h"])).status, 2);
    let mut command = on(&database, &["defer", "sum", "--unknown"]);
    command.env("PROCRASTINATE_DEFER_UNIQUE", "report").env("PROCRASTINATE_DEFER_UNIQUE_FOR", "5");
    assert_eq!(run(command).status, 1);
}

#[test]
fn every_variable_of_defer_is_stored_with_the_job() {
    let database = database();
    let mut command = on(&database, &["defer", "sum"]);
    for (name, value) in [
        ("JSON_ARGS", r#"{"a": 3}"#),
        ("QUEUE", "sums"),
        ("LOCK", "l"),
        ("QUEUEING_LOCK", "q"),
        ("AT", "2099-01-31T08:00:00"),
        ("PRIORITY", "7"),
        ("UNKNOWN", "yes"),
    ] {
        command.env(format!("PROCRASTINATE_DEFER_{name}"), value);
    }
    run(command).well();

    let job = job(&mut connect(&database), 1.into());
    assert_eq!((job.queue_name.as_str(), job.priority, job.args), ("sums", 7, json!({ "a": 3 })));
    assert_eq!((job.lock.as_deref(), job.queueing_lock.as_deref()), (Some("l"), Some("q")));
    assert_eq!(job.scheduled_at, Some("2099-01-31T08:00:00Z".parse().unwrap()));
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_variable_is_none() {
    let database = database();
    let mut command = on(&database, &["defer", "sum", "--queue", "flag", "--in", "60"]);
    command.env("PROCRASTINATE_DEFER_QUEUE", "variable").env("PROCRASTINATE_DEFER_AT", "2099-01-31");
    command.env("PROCRASTINATE_DEFER_PRIORITY", "").env("PROCRASTINATE_DEFER_LOCK", "");
    let before = Utc::now();
    run(command).well();

    let job = job(&mut connect(&database), 1.into());
    assert_eq!((job.queue_name.as_str(), job.priority, job.lock), ("flag", 0, None));
    let scheduled_at = job.scheduled_at.unwrap();
    assert!(scheduled_at >= before + TimeDelta::seconds(59) && scheduled_at < before + TimeDelta::days(1));
}

#[test]
fn in_can_come_from_its_variable_but_not_together_with_at() {
    let database = database();
    let mut command = on(&database, &["defer", "sum", "--json"]);
    command.env("PROCRASTINATE_DEFER_IN", "3600");
    assert_eq!(run(command).well(), "{\"deferred\":\"new\",\"id\":1}\n");
    assert!(job(&mut connect(&database), 1.into()).scheduled_at.unwrap() > Utc::now());

    let mut command = on(&database, &["defer", "sum"]);
    command.env("PROCRASTINATE_DEFER_IN", "3600").env("PROCRASTINATE_DEFER_AT", "2099-01-31");
    assert!(run(command).with(2).contains("PROCRASTINATE_DEFER_AT"));
    run(on(&database, &["defer", "sum", "--in", "1", "--at", "2099-01-31"])).with(2);
    assert_eq!(jobs(&mut connect(&database)).len(), 1);
}

#[test]
fn a_taken_queueing_lock_is_an_error_unless_ignored() {
    let database = database();
    let arguments = ["defer", "report", "--queueing-lock", "report"];
    run(on(&database, &arguments)).well();

    let said = run(on(&database, &arguments)).with(1);
    assert!(said.contains("error: ") && said.contains("--ignore-already-enqueued"), "{said}");
    for flag in ["-i", "--ignore-already-enqueued"] {
        let ended = run(on(&database, &[&arguments[..], &[flag]].concat()));
        assert!(ended.err.contains("(ignored)"), "{ended:?}");
        ended.well();
    }
    let mut command = on(&database, &arguments);
    command.env("PROCRASTINATE_DEFER_IGNORE_ALREADY_ENQUEUED", "1");
    run(command).well();
    let mut command = on(&database, &[&arguments[..], &["--no-ignore-already-enqueued"]].concat());
    command.env("PROCRASTINATE_DEFER_IGNORE_ALREADY_ENQUEUED", "1");
    run(command).with(1);

    let jobs = jobs(&mut connect(&database));
    assert_eq!(jobs.iter().map(|job| job.status.clone()).collect::<Vec<_>>(), [JobStatus::Todo]);
}

#[test]
fn a_pending_job_is_replaced_or_kept_if_asked() {
    let database = database();
    let said = |arguments: &[&str]| {
        run(on(&database, &[&["defer", "report", "--queueing-lock", "report"], arguments].concat())).well()
    };
    assert_eq!(said(&["--if-enqueued", "replace", "--in", "60"]), "deferred job 1\n");
    let scheduled_at = || job(&mut connect(&database), 1.into()).scheduled_at;
    let first = scheduled_at();
    let replaced = "replaced the pending job 1 with the same queueing lock\n";
    assert_eq!(said(&["--if-enqueued", "replace-except-schedule", "{\"a\": 1}"]), replaced);
    assert_eq!((job(&mut connect(&database), 1.into()).args, scheduled_at()), (json!({ "a": 1 }), first));
    assert_eq!(said(&["--if-enqueued", "keep"]), "job 1 with the same queueing lock is already pending\n");
    assert_eq!(said(&["--if-enqueued", "keep", "--json"]), "{\"deferred\":\"kept\",\"id\":1}\n");
    assert_eq!(said(&["--if-enqueued", "replace", "--json"]), "{\"deferred\":\"replaced\",\"id\":1}\n");
    assert_eq!(scheduled_at(), None);

    let mut command = on(&database, &["defer", "report", "--queueing-lock", "report"]);
    command.env("PROCRASTINATE_DEFER_IF_ENQUEUED", "REPLACE");
    assert_eq!(run(command).well(), replaced);
    let refused = run(on(&database, &["defer", "report", "--if-enqueued", "replace"])).with(2);
    assert!(refused.contains("must have a queueing lock"), "{refused}");
    assert_eq!(jobs(&mut connect(&database)).len(), 1);
}

#[test]
fn invalid_input_is_refused_with_the_value_and_the_rule() {
    let database = database();
    for (arguments, expected) in [
        (&["defer", "sum", "[1]"][..], "JSON object"),
        (&["defer", "sum", "{"], "JSON object"),
        (&["defer", "sum", "--at", "tomorrow"], "ISO 8601"),
        (&["defer", "sum", "--in", "soon"], "number of seconds"),
        (&["defer", "sum", "--priority", "high"], "whole number"),
        (&["defer", "sum", "--if-enqueued", "debounce"], "must be fail, keep, replace or replace_except_schedule"),
        (&["defer", "sum", "--queue", ""], "queue"),
        (&["defer", ""], "task name"),
        (&["defer"], "<TASK>"),
    ] {
        let said = run(on(&database, arguments)).with(2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let mut command = on(&database, &["defer", "sum"]);
    command.env("PROCRASTINATE_DEFER_PRIORITY", "high");
    let said = run(command).with(2);
    assert!(said.contains("PROCRASTINATE_DEFER_PRIORITY") && said.contains("\"high\""), "{said}");
    assert_eq!(jobs(&mut connect(&database)), []);
}

#[test]
fn an_unknown_task_can_be_refused() {
    let database = database();
    let said = run(on(&database, &["defer", "sum", "--no-unknown"])).with(1);
    assert!(said.contains("has no tasks"), "{said}");
    let mut command = on(&database, &["defer", "sum"]);
    command.env("PROCRASTINATE_DEFER_UNKNOWN", "0");
    run(command).with(1);
    assert_eq!(jobs(&mut connect(&database)), []);
}
