//! Collects what the checker needs from the database and the ledgers.

use std::path::Path;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

use crate::Failure;
use crate::checker::{Event, Evidence, Job};
use crate::ledger::{Ledger, now};
use crate::server::{Server, persist};
use crate::worker::{AGE_OF_OLD_JOBS, STALLED_WORKER_TIMEOUT};

#[derive(QueryableByName)]
struct JobRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Text>)]
    token: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    schedule: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    tick: Option<i64>,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = BigInt)]
    job: i64,
    #[diesel(sql_type = Text)]
    kind: String,
}

#[derive(QueryableByName)]
struct Counts {
    #[diesel(sql_type = BigInt)]
    newest: i64,
    #[diesel(sql_type = BigInt)]
    unfinished: i64,
}

/// Returns the ID of the newest job, and how many jobs up to this ID have not finished.
pub(crate) async fn progress(server: &Server, up_to: i64) -> Result<(i64, i64), Failure> {
    persist(async || {
        let counts = diesel::sql_query(
            "SELECT coalesce(max(id), 0) AS newest,
                count(*) FILTER (WHERE status IN ('todo', 'doing') AND id <= $1) AS unfinished
            FROM procrastinate_jobs",
        );
        let counts: Counts = counts.bind::<BigInt, _>(up_to).get_result(&mut server.connect().await?).await?;
        Ok((counts.newest, counts.unfinished))
    })
    .await
}

/// Reads the tables and the ledgers.
pub(crate) async fn collect(
    server: &Server,
    ledgers: &Path,
    drained_up_to: i64,
    are_deleted: bool,
) -> Result<Evidence, Failure> {
    let mut connection = persist(async || server.connect().await).await?;
    let jobs: Vec<JobRow> = diesel::sql_query(
        "SELECT id, status::text, attempts, args ->> 'token' AS token, args ->> 'schedule' AS schedule,
            (args ->> 'timestamp')::bigint AS tick
        FROM procrastinate_jobs ORDER BY id",
    )
    .load(&mut connection)
    .await?;
    let events: Vec<EventRow> =
        diesel::sql_query("SELECT job_id AS job, type::text AS kind FROM procrastinate_events ORDER BY id")
            .load(&mut connection)
            .await?;
    let job = |row: JobRow| Job {
        id: row.id,
        status: row.status,
        attempts: row.attempts,
        token: row.token,
        tick: row.schedule.zip(row.tick),
    };
    Ok(Evidence {
        lines: Ledger::read_all(ledgers)?,
        jobs: jobs.into_iter().map(job).collect(),
        events: events.into_iter().map(|row| Event { job: row.job, kind: row.kind }).collect(),
        drained_up_to,
        timeout: i64::try_from(STALLED_WORKER_TIMEOUT.as_nanos())?,
        deleted_at_age: if are_deleted { Some(i64::try_from(AGE_OF_OLD_JOBS.as_nanos())?) } else { None },
        collected_at: now(),
    })
}
