//! What a fetch reads, and what it costs to register and unregister a worker. Forty thousand jobs that cannot start make
//! no difference. With fresh statistics, stale ones and none at all, and with the plans of small tables.

use std::collections::HashMap;

use diesel::prelude::*;

use crate::database::plans::{Reads, forget_statistics, measure, run};
use crate::support::{connect, database, rows, sql, superuser};

/// How many jobs are in the way.
const MANY: u32 = 40_000;

/// So many that reading them all hurts, and so few that a planner which knows nothing may think it cheap.
const QUITE_A_FEW: u32 = 3_000;

/// The maximum number of rows that a worker reads to fetch ten jobs. It reads some of each kind. It must not read more
/// index pages with many jobs than with few.
const FEW: i64 = 400;

/// The jobs before those that can start: queue, lock, status, time and worker, for the number `n`.
const SHAPES: [(&str, &str); 12] = [
    ("finished jobs", "'work', NULL, 'succeeded', NULL, NULL"),
    ("jobs for tomorrow", "'work', NULL, 'todo', now() + interval '1 day', NULL"),
    ("jobs of another queue", "'other', NULL, 'todo', NULL, NULL"),
    ("jobs of another queue whose time has come", "'other', NULL, 'todo', now() - interval '1 hour', NULL"),
    ("jobs behind one lock that is held", "'work', 'held', CASE n WHEN 1 THEN 'doing' ELSE 'todo' END, NULL, NULL"),
    (
        "jobs behind one that is for tomorrow",
        "'work', 'x', 'todo', CASE n WHEN 1 THEN now() + interval '1 day' END, NULL",
    ),
    ("jobs with a lock each", "'work', 'lock ' || n, 'todo', NULL, NULL"),
    ("jobs of another queue with a lock each", "'other', 'lock ' || n, 'todo', NULL, NULL"),
    ("jobs with a few locks", "'work', 'lock ' || n % 3, 'todo', NULL, NULL"),
    ("jobs with some locks", "'work', 'lock ' || n % 50, 'todo', NULL, NULL"),
    (
        "jobs behind some locks that are held",
        "'work', n % 20, CASE WHEN n <= 20 THEN 'doing' ELSE 'todo' END, NULL, NULL",
    ),
    ("jobs whose time has come, all at once", "'work', NULL, 'todo', now() - interval '1 hour', NULL"),
];

const FETCHES: [&str; 5] = [
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', '{work}', 10)",
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', '{work,elsewhere}', 10)",
    "SELECT id FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', NULL, 10)",
    // Python's.
    "SELECT id FROM procrastinate_fetch_job_v2('{work}', 1)",
    "SELECT id FROM procrastinate_fetch_job_v2(NULL, 1)",
];

/// How a connection reads the jobs for a statement, whose effect is taken back.
fn reads(connection: &mut PgConnection, statement: &str) -> Reads {
    let reads = measure(connection, run(statement));
    reads.into_iter().find(|reads| reads.relname == "procrastinate_jobs").unwrap()
}

/// Jobs that are in the way because something is paused or limited: the statement that does so, and their shape.
const HELD_BACK: [(&str, &str, &str); 8] = [
    (
        "jobs of a paused queue",
        "procrastinate_diesel_pause_v1('queue', 'blocked')",
        "'blocked', 't', NULL, 'todo', NULL, NULL",
    ),
    (
        "locked jobs of a paused queue",
        "procrastinate_diesel_pause_v1('queue', 'blocked')",
        "'blocked', 't', 'lock ' || n, 'todo', NULL, NULL",
    ),
    (
        "due jobs of a paused queue",
        "procrastinate_diesel_pause_v1('queue', 'blocked')",
        "'blocked', 't', NULL, 'todo', now() - interval '1 hour', NULL",
    ),
    (
        "jobs of a full queue",
        "procrastinate_diesel_set_limit_v1('queue', 'blocked', 1, NULL, NULL)",
        "'blocked', 't', NULL, CASE n WHEN 1 THEN 'doing' ELSE 'todo' END, NULL, NULL",
    ),
    (
        "jobs of a paused task",
        "procrastinate_diesel_pause_v1('task', 'blocked')",
        "'work', 'blocked', NULL, 'todo', NULL, NULL",
    ),
    (
        "jobs of a full task",
        "procrastinate_diesel_set_limit_v1('task', 'blocked', 1, NULL, NULL)",
        "'work', 'blocked', NULL, CASE n WHEN 1 THEN 'doing' ELSE 'todo' END, NULL, NULL",
    ),
    (
        "jobs of another queue while a job must start by tomorrow",
        "procrastinate_diesel_store_options_v1('{0}', '{new}', '{fail}', '{tomorrow}', '{NULL}')",
        "'other', 't', NULL, 'todo', NULL, NULL",
    ),
    (
        "jobs of a limited task of which one can start",
        "procrastinate_diesel_set_limit_v1('task', 'blocked', 1, NULL, NULL)",
        "'work', 'blocked', NULL, 'todo', NULL, NULL",
    ),
];

