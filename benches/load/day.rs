//! The traffic of a day in a shorter time: how large the tables become, with the autovacuum settings of the server and
//! with other ones at the same time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Measured;
use crate::arguments::Arguments;
use crate::phases::{Stage, USUAL_RATE, pending};
use crate::server::{LoadServer, TABLES, size_of};

/// The settings to compare, for each of the two large tables.
const SETTINGS: [(&str, Option<&str>); 2] = [
    ("those of the server", None),
    (
        "for the tables",
        Some(
            "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, \
             autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1",
        ),
    ),
];

/// How often finished jobs are deleted. In the shorter time, it stands for the end of a day or so.
const DELETE_EVERY: Duration = Duration::from_secs(10);

/// How long finished jobs are kept.
const KEEP: &str = "60 seconds";

/// Jobs per second on each database.
const RATE: f64 = USUAL_RATE / 2.0;

pub(crate) async fn measure(server: &LoadServer, arguments: &Arguments) -> Measured<()> {
    println!(
        "\n| autovacuum settings | after | jobs deferred | pending | jobs: rows, dead | table, indexes, MiB | \
         events: rows, dead | table, indexes, MiB | vacuums |\n|---|---|---|---|---|---|---|---|---|"
    );
    // At the same time, so that both have the same conditions.
    let [server_settings, table_settings] = SETTINGS.map(|settings| day(server, settings, arguments.day()));
    tokio::try_join!(server_settings, table_settings)?;
    Ok(())
}

async fn day(server: &LoadServer, (name, settings): (&str, Option<&str>), length: Duration) -> Measured<()> {
    let stage = Stage::start(server.database()?, RATE, false)?;
    let client = stage.connect().await?;
    for table in TABLES {
        if let Some(settings) = settings {
            client.batch_execute(&format!("ALTER TABLE {table} SET ({settings})")).await?;
        }
    }
    let start = Instant::now();
    for step in 1..=6 {
        let until = start + length * step / 6;
        while Instant::now() < until {
            sleep(DELETE_EVERY.min(until - Instant::now())).await;
            client
                .batch_execute(&format!(
                    "DELETE FROM procrastinate_jobs WHERE status = 'succeeded' AND id IN (
                        SELECT job_id FROM procrastinate_events
                        WHERE type = 'succeeded' AND at < now() - interval '{KEEP}')"
                ))
                .await?;
        }
        let [jobs, events] = [size_of(&client, TABLES[0]).await?, size_of(&client, TABLES[1]).await?];
        println!(
            "| {name} | {:.0} s | {} | {} | {}, {} | {:.0}, {:.0} | {}, {} | {:.0}, {:.0} | {} |",
            start.elapsed().as_secs_f64(),
            stage.deferred(),
            pending(&client).await?,
            jobs.live,
            jobs.dead,
            jobs.table_mib,
            jobs.indexes_mib,
            events.live,
            events.dead,
            events.table_mib,
            events.indexes_mib,
            jobs.vacuums + events.vacuums,
        );
    }
    stage.finish().await?;
    Ok(())
}
