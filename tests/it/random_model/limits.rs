//! Many connections that fetch jobs under a limit at the same time, by the contract's function and by the crate's. Some
//! of them die on the way. The limit is never exceeded, and no job is left behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use diesel::PgConnection;
use throwaway_postgres::Database;

use super::{Random, connect};
use crate::support::{PATIENCE, database, rows, sql, try_rows};

/// How many connections fetch by each of the two functions.
const FETCHERS_EACH: usize = 8;

#[test]
fn a_limit_is_never_exceeded_whoever_fetches_and_dies() {
    for (seed, most) in [1, 3, 50].into_iter().enumerate() {
        for random in Random::each(seed as u64..seed as u64 + 1) {
            let limits = [of_all("queue", "limited", most)];
            let highest = run(random, number_of_jobs(most == 1), &limits, |_, _| ());
            // A moment with exactly so many can be missed.
            assert!(highest[0] > most / 2, "the limit was never nearly reached: {highest:?} of {most}");
        }
    }
}

#[test]
fn several_limits_hold_at_once_while_pauses_come_and_go() {
    for random in Random::each(10..11) {
        let limits = [of_all("queue", "limited", 6), of_all("task", "a", 4), of_all("task", "b", 2)];
        run(random, number_of_jobs(true), &limits, |connection, random| {
            let target = random.pick(&["'queue', 'limited'", "'queue', 'free'", "'task', 'a'", "'task', 'c'"]);
            let call = random.pick(&["resume", "resume", "pause"]);
            rows(connection, &format!("SELECT procrastinate_diesel_{call}_v1({target})"));
            // Another limit comes and goes.
            let most = random.pick(&["NULL, NULL, NULL", "5, 1000, 0.01"]);
            rows(connection, &format!("SELECT procrastinate_diesel_set_limit_v1('task', 'c', {most})"));
        });
    }
}

#[test]
fn the_limit_of_each_key_is_never_exceeded() {
    for (seed, most) in [(20, 1), (21, 3)] {
        for random in Random::each(seed..seed + 1) {
            let limits = [Limit { per_key: true, ..of_all("queue", "limited", most) }];
            let highest = run(random, number_of_jobs(most == 1), &limits, |_, _| ());
            assert_eq!(highest, [most], "the limit was never reached");
        }
    }
}

#[test]
fn limits_of_keys_and_of_all_hold_at_once_while_they_and_pauses_come_and_go() {
    for random in Random::each(30..31) {
        let of_keys = |limit| Limit { per_key: true, ..limit };
        let limits =
            [of_all("queue", "limited", 6), of_keys(of_all("task", "a", 1)), of_keys(of_all("queue", "free", 2))];
        run(random, number_of_jobs(true), &limits, |connection, random| {
            let target = random.pick(&["'queue', 'limited'", "'queue', 'free'", "'task', 'a'"]);
            let call = random.pick(&["resume", "resume", "pause"]);
            rows(connection, &format!("SELECT procrastinate_diesel_{call}_v1({target})"));
            // Another limit comes and goes. Its key is another one each time.
            let most = random.pick(&["NULL, NULL, NULL, NULL", "'{tenant}', 2, NULL, NULL", "'{x}', NULL, 500, 0.1"]);
            rows(connection, &format!("SELECT procrastinate_diesel_limit_keys_v1('task', 'c', {most})"));
        });
    }
}

/// How many jobs may run at the same time: of all jobs of a queue or task, or of each tenant.
struct Limit {
    kind: &'static str,
    name: &'static str,
    per_key: bool,
    most: i64,
}

fn of_all(kind: &'static str, name: &'static str, most: i64) -> Limit {
    Limit { kind, name, per_key: false, most }
}

impl Limit {
    /// The statement that sets it.
    fn set(&self) -> String {
        let Self { kind, name, per_key, most } = self;
        let (function, path) = if *per_key { ("limit_keys", "'{tenant}', ") } else { ("set_limit", "") };
        format!("SELECT procrastinate_diesel_{function}_v1('{kind}', '{name}', {path}{most}, NULL, NULL)")
    }

    /// A query of the number of running jobs, of the tenant with most of them.
    fn running(&self) -> String {
        let Self { kind, name, per_key, .. } = self;
        let (key, is_counted) = match (per_key, *kind) {
            (true, "queue") => ("args -> 'tenant'", "args ? 'tenant'"),
            // In the other queue, its own limit for each key holds instead.
            (true, _) => ("args -> 'tenant'", "args ? 'tenant' AND queue_name = 'limited'"),
            (false, _) => ("status", "true"),
        };
        format!(
            "(SELECT coalesce(max(jobs), 0) FROM (
                 SELECT count(*) AS jobs FROM procrastinate_jobs
                 WHERE status = 'doing' AND {kind}_name = '{name}' AND {is_counted} GROUP BY {key}) AS each)"
        )
    }
}