#[test]
fn a_fetch_reads_no_more_rows_whatever_jobs_precede_those_that_can_start() {
    for (what, shape) in SHAPES {
        let shape = shape.replacen(", ", ", 't', ", 1);
        assert_no_growth(what, "1", &shape);
    }
}

#[test]
fn a_fetch_reads_no_more_rows_whatever_jobs_a_pause_or_limit_holds_back() {
    for (what, control, shape) in HELD_BACK {
        assert_no_growth(what, control, shape);
    }
}

/// A fetch reads no more rows beside many jobs of this shape than beside fewer, with this pause or limit.
fn assert_no_growth(what: &str, control: &str, shape: &str) {
    const KEPT_PLANS: &str = "planned for another table";
    let mut pages_beside_fewer = HashMap::new();
    for many in [QUITE_A_FEW, MANY] {
        let database = database();
        let mut old = connect(&database);
        sql(&mut old, "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)");
        rows(&mut old, "SELECT * FROM procrastinate_register_worker_v1()");
        sql(&mut old, &format!("SELECT {control}"));
        let plain =
            "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'work', 't' FROM generate_series(1, 30)";
        sql(&mut old, plain);
        sql(&mut old, "VACUUM ANALYZE procrastinate_jobs");
        for _ in 0..8 {
            for fetch in FETCHES {
                reads(&mut old, fetch);
            }
        }
        sql(&mut old, "DELETE FROM procrastinate_jobs");
        // As quickly as a table can be filled.
        sql(
            &mut superuser(&database),
            &format!(
                "SET session_replication_role = replica;
                 INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status, scheduled_at, worker_id)
                 SELECT queue_name, task_name, lock, status::procrastinate_job_status, scheduled_at::timestamptz,
                        worker_id::bigint
                 FROM generate_series(1, {many}) AS n CROSS JOIN LATERAL (SELECT {shape})
                     AS shape (queue_name, task_name, lock, status, scheduled_at, worker_id);
                 RESET session_replication_role"
            ),
        );
        sql(&mut old, plain);
        let mut new = connect(&database);
        let mut check = |connection: &mut PgConnection, statistics: &'static str| {
            for fetch in FETCHES {
                let mut read = reads(connection, fetch);
                assert_eq!(read.seq_scan, 0, "{what}, {fetch}, {statistics}");
                assert!(read.idx_tup_fetch <= FEW, "{read:?} beside {many} {what}, {fetch}, {statistics}");
                if statistics == KEPT_PLANS {
                    // Under load, the server can have made the connection forget its plans. Then it has planned
                    // again, and for that read the ends of indexes.
                    read.index_pages = read.index_pages.min(reads(connection, fetch).index_pages);
                }
                // Indexes are a little deeper where there is more in them.
                let pages = pages_beside_fewer.entry((fetch, statistics)).or_insert(read.index_pages);
                assert!(
                    read.index_pages <= *pages + *pages / 4 + 20,
                    "{read:?}, but {pages} beside fewer, beside {many} {what}, {fetch}, {statistics}"
                );
            }
        };
        check(&mut old, KEPT_PLANS);
        check(&mut new, "stale statistics");
        forget_statistics(&mut superuser(&database), "procrastinate_jobs");
        check(&mut connect(&database), "no statistics");
        sql(&mut old, "ANALYZE procrastinate_jobs");
        check(&mut connect(&database), "fresh statistics");
        let fetched = format!("{} WHERE id IS NOT NULL", FETCHES[0]);
        assert_eq!(rows(&mut new, &fetched).len(), 10, "{what}");
    }
}

#[test]
fn a_fetch_reads_no_more_rows_with_the_plan_of_a_single_job() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false);
         SELECT procrastinate_register_worker_v1();
         INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('work', 't', 'x')",
    );
    sql(&mut connection, "VACUUM ANALYZE procrastinate_jobs");
    for fetch in FETCHES {
        reads(&mut connection, fetch);
    }
    sql(
        &mut superuser(&database),
        &format!(
            "SET session_replication_role = replica;
             INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
             SELECT 'work', 't', 'lock ' || n FROM generate_series(1, {QUITE_A_FEW}) AS n"
        ),
    );
    for fetch in FETCHES {
        let read = reads(&mut connection, fetch);
        assert!(read.seq_scan == 0 && read.idx_tup_fetch <= FEW, "{read:?} for {fetch}");
    }
}

