//! The conditions of the models on a million jobs: those that are documented to use an index do, and read only what
//! they return.

use std::cell::Cell;

use chrono::{TimeDelta, Utc};
use diesel::prelude::*;
use procrastinate::job_manager::list_queues;
use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
use procrastinate::schema::{procrastinate_events, procrastinate_jobs};
use procrastinate::{JobEventType, JobId, JobStatus};

use crate::database::plans::{Reads, measure};
use crate::support::{connect, database, sql, superuser};

/// Of a million jobs 992,000 have succeeded, each in its second, and the last one a minute ago; the others are 2,000 each
/// that have failed, were cancelled, wait, and wait behind locks, of which there are two hundred; 100 run. One in a thousand
/// is in the queue `rare`.
const MILLION: &str = "
    SET session_replication_role = replica;
    -- To make an index of what is there is quicker than to keep it up.
    CREATE TEMPORARY TABLE definitions AS
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename IN ('procrastinate_jobs', 'procrastinate_events') AND indexname NOT LIKE '%_pkey';
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT indexname FROM definitions LOOP EXECUTE format('DROP INDEX %I', name); END LOOP;
    END $$;
    INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now());
    INSERT INTO procrastinate_jobs
        (queue_name, task_name, status, attempts, lock, queueing_lock, scheduled_at, worker_id)
    SELECT CASE WHEN n % 1000 = 0 THEN 'rare' ELSE 'default' END,
           CASE WHEN n % 500 = 0 THEN 'rare' ELSE 'ordinary' END,
           (CASE WHEN n % 500 = 1 THEN 'failed' WHEN n % 500 = 2 THEN 'cancelled' WHEN n % 500 IN (3, 4) THEN 'todo'
                 WHEN n % 10000 = 5 THEN 'doing' ELSE 'succeeded' END)::procrastinate_job_status,
           1,
           CASE WHEN n % 500 = 4 THEN 'lock ' || n / 500 % 200 END,
           CASE WHEN n % 500 = 4 THEN 'queueing lock ' || n END,
           CASE WHEN n % 500 = 3 THEN now() + n * interval '1 second' END,
           CASE WHEN n % 10000 = 5 THEN 1 END
    FROM generate_series(1, 1000000) AS n;
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, status::text::procrastinate_job_event_type, now() - (1000060 - id) * interval '1 second'
    FROM procrastinate_jobs WHERE status IN ('succeeded', 'failed', 'cancelled');
    DO $$ DECLARE definition text; BEGIN
        FOR definition IN SELECT indexdef FROM definitions LOOP EXECUTE definition; END LOOP;
    END $$;
    RESET session_replication_role;
    ANALYZE procrastinate_jobs, procrastinate_events";

