//! Tests of the program, with its worker in the same process and in a separate one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::database;

#[test]
fn the_web_process_works_off_its_own_jobs() {
    let database = database();
    let mut both = Program::start(&[], database.url());
    let address = both.address();
    order_and_wait(&address);
    both.stop();
}

#[test]
fn a_second_process_works_off_the_jobs() {
    let database = database();
    // They start at the same time, on an empty database.
    let worker = Program::start(&["worker"], database.url());
    let mut web = Program::start(&["web"], database.url());
    let address = web.address();
    order_and_wait(&address);
    web.stop();
    worker.stop();
}

/// Places an order like a browser, and reloads its page until both of its jobs have succeeded.
fn order_and_wait(address: &str) {
    let form = "customer=Ada&email=ada%40example.org&amount_cents=500";
    let response = ask(
        address,
        &format!(
            "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    );
    assert!(response.contains("location: /orders/1\r\n"), "{response}");
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let page = ask(address, "GET /orders/1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
        if page.matches("<td>succeeded</td>").count() == 2 {
            return;
        }
        assert!(Instant::now() < patience, "the jobs did not succeed in time:\n{page}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

struct Program(Child);

impl Program {
    fn start(arguments: &[&str], database_url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
        command.args(arguments).env("DATABASE_URL", database_url).env("PORT", "0");
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Returns the address of the pages.
    fn address(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("no address in {line:?}")).to_owned()
    }

    /// Stops the program with a signal, and waits until it has ended successfully.
    fn stop(mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let ended = self.0.wait().unwrap();
        assert!(ended.success(), "the program ended with {ended}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
