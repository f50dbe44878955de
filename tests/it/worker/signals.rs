//! Signals, sent to a worker in a process of its own: this binary again, asked for the test [`be_a_worker`] alone.

use std::env;
use std::io::{BufRead, BufReader, Read, stdin};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use procrastinate::{App, JobContext, JobStatus, task};
use tokio::sync::watch;

use crate::support::{connect, database, errors, eventually, job, rows};

/// The database that a process is to be a worker on.
const DATABASE: &str = "PROCRASTINATE_TEST_SIGNALLED_WORKER_DATABASE";

/// What the task writes when it runs. Before, a job that was fetched can be returned without an error.
const RUNS: &str = "the task runs";

/// Ends when the test has said the word.
#[task(retry = true, pass_context)]
async fn wait_for_word(context: JobContext) {
    println!("{RUNS}");
    let mut word: watch::Receiver<bool> = context.state::<watch::Receiver<bool>>().unwrap().clone();
    word.wait_for(|word| *word).await.unwrap();
}

/// Does nothing, unless this process was started to be a worker.
#[test]
fn be_a_worker() {
    let Ok(database_url) = env::var(DATABASE) else {
        println!("this is a test only in a process that another test starts");
        return;
    };
    // The other process says the word, and by its end that this one is to end too.
    let (say, word) = watch::channel(false);
    std::thread::spawn(move || {
        let mut said = [0];
        while stdin().read(&mut said).is_ok_and(|bytes| bytes > 0) {
            say.send_replace(true);
        }
        std::process::exit(1);
    });
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let manager = diesel_async::pooled_connection::AsyncDieselConnectionManager::new(database_url);
        let pool = diesel_async::pooled_connection::bb8::Pool::builder().max_size(5).build(manager).await.unwrap();
        let connector = procrastinate::DieselConnector::new(pool);
        let app = App::builder(connector).state(word).task::<wait_for_word>().build().unwrap();
        app.worker().run().await.unwrap();
    });
    // Not as this binary's own runner would end it: it waits for threads.
    std::process::exit(0);
}

/// A worker in a process of its own, which ends with this value, and what it writes.
struct Process(Child, BufReader<ChildStdout>);

impl Process {
    fn start(database_url: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["worker::signals::be_a_worker", "--exact", "--nocapture"]).env(DATABASE, database_url);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let written = BufReader::new(child.stdout.take().unwrap());
        Self(child, written)
    }

    /// Waits until the task runs.
    fn runs(&mut self) {
        let mut lines = self.1.by_ref().lines();
        assert!(lines.any(|line| line.unwrap().contains(RUNS)), "the process ended before");
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn say_the_word(&mut self) {
        std::io::Write::write_all(self.0.stdin.as_mut().unwrap(), b"!").unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process has ended", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_signal_stops_the_worker_after_its_job_and_a_second_one_aborts_the_job() {
    for (first, second, end) in [
        ("-TERM", None, JobStatus::Succeeded),
        ("-INT", None, JobStatus::Succeeded),
        ("-TERM", Some("-INT"), JobStatus::Todo),
        ("-INT", Some("-TERM"), JobStatus::Todo),
    ] {
        let database = database();
        let mut connection = connect(&database);
        let id = wait_for_word().defer_blocking(&mut connection).unwrap();
        let mut process = Process::start(database.url());
        process.runs();
        assert_eq!(job(&mut connection, id).status, JobStatus::Doing);
        process.send(first);
        match second {
            Some(second) => process.send(second),
            None => {
                // It goes on, also for a while: nothing but the job's end lets it end.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                assert_eq!(process.0.try_wait().unwrap(), None);
                process.say_the_word();
            }
        }
        assert!(process.ended().await.success());
        assert_eq!(job(&mut connection, id).status, end, "{first} {second:?}");
        let expected: &[&str] =
            if second.is_some() { &["1: the worker was shut down before the task finished"] } else { &[] };
        assert_eq!(errors(&mut connection, id), expected);
        assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_workers"), ["0"]);
    }
}