/// The query, how many rows it returns, and how many rows of indexes it may read.
type Query = (&'static str, fn(&mut PgConnection) -> QueryResult<usize>, usize, i64);

macro_rules! jobs {
    ($($filter:expr),+) => {
        |connection| {
            let jobs: Vec<ProcrastinateJob> = ProcrastinateJob::query()$(.filter($filter))+.load(connection)?;
            Ok(jobs.len())
        }
    };
}

/// The twenty newest, as a page shows them.
macro_rules! newest_jobs {
    ($($filter:expr),*) => {
        |connection| {
            let page = ProcrastinateJob::query()$(.filter($filter))*.order(ProcrastinateJob::newest_first()).limit(20);
            Ok(page.load(connection)?.len())
        }
    };
}

const QUERIES: [Query; 15] = [
    ("by number", jobs!(ProcrastinateJob::has_id(JobId::from(500_000))), 1, 10),
    ("failed", jobs!(ProcrastinateJob::has_status(JobStatus::Failed)), 2_000, 3_000),
    ("cancelled", newest_jobs!(ProcrastinateJob::has_status(JobStatus::Cancelled)), 20, 100),
    ("running", jobs!(ProcrastinateJob::has_status(JobStatus::Doing)), 100, 1_000),
    ("waiting", jobs!(ProcrastinateJob::has_status(JobStatus::Todo)), 4_000, 10_000),
    ("newest", newest_jobs!(), 20, 100),
    (
        "by task among those that have failed",
        jobs!(ProcrastinateJob::of_task("ordinary"), ProcrastinateJob::has_status(JobStatus::Failed)),
        2_000,
        3_000,
    ),
    ("by lock", jobs!(ProcrastinateJob::has_lock("lock 7"), ProcrastinateJob::has_status(JobStatus::Todo)), 10, 100),
    (
        "by queueing lock",
        jobs!(ProcrastinateJob::has_queueing_lock("queueing lock 4"), ProcrastinateJob::has_status(JobStatus::Todo)),
        1,
        100,
    ),
    ("by worker", jobs!(ProcrastinateJob::of_worker(1), ProcrastinateJob::has_status(JobStatus::Doing)), 100, 1_000),
    (
        "scheduled",
        jobs!(
            ProcrastinateJob::scheduled_before(Utc::now() + TimeDelta::hours(1)),
            ProcrastinateJob::has_status(JobStatus::Todo)
        ),
        8,
        10_000,
    ),
    ("stalled", jobs!(ProcrastinateJob::stalled(Utc::now() + TimeDelta::hours(1))), 100, 1_000),
    (
        "old failures",
        newest_jobs!(
            ProcrastinateJob::finished_before(Utc::now() - TimeDelta::hours(1)),
            ProcrastinateJob::has_status(JobStatus::Failed)
        ),
        20,
        1_000,
    ),
    (
        "the events of a job",
        |connection| {
            let events = ProcrastinateEvent::query().filter(ProcrastinateEvent::of_job(JobId::from(500_000)));
            Ok(events.load(connection)?.len())
        },
        1,
        10,
    ),
    (
        "the last failures with their jobs",
        |connection| {
            let failures: Vec<(ProcrastinateEvent, ProcrastinateJob)> = procrastinate_events::table
                .inner_join(procrastinate_jobs::table)
                .filter(ProcrastinateEvent::of_type(JobEventType::Failed))
                .order(procrastinate_events::at.desc())
                .limit(20)
                .select((ProcrastinateEvent::as_select(), ProcrastinateJob::as_select()))
                .load(connection)?;
            Ok(failures.len())
        },
        20,
        200,
    ),
];

/// What is wrong with how a query has read, if anything.
fn complaint(connection: &mut PgConnection, (name, query, expected, most): Query) -> Option<String> {
    let found = Cell::new(0);
    let reads = measure(connection, |connection| found.set(query(connection).unwrap()));
    let is_well = |read: &Reads| read.seq_scan == 0 && read.idx_tup_fetch <= most;
    (found.get() != expected || !reads.iter().all(is_well)).then(|| format!("{name}: {} found, {reads:?}", found.get()))
}

#[test]
fn conditions_use_an_index_if_documented() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut superuser(&database), MILLION);
    // From the sixth time on a plan may be one that was made for all values.
    let complaints: Vec<_> =
        (0..7).flat_map(|_| QUERIES).filter_map(|query| complaint(&mut connection, query)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    // And the others would be noticed.
    let by_task: Query = ("by task", jobs!(ProcrastinateJob::of_task("rare")), 2_000, 3_000);
    assert!(complaint(&mut connection, by_task).is_some());
}

/// In steps along the jobs' numbers, each of which ends in time, and along an index where there is one for the status.
#[test]
fn jobs_are_counted_without_a_statement_that_reads_the_whole_table() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut superuser(&database), MILLION);
    let all = Cell::new(0);
    let reads = measure(&mut connection, |connection| {
        let counts = list_queues().execute_blocking(connection).unwrap();
        all.set(counts.iter().map(|counts| counts.jobs_count).sum());
    });
    assert_eq!(all.get(), 1_000_000);
    // It would pass them all in one go, without any index, if the step were not bounded.
    let jobs = reads.iter().find(|read| read.relname == "procrastinate_jobs").unwrap();
    assert!(jobs.seq_scan == 0 && (1_000_000..1_001_000).contains(&jobs.idx_tup_fetch), "{jobs:?}");

    let waiting = measure(&mut connection, |connection| {
        list_queues().status(JobStatus::Todo).execute_blocking(connection).unwrap();
    });
    assert!(waiting.iter().all(|read| read.seq_scan == 0 && read.idx_tup_fetch < 10_000), "{waiting:?}");
}
