//! Listing, explaining and changing jobs.

use diesel::PgConnection;
use procrastinate::{JobId, JobStatus, configure_task};
use serde_json::{Value, json};
use throwaway_postgres::Database;

use super::{on, run};
use crate::support::{connect, database, events, job, jobs, sql, statuses};

/// Six jobs: 1 waits, 2 is doing, 3 has succeeded, 4 has failed, 5 is scheduled, 6 has the lock of 2.
pub fn furnished() -> (Database, PgConnection) {
    let database = database();
    let mut connection = connect(&database);
    let mail = |to: &str| configure_task("send", json!({ "to": to })).queue("mails");
    for job in [
        mail("ada").priority(2),
        mail("grace").lock("customer 7"),
        mail("joan"),
        configure_task("sum", json!({ "a": 3 })).queue("sums"),
        configure_task("sum", json!({})).queue("sums").schedule_at("2099-01-31T08:00:00Z".parse().unwrap()),
        mail("linus").lock("customer 7").queueing_lock("q"),
    ] {
        job.defer_blocking(&mut connection).unwrap();
    }
    sql(
        &mut connection,
        "SELECT procrastinate_register_worker_v1();
         UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id = 2;
         UPDATE procrastinate_jobs SET status = 'doing' WHERE id IN (3, 4);
         UPDATE procrastinate_jobs SET status = 'succeeded', attempts = 1 WHERE id = 3;
         UPDATE procrastinate_jobs SET status = 'failed', attempts = 1 WHERE id = 4;
         INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, worker_name, duration_seconds)
         VALUES (4, 1, 'b is missing', 'calculator', 0.5)",
    );
    (database, connection)
}

/// The numbers of the jobs that a listing has.
fn listed(database: &Database, arguments: &[&str]) -> Vec<i64> {
    let out = run(on(database, &[&["list_jobs", "--json"], arguments].concat())).well();
    let jobs: Value = serde_json::from_str(&out).unwrap();
    jobs.as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
}

#[test]
fn jobs_are_listed_by_words_and_by_flags() {
    let (database, _connection) = furnished();
    assert_eq!(listed(&database, &[]), [1, 2, 3, 4, 5, 6]);
    for (arguments, expected) in [
        (&["queue=sums"][..], &[4, 5][..]),
        (&["--queue", "sums"], &[4, 5]),
        (&["task=sum", "status=todo"], &[5]),
        (&["--task", "sum", "--status", "todo"], &[5]),
        (&["lock=customer 7"], &[2, 6]),
        (&["--lock", "customer 7"], &[2, 6]),
        (&["queueing_lock=q"], &[6]),
        (&["--queueing-lock", "q"], &[6]),
        (&["id=3"], &[3]),
        (&["worker=1"], &[2]),
        (&["--worker", "1"], &[2]),
        (&["--newest", "--limit", "2"], &[6, 5]),
        (&["queue=nowhere"], &[]),
    ] {
        assert_eq!(listed(&database, arguments), expected, "{arguments:?}");
    }
    assert_eq!(listed(&database, &["stalled"]), [0; 0]);
    sql(&mut connect(&database), "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'");
    assert_eq!(listed(&database, &["--stalled"]), [2]);

    for (arguments, rule) in [
        (&["status=fialed"][..], "todo, doing"),
        (&["colour=red"], "id, queue"),
        (&["failed"], "KEY=VALUE"),
        (&["id=x"], "such as 7"),
        (&["status=failed", "queue=sums", "status=todo"], "status is given twice"),
        (&["7", "queue=sums"], "id=7"),
        (&["--limit", "many"], "a whole number from 0"),
        (&["--limit", "-1"], "a whole number from 0"),
    ] {
        let said = run(on(&database, &[&["list_jobs"][..], arguments].concat())).with(2);
        assert!(said.contains(rule), "{arguments:?}: {said}");
    }
}

