//! What a step of ageing reads and changes: about as many jobs as it is told to, whatever else is in the table.

use diesel::prelude::*;

use crate::database::plans::{measure, run};
use crate::support::{connect, database, rows, sql, superuser};

/// How many jobs a step may read.
const MOST: i64 = 300;

const STEP: &str = "SELECT raised, has_more FROM procrastinate_diesel_age_priorities_v1(NULL, 300)";

/// Jobs that have waited, more than one step reads.
const OLD: &str = "
    SET session_replication_role = replica;
    INSERT INTO procrastinate_jobs (queue_name, task_name, status) SELECT 'work', 't', 'succeeded' FROM generate_series(1, 20000);
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority) SELECT 'work', 't', n % 2 FROM generate_series(1, 10000) AS n;
    INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'other', 't' FROM generate_series(1, 10000);
    INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)
    SELECT 'work', 't', now() + interval '1 day' FROM generate_series(1, 10000);
    INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
    SELECT 'work', 't', CASE WHEN n % 2 = 0 THEN 'one' ELSE 'lock ' || n END FROM generate_series(1, 10000) AS n";

/// Jobs that came later, with many priorities, and the same locks.
const NEW: &str = "
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock)
    SELECT 'work', 't', n % 8, CASE n % 3 WHEN 0 THEN 'one' END FROM generate_series(1, 20000) AS n";

/// The old jobs are neither as many as one step reads, nor do the others matter.
#[test]
fn a_step_of_ageing_reads_about_as_many_jobs_as_it_may_and_none_of_the_others() {
    let database = database();
    let mut old = connect(&database);
    sql(&mut old, "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)");
    sql(
        &mut old,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'work', 't' FROM generate_series(1, 5);
         INSERT INTO procrastinate_diesel_priority_ageings
             (queue_name, every_seconds, max_priority, last_aged_at, last_job_id)
         VALUES ('work', 60, 9, now() - interval '90 seconds', 5)",
    );
    sql(&mut old, "VACUUM ANALYZE procrastinate_jobs");
    for _ in 0..8 {
        measure(&mut old, run(STEP));
    }
    let mut fill = superuser(&database);
    sql(&mut fill, OLD);
    sql(
        &mut fill,
        "UPDATE procrastinate_diesel_priority_ageings SET last_job_id = (SELECT max(id) FROM procrastinate_jobs)",
    );
    sql(&mut fill, NEW);

    let mut new = connect(&database);
    for connection in [&mut old, &mut new] {
        for (stage, least) in [(0, 290), (1, 70), (3, 70)] {
            let place = format!(
                "UPDATE procrastinate_diesel_priority_ageings SET pass_stage = {stage}, pass_began_at = now(),
                     pass_last_job_id = last_job_id"
            );
            let look = |connection: &mut PgConnection| {
                sql(connection, &place);
                let [row] = rows(connection, STEP).try_into().unwrap();
                let (raised, has_more) = row.split_once(" | ").unwrap();
                assert!(
                    (least..=MOST).contains(&raised.parse().unwrap()) && has_more == "true",
                    "{row}, stage {stage}"
                );
            };
            for read in measure(connection, look) {
                // Each is found, locked and changed, and has an entry in each index of its new place.
                assert_eq!(read.seq_scan, 0, "stage {stage}");
                assert!(read.idx_tup_fetch <= 4 * MOST, "{read:?} at stage {stage}");
                assert!(read.index_pages <= 40 * MOST, "{read:?} at stage {stage}");
            }
        }
    }

    // All jobs have come later.
    sql(&mut old, "UPDATE procrastinate_diesel_priority_ageings SET last_job_id = 5, every_seconds = 89");
    for connection in [&mut old, &mut new] {
        for read in measure(connection, run(STEP)) {
            assert!(read.seq_scan == 0 && read.idx_tup_fetch <= 100 && read.index_pages <= 1_000, "{read:?}");
        }
    }
}
