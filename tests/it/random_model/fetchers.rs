//! Many connections that call the stored functions at the same time: no job is lost, fetched twice or fetched out of
//! order, and there is no error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Instant;

use diesel::prelude::*;
use procrastinate::{batch_defer_blocking, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use super::model::{NewJob, Schedule};
use super::{Random, connect};
use crate::support::{PATIENCE, database, rows, sql};

/// The two functions that fetch: the contract's, and the one that our workers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    FetchJob,
    FinishAndFetchJobs,
}

const FUNCTIONS: [Function; 2] = [Function::FetchJob, Function::FinishAndFetchJobs];

impl Function {
    /// Takes jobs of any queue, and returns their numbers and locks.
    fn fetch(self, connection: &mut PgConnection, worker: i64) -> Vec<(i64, String)> {
        let function = match self {
            Self::FetchJob => format!("procrastinate_fetch_job_v2(NULL, {worker})"),
            Self::FinishAndFetchJobs => {
                format!("procrastinate_diesel_finish_and_fetch_jobs_v1({worker}, '{{}}', '{{}}', NULL, 3)")
            }
        };
        let taken = rows(connection, &format!("SELECT id, lock FROM {function} WHERE id IS NOT NULL ORDER BY id"));
        taken
            .iter()
            .map(|row| row.split_once(" | ").unwrap())
            .map(|(id, lock)| (id.parse().unwrap(), lock.into()))
            .collect()
    }

    fn finish(self, connection: &mut PgConnection, worker: i64, id: i64) {
        match self {
            Self::FetchJob => sql(connection, &format!("SELECT procrastinate_finish_job_v1({id}, 'succeeded', false)")),
            Self::FinishAndFetchJobs => {
                let arguments = format!("{worker}, '{{{id}}}', '{{succeeded}}', NULL, 0");
                let function = format!("procrastinate_diesel_finish_and_fetch_jobs_v1({arguments})");
                assert_eq!(rows(connection, &format!("SELECT id FROM {function}")), [""; 0], "job {id} was lost");
            }
        }
    }
}

fn register(connection: &mut PgConnection) -> i64 {
    rows(connection, "SELECT * FROM procrastinate_register_worker_v1()")[0].parse().unwrap()
}

fn defer(connection: &mut PgConnection, lock: &str, priority: i32) -> i64 {
    let job = configure_task("race", json!({})).lock(lock).priority(priority);
    job.defer_blocking(connection).unwrap().into()
}

/// Where a fetcher stops on its way: between its look at the table and its update of this job. It goes on when the gate
/// opens.
struct Gate {
    keeper: PgConnection,
    id: i64,
}

impl Gate {
    fn before(database: &Database, id: i64) -> Self {
        let mut keeper = connect(database);
        sql(
            &mut keeper,
            &format!(
                "SELECT pg_advisory_lock({id});
                 CREATE OR REPLACE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_advisory_xact_lock_shared(NEW.id); RETURN NEW; END';
                 CREATE TRIGGER gate_{id} BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
                    WHEN (NEW.id = {id} AND NEW.status = 'doing') EXECUTE FUNCTION wait_at_the_gate();"
            ),
        );
        Self { keeper, id }
    }

    /// Waits until a fetcher has come here.
    fn until_reached(&mut self) {
        self.until_somebody_waits(&format!("locktype = 'advisory' AND objid = {}", self.id));
    }

    /// Waits until a fetcher waits for another one's transaction.
    fn until_another_waits(&mut self) {
        self.until_somebody_waits("locktype = 'transactionid'");
    }

    fn until_somebody_waits(&mut self, lock: &str) {
        let waiting = format!(
            "SELECT pid FROM pg_locks WHERE NOT granted AND {lock} \
             AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
        );
        let deadline = Instant::now() + PATIENCE;
        while rows(&mut self.keeper, &waiting).is_empty() {
            assert!(Instant::now() < deadline, "nobody waits for a lock with {lock}");
            std::thread::yield_now();
        }
    }

    fn open(&mut self) {
        sql(&mut self.keeper, &format!("SELECT pg_advisory_unlock({})", self.id));
    }
}

