//! The plans of the statements that workers and deferring programs send all day: on a large table of a bad shape, with
//! statistics that nobody has gathered, and with plans that were made when the tables were as good as empty.
//!
//! What a plan did is read from the counts that the server keeps for the current transaction, so the same goes for
//! statements inside of functions.

use diesel::prelude::*;
use procrastinate::job_manager::{list_jobs, list_jobs_to_abort, list_queues};
use procrastinate::models::{ProcrastinateAction, ProcrastinateJob};
use procrastinate::schema::procrastinate_jobs;
use procrastinate::{IfEnqueued, JobStatus, batch_defer_blocking, configure_task};
use serde_json::json;

use crate::support::{connect, database, rows, sql};

/// Finished jobs, waiting ones that are not due, of another queue, or behind a lock that is held, and three that run.
const LARGE_AND_BADLY_SHAPED: &str = "
    INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts)
    SELECT 'work', 't', 'succeeded', 1 FROM generate_series(1, 50000);
    INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)
    SELECT 'work', 't', now() + interval '1 day' FROM generate_series(1, 2000);
    INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'other', 't' FROM generate_series(1, 2000);
    INSERT INTO procrastinate_jobs (queue_name, task_name, lock) SELECT 'work', 't', 'held' FROM generate_series(1, 2000);
    UPDATE procrastinate_jobs SET status = 'doing'
    WHERE id = (SELECT min(id) FROM procrastinate_jobs WHERE lock = 'held');
    INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'work', 't' FROM generate_series(1, 100);
    UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id IN (1, 2, 3);
    UPDATE procrastinate_jobs SET status = 'doing' WHERE id IN (4, 5);";

/// The statements of a worker, and one that defers, as the crate sends them.
const STATEMENTS: [&str; 27] = [
    "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(1, '{}', '{}', '{work}', 10)",
    "SELECT * FROM procrastinate_diesel_finish_and_fetch_jobs_v1(
        1, '{1,2,3}', '{succeeded,failed,succeeded}', NULL, 0)",
    "SELECT * FROM procrastinate_diesel_update_heartbeat_v1(1)",
    "SELECT * FROM procrastinate_diesel_held_jobs_v1(1)",
    "SELECT * FROM procrastinate_diesel_jobs_of_worker_v1(1, '{1, 2, 3}')",
    "SELECT * FROM procrastinate_diesel_reregister_worker_v1(1, 99, '{3, 4}', '{1, 1}')",
    "SELECT * FROM procrastinate_diesel_jobs_without_worker_v1('{t}')",
    "SELECT * FROM procrastinate_diesel_rescue_jobs_v1(
        '[{\"job_id\": 4, \"attempts\": 1, \"is_retried\": true, \"error\": \"e\"},
          {\"job_id\": 5, \"attempts\": 1, \"is_retried\": false, \"error\": \"e\"}]')",
    "SELECT * FROM procrastinate_diesel_defer_jobs_v1(
        '{work,work}', '{t,t}', '{0,0}', '{NULL,l}', '{NULL,taken}', ARRAY['{}', '{}']::jsonb[], '{NULL,NULL}')",
    "SELECT * FROM procrastinate_diesel_defer_or_replace_jobs_v1(
        '{work,work,work}', '{t,t,t}', '{0,0,0}', '{NULL,l,NULL}', '{taken,taken,taken}',
        ARRAY['{}', '{}', '{}']::jsonb[], '{NULL,NULL,NULL}', '{replace,keep,replace_except_schedule}')",
    "SELECT * FROM procrastinate_diesel_defer_with_options_v1(
        '{work,work}', '{t,t}', '{0,0}', '{NULL,l}', '{NULL,NULL}', ARRAY['{}', '{}']::jsonb[], '{NULL,NULL}',
        '{fail,fail}', ARRAY[now(), NULL], '{NULL,key}')",
    "SELECT * FROM procrastinate_diesel_tend_job_options_v1(0)",
    "SELECT * FROM procrastinate_register_worker_v1()",
    "SELECT * FROM procrastinate_prune_stalled_workers_v1(30)",
    "SELECT * FROM procrastinate_diesel_finish_job_v1(2, 'succeeded', false)",
    "SELECT * FROM procrastinate_diesel_retry_job_v1(3, NULL, NULL, NULL, NULL)",
    CLEAN,
    AGE,
    "SELECT * FROM procrastinate_diesel_change_jobs_v1('{4,5,7,53000,56100}', 'retry')",
    "SELECT * FROM procrastinate_diesel_change_jobs_v1('{1,56050,56051}', 'cancel')",
    "SELECT * FROM procrastinate_diesel_change_jobs_v1('{1,56050,56051}', 'abort')",
    "SELECT * FROM procrastinate_diesel_change_jobs_v1('{50100,50101,56050}', 'run_now')",
    "SELECT * FROM procrastinate_diesel_change_jobs_v1('{50100,56050}', 'priority', new_priority => 3)",
    "SELECT * FROM procrastinate_diesel_change_jobs_v1('{56050,56051}', 'queue', new_queue_name => 'other')",
    "SELECT * FROM procrastinate_diesel_change_jobs_v1('{50001,50002,56050,56051}', 'delete')",
    "SELECT * FROM procrastinate_diesel_begin_action_v1('anna', 'cancel', 'all jobs', NULL, NULL, 'todo')",
    "SELECT procrastinate_diesel_record_action_v1('anna', 'pause', 'queue mails')",
];

