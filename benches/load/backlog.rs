//! A million pending jobs: the memory of a worker, and its speed beside an empty queue.

use std::time::Instant;

use procrastinate::{App, task};

use crate::Measured;
use crate::arguments::Arguments;
use crate::server::{LoadServer, connect, connector};

/// How many jobs are processed in each measurement.
const PROCESSED: u32 = 20_000;

#[task]
async fn nothing() {}

pub(crate) async fn measure(server: &LoadServer, arguments: &Arguments) -> Measured<()> {
    println!(
        "\n| pending jobs | jobs/s, concurrency 10 and a local buffer of 100 | memory before, MiB | afterwards |\n\
         |---|---|---|---|"
    );
    for pending in [PROCESSED, arguments.backlog()] {
        let database = server.database()?;
        let client = connect(database.superuser_url()).await?;
        client.batch_execute("SET session_replication_role = replica").await?;
        client
            .batch_execute(&format!(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args)
                SELECT 'default', 'nothing', '{{}}' FROM generate_series(1, {pending})"
            ))
            .await?;
        let app = App::builder(connector(database.url(), 5).await?).task::<nothing>().build()?;
        let before = memory_mib()?;
        let worker = app.worker().concurrency(10).local_buffer(100).install_signal_handlers(false);
        let (handle, start) = (worker.handle(), Instant::now());
        let running = tokio::spawn(worker.run());
        let done = "SELECT count(*) >= $1::bigint FROM procrastinate_jobs WHERE status = 'succeeded'";
        while !client.query_one(done, &[&i64::from(PROCESSED)]).await?.get::<_, bool>(0) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let rate = f64::from(PROCESSED) / start.elapsed().as_secs_f64();
        let afterwards = memory_mib()?;
        handle.stop();
        running.await??;
        println!("| {pending} | {rate:.0} | {before:.1} | {afterwards:.1} |");
    }
    Ok(())
}

/// The memory of this process that is in use, where the system says so.
fn memory_mib() -> Measured<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the system does not say")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