#[test]
fn a_fetch_that_loses_a_lock_takes_the_next_job_instead() {
    for first in FUNCTIONS {
        for second in FUNCTIONS {
            let database = database();
            let mut connection = connect(&database);
            let worker = register(&mut connection);
            let behind = defer(&mut connection, "L", 0);
            let mut gate = Gate::before(&database, behind);
            std::thread::scope(|scope| {
                let overtaken = scope.spawn(|| first.fetch(&mut connect(&database), worker));
                gate.until_reached();
                let ahead = defer(&mut connection, "L", 1);
                assert_eq!(second.fetch(&mut connection, worker), [(ahead, "L".to_owned())]);
                let other = defer(&mut connection, "M", 0);
                gate.open();
                let taken = overtaken.join().unwrap();
                assert_eq!(taken, [(other, "M".to_owned())], "{first:?} overtaken by {second:?}");
                second.finish(&mut connection, worker, ahead);
                assert_eq!(first.fetch(&mut connection, worker), [(behind, "L".to_owned())]);
            });
        }
    }
}

#[test]
fn a_fetch_that_searches_again_returns_nothing_of_its_first_search() {
    let database = database();
    let mut connection = connect(&database);
    let worker = register(&mut connection);
    let early = defer(&mut connection, "L", 0);
    let behind = defer(&mut connection, "M", 0);
    let mut gate = Gate::before(&database, behind);
    std::thread::scope(|scope| {
        let overtaken = scope.spawn(|| Function::FinishAndFetchJobs.fetch(&mut connect(&database), worker));
        gate.until_reached();
        // It has updated one job already when it is overtaken at the other one's lock.
        let ahead = defer(&mut connection, "M", 1);
        assert_eq!(Function::FetchJob.fetch(&mut connection, worker), [(ahead, "M".to_owned())]);
        gate.open();
        assert_eq!(overtaken.join().unwrap(), [(early, "L".to_owned())]);
    });
}

#[test]
fn fetches_that_take_the_same_locks_in_the_opposite_order_do_not_deadlock() {
    let database = database();
    let mut connection = connect(&database);
    let worker = register(&mut connection);
    let behind = [defer(&mut connection, "L", 0), defer(&mut connection, "M", 0)];
    // The first one has L, and is about to take M.
    let mut gate = Gate::before(&database, behind[1]);
    std::thread::scope(|scope| {
        let fetch = || Function::FinishAndFetchJobs.fetch(&mut connect(&database), worker);
        let first = scope.spawn(fetch);
        gate.until_reached();
        // The second one takes M, and has to wait for what becomes of L.
        let ahead = [defer(&mut connection, "M", 1), defer(&mut connection, "L", 1)];
        let second = scope.spawn(fetch);
        gate.until_another_waits();
        gate.open();

        let taken = [first.join().unwrap(), second.join().unwrap()].concat();
        let locks: BTreeSet<&str> = taken.iter().map(|(_, lock)| lock.as_str()).collect();
        assert_eq!((taken.len(), locks.len()), (2, 2), "of {behind:?} and {ahead:?} they took {taken:?}");
    });
}

#[test]
fn a_fetch_that_searches_again_does_not_wait_for_one_that_waits_for_it() {
    let database = database();
    let mut connection = connect(&database);
    let worker = register(&mut connection);
    let first_of_k = defer(&mut connection, "K", 0);
    let first_of_m = defer(&mut connection, "M", 0);
    let behind = defer(&mut connection, "N", 0);
    let mut first_gate = Gate::before(&database, first_of_k);
    let mut gate = Gate::before(&database, behind);
    std::thread::scope(|scope| {
        let fetch = || Function::FinishAndFetchJobs.fetch(&mut connect(&database), worker);
        // The first one is overtaken at K. From then on it starts one job at a time: it has M, and is overtaken at N.
        let first = scope.spawn(fetch);
        first_gate.until_reached();
        let ahead = defer(&mut connection, "K", 1);
        assert_eq!(Function::FetchJob.fetch(&mut connection, worker), [(ahead, "K".to_owned())]);
        first_gate.open();
        gate.until_reached();
        let ahead = defer(&mut connection, "N", 1);
        assert_eq!(Function::FetchJob.fetch(&mut connection, worker), [(ahead, "N".to_owned())]);
        // The second one has L, and waits for what becomes of M.
        defer(&mut connection, "L", 1);
        defer(&mut connection, "M", 1);
        let second = scope.spawn(fetch);
        gate.until_another_waits();
        // This is what the first one finds when it searches again, and the second one then, too.
        let first_of_l = defer(&mut connection, "L", 2);
        gate.open();
        assert_eq!(first.join().unwrap(), [(first_of_m, "M".to_owned())]);
        assert_eq!(second.join().unwrap(), [(first_of_l, "L".to_owned())]);
    });
}