/// A step that raises priorities.
const AGE: &str = "SELECT * FROM procrastinate_diesel_age_priorities_v1(NULL, 1000)";

/// A step that deletes old jobs of every status.
const CLEAN: &str = "SELECT * FROM procrastinate_diesel_delete_old_jobs_v1(
    '{succeeded,failed,cancelled,aborted}', '1 hour', NULL, 1000, NULL)";

/// How a connection has read a table.
#[derive(Debug, Clone, QueryableByName)]
pub struct Reads {
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub relname: String,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub seq_scan: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub idx_tup_fetch: i64,
    /// Pages of the table's indexes: what an index passes by shows here only.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub index_pages: i64,
}

/// What this connection has read of these tables and not reported to the server yet, which it does between
/// transactions only.
fn reads(tables: &[&str], connection: &mut PgConnection) -> Vec<Reads> {
    diesel::sql_query(
        "SELECT relname::text, coalesce(seq_scan, 0) AS seq_scan, coalesce(idx_tup_fetch, 0) AS idx_tup_fetch,
                (SELECT sum(pg_stat_get_xact_blocks_fetched(index.indexrelid))::bigint
                 FROM pg_index AS index WHERE index.indrelid = relid) AS index_pages
         FROM pg_stat_xact_user_tables WHERE relname = ANY ($1) ORDER BY relname",
    )
    .bind::<diesel::sql_types::Array<diesel::sql_types::Text>, _>(tables)
    .load(connection)
    .unwrap()
}

/// Does something in a transaction that is rolled back, and says how that has read jobs and events.
pub fn measure(connection: &mut PgConnection, act: impl Fn(&mut PgConnection)) -> Vec<Reads> {
    measure_tables(&["procrastinate_jobs", "procrastinate_events"], connection, act)
}

/// Does something in a transaction that is rolled back, and says how that has read these tables.
pub fn measure_tables(tables: &[&str], connection: &mut PgConnection, act: impl Fn(&mut PgConnection)) -> Vec<Reads> {
    let mut measured = Vec::new();
    connection.test_transaction(|connection| {
        let before = reads(tables, connection);
        act(connection);
        measured = reads(tables, connection)
            .into_iter()
            .zip(before)
            .map(|(after, before)| Reads {
                relname: after.relname,
                seq_scan: after.seq_scan - before.seq_scan,
                idx_tup_fetch: after.idx_tup_fetch - before.idx_tup_fetch,
                index_pages: after.index_pages - before.index_pages,
            })
            .collect();
        QueryResult::Ok(())
    });
    measured
}

/// Has a table be one that nobody has ever analyzed, for connections that come after this.
pub fn forget_statistics(connection: &mut PgConnection, table: &str) {
    sql(
        connection,
        &format!(
            "DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass;
             UPDATE pg_class
             SET relpages = 0, relallvisible = 0,
                 reltuples = CASE WHEN current_setting('server_version_num')::integer < 140000 THEN 0 ELSE -1 END
             WHERE oid = '{table}'::regclass
                OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{table}'::regclass)"
        ),
    );
}

/// Runs a statement for its reads.
pub fn run(statement: &str) -> impl Fn(&mut PgConnection) {
    move |connection| drop(rows(connection, statement))
}

