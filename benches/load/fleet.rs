//! Two hundred workers on one database: how many transactions one job causes, how soon it starts, and how many
//! connections there are.

use std::sync::Arc;
use std::time::Duration;

use procrastinate::{App, task};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Measured;
use crate::arguments::Arguments;
use crate::server::{LoadServer, connect, connector, number};

/// Jobs per second.
const RATES: [u64; 3] = [1, 20, 200];

/// How many workers there are, and how many of them listen for notifications. The others poll.
const FLEETS: [(usize, usize); 4] = [(1, 1), (10, 10), (200, 200), (200, 20)];

#[task(pass_context)]
async fn tell(context: procrastinate::JobContext) {
    if let Ok(started) = context.state::<mpsc::UnboundedSender<Instant>>() {
        let _ = started.send(Instant::now());
    }
}

pub(crate) async fn measure(server: &LoadServer, arguments: &Arguments) -> Measured<()> {
    println!(
        "\n| workers | of which listen | jobs/s | from the defer to the start, p50, ms | p99 | transactions a job | connections |\n\
         |---|---|---|---|---|---|---|"
    );
    for (workers, listening) in FLEETS {
        let database = server.database()?;
        let (sender, mut started) = mpsc::unbounded_channel();
        let app = App::builder(connector(database.url(), 20).await?).task::<tell>().state(sender).build()?;
        let mut fleet = JoinSet::new();
        for number in 0..workers {
            let worker = app
                .worker()
                .update_heartbeat_interval(Duration::from_secs(5))
                .listen_notify(number < listening)
                .install_signal_handlers(false);
            fleet.spawn(worker.run());
            sleep(Duration::from_millis(20)).await;
        }
        // They hear of each other with their second heartbeat.
        sleep(Duration::from_secs(12)).await;
        let client = connect(database.superuser_url()).await?;
        for rate in RATES {
            let app = Arc::new(app.clone());
            let count = (arguments.phase().as_secs() * rate).clamp(10, 4_000);
            let (mut waits, before) = (Vec::new(), transactions(&client).await?);
            for _ in 0..count {
                let next = Instant::now() + Duration::from_secs_f64(1.0 / f64::from(u32::try_from(rate)?));
                let deferred = Instant::now();
                app.defer(tell()).await?;
                let start: Instant =
                    timeout(Duration::from_secs(10), started.recv()).await?.ok_or("the workers are gone")?;
                waits.push(start.duration_since(deferred).as_secs_f64() * 1_000.0);
                tokio::time::sleep_until(next).await;
            }
            sleep(Duration::from_secs(1)).await;
            let caused = transactions(&client).await? - before;
            let connections = number(
                &client,
                "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
            )
            .await?;
            waits.sort_by(f64::total_cmp);
            #[allow(clippy::cast_precision_loss, reason = "it is far below 2^52")]
            let share = caused as f64 / count as f64;
            println!(
                "| {workers} | {listening} | {rate} | {:.1} | {:.1} | {share:.1} | {connections} |",
                waits[waits.len() / 2],
                waits[waits.len() * 99 / 100],
            );
        }
        fleet.shutdown().await;
    }
    Ok(())
}

/// Committed transactions in the database so far, as far as the sessions have reported them.
async fn transactions(client: &tokio_postgres::Client) -> Measured<i64> {
    sleep(Duration::from_millis(1_500)).await;
    number(client, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").await
}