#[test]
fn a_table_of_jobs_is_aligned_and_shows_more_when_asked() {
    let (database, _connection) = furnished();
    let out = run(on(&database, &["list-jobs", "status=doing"])).well();
    assert_eq!(out, "id  status  queue  task  scheduled\n 2  doing   mails  send\n");
    let out = run(on(&database, &["list_jobs", "id=6", "details"])).well();
    assert!(out.contains("customer 7") && out.contains(r#"{"to":"linus"}"#), "{out}");
    assert_eq!(run(on(&database, &["list_jobs", "id=6", "--details"])).well(), out);
    let out = run(on(&database, &["list_jobs", "id=5"])).well();
    assert!(out.contains("in 72 years") || out.contains("in 73 years") || out.contains("years"), "{out}");
    let out = run(on(&database, &["list_jobs", "id=5", "--exact"])).well();
    assert!(out.contains("2099-01-31 08:00:00 +00:00"), "{out}");
    assert!(!out.contains('\x1b'), "no colours where there is no terminal");
}

#[test]
fn more_jobs_than_a_page_holds_are_listed_all_and_in_order() {
    let database = database();
    let jobs = (0..2_500).map(|n| configure_task("send", json!({ "n": n })));
    procrastinate::batch_defer_blocking(jobs, &mut connect(&database)).unwrap();
    let all: Vec<i64> = (1..=2_500).collect();
    assert_eq!(listed(&database, &[]), all);
    assert_eq!(
        listed(&database, &["--newest", "--limit", "1500"]),
        all.into_iter().rev().take(1_500).collect::<Vec<_>>()
    );
    let out = run(on(&database, &["list_jobs"])).well();
    assert_eq!((out.lines().count(), out.matches("status").count()), (2_501, 1));
}

#[test]
fn queues_tasks_and_locks_are_counted_by_status() {
    let (database, _connection) = furnished();
    let out = run(on(&database, &["list_queues"])).well();
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["queue", "jobs", "todo", "doing", "succeeded", "failed", "cancelled", "aborted"]);
    assert_eq!(lines[1..], [["mails", "4", "2", "1", "1", "0", "0", "0"], ["sums", "2", "1", "0", "0", "1", "0", "0"]]);
    for (arguments, expected) in [
        (["list_tasks", "queue=sums", "--json"], json!(["sum", 2])),
        (["list_locks", "status=doing", "--json"], json!(["customer 7", 1])),
        (["list_queues", "lock=customer 7", "--json"], json!(["mails", 2])),
        (["list-tasks", "--task=send", "--json"], json!(["send", 4])),
    ] {
        let out = run(on(&database, &arguments)).well();
        let counts: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json!([counts[0]["name"], counts[0]["jobs_count"]]), expected, "{arguments:?}");
    }
    assert!(run(on(&database, &["list_queues", "id=1"])).with(2).contains("can be counted only by"));
    let out = run(on(&database, &["list_workers", "--json"])).well();
    let workers: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&workers[0]["alive"], &workers[0]["jobs"]), (&json!(true), &json!([2])));
    assert!(run(on(&database, &["list_workers"])).well().contains("alive"));
}

#[test]
fn a_job_is_shown_with_its_events_and_errors() {
    let (database, _connection) = furnished();
    let out = run(on(&database, &["show", "4"])).well();
    for expected in ["#4 sum [failed]", "deferred", "started", "error of attempt 1", "calculator", "b is missing"] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let out = run(on(&database, &["show", "#4", "--json"])).well();
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["events"].as_array().unwrap().len(), 3);
    assert_eq!(shown["errors"][0]["error"], "b is missing");
    assert!(run(on(&database, &["show", "4711"])).with(1).contains("there is no such job"));
    run(on(&database, &["show", "seven"])).with(2);
}

#[test]
fn why_shows_the_reason_for_which_a_job_is_not_running() {
    const NOTHING: &str = "SELECT 1";
    let (database, mut connection) = furnished();
    let mut why = |job: &str, expected: &str, before: &str| {
        sql(&mut connection, before);
        let out = run(on(&database, &["why", job])).well();
        assert!(out.contains(expected), "{expected}: {out}");
        let out = run(on(&database, &["why", job, "--json"])).well();
        assert!(serde_json::from_str::<Value>(&out).unwrap()["reasons"].is_array());
    };
    why("1", "the job can start; 0 jobs of its queue are before it", NOTHING);
    why("5", "the job is scheduled to start", NOTHING);
    why("6", "held by a job that worker 1 runs: #2 send", NOTHING);
    why("2", "the job is running; worker 1 started it", NOTHING);
    why("3", "the job has finished: succeeded", NOTHING);
    why("4", "`retry 4` retries it", NOTHING);
    why("2", "sent its last heartbeat", "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'");
    why("1", "no worker is alive", NOTHING);
    why("6", "by a job of a dead worker", "DELETE FROM procrastinate_workers");
    why("6", "another job with the lock", "UPDATE procrastinate_jobs SET status = 'todo' WHERE id = 2");
    assert!(run(on(&database, &["why", "4711"])).with(1).contains("no such job"));
}

