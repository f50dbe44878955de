//! Probes of a running worker over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::mounted::worker_program;
use super::run;
use crate::support::{connect, database, sql};

/// The status and the body that a path has.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.trim().to_owned())
}

/// The address for probes that the worker prints when it starts.
pub fn address_of(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.split('/').next().unwrap().to_owned();
        }
    };
    // The program goes on writing its log.
    std::thread::spawn(move || lines.for_each(drop));
    address
}

#[test]
fn the_probe_reports_whether_a_worker_is_alive_and_ready() {
    let database = database();
    let mut command = worker_program(&database, &["worker", "--health-address", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let address = address_of(&mut child);

    // It looks for jobs as soon as it has started.
    let (status, said) =
        std::iter::repeat_with(|| get(&address, "/live")).find(|(_, said)| said.ends_with("ago")).unwrap();
    assert!(status == 200 && said.starts_with("alive; fetched jobs: "), "{status} {said}");
    assert_eq!(get(&address, "/ready"), (200, "ready".to_owned()));
    assert_eq!(get(&address, "/jobs").0, 404);
    sql(&mut connect(&database), "ALTER TABLE procrastinate_jobs RENAME TO elsewhere");
    assert_eq!(get(&address, "/ready"), (503, "the queue's tables do not exist".to_owned()));
    assert_eq!(get(&address, "/live").0, 200);
    sql(&mut connect(&database), "ALTER TABLE elsewhere RENAME TO procrastinate_jobs");
    assert_eq!(get(&address, "/ready").0, 200);

    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{ended}");
}

#[test]
fn an_address_that_is_in_use_or_invalid_is_reported() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let database = database();
    let mut command = worker_program(&database, &["worker", "--one-shot"]);
    command.env("PROCRASTINATE_WORKER_HEALTH_ADDRESS", taken.local_addr().unwrap().to_string());
    assert!(run(command).with(1).contains("could not listen for health probes"));
    let said = run(worker_program(&database, &["worker", "--health-address", "8080"])).with(2);
    assert!(said.contains("127.0.0.1:8080"), "{said}");
}

#[test]
fn silent_connections_do_not_delay_the_responses_to_others() {
    let database = database();
    let mut command = worker_program(&database, &["worker", "--health-address", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let address = address_of(&mut child);
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert_eq!(get(&address, "/live").0, 200);
    assert_eq!(get(&address, "/ready").0, 200);
    // The worker handles signals before it fetches jobs.
    std::iter::repeat_with(|| get(&address, "/live")).find(|(_, said)| said.ends_with("ago")).unwrap();
    drop(silent);
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{ended}");
}
