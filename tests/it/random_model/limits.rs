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
        for mut random in Random::each(seed as u64..seed as u64 + 1) {
            let jobs = std::env::var("PROCRASTINATE_TEST_JOBS").map_or(600, |jobs| jobs.parse().unwrap());
            let jobs = if most == 1 { jobs / 2 } else { jobs };
            let database = database();
            let mut connection = connect(&database);
            sql(
                &mut connection,
                &format!(
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, scheduled_at)
                     SELECT CASE WHEN number % 10 = 0 THEN 'free' ELSE 'limited' END, 'task', number % 3,
                            CASE WHEN number % 4 = 0 THEN 'lock ' || number % 40 END,
                            CASE WHEN number % 7 = 0 THEN now() END
                     FROM generate_series(1, {jobs}) AS number;
                     SELECT procrastinate_diesel_set_limit_v1('queue', 'limited', {most}, NULL, NULL)"
                ),
            );
            let is_done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let (database, is_done) = (&database, &is_done);
                for number in 0..2 * FETCHERS_EACH {
                    let random = random.fork();
                    scope.spawn(move || fetch_and_finish(database, number % 2 == 0, random, is_done));
                }
                let highest = watch(database, is_done);
                assert!(highest <= most, "{highest} jobs were running under a limit of {most}");
                // A moment with exactly so many can be missed.
                assert!(highest > most / 2, "the limit was never nearly reached: {highest} of {most}");
            });
            let left = "SELECT status, count(*) FROM procrastinate_jobs GROUP BY status";
            assert_eq!(rows(&mut connection, left), [format!("succeeded | {jobs}")]);
        }
    }
}

/// Counts the running jobs until all are done. Returns the largest number, each of one moment. Jobs of a dead fetcher
/// are requeued.
fn watch(database: &Database, is_done: &AtomicBool) -> i64 {
    let mut connection = connect(database);
    let deadline = Instant::now() + PATIENCE * 10;
    let mut highest = 0;
    loop {
        let counts = "SELECT count(*) FILTER (WHERE status = 'doing' AND queue_name = 'limited'),
                             count(*) FILTER (WHERE status IN ('todo', 'doing'))
                      FROM procrastinate_jobs";
        let counts = rows(&mut connection, counts).remove(0);
        let (running, left) = counts.split_once(" | ").unwrap();
        highest = highest.max(running.parse().unwrap());
        if left == "0" {
            is_done.store(true, Ordering::Relaxed);
            return highest;
        }
        let orphans = "SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM procrastinate_jobs
                       WHERE status = 'doing' AND worker_id IS NULL";
        rows(&mut connection, orphans);
        if Instant::now() > deadline {
            is_done.store(true, Ordering::Relaxed);
            panic!("{left} jobs are left");
        }
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
