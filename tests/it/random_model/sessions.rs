//! Connections whose statements may wait for each other.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use throwaway_postgres::Database;

use super::calls::{Call, Failure};
use crate::support::{PATIENCE, connect, rows, sql};

pub type Answer = Result<Vec<String>, Failure>;

/// What a session is asked to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// `BEGIN`, `COMMIT` or `ROLLBACK`.
    Transaction(String),
    Call(Box<Call>),
}

/// A connection on a thread of its own.
pub struct Session {
    commands: Option<Sender<Command>>,
    answers: Receiver<Answer>,
    pub process: String,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    pub fn start(database: &Database) -> Self {
        let mut connection = connect(database);
        let process = rows(&mut connection, "SELECT pg_backend_pid()").remove(0);
        let (commands, received) = channel();
        let (send, answers) = channel();
        let thread = std::thread::spawn(move || {
            for command in received {
                if send.send(run(&mut connection, &command)).is_err() {
                    break;
                }
            }
        });
        Self { commands: Some(commands), answers, process, thread: Some(thread) }
    }

    pub fn send(&self, command: Command) {
        self.commands.as_ref().unwrap().send(command).unwrap();
    }

    /// The answer, if it comes within this time.
    fn answer_within(&self, time: Duration) -> Option<Answer> {
        match self.answers.recv_timeout(time) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("a session has panicked"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.commands = None;
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn run(connection: &mut PgConnection, command: &Command) -> Answer {
    match command {
        Command::Transaction(statement) => {
            connection.batch_execute(statement).map(|()| Vec::new()).map_err(|error| Failure(error.to_string()))
        }
        Command::Call(call) => call.run(connection),
    }
}

/// Tells which sessions wait for others.
pub struct Monitor(pub PgConnection);

impl Monitor {
    pub fn new(database: &Database) -> Self {
        let mut connection = connect(database);
        sql(&mut connection, "SET jit = off");
        Self(connection)
    }

    /// Waits for the answer of a session; `None` if it waits for a session that can still go on. `processes` are those of
    /// all sessions.
    pub fn wait(&mut self, session: &Session, processes: &[String]) -> Option<Answer> {
        let deadline = Instant::now() + PATIENCE;
        let mut time = Duration::from_millis(5);
        loop {
            if let Some(answer) = session.answer_within(time) {
                return Some(answer);
            }
            time = Duration::from_millis(2);
            if self.is_blocked(&session.process, processes) {
                return session.answer_within(Duration::ZERO);
            }
            assert!(Instant::now() < deadline, "a statement does not end");
        }
    }

    /// Whether a session waits for another one that does not wait. In a circle, the server ends one of them soon.
    fn is_blocked(&mut self, process: &str, processes: &[String]) -> bool {
        let query = format!(
            "SELECT pid, pg_blocking_pids(pid) AS blockers FROM unnest('{{{}}}'::integer[]) AS pid",
            processes.join(",")
        );
        let waits: Vec<(String, Vec<String>)> = rows(&mut self.0, &query)
            .iter()
            .map(|row| row.split_once(" | ").unwrap())
            .map(|(pid, blockers)| {
                let blockers = blockers.trim_matches(['[', ']']).split(',').filter(|pid| !pid.is_empty());
                (pid.to_owned(), blockers.map(|pid| pid.trim().to_owned()).collect())
            })
            .collect();
        let blockers =
            |of: &str| waits.iter().find(|(pid, _)| pid == of).map(|(_, pids)| pids.as_slice()).unwrap_or_default();
        let mut seen = vec![process.to_owned()];
        let mut place = 0;
        while let Some(current) = seen.get(place).cloned() {
            for blocker in blockers(&current) {
                if blockers(blocker).is_empty() && processes.contains(blocker) {
                    return true;
                }
                if !seen.contains(blocker) {
                    seen.push(blocker.clone());
                }
            }
            place += 1;
        }
        false
    }
}
