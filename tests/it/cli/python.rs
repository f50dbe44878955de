//! The program on a database that an application in Python has made, and to which nothing of ours was added.

use procrastinate::JobStatus;
use procrastinate::migrations::SQL_MIGRATIONS;
use serde_json::Value;

use super::{on, run};
use crate::python::peer::{Python, python};
use crate::support::{connect, empty_database, events, job, jobs, rows, sql};

/// A database of Python's with four jobs, of which the third has failed.
async fn of_python(interpreter: &'static std::path::Path) -> (throwaway_postgres::Database, Python) {
    let database = empty_database();
    let python = Python::new(interpreter, database.url());
    python.procrastinate(&["schema", "--apply"]).await;
    for lock in ["a", "a", "b", "c"] {
        let arguments = ["defer", "peer.echo", r#"{"n": 1}"#, "--queue", "echoes", "--lock", lock];
        python.procrastinate(&arguments).await;
    }
    sql(
        &mut connect(&database),
        "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 3;
         UPDATE procrastinate_jobs SET status = 'failed', attempts = 1 WHERE id = 3",
    );
    (database, python)
}

#[tokio::test]
async fn jobs_of_python_are_looked_at_without_a_change_to_the_database() {
    const TABLES: &str = "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace";
    let Some(interpreter) = python() else { return };
    let (database, python) = of_python(interpreter).await;
    let before = rows(&mut connect(&database), TABLES);

    let out = run(on(&database, &["healthchecks"])).well();
    assert!(out.contains("Migrations: OK (of Python's Procrastinate"), "{out}");
    let out = run(on(&database, &["list_jobs", "queue=echoes", "--json"])).well();
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap().as_array().unwrap().len(), 4);
    let shown = run(on(&database, &["show", "3"]));
    assert!(shown.err.contains("Python workers write errors only to their log"), "{shown:?}");
    assert!(shown.well().contains("failed"));
    assert!(run(on(&database, &["why", "2"])).well().contains("another job with the lock"));
    run(on(&database, &["watch", "--count", "1"])).well();
    run(on(&database, &["list_workers"])).well();
    run(on(&database, &["schema", "check"])).well();

    // What both count is the same.
    let theirs = python.procrastinate(&["shell", "list_queues"]).await;
    assert!(theirs.contains("echoes: 4 jobs (todo: 3, doing: 0, succeeded: 0, failed: 1"), "{theirs}");
    let out = run(on(&database, &["shell", "list_queues", "--json"])).well();
    let ours: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&ours[0]["jobs_count"], &ours[0]["todo"], &ours[0]["failed"]), (&4.into(), &3.into(), &1.into()));
    assert_eq!(rows(&mut connect(&database), TABLES), before);
}

#[tokio::test]
async fn jobs_of_python_are_changed_and_deferred() {
    let Some(interpreter) = python() else { return };
    let (database, python) = of_python(interpreter).await;
    let mut connection = connect(&database);

    run(on(&database, &["retry", "3"])).well();
    let retried = job(&mut connection, 3.into());
    assert_eq!((retried.status, retried.attempts), (JobStatus::Todo, 2));
    assert_eq!(events(&mut connection, 3.into()), ["deferred", "started", "failed", "retried"]);
    run(on(&database, &["retry", "4"])).with(1);
    run(on(&database, &["cancel", "4"])).well();
    run(on(&database, &["reschedule", "1", "--in", "2h"])).well();
    assert!(job(&mut connection, 1.into()).scheduled_at.is_some());
    run(on(&database, &["reschedule", "1"])).well();
    run(on(&database, &["delete", "2"])).well();
    run(on(&database, &["defer", "peer.echo", r#"{"n": 5}"#, "--queue", "echoes"])).well();
    let said = run(on(&database, &["clean", "--older-than", "0", "-y"])).with(1);
    assert!(said.contains("schema adopt"), "{said}");

    // Python's worker runs what there is.
    python.procrastinate(&["worker", "--one-shot"]).await;
    let all = jobs(&mut connection);
    let statuses: Vec<_> = all.into_iter().map(|job| (job.id, job.status)).collect();
    let [cancelled, succeeded] = [JobStatus::Cancelled, JobStatus::Succeeded];
    assert_eq!(statuses, [(1, succeeded.clone()), (3, succeeded.clone()), (4, cancelled), (5, succeeded)]);

    let adopted = run(on(&database, &["schema", "adopt"])).well();
    assert_eq!(adopted.lines().count(), SQL_MIGRATIONS.len(), "{adopted}");
    // The first one's newest event is the time that it was once scheduled for.
    assert!(run(on(&database, &["clean", "--older-than", "0"])).with(2).contains("Delete 2 jobs"));
    assert_eq!(run(on(&database, &["clean", "--older-than", "0", "-y"])).well(), "deleted 2 jobs\n");
    let said = run(on(&database, &["schema", "revert", "--all"])).with(2);
    assert!(said.contains("and keep the tables and jobs of Python's Procrastinate"), "{said}");
}

/// The words in a text that begin so.
fn words_with(text: &str, start: &str) -> std::collections::BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(|c: char| !is_part(c)).map(|word| word.trim_end_matches(['-', '_']));
    words.filter(|word| word.len() > start.len() && word.starts_with(start)).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_flag_and_variable_that_python_names_is_on_our_page_and_in_our_help() {
    const PAGE: &str = include_str!("../../../docs/command_line.md");
    const WITHOUT_EFFECT: [&str; 4] =
        ["--app", "PROCRASTINATE_APP", "--log-format-style", "PROCRASTINATE_LOG_FORMAT_STYLE"];
    let Some(interpreter) = python() else { return };
    let python = Python::new(interpreter, "postgres://127.0.0.1:1/nowhere");
    let mut ours = run(super::program(&["--help"])).well();
    let mut theirs = python.procrastinate(&["--help"]).await;
    for command in ["worker", "defer", "schema", "healthchecks", "shell"] {
        ours.push_str(&run(super::program(&[command, "--help"])).well());
        theirs.push_str(&python.procrastinate(&[command, "--help"]).await);
    }
    // A long name may be broken at the end of a line, after a hyphen.
    let theirs = theirs.replace("-\n", "-");
    let mut found = 0;
    for start in ["--", "PROCRASTINATE_"] {
        for word in words_with(&theirs, start) {
            assert!(words_with(PAGE, start).contains(&word), "{word} is not in docs/command_line.md");
            // Flags that are accepted without effect are hidden.
            let is_in_help = words_with(&ours, start).contains(&word);
            assert!(is_in_help || WITHOUT_EFFECT.contains(&word.as_str()), "{word} is not in our help");
            found += 1;
        }
    }
    assert!(found > 45, "only {found} were found");
}
