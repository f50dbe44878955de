//! This crate.

use std::time::Instant;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, DieselConnector, task};

use crate::{BATCH, CONCURRENCY, Measured, Sample, Sizes, TEXT, begin_work, latencies, rate, started, processed};

#[task]
async fn no_op(a: i64, b: String) {
    drop((a, b));
    started();
}

pub async fn measure(url: &str, sizes: Sizes, local_buffer: usize) -> Measured<Sample> {
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
    let worker =
        app.worker().concurrency(CONCURRENCY as usize).local_buffer(local_buffer).install_signal_handlers(false);
    let handle = worker.handle();
    let running = tokio::spawn(worker.run());
    let left = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'";
    let work = processed(url, sizes.single + sizes.bulk, left, began_at).await?;
    let latency = latencies(sizes.latency, async |a| {
        no_op(a, TEXT.to_owned()).defer(&mut connection).await?;
        Ok(())
    })
    .await?;
    handle.stop();
    running.await??;
    Ok(Sample { single, bulk: Some(bulk), work, latency })
}