/// A connection that has the plans of tables with five rows, for which reading a whole table is best, on tables that
/// nobody has analyzed since they were filled.
fn old_connection_to_a_large_table(database: &throwaway_postgres::Database) -> PgConnection {
    let mut connection = connect(database);
    sql(&mut connection, "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)");
    sql(&mut connection, "ALTER TABLE procrastinate_events SET (autovacuum_enabled = false)");
    rows(&mut connection, "SELECT * FROM procrastinate_register_worker_v1()");
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'work', 't' FROM generate_series(1, 5);
         INSERT INTO procrastinate_diesel_priority_ageings
             (queue_name, every_seconds, max_priority, last_aged_at, last_job_id)
         VALUES ('work', 60, 9, now() - interval '1 hour', 1000000000)",
    );
    sql(&mut connection, "VACUUM ANALYZE procrastinate_jobs");
    sql(&mut connection, "VACUUM ANALYZE procrastinate_events");
    // Checks of foreign keys have plans of PostgreSQL's own, which nobody can choose. Keep them out of the picture.
    sql(&mut connection, "SET enable_seqscan = off");
    for statement in STATEMENTS {
        measure(&mut connection, run(statement));
    }
    sql(&mut connection, "RESET enable_seqscan");
    // From the sixth time on a plan may be one that was made for all times.
    for _ in 0..8 {
        for statement in STATEMENTS {
            measure(&mut connection, run(statement));
        }
    }
    sql(&mut connect(database), LARGE_AND_BADLY_SHAPED);
    connection
}

#[test]
fn no_statement_reads_a_table_from_end_to_end_even_with_the_plan_of_a_tiny_one() {
    let database = database();
    let mut old = old_connection_to_a_large_table(&database);
    let mut new = connect(&database);
    for statement in STATEMENTS {
        for connection in [&mut old, &mut new] {
            for read in measure(connection, run(statement)) {
                assert_eq!(read.seq_scan, 0, "{} in {statement}", read.relname);
                // What waits and cannot be taken is passed by; what is finished is not looked at.
                assert!(read.idx_tup_fetch < 10_000, "{read:?} in {statement}");
            }
        }
    }
}

#[test]
fn a_walk_through_the_whole_table_would_be_noticed() {
    let database = database();
    let mut connection = old_connection_to_a_large_table(&database);
    let read = measure(&mut connection, run("SELECT id FROM procrastinate_jobs WHERE attempts = 7"));
    assert!(read.iter().any(|read| read.seq_scan == 1), "{read:?}");
}

#[test]
fn deferring_by_the_crates_own_statements_reads_nothing_from_end_to_end() {
    let defer = |connection: &mut PgConnection| {
        let job = || configure_task("t", json!({})).queue("work");
        job().defer_blocking(connection).unwrap();
        job().queueing_lock("q").defer_unless_enqueued_blocking(connection).unwrap();
        job().queueing_lock("q").unless_enqueued().defer_blocking(connection).unwrap();
        job().queueing_lock("q").if_enqueued(IfEnqueued::Replace).defer_blocking(connection).unwrap();
        batch_defer_blocking([job(), job()], connection).unwrap();
    };
    let database = database();
    let mut connection = old_connection_to_a_large_table(&database);
    for _ in 0..8 {
        for read in measure(&mut connection, defer) {
            assert_eq!(read.seq_scan, 0, "{}", read.relname);
        }
    }
}

#[test]
fn deleting_old_jobs_reads_only_old_jobs() {
    let database = database();
    let mut old = old_connection_to_a_large_table(&database);
    let mut new = connect(&database);
    // All of those that have succeeded did so just now, but for ten.
    let endings = "INSERT INTO procrastinate_events (job_id, type, at)
                   SELECT id, 'succeeded', now() - CASE WHEN id % 5000 = 0 THEN interval '2 hours' ELSE '1 second' END
                   FROM procrastinate_jobs WHERE status = 'succeeded'";
    sql(&mut new, endings);
    for connection in [&mut old, &mut new] {
        for read in measure(connection, run(CLEAN)) {
            assert_eq!(read.seq_scan, 0, "{}", read.relname);
            assert!((10..100).contains(&read.idx_tup_fetch), "{read:?}");
        }
    }
}

#[test]
fn jobs_are_listed_by_id_and_by_error_with_an_index() {
    let database = database();
    let mut connection = old_connection_to_a_large_table(&database);
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'failed' WHERE id = 2");
    sql(&mut connection, "VACUUM ANALYZE procrastinate_jobs");
    // The plans of all times do as well as those for one value.
    sql(&mut connection, "SET plan_cache_mode = force_generic_plan");
    let jobs: [fn(&mut PgConnection) -> usize; 5] = [
        |connection| list_jobs().id(2).execute_blocking(connection).unwrap().len(),
        |connection| list_jobs().status(JobStatus::Failed).execute_blocking(connection).unwrap().len(),
        |connection| list_queues().status(JobStatus::Failed).execute_blocking(connection).unwrap().len(),
        |connection| list_jobs().status(JobStatus::Todo).lock("other").execute_blocking(connection).unwrap().len() + 1,
        |connection| list_jobs_to_abort().execute_blocking(connection).unwrap().len() + 1,
    ];
    for (number, list) in jobs.into_iter().enumerate() {
        for read in measure(&mut connection, |connection| assert_eq!(list(connection), 1)) {
            assert!(read.seq_scan == 0 && read.idx_tup_fetch < 20, "{read:?} in listing {number}");
        }
    }
}

