//! apalis with apalis-postgres and notifications.

use std::time::Instant;

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use serde::{Deserialize, Serialize};

use crate::{BATCH, Measured, Sample, Sizes, TEXT, begin_work, latencies, processed, rate, started};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NoOp {
    a: i64,
    b: String,
}

fn no_op(a: u32) -> NoOp {
    NoOp { a: a.into(), b: TEXT.to_owned() }
}

async fn run(job: NoOp) -> Result<(), BoxDynError> {
    drop((job.a, job.b));
    started();
    Ok(())
}

pub async fn measure(url: &str, sizes: Sizes, concurrency: usize, batch: usize) -> Measured<Sample> {
    let pool = PgPool::connect(url).await?;
    PostgresStorage::setup(&pool).await?;
    let config = Config::default().queue("work").batch_size(batch);
    let mut storage = PostgresStorage::<NoOp>::new(&pool).with_config(config.clone());

    let began_at = Instant::now();
    for a in 0..sizes.single {
        storage.push(no_op(a)).await?;
    }
    let single = rate(sizes.single, began_at);
    let began_at = Instant::now();
    for batch in 0..sizes.bulk / BATCH {
        storage.push_bulk((0..BATCH).map(|a| no_op(batch * BATCH + a)).collect()).await?;
    }
    let bulk = rate(sizes.bulk, began_at);

    let began_at = begin_work();
    let backend = PostgresStorage::<NoOp>::new(&pool).with_config(config).with_pubsub();
    let worker = WorkerBuilder::new("worker").backend(backend).concurrency(concurrency).build(run);
    let running = tokio::spawn(worker.run());
    let left = "SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'";
    let work = processed(url, sizes.single + sizes.bulk, left, began_at).await?;
    let latency = latencies(sizes.latency, async |_| {
        storage.push(no_op(0)).await?;
        Ok(())
    })
    .await?;
    running.abort();
    Ok(Sample { single, bulk: Some(bulk), work, latency })
}
