//! A dump of the database that is restored in its place.

use std::path::Path;
use std::time::Duration;

use diesel_async::RunQueryDsl;
use procrastinate::DieselConnector;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::Rig;
use crate::Failure;
use crate::proxy::Network;
use crate::schedule::Fault;
use crate::tasks::pool;

/// How long sessions may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Dumps the database while nobody works in it, and goes on with a new database that is restored from the dump.
pub(super) async fn dump_and_restore(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    for process in rig.processes() {
        process.proxy.set(Network::Refuses);
    }
    let restored = restore(rig, fault).await;
    for process in rig.processes() {
        process.proxy.set(Network::Works);
    }
    restored
}

async fn restore(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    wait_until_alone(rig).await?;
    let server = &rig.server;
    let (name, new, former) = (&server.name, format!("restored_{}", fault.seed), format!("dumped_{}", fault.seed));
    let file = rig.directory.join(format!("{}.dump", fault.seed));
    let [url, new_url] = [server.url(), server.url_of(&new)];
    run(&server.program("pg_dump").await?, &["--format=custom", "--dbname", &url, "--file"], &file).await?;
    let template = "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'";
    server.administer(&format!("CREATE DATABASE \"{new}\" OWNER application {template}")).await?;
    run(&server.program("pg_restore").await?, &["--exit-on-error", "--dbname", &new_url], &file).await?;
    std::fs::remove_file(&file)?;
    DieselConnector::new(pool(&new_url)).check_contract().await?;
    let mut connection = server.connect_as_superuser().await?;
    for statement in [
        format!("ALTER DATABASE \"{name}\" RENAME TO \"{former}\""),
        format!("ALTER DATABASE \"{new}\" RENAME TO \"{name}\""),
        format!("DROP DATABASE \"{former}\""),
    ] {
        diesel::sql_query(statement).execute(&mut connection).await?;
    }
    Ok(())
}

/// Ends all sessions in the database.
async fn wait_until_alone(rig: &Rig) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sessions = rig.server.sessions().await?;
        if sessions.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("sessions did not end".into());
        }
        rig.server.terminate(&sessions).await?;
        sleep(Duration::from_millis(50)).await;
    }
}

async fn run(program: &Path, arguments: &[&str], file: &Path) -> Result<(), Failure> {
    let output = Command::new(program).args(arguments).arg(file).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{}: {complaint}", program.display()).into())
}
