//! `admin`: serves the admin pages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use super::{on, program, run};
use crate::support::database;

#[test]
fn it_serves_the_pages_to_this_machine() {
    let database = database();
    let mut command = on(&database, &["admin", "--address", "127.0.0.1:0", "--read-only"]);
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
    let mut taken = program(&["admin", "--address", "nowhere"]);
    taken.env("DATABASE_URL", database.url());
    assert!(run(taken).with(2).contains("nowhere"));
}
