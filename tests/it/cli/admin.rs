//! `admin`: serves the admin pages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use super::{on, program, run};
use throwaway_postgres::Database;

use crate::support::database;

#[test]
fn it_serves_the_pages_to_this_machine() {
    let database = database();
    for address in ["127.0.0.1:0", "localhost:0"] {
        serves(&database, address);
    }
}

/// Starts the pages at this address, and opens the first one.
fn serves(database: &Database, address: &str) {
    let mut command = on(database, &["admin", "--address", address, "--read-only"]);
    let mut serving = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serving.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    serving.kill().unwrap();
    serving.wait().unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("There are no jobs yet"), "{page}");
}

#[test]
fn pages_for_other_machines_need_a_password() {
    let database = database();
    let refused = run(on(&database, &["admin", "--address", "0.0.0.0:0"])).with(2);
    assert!(refused.contains("0.0.0.0:0") && refused.contains("PROCRASTINATE_ADMIN_PASSWORD"), "{refused}");
    let mut command = on(&database, &["admin", "--address", "0.0.0.0:0"]);
    command.env("PROCRASTINATE_ADMIN_PASSWORD", "");
    assert!(run(command).with(2).contains("is empty"));
    for (address, status, text) in [
        ("nowhere", 2, "must be a host and a port"),
        (":8080", 2, "must be a host and a port"),
        ("localhost:99999", 2, "must be a host and a port"),
        ("nowhere.invalid:0", 1, "could not find the address of nowhere.invalid:0"),
    ] {
        let mut wrong = program(&["admin", "--address", address]);
        wrong.env("DATABASE_URL", database.url());
        let said = run(wrong).with(status);
        assert!(said.contains(text), "{address}: {said}");
    }
}
