//! This crate.

use std::time::Instant;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, DeleteJobs, DieselConnector, task};
use tokio::task::JoinSet;

use crate::{BATCH, Measured, Sample, Sizes, TEXT, begin_work, latencies, processed, rate, started};

/// The settings of the workers.
#[derive(Clone, Copy)]
pub struct Settings {
    pub workers: usize,
    pub concurrency: usize,
    pub local_buffer: usize,
    pub deletes: bool,
}

impl Settings {
    pub const AT_TEN: Self = Self { workers: 1, concurrency: 10, local_buffer: 0, deletes: false };
    pub const AT_MOST: Self = Self { workers: 1, concurrency: 100, local_buffer: 500, deletes: false };
}

#[task]
async fn no_op(a: i64, b: String) {
    drop((a, b));
    started();
}

pub async fn measure(url: &str, sizes: Sizes, settings: Settings) -> Measured<Sample> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    let pool = Pool::builder().max_size(10).build(manager).await?;
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<no_op>().build()?;
    let mut connection = pool.get().await?;

    let began_at = Instant::now();
    for a in 0..sizes.single {
        no_op(a.into(), TEXT.to_owned()).defer(&mut connection).await?;
    }
    let single = rate(sizes.single, began_at);
    let began_at = Instant::now();
    for batch in 0..sizes.bulk / BATCH {
        app.batch_defer((0..BATCH).map(|a| no_op((batch * BATCH + a).into(), TEXT.to_owned()))).await?;
    }
    let bulk = rate(sizes.bulk, began_at);

    let began_at = begin_work();
    let mut handles = Vec::new();
    let mut running = JoinSet::new();
    for _ in 0..settings.workers {
        let worker = app
            .worker()
            .concurrency(settings.concurrency)
            .local_buffer(settings.local_buffer)
            .delete_jobs(if settings.deletes { DeleteJobs::Always } else { DeleteJobs::Never })
            .install_signal_handlers(false);
        handles.push(worker.handle());
        running.spawn(worker.run());
    }
    let left = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'";
    let work = processed(url, sizes.single + sizes.bulk, left, began_at).await?;
    let latency = latencies(sizes.latency, async |a| {
        no_op(a, TEXT.to_owned()).defer(&mut connection).await?;
        Ok(())
    })
    .await?;
    for handle in handles {
        handle.stop();
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(Sample { single, bulk: Some(bulk), work, latency })
}