#[test]
fn pending_jobs_that_are_late_are_found_with_an_index_in_every_plan() {
    let database = database();
    let mut connection = old_connection_to_a_large_table(&database);
    let future = chrono::Utc::now() + chrono::TimeDelta::days(1);
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('late', 't'), ('late', 't')");
    let pending = procrastinate_jobs::table.filter(ProcrastinateJob::has_status(JobStatus::Todo));
    let pending: i64 = pending.count().get_result(&mut connection).unwrap();
    let late = |connection: &mut PgConnection| {
        let query = procrastinate_jobs::table
            .filter(ProcrastinateJob::pending_since(future))
            .filter(ProcrastinateJob::in_queue("late"));
        assert_eq!(query.count().get_result(connection), Ok(2));
    };
    for plans in ["force_custom_plan", "force_generic_plan"] {
        sql(&mut connection, &format!("SET plan_cache_mode = {plans}"));
        sql(&mut connection, "VACUUM ANALYZE procrastinate_jobs");
        sql(&mut connection, "VACUUM ANALYZE procrastinate_events");
        for read in measure(&mut connection, late) {
            // The pending jobs, with a few that the index still has, and their events.
            let most = if read.relname == "procrastinate_jobs" { pending + 50 } else { 2 * pending };
            assert!(read.seq_scan == 0 && read.idx_tup_fetch <= most, "{read:?} with {plans}, {pending} pending");
        }
    }
}

#[test]
fn stalled_jobs_are_found_with_an_index_in_every_plan() {
    let database = database();
    let mut connection = old_connection_to_a_large_table(&database);
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'failed' WHERE id = 2");
    let future = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let stalled = |connection: &mut PgConnection| {
        let query = ProcrastinateJob::query().filter(ProcrastinateJob::stalled(future));
        assert_eq!(query.load(connection).unwrap().len(), 5);
    };
    for plans in ["force_custom_plan", "force_generic_plan"] {
        sql(&mut connection, &format!("SET plan_cache_mode = {plans}"));
        sql(&mut connection, "VACUUM ANALYZE procrastinate_jobs");
        sql(&mut connection, "VACUUM ANALYZE procrastinate_events");
        for read in measure(&mut connection, stalled) {
            assert!(read.seq_scan == 0 && read.idx_tup_fetch < 50, "{read:?} with {plans}");
        }
    }
}

#[test]
fn the_actions_on_a_job_are_found_with_an_index_in_every_plan() {
    let database = database();
    let mut connection = connect(&database);
    let list = "SELECT id FROM procrastinate_diesel_actions_on_job_v1(777, NULL, 20)";
    // Plans that were made for empty tables.
    for _ in 0..8 {
        rows(&mut connection, list);
    }
    sql(
        &mut connect(&database),
        "INSERT INTO procrastinate_diesel_actions (actor, action, target)
         SELECT 'anna', 'retry', 'jobs' FROM generate_series(1, 3000);
         INSERT INTO procrastinate_diesel_action_jobs
         SELECT action, action * 40, ARRAY(SELECT generate_series(action * 40, action * 40 + 79))
         FROM generate_series(1, 3000) AS action",
    );
    let by_model = |connection: &mut PgConnection| {
        let actions = ProcrastinateAction::query().filter(ProcrastinateAction::on_job(777_i64));
        assert_eq!(actions.load(connection).unwrap().len(), 2);
    };
    let tables = ["procrastinate_diesel_actions", "procrastinate_diesel_action_jobs"];
    let check = |connection: &mut PgConnection, act: &dyn Fn(&mut PgConnection)| {
        let reads = measure_tables(&tables, connection, act);
        assert!(!reads.is_empty());
        for read in reads {
            assert!(read.seq_scan == 0 && read.idx_tup_fetch <= 4, "{read:?}");
        }
    };
    let by_function = |connection: &mut PgConnection| assert_eq!(rows(connection, list), ["19", "18"]);
    check(&mut connection, &by_function);
    for plans in ["force_custom_plan", "force_generic_plan"] {
        sql(&mut connection, &format!("SET plan_cache_mode = {plans}"));
        check(&mut connection, &by_function);
        sql(&mut connection, "ANALYZE procrastinate_diesel_actions; ANALYZE procrastinate_diesel_action_jobs");
        check(&mut connection, &by_function);
        check(&mut connection, &by_model);
    }
}
