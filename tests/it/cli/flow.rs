//! Pausing and limiting on the command line.

use procrastinate::configure_task;
use serde_json::{Value, json};

use super::jobs::furnished;
use super::{on, run};
use crate::support::{connect, database, empty_database, sql};

#[test]
fn a_paused_queue_is_shown_wherever_one_looks() {
    let (database, _connection) = furnished();
    let said = |arguments: &[&str]| run(on(&database, arguments)).well();
    let out = said(&["pause", "queue=mails", "--by", "anna", "--reason", "the server is down"]);
    assert_eq!(out, "the queue \"mails\" is paused; 1 job is running\n");
    assert!(said(&["pause", "queue=mails", "--by", "ben"]).contains("is paused already"));
    for (arguments, expected) in [
        (&["list_flow_controls"][..], "paused now by ben"),
        (&["list_queues"], "queue mails: paused"),
        (&["healthchecks"], "Pauses and limits: OK (queue mails: paused"),
        (&["why", "1"], "its queue \"mails\" is paused"),
    ] {
        let out = said(arguments);
        assert!(
            out.contains(expected) || out.contains(&expected.replace(" now ", " 1 s ago ")),
            "{arguments:?}: {out}"
        );
    }
    let queues: Value = serde_json::from_str(&said(&["list_queues", "--json"])).unwrap();
    assert_eq!((queues[0]["name"].as_str(), queues[0]["paused_at"].is_string()), (Some("mails"), true));
    assert!(queues[1]["paused_at"].is_null());

    assert_eq!(said(&["resume", "queue=mails"]), "the queue \"mails\" is resumed\n");
    assert_eq!(said(&["resume", "queue=mails"]), "the queue \"mails\" was not paused\n");
    assert!(said(&["healthchecks"]).contains("Pauses and limits: OK (none)"));
}

#[test]
fn a_limit_is_set_shown_and_removed() {
    let (database, mut connection) = furnished();
    let said = |arguments: &[&str]| run(on(&database, arguments)).well();
    said(&["limit", "queue=mails", "--running", "1", "--starts", "100", "--per", "1m"]);
    said(&["limit", "task=send", "--running", "5"]);
    let out = said(&["list_flow_controls"]);
    assert!(out.contains("1 running, 100 starts in 60 s") && out.contains("5 running"), "{out}");
    let out = said(&["why", "1"]);
    assert!(out.contains("its queue \"mails\" is limited to 1 running, 100 starts in 60 s; 1 running"), "{out}");
    assert!(!out.contains("task"), "it has room: {out}");
    // A limit of starts that has room is not the reason, and one that has none says when it has.
    said(&["limit", "queue=mails", "--starts", "100", "--per", "1m"]);
    let out = said(&["why", "1"]);
    assert!(!out.contains("limited"), "{out}");
    sql(
        &mut connection,
        "UPDATE procrastinate_diesel_limit_states SET started_at = ARRAY[now()], counted_starts = '{100}'
         WHERE name = 'mails' AND slot = 0",
    );
    let out = said(&["why", "1"]);
    let expected = "its queue \"mails\" is limited to 100 starts in 60 s; 100 started, the next can start in ";
    assert!(out.contains(expected), "{out}");
    said(&["limit", "queue=mails", "--running", "1", "--starts", "100", "--per", "1m"]);
    let controls: Value = serde_json::from_str(&said(&["list_flow_controls", "--json"])).unwrap();
    assert_eq!(controls[0]["max_starts"], 100);
    assert_eq!(said(&["limit", "queue=mails", "--remove"]), "the queue \"mails\" has no limit any more\n");
    assert_eq!(said(&["limit", "queue=mails", "--remove"]), "the queue \"mails\" had no limit\n");
    // A pause that waits for running jobs.
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'failed' WHERE status = 'doing'");
    let out = said(&["pause", "task=send", "--wait"]);
    assert!(out.ends_with("no job is running\n"), "{out}");
}

#[test]
fn why_counts_the_running_jobs_of_the_key() {
    let database = database();
    let mut connection = connect(&database);
    let said = |arguments: &[&str]| run(on(&database, arguments)).well();
    said(&["limit", "task=call", "--per-limit-key", "--running", "2"]);
    said(&["limit", "queue=imports", "--per-key", "tenant", "--running", "1"]);
    let call = |queue: &str| configure_task("call", json!({ "tenant": 7 })).queue(queue);
    let keyed = |queue: &str| call(queue).limit_key("account \"7\"");
    let other = call("calls").limit_key("account 8");
    // A job of the limited queue has its key, and not that of the task.
    for job in [keyed("calls"), keyed("calls"), keyed("calls"), keyed("imports"), call("imports"), call("calls"), other]
    {
        job.defer_blocking(&mut connection).unwrap();
    }
    sql(
        &mut connection,
        "SELECT procrastinate_register_worker_v1();
         UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id IN (1, 4)",
    );
    let limit_of_task = "its task \"call\" is limited to 2 running for each limit key";
    let out = said(&["why", "3"]);
    assert!(!out.contains("limit"), "there is room: {out}");
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id = 2");
    let out = said(&["why", "3"]);
    assert!(out.contains(&format!("{limit_of_task}; 2 running with its key \"account \\\"7\\\"\"")), "{out}");
    let out = said(&["why", "5"]);
    let limit_of_queue = "its queue \"imports\" is limited to 1 running for each tenant; 1 running with its key \"7\"";
    assert!(out.contains(limit_of_queue) && !out.contains(limit_of_task), "{out}");
    for job_without_full_key in ["6", "7"] {
        let out = said(&["why", job_without_full_key]);
        assert!(!out.contains("limit"), "{out}");
    }
    // A limit of starts for each key is mentioned even if it may have room, together with what is known besides.
    said(&["limit", "task=call", "--per-limit-key", "--starts", "9", "--per", "1m"]);
    let out = said(&["why", "7"]);
    assert!(out.contains("9 starts in 60 s for each limit key; 0 running with its key \"account 8\""), "{out}");
    assert!(out.contains("the job can start; "), "{out}");
}