/// How many threads of a crowd defer.
const DEFERRERS: usize = 2;

/// What a crowd of fetchers does, seen from outside.
#[derive(Debug, Default)]
struct Log {
    /// Which job of each lock is running.
    running: Mutex<BTreeMap<String, i64>>,
    done: Mutex<BTreeSet<i64>>,
}

impl Log {
    fn started(&self, id: i64, lock: &str) {
        let other = (lock != "NULL").then(|| self.running.lock().unwrap().insert(lock.to_owned(), id)).flatten();
        assert_eq!(other, None, "it runs, and so does {id}, under the lock {lock}");
    }

    fn ended(&self, id: i64, lock: &str) {
        self.running.lock().unwrap().remove(lock);
        assert!(self.done.lock().unwrap().insert(id), "job {id} ran twice");
    }

    fn done(&self) -> usize {
        self.done.lock().unwrap().len()
    }
}

#[test]
fn many_concurrent_fetches_run_each_job_once_and_one_of_a_lock_at_a_time() {
    const JOBS_EACH: usize = 100;
    for mut random in Random::each(0..2) {
        let database = database();
        let mut connection = connect(&database);
        slow_down_updates(&mut connection);
        let log = Log::default();
        std::thread::scope(|scope| {
            let (database, log) = (&database, &log);
            for function in [FUNCTIONS, FUNCTIONS].concat() {
                scope.spawn(move || fetch_and_finish(database, function, log, DEFERRERS * JOBS_EACH));
            }
            for _ in 0..DEFERRERS {
                let random = random.fork();
                scope.spawn(move || defer_under_hot_locks(database, random, log, JOBS_EACH));
            }
        });

        let jobs = "SELECT status, attempts, count(*) FROM procrastinate_jobs GROUP BY status, attempts";
        assert_eq!(rows(&mut connection, jobs), [format!("succeeded | 1 | {}", DEFERRERS * JOBS_EACH)]);
        let events = "SELECT history, count(*) FROM (SELECT string_agg(type::text, ' ' ORDER BY id) AS history \
                      FROM procrastinate_events GROUP BY job_id) AS histories GROUP BY history";
        assert_eq!(rows(&mut connection, events), [format!("deferred started succeeded | {}", DEFERRERS * JOBS_EACH)]);
    }
}

/// Makes the time long in which a fetcher can be overtaken: between its look at the table and its update.
fn slow_down_updates(connection: &mut PgConnection) {
    sql(
        connection,
        "CREATE FUNCTION take_your_time() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(random() * 0.01); RETURN NEW; END';
         CREATE TRIGGER slow BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
            WHEN (NEW.status = 'doing') EXECUTE FUNCTION take_your_time();",
    );
}

fn fetch_and_finish(database: &Database, function: Function, log: &Log, jobs: usize) {
    let mut connection = connect(database);
    let worker = register(&mut connection);
    let deadline = Instant::now() + PATIENCE;
    while log.done() < jobs {
        assert!(Instant::now() < deadline, "only {} of {jobs} jobs ran", log.done());
        let taken = function.fetch(&mut connection, worker);
        for (id, lock) in &taken {
            log.started(*id, lock);
        }
        for (id, lock) in &taken {
            log.ended(*id, lock);
            function.finish(&mut connection, worker, *id);
        }
    }
}

/// Jobs come in as fast as others go, so that there is somebody to be overtaken all the time.
fn defer_under_hot_locks(database: &Database, mut random: Random, log: &Log, jobs: usize) {
    const WAITING: usize = 5;
    let mut connection = connect(database);
    let mut left = jobs;
    while left > 0 {
        if jobs - left > log.done() / DEFERRERS + WAITING {
            std::thread::yield_now();
            continue;
        }
        let batch = left.min(1 + random.below(4));
        let batch = (0..batch).map(|_| NewJob {
            priority: i32::try_from(jobs - left + random.below(10)).unwrap(),
            lock: (!random.once_in(5)).then(|| random.pick(&["L", "M", "N"])),
            queueing_lock: None,
            schedule: Schedule::AtOnce,
            ..NewJob::any(&mut random)
        });
        let batch: Vec<_> = batch.map(|job| job.to_defer("crowd")).collect();
        left -= batch_defer_blocking(batch, &mut connection).unwrap().len();
    }
}
