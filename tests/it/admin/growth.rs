//! What the pages read of large tables of a bad shape, with stale statistics, none, and fresh ones: not more when the
//! tables double.

use std::collections::HashMap;

use diesel::prelude::*;
use throwaway_postgres::Database;

use super::Served;
use crate::database::plans::forget_statistics;
use crate::support::{database, eventually, rows, sql, superuser};

/// How many jobs are added at a time: more than a page searches.
const MANY: u32 = 80_000;

/// Pages of each kind, with filters that find little.
const PAGES: [&str; 29] = [
    "/queue",
    "/queue/jobs",
    "/queue/jobs?before=20000",
    "/queue/jobs?after=20000",
    "/queue/jobs?status=todo",
    "/queue/jobs?status=todo&queue=none",
    "/queue/jobs?status=todo&lock=lock+300",
    "/queue/jobs?status=doing",
    "/queue/jobs?status=failed",
    "/queue/jobs?status=cancelled&task=none",
    "/queue/jobs?status=succeeded&priority=7",
    "/queue/jobs?queue=none",
    "/queue/jobs?lock=lock+300",
    "/queue/jobs?text=none",
    "/queue/jobs?created_since=1h",
    "/queue/jobs?created_before=50h&queue=none",
    "/queue/jobs?ended_since=10d&ended_before=9d",
    "/queue/jobs?from=500&to=40000&worker=77",
    "/queue/jobs/1",
    // It runs, waits for a lock of its own, for one of many, for nothing, and for nothing behind many others.
    "/queue/jobs/21",
    "/queue/jobs/43",
    "/queue/jobs/70",
    "/queue/jobs/42",
    "/queue/jobs/47001",
    "/queue/queues",
    "/queue/tasks",
    "/queue/locks",
    "/queue/locks?lock=lock+300",
    "/queue/workers",
];

/// Old pending jobs with and without times and locks, and behind them finished ones. A few have failed, and a few run.
const FILL: &str = "
    SET session_replication_role = replica;
    INSERT INTO procrastinate_jobs (queue_name, task_name, lock, scheduled_at, status, worker_id)
    SELECT 'q', 't',
        CASE WHEN n % 3 = 0 THEN CASE WHEN n % 30 = 0 THEN 'hot' ELSE 'lock ' || n END END,
        CASE WHEN n % 3 = 1 THEN now() + (n % 5 - 2) * interval '1 hour' END,
        (CASE WHEN n <= $MANY * 3 / 5 THEN 'todo' ELSE 'succeeded' END)::procrastinate_job_status, NULL
    FROM generate_series(1, $MANY) AS n;
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT job.id, event.type::procrastinate_job_event_type,
        now() - interval '20 hours' + job.id * interval '0.4 seconds' + event.seconds * interval '1 second'
    FROM procrastinate_jobs AS job
    CROSS JOIN LATERAL (VALUES ('deferred', 0), (CASE WHEN job.status = 'succeeded' THEN 'started' END, 2),
        (CASE WHEN job.status = 'succeeded' THEN 'succeeded' END, 5)) AS event (type, seconds)
    WHERE event.type IS NOT NULL AND job.id > (SELECT coalesce(max(job_id), 0) FROM procrastinate_events)
    ORDER BY 3;
    RESET session_replication_role";

/// What all connections have read of jobs and events.
#[derive(Debug, Clone, Copy, PartialEq, QueryableByName)]
struct Reads {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    whole_tables: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    rows: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    index_blocks: i64,
}

fn total(connection: &mut PgConnection) -> Reads {
    diesel::sql_query(
        "SELECT sum(tables.seq_scan)::bigint AS whole_tables, sum(tables.idx_tup_fetch)::bigint AS rows,
                sum(blocks.idx_blks_read + blocks.idx_blks_hit)::bigint AS index_blocks
         FROM pg_stat_user_tables AS tables JOIN pg_statio_user_tables AS blocks USING (relid)
         WHERE tables.relname IN ('procrastinate_jobs', 'procrastinate_events')",
    )
    .get_result(connection)
    .unwrap()
}

/// What a page reads, with connections of its own. A connection that ends reports what it has read.
async fn reads(database: &Database, page: &str, connection: &mut PgConnection) -> Reads {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                  AND backend_type = 'client backend'";
    let before = total(connection);
    let served = Served::to_operator(database).await;
    let response = served.get(page).await;
    assert_eq!(response.status, 200, "{page}: {}", response.body);
    drop(served);
    eventually("the connections of the page end", || rows(connection, others) == ["0"]).await;
    let mut after = before;
    eventually("the server has counted", || {
        after = total(connection);
        after != before
    })
    .await;
    Reads {
        whole_tables: after.whole_tables - before.whole_tables,
        rows: after.rows - before.rows,
        index_blocks: after.index_blocks - before.index_blocks,
    }
}

#[tokio::test]
async fn no_page_reads_more_when_the_tables_double() {
    let database = database();
    let mut connection = superuser(&database);
    // Before, the counts of a connection that has ended arrive later, in parts.
    if rows(&mut connection, "SELECT current_setting('server_version_num')::integer < 150000") == ["true"] {
        eprintln!("skipped: admin::growth: it takes PostgreSQL 15");
        return;
    }
    let fill = FILL.replace("$MANY", &MANY.to_string());
    sql(
        &mut connection,
        "ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false);
         ALTER TABLE procrastinate_events SET (autovacuum_enabled = false);
         SELECT procrastinate_register_worker_v1();
         UPDATE procrastinate_workers SET last_heartbeat = now() + interval '1 hour';
         INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)
         SELECT 'q', 't', (CASE WHEN n <= 20 THEN 'failed' WHEN n <= 30 THEN 'doing' ELSE 'cancelled' END)
                ::procrastinate_job_status, CASE WHEN n BETWEEN 21 AND 30 THEN 1 END
         FROM generate_series(1, 40) AS n;
         ANALYZE procrastinate_jobs, procrastinate_events",
    );
    sql(&mut connection, &fill);
    let mut first = HashMap::new();
    for page in PAGES {
        first.insert(page, reads(&database, page, &mut connection).await);
    }
    sql(&mut connection, &fill);
    let mut wrong = Vec::new();
    for statistics in ["stale", "no", "fresh"] {
        match statistics {
            "no" => {
                forget_statistics(&mut connection, "procrastinate_jobs");
                forget_statistics(&mut connection, "procrastinate_events");
            }
            "fresh" => sql(&mut connection, "ANALYZE procrastinate_jobs, procrastinate_events"),
            _ => {}
        }
        for page in PAGES {
            let (few, many) = (first[page], reads(&database, page, &mut connection).await);
            // Indexes are a little deeper where there is more in them.
            let is_well = many.whole_tables == 0
                && many.rows <= few.rows + few.rows / 10 + 100
                && many.index_blocks <= few.index_blocks + few.index_blocks * 3 / 5 + 200;
            if !is_well {
                wrong.push(format!("{page} with {statistics} statistics: {many:?}, before {few:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
