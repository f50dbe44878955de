//! The limit: raw SQL on the crate's own tables, with prepared statements. It writes only what must be in the database
//! afterwards.

use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::tasks::arguments;
use crate::{Measured, bench_server};

/// The number of jobs that one statement fetches or finishes.
const BATCH: i64 = 500;
/// The number of connections.
const CONNECTIONS: usize = 4;

/// Inserts one job per statement. The tables' triggers write the event and notify.
pub(crate) struct Insert<'a> {
    client: &'a Client,
    statement: Statement,
}

impl<'a> Insert<'a> {
    pub(crate) async fn prepare(client: &'a Client) -> Measured<Self> {
        let statement = client
            .prepare(
                "INSERT INTO procrastinate_jobs
                     (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
                 VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::timestamptz)
                 RETURNING id",
            )
            .await?;
        Ok(Self { client, statement })
    }

    pub(crate) async fn run(&self, queue: &str, task: &str, a: i64) -> Measured<i64> {
        let nothing: Option<&str> = None;
        let args = arguments(a);
        let values: [&(dyn ToSql + Sync); 7] = [&queue, &task, &0, &nothing, &nothing, &args, &nothing];
        Ok(self.client.query_one(&self.statement, &values).await?.get(0))
    }
}

/// Inserts up to a thousand jobs, their events, and one notification per channel in one statement.
pub(crate) struct BulkInsert<'a> {
    client: &'a Client,
    statement: Statement,
}

impl<'a> BulkInsert<'a> {
    pub(crate) async fn prepare(client: &'a Client) -> Measured<Self> {
        let statement = client
            .prepare(
                "WITH inserted AS (
                     INSERT INTO procrastinate_jobs
                         (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
                     SELECT 'work', 'no_op', 0, NULL, NULL, args::jsonb, NULL FROM unnest($1::text[]) AS args
                     RETURNING id),
                 events AS (
                     INSERT INTO procrastinate_events (job_id, type) SELECT id, 'deferred' FROM inserted),
                 collected AS (
                     SELECT array_agg(id) AS ids,
                            json_build_object('type', 'job_inserted', 'job_id', min(id))::text AS message
                     FROM inserted)
                 SELECT ids, pg_notify('procrastinate_queue_v1#work', message),
                        pg_notify('procrastinate_any_queue_v1', message)
                 FROM collected",
            )
            .await?;
        Ok(Self { client, statement })
    }

    pub(crate) async fn run(&self, args: &[String]) -> Measured<Vec<i64>> {
        Ok(self.client.query_one(&self.statement, &[&args]).await?.get(0))
    }
}

/// Prepares the statement that fetches the job of a notification.
pub(crate) async fn prepare_fetch_one(client: &Client) -> Measured<Statement> {
    Ok(client
        .prepare(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = $1 AND status = 'todo'
             RETURNING id, task_name, args::text",
        )
        .await?)
}

/// Processes all pending jobs, and returns how long that took.
pub(crate) async fn process(url: &str, delete_jobs: bool) -> Measured<Duration> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(bench_server::connect(url).await?);
    }
    let started_at = Instant::now();
    let running: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(process_on_connection(client, delete_jobs))).collect();
    for one in running {
        one.await??;
    }
    Ok(started_at.elapsed())
}

/// The parts of the statements that start and finish jobs.
const START: &str = "UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = $1
    FROM (SELECT id FROM procrastinate_jobs
          WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL
          ORDER BY priority DESC, id LIMIT $2 FOR UPDATE SKIP LOCKED) AS next
    WHERE job.id = next.id
    RETURNING job.id, job.task_name, job.args";
const END: &str = "UPDATE procrastinate_jobs SET status = 'succeeded', attempts = attempts + 1, worker_id = NULL
    WHERE id = ANY ($IDS) AND status = 'doing' AND worker_id = $1
    RETURNING id";
const DELETE: &str = "DELETE FROM procrastinate_jobs WHERE id = ANY ($IDS) AND status = 'doing' AND worker_id = $1
    RETURNING id";

async fn register(client: &Client) -> Measured<i64> {
    Ok(client.query_one("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id", &[]).await?.get(0))
}

async fn process_on_connection(client: Client, delete_jobs: bool) -> Measured<()> {
    let worker = register(&client).await?;
    let fetch = client
        .prepare(&format!(
            "WITH started AS ({START}),
                  events AS (INSERT INTO procrastinate_events (job_id, type) SELECT id, 'started' FROM started)
             SELECT id, task_name, args::text FROM started"
        ))
        .await?;
    let finish = if delete_jobs {
        DELETE.to_owned()
    } else {
        format!(
            "WITH ended AS ({END}) INSERT INTO procrastinate_events (job_id, type) SELECT id, 'succeeded' FROM ended"
        )
    };
    let finish = client.prepare(&finish.replace("$IDS", "$2")).await?;
    loop {
        let jobs = client.query(&fetch, &[&worker, &BATCH]).await?;
        if jobs.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = jobs.iter().map(|job| job.get(0)).collect();
        client.execute(&finish, &[&worker, &ids]).await?;
    }
}

/// Processes all pending jobs like a worker that holds this many: on one connection. The statement that finishes jobs
/// also fetches the next ones.
pub(crate) async fn process_in_small_batches(url: &str, at_a_time: usize, delete_jobs: bool) -> Measured<Duration> {
    let client = bench_server::connect(url).await?;
    let limit = i64::try_from(at_a_time)?;
    let started_at = Instant::now();
    let worker = register(&client).await?;
    let end = if delete_jobs {
        format!("ended AS ({DELETE})")
    } else {
        format!(
            "ended AS ({END}),
             ended_events AS (INSERT INTO procrastinate_events (job_id, type) SELECT id, 'succeeded' FROM ended)"
        )
    };
    let exchange = client
        .prepare(&format!(
            "WITH {end},
                  started AS ({START}),
                  started_events AS (INSERT INTO procrastinate_events (job_id, type) SELECT id, 'started' FROM started)
             SELECT id, task_name, args::text FROM started",
            end = end.replace("$IDS", "$3")
        ))
        .await?;
    let mut ids: Vec<i64> = Vec::new();
    loop {
        let jobs = client.query(&exchange, &[&worker, &limit, &ids]).await?;
        if jobs.is_empty() {
            return Ok(started_at.elapsed());
        }
        ids = jobs.iter().map(|job| job.get(0)).collect();
    }
}
