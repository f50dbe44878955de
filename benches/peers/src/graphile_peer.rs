//! graphile_worker. It deletes finished jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graphile_worker::{IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions};
use serde::{Deserialize, Serialize};

use crate::{BATCH, Measured, Sample, Sizes, TEXT, begin_work, latencies, processed, rate, started};

#[derive(Clone, Serialize, Deserialize)]
struct NoOp {
    a: i64,
    b: String,
}

impl TaskHandler for NoOp {
    const IDENTIFIER: &'static str = "no_op";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        drop((self.a, self.b));
        started();
        Ok::<(), String>(())
    }
}

fn no_op(a: u32) -> NoOp {
    NoOp { a: a.into(), b: TEXT.to_owned() }
}

pub async fn measure(url: &str, sizes: Sizes, concurrency: usize, local_queue: Option<usize>) -> Measured<Sample> {
    let options = WorkerOptions::default()
        .database_url(url)
        .max_pg_conn(10)
        .concurrency(concurrency)
        .schema("graphile_worker")
        .define_job::<NoOp>()
        .listen_os_shutdown_signals(false);
    let options = match local_queue {
        // What its documentation advises for throughput.
        Some(size) => options
            .local_queue(LocalQueueConfig::default().with_size(size))
            .complete_job_batch_delay(Duration::from_millis(5)),
        None => options,
    };
    let worker = Arc::new(options.init().await?);
    let utils = worker.create_utils();

    let began_at = Instant::now();
    for a in 0..sizes.single {
        utils.add_job(no_op(a), JobSpec::default()).await?;
    }
    let single = rate(sizes.single, began_at);
    let spec = JobSpec::default();
    let began_at = Instant::now();
    for batch in 0..sizes.bulk / BATCH {
        let jobs: Vec<_> = (0..BATCH).map(|a| (no_op(batch * BATCH + a), &spec)).collect();
        utils.add_jobs::<NoOp>(&jobs).await?;
    }
    let bulk = rate(sizes.bulk, began_at);

    let began_at = begin_work();
    // Without a local queue, `run` fetches one job per notification, and one per slot and poll. So a backlog is
    // processed with `run_once`, which continues until no job is left.
    if local_queue.is_none() {
        worker.run_once().await?;
    }
    let running = tokio::spawn({
        let worker = Arc::clone(&worker);
        async move { worker.run().await.map_err(|error| error.to_string()) }
    });
    let left = "SELECT count(*) FROM graphile_worker.jobs";
    let work = processed(url, sizes.single + sizes.bulk, left, began_at).await?;
    let latency = latencies(sizes.latency, async |_| {
        utils.add_job(no_op(0), JobSpec::default()).await?;
        Ok(())
    })
    .await?;
    worker.request_shutdown();
    running.await??;
    Ok(Sample { single, bulk: Some(bulk), work, latency })
}
