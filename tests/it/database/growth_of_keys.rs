//! What a fetch reads in front of jobs with a limit for each key. Neither the number of jobs of a key nor the number of
//! full keys makes a difference.

use diesel::prelude::*;
use throwaway_postgres::Database;

use crate::database::plans::{forget_statistics, measure_tables, run};
use crate::support::{connect, database, rows, sql, superuser};

const FEW_JOBS: u32 = 2_000;
const MANY_JOBS: u32 = 12_000;

/// The maximum number of rows that a worker reads to fetch ten jobs, and of its search for the same keys.
const FEW: i64 = 900;

const TABLES: [&str; 3] = ["procrastinate_jobs", "procrastinate_diesel_keyed_jobs", "procrastinate_diesel_limit_keys"];

/// The queue, task, tenant and status of the jobs, for the number `n`, and the limit.
const JOBS: [(&str, &str, i32); 6] = [
    ("jobs of a full key of the task", "'work', 'limited', 'full', n <= 1", 1),
    ("full keys of the task", "'work', 'limited', n / 2, n % 2 = 1", 1),
    ("jobs of a full key of the queue", "'limited', 'task', 'full', n <= 1", 1),
    ("full keys of the queue", "'limited', 'task', n / 2, n % 2 = 1", 1),
    ("jobs of a key with room, of the task", "'work', 'limited', 'open', n <= 1", 100),
    ("jobs of ten keys with room, of the queue", "'limited', 'task', n % 10, n <= 10", 100),
];

const FETCHES: [&str; 5] = [
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', '{work,limited}', 10)",
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', NULL, 10)",
    // Python's.
    "SELECT id FROM procrastinate_fetch_job_v2('{work,limited}', 1)",
    "SELECT id FROM procrastinate_fetch_job_v2(NULL, 1)",
    // A job with a key ends.
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(NULL, '{1}', '{succeeded}', NULL, 10)",
];

#[test]
fn a_fetch_reads_no_more_rows_however_many_jobs_or_full_keys_there_are() {
    for (what, shape, limit) in JOBS {
        let read_beside = [FEW_JOBS, MANY_JOBS].map(|many| read_beside(what, shape, limit, many));
        for (fewer, more) in read_beside[0].iter().zip(&read_beside[1]) {
            // Indexes are a little deeper where there is more in them.
            assert!(*more <= fewer + fewer / 2 + 40, "{more} index pages, but {fewer} beside fewer, beside {what}");
        }
    }
}

#[test]
fn a_new_job_reads_few_rows_of_others_although_the_statistics_say_that_there_are_none() {
    let insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, args)
        SELECT 'limited', 'task', jsonb_build_object('tenant', 'new ' || random()) FROM generate_series(1, 10)";
    for is_known_as_small in [false, true] {
        let database = database();
        sql(&mut superuser(&database), &format!("ANALYZE {}", TABLES.join(", ")));
        let [mut deferring, mut fetching] = [connect(&database), connect(&database)];
        sql(
            &mut deferring,
            "SELECT procrastinate_register_worker_v1();
         SELECT procrastinate_diesel_limit_keys_v1('queue', 'limited', '{tenant}', 1, NULL, NULL)",
        );
        // Both sessions plan their statements for tables that are nearly empty.
        for _ in 0..8 {
            sql(&mut deferring, insert);
            rows(&mut fetching, FETCHES[1]);
        }
        if is_known_as_small {
            sql(&mut superuser(&database), &format!("ANALYZE {}", TABLES.join(", ")));
        }
        fill_without_statistics(&database, JOBS[3].1, MANY_JOBS);
        // A fetch looks at full keys once, and compares all jobs after the limit was set.
        rows(
            &mut fetching,
            "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', NULL, 100000)",
        );
        sql(
        &mut fetching,
        "UPDATE procrastinate_diesel_limit_keys SET wakes_at = now() + interval '1 hour' WHERE wakes_at IS NOT NULL;
         UPDATE procrastinate_diesel_limit_states AS state
             SET keys_checked_at = now() + interval '1 hour', keys_checked_under = control.keys_changed_at,
                 keys_woken_at = 'infinity', keys_woken_under = control.changed_at
             FROM procrastinate_diesel_flow_controls AS control
             WHERE control.kind = state.kind AND control.name = state.name",
    );
        for session in ["one that planned before", "a new one"] {
            for (connection, statement, most) in [(&mut deferring, insert, 60), (&mut fetching, FETCHES[1], FEW)] {
                let mut reads = measure_tables(&TABLES, connection, |connection| sql(connection, statement));
                // PostgreSQL plans the check of a foreign key, and keeps it until an ANALYZE.
                reads.retain(|reads| statement != insert || reads.relname != "procrastinate_jobs");
                let rows: i64 = reads.iter().map(|reads| reads.idx_tup_fetch).sum();
                assert!(
                    rows <= most && reads.iter().all(|reads| reads.seq_scan == 0),
                    "{reads:?}, {statement}, {session}"
                );
            }
            [deferring, fetching] = [connect(&database), connect(&database)];
        }
    }
}