#[test]
fn jobs_are_retried_cancelled_aborted_rescheduled_and_deleted_by_id() {
    let (database, mut connection) = furnished();
    assert_eq!(
        run(on(&database, &["retry", "4", "--priority", "-3", "--to-queue", "slow"])).well(),
        "#4 sum on slow - [todo]\n"
    );
    assert_eq!(job(&mut connection, 4.into()).priority, -3);
    assert_eq!(
        run(on(&database, &["cancel", "1", "6"])).well(),
        "#1 send on mails - [cancelled]\n#6 send on mails - [cancelled]\n"
    );
    assert_eq!(run(on(&database, &["abort", "2"])).well(), "#2 send on mails - [doing, abort requested]\n");
    assert!(job(&mut connection, 2.into()).abort_requested);
    run(on(&database, &["reschedule", "5"])).well();
    assert_eq!(job(&mut connection, 5.into()).scheduled_at, None);
    run(on(&database, &["reschedule", "5", "--at", "2098-01-31"])).well();
    assert_eq!(job(&mut connection, 5.into()).scheduled_at, Some("2098-01-31T00:00:00Z".parse().unwrap()));
    assert_eq!(run(on(&database, &["delete", "3"])).well(), "#3 was deleted\n");
    assert_eq!(run(on(&database, &["cancel", "4", "--delete"])).well(), "#4 was deleted\n");
    assert_eq!(jobs(&mut connection).len(), 4);
}

#[test]
fn an_action_that_a_job_does_not_allow_is_reported_and_the_others_are_done() {
    let (database, mut connection) = furnished();
    let ended = run(on(&database, &["cancel", "3", "1", "4711"]));
    assert_eq!(ended.out, "#1 send on mails - [cancelled]\n");
    let said = ended.with(1);
    assert!(said.contains("could not cancel job 3: it is succeeded, and must be todo"), "{said}");
    assert!(said.contains("could not cancel job 4711: there is no such job"), "{said}");
    for arguments in [["retry", "3"], ["abort", "3"], ["reschedule", "3"], ["delete", "2"], ["delete", "4711"]] {
        run(on(&database, &arguments)).with(1);
    }
    assert_eq!(job(&mut connection, 3.into()).status, JobStatus::Succeeded);
}

#[test]
fn many_jobs_are_changed_by_a_filter_after_a_confirmation() {
    use JobStatus::{Cancelled, Doing, Failed, Succeeded, Todo};
    let (database, mut connection) = furnished();
    let said = run(on(&database, &["cancel", "queue=mails"])).with(2);
    assert!(said.contains("Cancel 2 jobs?") && said.contains("--yes"), "{said}");
    assert_eq!(job(&mut connection, 1.into()).status, Todo);

    let out = run(on(&database, &["cancel", "queue=mails", "--yes"])).well();
    assert_eq!(out, "2 jobs changed: cancel\n");
    assert_eq!(statuses(&mut connection), [Cancelled, Doing, Succeeded, Failed, Todo, Cancelled]);
    run(on(&database, &["retry", "--task", "sum", "-y"])).well();
    assert_eq!(statuses(&mut connection), [Cancelled, Doing, Succeeded, Todo, Todo, Cancelled]);
    run(on(&database, &["abort", "worker=1", "-y"])).well();
    run(on(&database, &["delete", "status=cancelled", "-y"])).well();
    assert_eq!(jobs(&mut connection).len(), 4);
    run(on(&database, &["reschedule", "queue=sums", "--in", "2h", "-y"])).well();
    assert!(jobs(&mut connection).iter().filter(|job| job.queue_name == "sums").all(|job| job.scheduled_at.is_some()));

    assert!(run(on(&database, &["retry"])).with(2).contains("which jobs"));
    assert!(run(on(&database, &["delete", "queue=mails", "-y"])).with(2).contains("which status"));
    assert!(run(on(&database, &["retry", "queue=nowhere", "-y"])).err.contains("no matching jobs"));
}

#[test]
fn one_of_many_that_cannot_be_changed_leaves_the_others_done() {
    let (database, mut connection) = furnished();
    sql(&mut connection, "UPDATE procrastinate_jobs SET queueing_lock = 'q' WHERE id = 4");
    let failed = configure_task("sum", json!({})).queue("sums").defer_blocking(&mut connection).unwrap();
    sql(&mut connection, &format!("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = {failed}"));
    let ended = run(on(&database, &["retry", "status=failed", "-y"]));
    assert!(ended.out.contains("1 job changed") && ended.err.contains("1 job not changed"), "{ended:?}");
    assert!(ended.with(1).contains("queueing lock"));
    assert_eq!(job(&mut connection, failed).status, JobStatus::Todo);
}

