//! Command lines, lines of the shell, requests to the probe, and notifications.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use diesel::prelude::*;
use procrastinate::{App, configure_task, task};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::values::text;
use crate::cases::check;
use crate::cli::{on, program, run};
use crate::support::{Running, connect, connector, database, eventually, jobs, rows, sql};

const COMMANDS: [&str; 24] = [
    "list_jobs",
    "list_queues",
    "list_tasks",
    "list_locks",
    "list_workers",
    "show",
    "why",
    "watch",
    "retry",
    "cancel",
    "abort",
    "reschedule",
    "delete",
    "clean",
    "defer",
    "schema",
    "healthchecks",
    "shell",
    "worker",
    "help",
    "man",
    "completions",
    "nothing",
    "",
];

/// A word of a command line: an option, a filter, a value, or anything. None contains NUL, which no program can get.
fn word() -> impl Strategy<Value = String> {
    let known = select(vec![
        "--help",
        "--json",
        "-v",
        "-vvv",
        "-q",
        "--limit",
        "--queue",
        "--at",
        "--in",
        "--yes",
        "--dry-run",
        "--",
        "-",
        "=",
        "details",
        "1",
        "#1",
        "9223372036854775808",
        "-1",
        "1.5",
        "1e400",
        "NaN",
        "inf",
        "{}",
        "{\"a\": 1e400}",
        "[]",
        "2030-01-01",
        "+262142-12-31",
        "294276-12-31",
        "99999999999999d",
        "-5s",
        "succeeded=1d",
        "=",
        "status=",
        "queue=q",
    ]);
    let filter = (select(vec!["queue", "status", "task", "lock", "id", "--limit", "--at", "--in"]), text())
        .prop_map(|(name, value)| format!("{name}={value}"));
    prop_oneof![4 => known.prop_map(str::to_owned), 2 => filter, 2 => text()]
        .prop_map(|word| word.replace('\0', "").chars().take(5_000).collect())
}

fn line() -> impl Strategy<Value = Vec<String>> {
    (select(&COMMANDS[..]), prop::collection::vec(word(), 0..5))
        .prop_map(|(command, words)| [command.to_owned()].into_iter().chain(words).collect())
}

/// Without a database, so that no command does anything.
#[test]
fn any_command_line_ends_with_a_message_and_a_status() {
    check(25, &line(), |words| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = program(&words);
        command.env("PROCRASTINATE_HISTORY", "/nonexistent/history").env("DATABASE_URL", "postgres://127.0.0.1:1/none");
        let ended = run(command);
        prop_assert!((0..=2).contains(&ended.status) && !ended.err.contains("panicked"), "{:?}", ended);
        prop_assert!(ended.status == 0 || !ended.err.trim().is_empty(), "{:?}", ended);
        Ok(())
    });
}

#[test]
fn any_lines_of_the_shell_end_with_its_last_one() {
    let database = database();
    check(
        1,
        &prop::collection::vec(prop_oneof![3 => line().prop_map(|words| words.join(" ")), 1 => text()], 100),
        |lines| {
            // These run indefinitely, or end the shell.
            let lines = lines
                .into_iter()
                .filter(|line| !["watch", "exit", "quit", "EOF"].iter().any(|word| line.contains(word)));
            let lines: Vec<String> = lines.collect();
            let mut command = on(&database, &["shell"]);
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            let written = format!("{}\nlist_queues\nshow 424242\n", lines.join("\n"));
            let writing = std::thread::spawn(move || input.write_all(written.as_bytes()));
            let output = child.wait_with_output().unwrap();
            writing.join().unwrap().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            prop_assert!(said.contains("424242") && !said.contains("panicked"), "{:?}: {}", output.status, said);
            prop_assert_eq!(output.status.code(), Some(1));
            Ok(())
        },
    );
}

#[cfg(all(unix, feature = "probe"))]
#[test]
fn any_bytes_sent_to_the_probe_leave_it_alive() {
    let database = database();
    let mut command = crate::cli::mounted::worker_program(&database, &["worker", "--health-address", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let address = crate::cli::probe::address_of(&mut child);
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let path = text().prop_map(|path| format!("GET {path} HTTP/1.1\r\n\r\n").into_bytes());
    let header = (text(), text())
        .prop_map(|(name, value)| format!("GET /live HTTP/1.1\r\n{name}: {value}\r\n\r\n").into_bytes());
    check(60, &prop_oneof![bytes, path, header], |request| {
        let mut stream = TcpStream::connect(&address).unwrap();
        // It may close the connection at any time.
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        Ok(())
    });
    assert_eq!(crate::cli::probe::get(&address, "/ready").0, 200);
    // The worker handles signals before it fetches jobs.
    std::iter::repeat_with(|| crate::cli::probe::get(&address, "/live")).find(|(_, said)| said.ends_with("ago"));
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success() && child.wait().unwrap().success());
}

#[task]
async fn note() {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_notification_leaves_the_worker_running() {
    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<note>().build().unwrap();
    let worker = Running::start(app.worker());
    let json = (text(), any::<i64>()).prop_map(|(kind, id)| json!({ "type": kind, "job_id": id }).to_string());
    let known = (
        select(vec!["job_inserted", "abort_job_requested"]),
        select(vec!["-1", "0", "1e400", "null", "\"1\"", "9223372036854775807"]),
    )
        .prop_map(|(kind, id)| format!("{{\"type\": \"{kind}\", \"job_id\": {id}}}"));
    let deep = (1..3_000_usize).prop_map(|depth| "[".repeat(depth));
    check(100, &prop_oneof![text(), json, known, deep], |payload| {
        let payload: String = payload.replace('\0', "").chars().take(1_900).collect();
        let notify = diesel::sql_query("SELECT pg_notify('procrastinate_any_queue_v1', $1)");
        notify.bind::<diesel::sql_types::Text, _>(payload).execute(&mut connection).unwrap();
        Ok(())
    });
    assert!(!worker.has_ended());
    app.defer(note()).await.unwrap();
    let status = "SELECT status FROM procrastinate_jobs";
    eventually("the job has run", || rows(&mut connection, status) == ["succeeded"]).await;
    worker.stop().await.unwrap();
}

#[test]
fn arguments_of_any_json_text_are_refused_or_deferred() {
    let database = database();
    for args in [
        "{\"a\": 1e400}",
        "{\"a\": 1, \"a\": 2}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\\u0000\"}",
        "{\"\\u0000\": 1}",
        "{\"a\": 123456789012345678901234567890}",
        "{\"a\": -0.0}",
        "{\"a\": NaN}",
        "[1]",
        "null",
        "",
        "{",
        "{\"a\": 1e-400}",
    ] {
        let ended = run(on(&database, &["defer", "--unknown", "task", args]));
        assert!((0..=2).contains(&ended.status) && !ended.err.contains("panicked"), "{args}: {ended:?}");
    }
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    run(on(&database, &["defer", "--unknown", "task", &deep])).with(2);
    let mut connection = connect(&database);
    let stored = jobs(&mut connection).len();
    configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
    assert_eq!(jobs(&mut connection).len(), stored + 1);
    sql(&mut connection, "DELETE FROM procrastinate_jobs");
}
