//! fang, async. It has no batches and deletes finished jobs. It polls for new jobs every five seconds or less often
//! when idle, so its latency is not measured.

use std::time::Instant;

use diesel::{Connection, PgConnection};
use fang::asynk::async_queue::{AsyncQueue, AsyncQueueable};
use fang::asynk::async_runnable::AsyncRunnable;
use fang::asynk::async_worker_pool::AsyncWorkerPool;
use fang::{FangError, run_migrations_postgres};
use serde::{Deserialize, Serialize};

use crate::{Measured, Sample, Sizes, TEXT, begin_work, processed, rate, started};

#[derive(Serialize, Deserialize)]
struct NoOp {
    a: i64,
    b: String,
}

#[typetag::serde]
#[async_trait::async_trait]
impl AsyncRunnable for NoOp {
    async fn run(&self, _: &dyn AsyncQueueable) -> Result<(), FangError> {
        started();
        Ok(())
    }
}

const CONCURRENCY: u32 = 10;

pub async fn measure(url: &str, sizes: Sizes) -> Measured<Sample> {
    let own = url.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut connection = PgConnection::establish(&own).map_err(|error| error.to_string())?;
        run_migrations_postgres(&mut connection).map(drop).map_err(|error| error.to_string())
    })
    .await??;
    let mut queue = AsyncQueue::builder().uri(url).max_pool_size(CONCURRENCY).build();
    queue.connect().await.map_err(|error| error.to_string())?;

    let began_at = Instant::now();
    for a in 0..sizes.single {
        let job = NoOp { a: a.into(), b: TEXT.to_owned() };
        queue.insert_task(&job as &dyn AsyncRunnable).await.map_err(|error| error.to_string())?;
    }
    let single = rate(sizes.single, began_at);

    let began_at = begin_work();
    let mut pool: AsyncWorkerPool<AsyncQueue> =
        AsyncWorkerPool::builder().number_of_workers(CONCURRENCY).queue(queue.clone()).build();
    pool.start().await;
    let left = "SELECT count(*) FROM fang_tasks";
    let work = processed(url, sizes.single, left, began_at).await?;
    Ok(Sample { single, bulk: None, work, latency: Vec::new() })
}