#[test]
fn a_worker_registers_and_unregisters_without_reading_finished_jobs() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut superuser(&database),
        &format!(
            "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false);
             SELECT procrastinate_register_worker_v1();
             INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'work', 't' FROM generate_series(1, 50);
             SET session_replication_role = replica;
             INSERT INTO procrastinate_jobs (queue_name, task_name, status)
             SELECT 'work', 't', 'succeeded' FROM generate_series(1, {MANY});
             RESET session_replication_role"
        ),
    );
    // It runs jobs and releases them when they finish.
    let taken = rows(&mut connection, FETCHES[0]).join(",");
    rows(
        &mut connection,
        &format!(
            "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
                 1, '{{{taken}}}', array_fill('succeeded'::procrastinate_job_status, ARRAY[10]), '{{work}}', 10)"
        ),
    );
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs WHERE worker_id = 1"), ["10"]);
    for act in [
        "SELECT * FROM procrastinate_register_worker_v1()",
        "SELECT * FROM procrastinate_diesel_update_heartbeat_v1(1)",
        "SELECT * FROM procrastinate_diesel_held_jobs_v1(1)",
        "SELECT * FROM procrastinate_unregister_worker_v1(1)",
        "SELECT * FROM procrastinate_prune_stalled_workers_v1(0)",
        "SELECT * FROM procrastinate_diesel_jobs_without_worker_v1('{t}')",
    ] {
        let read = reads(&mut connection, act);
        assert_eq!(read.seq_scan, 0, "{act}");
        assert!(read.idx_tup_fetch <= 50, "{read:?} for {act}");
    }
}

#[test]
fn jobs_finish_without_reading_the_other_jobs_of_their_worker() {
    const LIKE_PLAIN: &str = "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
        1, '{1,2,3}', '{succeeded,failed,succeeded}', '{work}', 0)";
    const DELETED: &str = "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
        1, '{}', '{}', '{work}', 0, NULL, '{1,2,3}')";
    const WITH_ERRORS: &str = "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
        1, '{1}', '{failed}', '{work}', 0, NULL, NULL, '[{\"job_id\": 1, \"attempts\": 0, \"error\": \"e\"}]')";
    const RETRIED: &str = "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
        1, '{}', '{}', '{work}', 0, '[{\"job_id\": 1, \"attempts\": 0}, {\"job_id\": 2, \"attempts\": 0}]')";
    let endings = [LIKE_PLAIN, DELETED, WITH_ERRORS, RETRIED];
    let database = database();
    let mut old = connect(&database);
    sql(
        &mut old,
        "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false);
         SELECT procrastinate_register_worker_v1();
         INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'work', 't' FROM generate_series(1, 1000)",
    );
    // As far as anybody knows no worker has a job, so that an index on workers looks like the shortest way.
    sql(&mut old, "VACUUM ANALYZE procrastinate_jobs");
    for _ in 0..8 {
        for ending in endings {
            reads(&mut old, ending);
        }
    }
    sql(&mut old, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1");
    let mut new = connect(&database);
    for ending in endings {
        for connection in [&mut old, &mut new] {
            let read = reads(connection, ending);
            assert_eq!(read.seq_scan, 0, "{ending}");
            assert!(read.idx_tup_fetch <= 50, "{read:?} for {ending}");
        }
    }
    assert_eq!(rows(&mut new, LIKE_PLAIN).len(), 0);
    assert_eq!(rows(&mut new, "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'doing'"), ["3"]);
}

#[test]
fn a_pending_job_is_replaced_or_kept_without_reading_the_other_jobs() {
    let defer = |choice: &str| {
        format!(
            "SELECT effect FROM procrastinate_diesel_defer_or_replace_jobs_v1(
                 '{{work}}', '{{t}}', '{{0}}', '{{x}}', '{{lock 7}}', ARRAY['{{}}']::jsonb[], '{{NULL}}', '{{{choice}}}')"
        )
    };
    let database = database();
    let mut old = connect(&database);
    sql(
        &mut old,
        "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false);
         INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('work', 't', 'lock 7')",
    );
    sql(&mut old, "VACUUM ANALYZE procrastinate_jobs");
    for _ in 0..8 {
        for choice in ["keep", "replace"] {
            reads(&mut old, &defer(choice));
        }
    }
    sql(
        &mut superuser(&database),
        &format!(
            "SET session_replication_role = replica;
             INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status, scheduled_at)
             SELECT 'work', 't', 'lock ' || n, CASE n % 3 WHEN 0 THEN 'succeeded' ELSE 'todo' END::procrastinate_job_status,
                    CASE n % 2 WHEN 0 THEN now() + interval '1 day' END
             FROM generate_series(8, {MANY}) AS n"
        ),
    );
    let mut new = connect(&database);
    for connection in [&mut old, &mut new] {
        for (choice, effect) in [("keep", "kept"), ("replace", "replaced")] {
            let read = reads(connection, &defer(choice));
            // An update has an entry in each index of its new place.
            assert!(read.seq_scan == 0 && read.idx_tup_fetch <= 10 && read.index_pages <= 100, "{read:?}, {choice}");
            assert_eq!(rows(connection, &defer(choice)), [effect]);
        }
    }
}
