//! River for Rust. It keeps finished jobs.

use std::time::{Duration, Instant};

use riverqueue::migrate::PostgresMigrator;
use riverqueue::sqlx::PgPool;
use riverqueue::{BoxError, Client, InsertOpts, Job, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers};
use serde::{Deserialize, Serialize};

use crate::{BATCH, Measured, Sample, Sizes, TEXT, begin_work, latencies, processed, rate, started};

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "no_op")]
struct NoOp {
    a: i64,
    b: String,
}

fn no_op(a: u32) -> NoOp {
    NoOp { a: a.into(), b: TEXT.to_owned() }
}

async fn run(_: WorkContext, job: Job<NoOp>) -> Result<WorkOutcome, BoxError> {
    drop((job.args.a, job.args.b));
    started();
    Ok(WorkOutcome::Complete)
}

/// Without a cooldown, it fetches as its documentation says.
pub async fn measure(url: &str, sizes: Sizes, concurrency: usize, cooldown: Option<Duration>) -> Measured<Sample> {
    let pool = PgPool::connect(url).await?;
    PostgresMigrator::new(pool.clone()).migrate_up().await?;
    let mut workers = Workers::new();
    workers.add_fn(run)?;
    let mut client = Client::builder(pool).workers(workers).queue("default", QueueConfig::new(concurrency));
    if let Some(cooldown) = cooldown {
        client = client.fetch_cooldown(cooldown);
    }
    let client = client.build()?;

    let began_at = Instant::now();
    for a in 0..sizes.single {
        client.insert(no_op(a)).await?;
    }
    let single = rate(sizes.single, began_at);
    let began_at = Instant::now();
    for batch in 0..sizes.bulk / BATCH {
        client.insert_many((0..BATCH).map(|a| (no_op(batch * BATCH + a), InsertOpts::default()))).await?;
    }
    let bulk = rate(sizes.bulk, began_at);

    let began_at = begin_work();
    let mut running = client.start()?;
    let left = "SELECT count(*) FROM river_job WHERE state <> 'completed'";
    let work = processed(url, sizes.single + sizes.bulk, left, began_at).await?;
    let latency = latencies(sizes.latency, async |_| {
        client.insert(no_op(0)).await?;
        Ok(())
    })
    .await?;
    running.stop().await?;
    Ok(Sample { single, bulk: Some(bulk), work, latency })
}
