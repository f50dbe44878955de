//! Random statements in random transactions, alone and at the same time.
//!
//! While one transaction is alone, each result and all tables must be those of the model. Of transactions that were open
//! at the same time, only what [`history`](super::history) says is checked.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use proptest::test_runner::TestCaseError;
use throwaway_postgres::Database;

use super::calls::{Call, Failure};
use super::choices::{calls, calls_of_contract, fetches};
use super::history::{self, Claims};
use super::model::{Functions, Model};
use super::sessions::{Answer, Command, Monitor, Session};
use super::tables::lines;
use crate::cases::{SEED, check};
use crate::support::{database, rows, sql, superuser};

const TABLES: &str = "procrastinate_jobs, procrastinate_workers, procrastinate_events, procrastinate_periodic_defers, \
                      procrastinate_diesel_job_errors";

/// What one of the sessions does next.
#[derive(Debug, Clone)]
enum Step {
    Begin { session: usize, isolation: &'static str },
    Commit { session: usize },
    Rollback { session: usize },
    Call { session: usize, call: Call },
}

/// Steps with the statements of one of these kinds.
fn steps(sessions: usize, calls: Vec<BoxedStrategy<Call>>) -> impl Strategy<Value = Vec<Step>> {
    Union::new(calls.into_iter().map(|call| steps_with(sessions, call)))
}

fn steps_with(sessions: usize, call: BoxedStrategy<Call>) -> impl Strategy<Value = Vec<Step>> {
    let session = 0..sessions;
    let isolation = select(vec!["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]);
    let step = prop_oneof![
        2 => (session.clone(), isolation).prop_map(|(session, isolation)| Step::Begin { session, isolation }),
        3 => session.clone().prop_map(|session| Step::Commit { session }),
        1 => session.clone().prop_map(|session| Step::Rollback { session }),
        16 => (session, call).prop_map(|(session, call)| Step::Call { session, call }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a session is in the middle of.
#[derive(Debug, Default)]
struct State {
    /// Whether `BEGIN` was sent, and not yet `COMMIT` or `ROLLBACK`.
    in_transaction: bool,
    has_failed: bool,
    /// The statement that waits for another session.
    waiting: Option<Command>,
    /// What has succeeded in the transaction.
    done: Vec<(Call, Vec<String>)>,
}

impl State {
    fn is_open(&self) -> bool {
        self.in_transaction || self.waiting.is_some()
    }
}

/// What is known of the database.
#[derive(Debug)]
enum Knowledge {
    /// There is no open transaction.
    Quiet,
    /// This session is alone in its transaction, and sees this.
    Alone(usize, Model),
    /// Transactions run at the same time, and committed statements have reported this.
    Mixed(Claims),
}

/// Sessions on one database, which is emptied for each case.
pub struct Stage {
    sessions: Vec<Session>,
    processes: Vec<String>,
    monitor: Monitor,
    functions: Functions,
    /// How many fetches that do nothing else have waited for another session.
    waiting_fetches: usize,
}

impl Stage {
    pub fn new(database: &Database, functions: Functions, sessions: usize) -> Self {
        let sessions: Vec<Session> = (0..sessions).map(|_| Session::start(database)).collect();
        let processes = sessions.iter().map(|session| session.process.clone()).collect();
        Self { sessions, processes, monitor: Monitor::new(database), functions, waiting_fetches: 0 }
    }

    /// Takes the steps. The error is what was wrong, with the statements up to there.
    fn play(&mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        sql(&mut self.monitor.0, &format!("TRUNCATE {TABLES} RESTART IDENTITY CASCADE"));
        let mut play = Play::begin(self);
        let result = steps.into_iter().try_for_each(|step| play.take(step)).and_then(|()| play.end());
        result.map_err(|problem| {
            play.abandon();
            TestCaseError::fail(format!(
                "{problem}\nafter these statements, each with its session:\n{}",
                play.log.join("\n")
            ))
        })
    }
}

struct Play<'a> {
    stage: &'a mut Stage,
    states: Vec<State>,
    /// The state of the database without open transactions.
    base: Model,
    knowledge: Knowledge,
    jobs: BTreeSet<i64>,
    workers: BTreeSet<i64>,
    log: Vec<String>,
}

impl<'a> Play<'a> {
    fn begin(stage: &'a mut Stage) -> Self {
        for _ in 0..3 {
            rows(&mut stage.monitor.0, "SELECT * FROM procrastinate_register_worker_v1()");
        }
        let base = Model::of_lines(stage.functions, &lines(&mut stage.monitor.0));
        let workers = base.workers.keys().copied().collect();
        let states = stage.sessions.iter().map(|_| State::default()).collect();
        Self { stage, states, base, knowledge: Knowledge::Quiet, jobs: BTreeSet::new(), workers, log: Vec::new() }
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        let (Step::Begin { session, .. }
        | Step::Commit { session }
        | Step::Rollback { session }
        | Step::Call { session, .. }) = step;
        let state = &self.states[session];
        if state.waiting.is_some() {
            return Ok(());
        }
        let command = match step {
            Step::Begin { isolation, .. } if !state.in_transaction => format!("BEGIN ISOLATION LEVEL {isolation}"),
            Step::Commit { .. } if state.in_transaction => "COMMIT".to_owned(),
            Step::Rollback { .. } if state.in_transaction => "ROLLBACK".to_owned(),
            Step::Call { mut call, .. } if !state.has_failed => {
                call.choose(&self.view(session), &self.jobs, &self.workers);
                return self.run(session, Command::Call(Box::new(call)));
            }
            _ => return Ok(()),
        };
        self.run(session, Command::Transaction(command))
    }

    /// What the session sees, or nearly so.
    fn view(&mut self, session: usize) -> Model {
        match &self.knowledge {
            Knowledge::Alone(alone, model) if *alone == session => model.clone(),
            Knowledge::Mixed(_) => Model::of_lines(self.base.functions, &lines(&mut self.stage.monitor.0)),
            _ => self.base.clone(),
        }
    }

    fn run(&mut self, session: usize, command: Command) -> Result<(), String> {
        let others = self.states.iter().enumerate().any(|(other, state)| other != session && state.is_open());
        if others && !matches!(self.knowledge, Knowledge::Mixed(_)) {
            self.knowledge = Knowledge::Mixed(Claims::default());
        }
        let text = match &command {
            Command::Transaction(statement) => statement.clone(),
            Command::Call(call) => call.sql(),
        };
        self.log.push(format!("{session}: {text};"));
        self.stage.sessions[session].send(command.clone());
        match self.stage.monitor.wait(&self.stage.sessions[session], &self.stage.processes) {
            Some(answer) => self.answered(session, command, answer)?,
            None => self.wait(session, command)?,
        }
        self.wake()
    }

    fn wait(&mut self, session: usize, command: Command) -> Result<(), String> {
        self.log.push(format!("   -- {session} waits"));
        if let Command::Call(call) = &command
            && matches!(&**call, Call::FinishAndFetch { outcomes, .. } if outcomes.is_empty())
        {
            self.stage.waiting_fetches += 1;
        }
        self.states[session].waiting = Some(command);
        match self.knowledge {
            Knowledge::Mixed(_) => Ok(()),
            _ => Err("a statement waits although no other transaction is open".to_owned()),
        }
    }

    /// Receives the answers of sessions that do not wait any more.
    fn wake(&mut self) -> Result<(), String> {
        for session in 0..self.states.len() {
            if self.states[session].waiting.is_none() {
                continue;
            }
            if let Some(answer) = self.stage.monitor.wait(&self.stage.sessions[session], &self.stage.processes) {
                let command = self.states[session].waiting.take().unwrap();
                self.answered(session, command, answer)?;
            }
        }
        if matches!(self.knowledge, Knowledge::Mixed(_)) && !self.states.iter().any(State::is_open) {
            self.settle()?;
        }
        Ok(())
    }

    fn answered(&mut self, session: usize, command: Command, answer: Answer) -> Result<(), String> {
        match &answer {
            Ok(found) => self.log.push(format!("   -- {session} returned {found:?}")),
            Err(Failure(text)) => {
                self.log.push(format!("   -- {session} failed: {}", text.lines().next().unwrap_or_default()));
            }
        }
        match command {
            Command::Transaction(statement) => self.transaction_answered(session, &statement, answer),
            Command::Call(call) => self.call_answered(session, *call, answer),
        }
    }

    fn transaction_answered(&mut self, session: usize, statement: &str, answer: Answer) -> Result<(), String> {
        let state = &mut self.states[session];
        if statement.starts_with("BEGIN") {
            state.in_transaction = true;
            if matches!(self.knowledge, Knowledge::Quiet) {
                self.knowledge = Knowledge::Alone(session, self.base.clone());
            }
            return answer.map(drop).map_err(|Failure(error)| error);
        }
        let state = std::mem::take(state);
        let is_committed = statement == "COMMIT" && !state.has_failed && answer.is_ok();
        match (std::mem::replace(&mut self.knowledge, Knowledge::Quiet), answer) {
            (Knowledge::Mixed(_), Err(failure)) if !failure.is_of_concurrency() => return Err(failure.0),
            (Knowledge::Mixed(mut claims), _) => {
                for (call, found) in state.done.iter().filter(|_| is_committed) {
                    claims.add(call, found);
                }
                self.knowledge = Knowledge::Mixed(claims);
            }
            (_, Err(failure)) => return Err(format!("a transaction that was alone failed: {}", failure.0)),
            (Knowledge::Alone(_, model), Ok(_)) if is_committed => {
                self.base = model;
                self.compare_tables()?;
            }
            _ => self.compare_tables()?,
        }
        Ok(())
    }

    /// Without open transactions.
    fn compare_tables(&mut self) -> Result<(), String> {
        compare(&lines(&mut self.stage.monitor.0), &self.base.lines())
    }

    fn call_answered(&mut self, session: usize, call: Call, answer: Answer) -> Result<(), String> {
        let ids = answer.iter().flatten().filter_map(|row| row.split(' ').next().and_then(|id| id.parse::<i64>().ok()));
        match call {
            Call::Defer(_)
            | Call::DeferJobs(..)
            | Call::DeferEach(_)
            | Call::DeferOrReplace(..)
            | Call::Tick { .. } => self.jobs.extend(ids),
            Call::Register | Call::DrawId => self.workers.extend(ids),
            _ => {}
        }
        let state = &mut self.states[session];
        state.has_failed = state.in_transaction && answer.is_err();
        match &mut self.knowledge {
            Knowledge::Mixed(claims) => match answer {
                Ok(found) => {
                    if state.in_transaction {
                        state.done.push((call, found));
                    } else {
                        claims.add(&call, &found);
                    }
                    Ok(())
                }
                Err(failure) if failure.is_of_concurrency() || is_refusal(&failure) => Ok(()),
                Err(failure) => Err(failure.0),
            },
            Knowledge::Alone(_, model) => {
                let result = expect(model, &call, &answer);
                if let Ok(found) = answer {
                    state.done.push((call, found));
                }
                result
            }
            Knowledge::Quiet => {
                expect(&mut self.base, &call, &answer)?;
                self.compare_tables()
            }
        }
    }

    /// No transaction is open any more.
    fn settle(&mut self) -> Result<(), String> {
        let after = Model::of_lines(self.base.functions, &lines(&mut self.stage.monitor.0));
        if let Knowledge::Mixed(claims) = std::mem::replace(&mut self.knowledge, Knowledge::Quiet) {
            history::check(&self.base, &after, &claims)?;
        }
        self.base = after;
        Ok(())
    }

    /// Commits what is open.
    fn end(&mut self) -> Result<(), String> {
        while let Some(session) = self.states.iter().position(|state| state.in_transaction && state.waiting.is_none()) {
            self.run(session, Command::Transaction("COMMIT".to_owned()))?;
        }
        assert!(!self.states.iter().any(State::is_open), "sessions wait for nobody");
        Ok(())
    }

    /// Rolls back what is open, so that the next case finds the sessions idle.
    fn abandon(&mut self) {
        for round in 0..=self.states.len() {
            for (session, state) in self.stage.sessions.iter().zip(&mut self.states) {
                if state.waiting.is_some() && self.stage.monitor.wait(session, &self.stage.processes).is_some() {
                    state.waiting = None;
                }
                if state.waiting.is_none() && (state.in_transaction || round == 0) {
                    session.send(Command::Transaction("ROLLBACK".to_owned()));
                    self.stage.monitor.wait(session, &self.stage.processes);
                    state.in_transaction = false;
                }
            }
        }
    }
}

/// Whether a function has raised as the contract says.
fn is_refusal(failure: &Failure) -> bool {
    let reasons = [
        "Job was not found",
        "End status should be",
        "jobs_queueing_lock_idx_v1",
        "check_not_todo_abort_requested",
        "procrastinate_jobs_worker_id_fkey",
        "is not registered",
    ];
    reasons.iter().any(|reason| failure.0.contains(reason))
}

/// Compares an answer with that of the model.
fn expect(model: &mut Model, call: &Call, answer: &Answer) -> Result<(), String> {
    let mut next = model.clone();
    let expected = next.expect(call, answer.as_deref().unwrap_or_default());
    match (answer, expected) {
        (Ok(found), Ok(mut expected)) => {
            *model = next;
            let mut found = found.clone();
            found.sort();
            expected.sort();
            if found == expected { Ok(()) } else { Err(format!("it should have returned {expected:?}")) }
        }
        (Err(failure), Err(_)) if is_refusal(failure) => Ok(()),
        (Err(failure), _) => Err(failure.0.clone()),
        (Ok(_), Err(_)) => Err("it should have been refused".to_owned()),
    }
}

/// Compares the tables with those of the model, and tells which rows differ.
fn compare(found: &[String], expected: &[String]) -> Result<(), String> {
    let without = |rows: &[String], others: &[String]| -> Vec<String> {
        rows.iter().filter(|row| !others.contains(row)).cloned().collect()
    };
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (without(found, expected), without(expected, found));
    Err(format!("the tables have\n  {}\nand should have\n  {}", found.join("\n  "), expected.join("\n  ")))
}

#[test]
fn the_database_does_what_the_model_does() {
    play_alone(&database(), Functions::Ours, 40);
}

/// Plays so many cases with one session, which is always alone.
pub fn play_alone(database: &Database, functions: Functions, cases: u64) {
    let calls = if functions == Functions::Ours { calls() } else { calls_of_contract() };
    let mut stage = Stage::new(database, functions, 1);
    check(cases, &steps(1, calls), |steps| stage.play(steps));
}

#[test]
fn transactions_at_the_same_time_break_no_rule() {
    play_together(60, calls());
}

#[test]
fn fetches_that_wait_for_each_other_break_no_rule() {
    let waiting_fetches = play_together(75, fetches());
    // One case alone may have none.
    assert!(waiting_fetches >= 10 || std::env::var(SEED).is_ok(), "only {waiting_fetches} fetches have waited");
}

/// Plays so many cases with three sessions, and returns the number of fetches that have waited.
fn play_together(cases: u64, calls: Vec<BoxedStrategy<Call>>) -> usize {
    let database = database();
    // A setting that only a superuser can make: circles are found soon.
    let name = database.name();
    sql(&mut superuser(&database), &format!("ALTER DATABASE \"{name}\" SET deadlock_timeout = '10ms'"));
    let mut stage = Stage::new(&database, Functions::Ours, 3);
    check(cases, &steps(3, calls), |steps| stage.play(steps));
    stage.waiting_fetches
}