/// Inserts so many jobs, as quickly as a table can be filled. The statistics know no job with a key.
fn fill(database: &Database, shape: &str, many: u32) {
    fill_with(database, shape, many, &format!("ANALYZE {}", TABLES.join(", ")));
}

/// The same without any statistics of these jobs.
fn fill_without_statistics(database: &Database, shape: &str, many: u32) {
    fill_with(database, shape, many, "SELECT");
}

fn fill_with(database: &Database, shape: &str, many: u32, analyze: &str) {
    sql(
        &mut superuser(database),
        &format!(
            "SET session_replication_role = replica;
             INSERT INTO procrastinate_jobs (queue_name, task_name, args, status)
             SELECT queue_name, task_name, jsonb_build_object('tenant', tenant::text),
                    (CASE WHEN is_running THEN 'doing' ELSE 'todo' END)::procrastinate_job_status
             FROM generate_series(1, {many}) AS n CROSS JOIN LATERAL (SELECT {shape})
                 AS shape (queue_name, task_name, tenant, is_running);
             RESET session_replication_role;
             SELECT procrastinate_diesel_note_missing_jobs_v1(kind, name, 2147483647)
             FROM procrastinate_diesel_flow_controls;
             {analyze};
             SELECT procrastinate_diesel_assign_keys_v1(2147483647, now())"
        ),
    );
}

/// The first fetch compares all jobs with their limits. For each it reads few rows.
fn check_first_fetch(connection: &mut PgConnection, what: &str, many: u32) {
    let reads = measure_tables(&TABLES, connection, run(FETCHES[1]));
    let rows: i64 = reads.iter().map(|reads| reads.idx_tup_fetch).sum();
    assert!(rows <= 20 * i64::from(many), "{reads:?} at the first fetch beside {many} {what}");
}

/// How many index pages each fetch reads beside so many jobs.
fn read_beside(what: &str, shape: &str, limit: i32, many: u32) -> Vec<i64> {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        &format!(
            "SELECT procrastinate_register_worker_v1();
             SELECT procrastinate_diesel_limit_keys_v1('task', 'limited', '{{tenant}}', {limit}, NULL, NULL);
             SELECT procrastinate_diesel_limit_keys_v1('queue', 'limited', '{{tenant}}', {limit}, NULL, NULL)"
        ),
    );
    fill(&database, shape, many);
    check_first_fetch(&mut connection, what, many);
    // It looks at the full keys, once.
    if limit == 1 {
        rows(
            &mut connection,
            "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', NULL, 100000)",
        );
    }
    sql(
        &mut connection,
        "UPDATE procrastinate_diesel_limit_keys SET wakes_at = now() + interval '1 hour' WHERE wakes_at IS NOT NULL;
         UPDATE procrastinate_diesel_limit_states AS state
             SET keys_checked_at = now() + interval '1 hour', keys_checked_under = control.keys_changed_at,
                 keys_woken_at = 'infinity', keys_woken_under = control.changed_at
             FROM procrastinate_diesel_flow_controls AS control
             WHERE control.kind = state.kind AND control.name = state.name;
         INSERT INTO procrastinate_jobs (queue_name, task_name, args)
         SELECT 'work', 'limited', jsonb_build_object('tenant', 'other ' || n) FROM generate_series(1, 30) AS n",
    );
    let mut pages = Vec::new();
    let mut check = |connection: &mut PgConnection, statistics: &str| {
        for fetch in FETCHES {
            let reads = measure_tables(&TABLES, connection, run(fetch));
            assert_eq!(reads.len(), TABLES.len());
            let rows: i64 = reads.iter().map(|reads| reads.idx_tup_fetch).sum();
            assert!(rows <= FEW, "{reads:?} beside {many} {what}, {fetch}, {statistics}");
            assert!(reads.iter().all(|reads| reads.seq_scan == 0), "{reads:?} beside {many} {what}, {statistics}");
            pages.push(reads.iter().map(|reads| reads.index_pages).sum());
        }
    };
    check(&mut connection, "stale statistics");
    for table in TABLES {
        forget_statistics(&mut superuser(&database), table);
    }
    check(&mut connect(&database), "no statistics");
    sql(&mut connection, &format!("ANALYZE {}", TABLES.join(", ")));
    check(&mut connect(&database), "fresh statistics");
    assert_eq!(rows(&mut connection, FETCHES[1]).len(), 10, "{what}");
    pages
}