#[test]
fn old_jobs_are_cleaned_up_by_status_and_queue() {
    let (database, mut connection) = furnished();
    sql(&mut connection, "UPDATE procrastinate_events SET at = now() - interval '3 days'");
    let said =
        run(on(&database, &["clean", "--older-than", "1d", "--status", "failed", "--status", "succeeded"])).with(2);
    assert!(said.contains("Delete 2 jobs (failed or succeeded) without an event for 1 d?"), "{said}");
    assert!(said.contains("--yes"), "{said}");
    let said = run(on(&database, &["clean", "--older-than", "1d", "--queue", "sums"]));
    assert!(said.err.contains("no matching jobs"), "{said:?}");
    said.well();
    assert_eq!(jobs(&mut connection).len(), 6);
    assert_eq!(run(on(&database, &["clean", "--older-than", "4d", "-y"])).well(), "deleted 0 jobs\n");
    assert_eq!(run(on(&database, &["clean", "--older-than", "1d", "-y"])).well(), "deleted 1 job\n");
    let failed = ["clean", "--older-than", "48h", "--status", "failed", "--queue", "sums", "--yes"];
    assert_eq!(run(on(&database, &failed)).well(), "deleted 1 job\n");
    run(on(&database, &["clean", "--older-than", "1d", "--status", "todo", "-y"])).with(2);
    assert_eq!(jobs(&mut connection).len(), 4);
}

#[test]
fn watching_shows_queues_workers_and_what_runs() {
    let (database, _connection) = furnished();
    let out = run(on(&database, &["watch", "--count", "2", "--interval", "0.1"])).well();
    assert_eq!(out.matches("workers: 1 alive").count(), 2, "{out}");
    assert!(out.contains("#2 send on mails - [doing]") && out.contains("sums"), "{out}");
    let out = run(on(&database, &["watch", "--count", "1", "queue=sums"])).well();
    assert!(!out.contains("mails"), "{out}");
}

#[test]
fn names_cannot_drive_the_terminal() {
    let database = database();
    let mut connection = connect(&database);
    let id: JobId = configure_task("evil\u{1b}[2J\ntask", json!({})).defer_blocking(&mut connection).unwrap();
    for arguments in [&["list_jobs", "details"][..], &["show", "1"], &["why", "1"], &["list_tasks"], &["cancel", "1"]] {
        let out = run(on(&database, arguments)).well();
        assert!(!out.contains('\u{1b}') && out.contains("evil"), "{out:?}");
    }
    assert_eq!(events(&mut connection, id), ["deferred", "cancelled"]);
}

#[test]
fn a_job_that_rust_cannot_hold_is_shown_like_the_others() {
    let (database, mut connection) = furnished();
    sql(
        &mut connection,
        "UPDATE procrastinate_jobs SET args = '{\"n\": 1e400}' WHERE id IN (2, 4);
         UPDATE procrastinate_jobs SET scheduled_at = '290000-01-01' WHERE id = 5;
         UPDATE procrastinate_events SET at = 'infinity' WHERE job_id = 4;
         UPDATE procrastinate_workers SET last_heartbeat = 'infinity'",
    );
    assert_eq!(listed(&database, &[]), [1, 2, 3, 4, 5, 6]);
    let huge = format!(r#"{{"n":"1{}"}}"#, "0".repeat(400));
    assert!(run(on(&database, &["show", "4"])).well().contains(&huge));
    for arguments in [
        &["list_jobs", "details", "--exact"][..],
        &["show", "5", "--exact"],
        &["why", "2"],
        &["why", "4"],
        &["why", "5"],
        &["why", "6"],
        &["list_workers"],
        &["list_workers", "--exact"],
        &["watch", "--count", "1"],
        &["retry", "4"],
    ] {
        run(on(&database, arguments)).well();
    }
}

#[test]
fn the_clock_of_the_database_decides_which_worker_is_alive() {
    let (database, mut connection) = furnished();
    // The database's clock is an hour ahead of this machine's.
    sql(
        &mut connection,
        "CREATE SCHEMA ahead;
         CREATE FUNCTION ahead.now() RETURNS timestamptz LANGUAGE sql AS
             $$ SELECT pg_catalog.now() + interval '1 hour' $$;
         UPDATE procrastinate_workers SET last_heartbeat = pg_catalog.now() + interval '1 hour';
         UPDATE procrastinate_jobs SET scheduled_at = pg_catalog.now() + interval '30 minutes' WHERE id = 5",
    );
    let name = database.name().to_owned();
    sql(&mut connection, &format!("ALTER DATABASE \"{name}\" SET search_path = public, ahead, pg_catalog"));
    let out = |arguments: &[&str]| run(on(&database, arguments)).well();
    assert!(out(&["why", "2"]).contains("the job is running; worker 1 started it"), "{}", out(&["why", "2"]));
    assert!(!out(&["why", "5"]).contains("scheduled to start"), "{}", out(&["why", "5"]));
    assert!(out(&["healthchecks"]).contains("1 alive"));
    sql(&mut connection, "UPDATE procrastinate_workers SET last_heartbeat = pg_catalog.now()");
    assert!(out(&["list_workers"]).contains("stalled"));
    assert!(out(&["why", "2"]).contains("the job is stalled: worker 1 sent its last heartbeat 60 min ago"));
    assert!(out(&["watch", "--count", "1"]).contains("none alive; last heartbeat 60 min ago"));
}
