//! Kills, restarts, terminated sessions and exhausted connections. Afterwards the rate must be what it was before.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Measured;
use crate::arguments::Arguments;
use crate::phases::{Stage, USUAL_RATE};
use crate::server::{LoadServer, connect};

/// What is done to the replicas or their server.
#[derive(Debug, Clone, Copy)]
enum Disturbance {
    RestartServer,
    TerminateSessions,
    ExhaustConnections,
    CrashAndRecover,
    KillRepeatedly,
}

/// How many idle connections leave few for the queue.
const IDLE_CONNECTIONS: usize = 300;

pub(crate) async fn measure(server: &LoadServer, arguments: &Arguments) -> Measured<()> {
    println!(
        "\n| chaos | jobs/s before | meanwhile | afterwards | ratio | unfinished jobs |\n|---|---|---|---|---|---|"
    );
    for (name, disturbance) in [
        ("the server restarts", Disturbance::RestartServer),
        ("five sessions a second are terminated", Disturbance::TerminateSessions),
        ("300 idle connections", Disturbance::ExhaustConnections),
        ("one of two replicas is killed, and starts again", Disturbance::CrashAndRecover),
        ("one of two replicas is killed every five seconds", Disturbance::KillRepeatedly),
    ] {
        let mut stage = Stage::start(server.database()?, USUAL_RATE, false)?;
        // The replicas start.
        stage.phase(Duration::from_secs(5)).await?;
        let before = stage.phase(arguments.phase()).await?;
        disturb(server, &mut stage, disturbance, arguments.phase()).await?;
        let meanwhile = stage.phase(Duration::from_secs(2)).await?;
        let after = stage.phase(arguments.phase()).await?;
        let unfinished = stage.finish().await?;
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.2} | {unfinished} |",
            before.rate,
            meanwhile.rate,
            after.rate,
            after.rate / before.rate
        );
    }
    Ok(())
}

async fn disturb(server: &LoadServer, stage: &mut Stage, disturbance: Disturbance, length: Duration) -> Measured<()> {
    let end = Instant::now() + length;
    match disturbance {
        Disturbance::RestartServer => server.restart().await?,
        Disturbance::TerminateSessions => {
            let client = stage.connect().await?;
            while Instant::now() < end {
                client
                    .execute(
                        "SELECT pg_terminate_backend(pid) FROM (
                            SELECT pid FROM pg_stat_activity
                            WHERE datname = current_database() AND pid <> pg_backend_pid()
                              AND backend_type = 'client backend'
                            ORDER BY random() LIMIT 1) AS victim",
                        &[],
                    )
                    .await?;
                sleep(Duration::from_millis(200)).await;
            }
        }
        Disturbance::ExhaustConnections => {
            let mut idle = Vec::new();
            for _ in 0..IDLE_CONNECTIONS {
                idle.push(connect(stage.database.superuser_url()).await?);
            }
            sleep(length).await;
        }
        Disturbance::CrashAndRecover => {
            stage.kill_first().await?;
            sleep(length).await;
            stage.start_first(USUAL_RATE)?;
        }
        Disturbance::KillRepeatedly => {
            while Instant::now() < end {
                stage.kill_first().await?;
                stage.start_first(USUAL_RATE)?;
                sleep(Duration::from_secs(5)).await;
            }
        }
    }
    Ok(())
}