#[test]
fn invalid_usage_names_the_value_and_the_rule() {
    let (database, _connection) = furnished();
    for (arguments, expected) in [
        (&["pause", "mails"][..], "queue=NAME or task=NAME"),
        (&["pause", "lock=a"], "queue=NAME or task=NAME"),
        (&["limit", "queue=mails"], "--running"),
        (&["limit", "queue=mails", "--starts", "5"], "--per"),
        (&["limit", "queue=mails", "--running", "many"], "many"),
        (&["limit", "queue=mails", "--running", "1", "--remove"], "--remove"),
    ] {
        let said = run(on(&database, arguments)).with(2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let said = run(on(&database, &["limit", "queue=mails", "--running", "0"])).with(2);
    assert!(said.contains("must be between 1 and"), "{said}");
}

#[test]
fn a_function_that_fetches_past_pauses_and_limits_is_reported_if_there_are_any() {
    let (database, mut connection) = furnished();
    sql(
        &mut connection,
        "CREATE FUNCTION procrastinate_fetch_job_v3(queues varchar[]) RETURNS procrastinate_jobs LANGUAGE sql
         AS 'SELECT * FROM procrastinate_jobs LIMIT 1'",
    );
    run(on(&database, &["healthchecks"])).well();
    run(on(&database, &["pause", "queue=mails"])).well();
    let ended = run(on(&database, &["healthchecks"]));
    assert!(ended.out.contains("Pauses and limits: FAILED"), "{ended:?}");
    assert!(ended.with(1).contains("ignore pauses and limits: procrastinate_fetch_job_v3"));
    let ended = run(on(&database, &["schema", "check"]));
    assert!(ended.err.contains("without regard to them: procrastinate_fetch_job_v3"), "{ended:?}");
    ended.well();
}

#[test]
fn a_database_of_pythons_alone_has_no_pauses_and_says_so_when_one_is_set() {
    let database = empty_database();
    run(on(&database, &["schema", "apply"])).well();
    // Everything but the contract goes.
    let drop = "DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT oid::regprocedure FROM pg_proc WHERE proname LIKE 'procrastinate_diesel_pause%' LOOP
            EXECUTE 'DROP FUNCTION ' || name;
        END LOOP;
        DROP TABLE procrastinate_diesel_flow_controls;
    END $$";
    sql(&mut connect(&database), drop);
    assert!(run(on(&database, &["healthchecks"])).well().contains("Pauses and limits: OK (none)"));
    let ended = run(on(&database, &["pause", "queue=mails"]));
    assert!(ended.with(1).contains("could not pause"));
}

#[test]
fn priorities_age_until_that_is_stopped() {
    let (database, _connection) = furnished();
    let said = |arguments: &[&str]| run(on(&database, arguments)).well();
    let out = said(&["age_priorities", "mails", "--every", "90", "--step", "2", "--up-to", "-1"]);
    assert_eq!(out, "the priorities of queue \"mails\" age\n");
    let out = said(&["list_priority_ageings"]);
    assert!(out.contains("mails") && out.contains("2 in 90 s") && out.contains("-1"), "{out}");
    let ageings: Value = serde_json::from_str(&said(&["list-priority-ageings", "--json"])).unwrap();
    assert_eq!((ageings[0]["every_seconds"].as_f64(), ageings[0]["last_aged_at"].is_null()), (Some(90.0), true));
    assert_eq!(said(&["age_priorities", "mails", "--stop"]), "the priorities of queue \"mails\" do not age any more\n");
    assert_eq!(said(&["age_priorities", "mails", "--stop"]), "the priorities of queue \"mails\" did not age\n");
    for (arguments, expected) in [
        (&["age_priorities", "mails"][..], "needs --every and --up-to"),
        (&["age_priorities", "mails", "--every", "60"], "--up-to"),
        (&["age_priorities", "mails", "--every", "0.5", "--up-to", "1"], "must be at least a second"),
    ] {
        let said = run(on(&database, arguments)).with(2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