fn number_of_jobs(is_slow: bool) -> usize {
    let jobs = std::env::var("PROCRASTINATE_TEST_JOBS").map_or(240, |jobs| jobs.parse().unwrap());
    if is_slow { jobs / 2 } else { jobs }
}

/// Works off so many jobs under these limits. Returns the largest numbers of running jobs, each of one moment.
fn run(
    mut random: Random,
    jobs: usize,
    limits: &[Limit],
    disturb: impl Fn(&mut PgConnection, &mut Random),
) -> Vec<i64> {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        &format!(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args, scheduled_at)
             SELECT CASE WHEN number % 10 = 0 THEN 'free' ELSE 'limited' END, chr(97 + number % 3), number % 3,
                    CASE WHEN number % 4 = 0 THEN 'lock ' || number % 40 END,
                    -- The first tenant has half of the jobs, and some jobs have none.
                    CASE WHEN number % 12 = 0 THEN '{{}}'
                         ELSE jsonb_build_object('tenant', greatest(number % 16 - 7, 0)) END,
                    CASE WHEN number % 7 = 0 THEN now() END
             FROM generate_series(1, {jobs}) AS number"
        ),
    );
    for limit in limits {
        sql(&mut connection, &limit.set());
    }
    let is_done = AtomicBool::new(false);
    let highest = std::thread::scope(|scope| {
        let (database, is_done) = (&database, &is_done);
        for number in 0..2 * FETCHERS_EACH {
            let random = random.fork();
            scope.spawn(move || fetch_and_finish(database, number % 2 == 0, random, is_done));
        }
        // Also if it panics, so that the fetchers end.
        let _done = SetAtEnd(is_done);
        watch(database, limits, |connection| disturb(connection, &mut random))
    });
    for (Limit { kind, name, per_key, most }, highest) in limits.iter().zip(&highest) {
        let of = if *per_key { "one key of " } else { "" };
        assert!(highest <= most, "{highest} jobs of {of}the {kind} {name} were running under a limit of {most}");
    }
    let left = "SELECT status, count(*) FROM procrastinate_jobs GROUP BY status";
    assert_eq!(rows(&mut connection, left), [format!("succeeded | {jobs}")]);
    highest
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts the running jobs until all are done. Returns the largest number of each limit. Jobs of a dead fetcher are
/// requeued.
fn watch(database: &Database, limits: &[Limit], mut disturb: impl FnMut(&mut PgConnection)) -> Vec<i64> {
    let mut connection = connect(database);
    let deadline = Instant::now() + PATIENCE * 10;
    let mut highest = vec![0; limits.len()];
    let left = "(SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))".to_owned();
    let counts = format!("SELECT {}", limits.iter().map(Limit::running).chain([left]).collect::<Vec<_>>().join(", "));
    loop {
        let row = rows(&mut connection, &counts).remove(0);
        let (running, left) = row.rsplit_once(" | ").unwrap();
        for (highest, running) in highest.iter_mut().zip(running.split(" | ")) {
            *highest = running.parse::<i64>().unwrap().max(*highest);
        }
        if left == "0" {
            return highest;
        }
        let orphans = "SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM procrastinate_jobs
                       WHERE status = 'doing' AND worker_id IS NULL";
        rows(&mut connection, orphans);
        disturb(&mut connection);
        assert!(Instant::now() < deadline, "{left} jobs are left");
    }
}

fn fetch_and_finish(database: &Database, by_contract: bool, mut random: Random, is_done: &AtomicBool) {
    let mut connection = connect(database);
    let mut worker = register(&mut connection);
    let mut held: Vec<String> = Vec::new();
    while !is_done.load(Ordering::Relaxed) {
        let wanted = 1 + random.below(10);
        let queues = random.pick(&["NULL", "NULL", "'{limited}'", "'{limited,free}'"]);
        let fetched = if by_contract {
            for id in held.drain(..) {
                sql(&mut connection, &format!("SELECT procrastinate_finish_job_v1({id}, 'succeeded', false)"));
            }
            try_rows(&mut connection, &format!("SELECT id FROM procrastinate_fetch_job_v2({queues}, {worker})"))
        } else {
            let statuses = vec!["succeeded"; held.len()].join(",");
            let call = format!("{worker}, '{{{}}}', '{{{statuses}}}', {queues}, {wanted}", held.join(","));
            try_rows(&mut connection, &format!("SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1({call})"))
        };
        match fetched {
            Ok(ids) => held = ids.into_iter().filter(|id| id != "NULL").collect(),
            // The outcomes are sent again with the next call.
            Err(error) => assert!(error.to_string().contains("deadlock"), "{error}"),
        }
        if random.once_in(30) {
            // It dies: its connection breaks, and its jobs are left behind.
            sql(&mut connection, &format!("SELECT procrastinate_unregister_worker_v1({worker})"));
            held.clear();
            connection = connect(database);
            worker = register(&mut connection);
        }
    }
}

fn register(connection: &mut PgConnection) -> String {
    rows(connection, "SELECT * FROM procrastinate_register_worker_v1()").remove(0)
}
