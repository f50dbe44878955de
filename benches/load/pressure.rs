//! An old transaction, more load than usual, readers and bursts. Meanwhile the rate must be what it was before, and the
//! tables must not grow without end.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Measured;
use crate::arguments::Arguments;
use crate::phases::{Stage, USUAL_RATE};
use crate::server::{LoadServer, connect};

/// What happens beside the usual load.
#[derive(Debug, Clone, Copy)]
enum Pressure {
    OldTransaction,
    HighLoad,
    Readers,
    Burst,
}

/// How many readers there are.
const READERS: usize = 4;

pub(crate) async fn measure(server: &LoadServer, arguments: &Arguments) -> Measured<()> {
    println!(
        "\n| pressure | jobs/s before | meanwhile | afterwards | ratio | pending afterwards | dead rows meanwhile | \
         jobs, indexes, MiB | events, indexes, MiB | unfinished jobs |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (name, pressure) in [
        ("a transaction stays open", Pressure::OldTransaction),
        ("half as many jobs again", Pressure::HighLoad),
        ("four readers, each in a transaction", Pressure::Readers),
        ("three times as many jobs", Pressure::Burst),
    ] {
        // Deleted jobs leave the most dead rows.
        let mut stage = Stage::start(server.database()?, USUAL_RATE, true)?;
        stage.phase(Duration::from_secs(5)).await?;
        let before = stage.phase(arguments.phase()).await?;
        let mut others = JoinSet::new();
        match pressure {
            Pressure::OldTransaction => {
                let client = connect(stage.database.url()).await?;
                client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
                others.spawn(async move {
                    let _client = client;
                    sleep(Duration::MAX).await;
                });
            }
            Pressure::HighLoad => stage.add_replica(USUAL_RATE / 2.0)?,
            Pressure::Burst => stage.add_replica(USUAL_RATE * 2.0)?,
            Pressure::Readers => {
                for _ in 0..READERS {
                    others.spawn(read(stage.database.url().to_owned()));
                }
            }
        }
        let meanwhile = stage.phase(arguments.phase() * 3).await?;
        others.shutdown().await;
        if matches!(pressure, Pressure::HighLoad | Pressure::Burst) {
            stage.remove_replica().await?;
        }
        let after = stage.phase(arguments.phase()).await?;
        let unfinished = stage.finish().await?;
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.2} | {} | {} | {:.0}, {:.0} | {:.0}, {:.0} | {unfinished} |",
            before.rate,
            meanwhile.rate,
            after.rate,
            meanwhile.rate / before.rate,
            after.pending,
            meanwhile.jobs.dead + meanwhile.events.dead,
            after.jobs.table_mib,
            after.jobs.indexes_mib,
            after.events.table_mib,
            after.events.indexes_mib,
        );
    }
    Ok(())
}

/// Reads the tables again and again, ten seconds long in one snapshot.
async fn read(url: String) {
    let Ok(client) = connect(&url).await else { return };
    loop {
        let _ = client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        for _ in 0..10 {
            let _ = client
                .batch_execute(
                    "SELECT status, count(*) FROM procrastinate_jobs GROUP BY status;
                     SELECT count(*) FROM procrastinate_events",
                )
                .await;
            sleep(Duration::from_secs(1)).await;
        }
        let _ = client.batch_execute("COMMIT").await;
    }
}
