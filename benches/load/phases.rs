//! Two replicas, the phases of a scenario, and what is measured in a phase.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use throwaway_postgres::Database;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::Measured;
use crate::replica::{DELETES, RATE, URL};
use crate::server::{TABLES, TableSize, connect, number, size_of};

/// How many jobs both replicas defer per second, unless a phase says otherwise.
pub(crate) const USUAL_RATE: f64 = 800.0;

const REPLICAS: usize = 2;

/// The longest time until the backlog of a phase is gone.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// What a scenario runs on.
pub(crate) struct Stage {
    pub(crate) database: Database,
    replicas: Vec<Replica>,
    deletes: bool,
}

/// A replica: its process, and what it and its predecessors have done.
struct Replica {
    child: Child,
    deferred: Arc<AtomicU64>,
    processed: Arc<AtomicU64>,
}

/// What happened in a phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// Processed jobs per second: the median of the seconds.
    pub(crate) rate: f64,
    /// Pending jobs at the end.
    pub(crate) pending: i64,
    pub(crate) jobs: TableSize,
    pub(crate) events: TableSize,
}

impl Replica {
    fn start(database: &Database, rate: f64, deletes: bool) -> Measured<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(URL, database.url()).env(RATE, rate.to_string()).env(DELETES, deletes.to_string());
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = child.stdout.take().ok_or("the replica has no output")?;
        let (deferred, processed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (to_deferred, to_processed) = (deferred.clone(), processed.clone());
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut numbers = line.split(' ').filter_map(|number| number.parse().ok());
                if let (Some(deferred), Some(processed)) = (numbers.next(), numbers.next()) {
                    to_deferred.store(deferred, Ordering::Relaxed);
                    to_processed.store(processed, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { child, deferred, processed })
    }
}

impl Stage {
    /// Starts the replicas. Together they defer this many jobs per second.
    pub(crate) fn start(database: Database, rate: f64, deletes: bool) -> Measured<Self> {
        let replicas = (0..REPLICAS).map(|_| Replica::start(&database, rate / 2.0, deletes));
        let replicas = replicas.collect::<Measured<_>>()?;
        Ok(Self { database, replicas, deletes })
    }

    /// Kills the first replica.
    pub(crate) async fn kill_first(&mut self) -> Measured<()> {
        Ok(self.replicas[0].child.kill().await?)
    }

    /// Starts the first replica again.
    pub(crate) fn start_first(&mut self, rate: f64) -> Measured<()> {
        self.replicas[0] = Replica::start(&self.database, rate / 2.0, self.deletes)?;
        Ok(())
    }

    /// Adds a producer that defers this many jobs per second, on top of the replicas. It also processes jobs.
    pub(crate) fn add_replica(&mut self, rate: f64) -> Measured<()> {
        self.replicas.push(Replica::start(&self.database, rate, self.deletes)?);
        Ok(())
    }

    /// Kills the replica that was added last.
    pub(crate) async fn remove_replica(&mut self) -> Measured<()> {
        if let Some(mut replica) = self.replicas.pop() {
            replica.child.kill().await?;
        }
        Ok(())
    }

    fn processed(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.processed.load(Ordering::Relaxed)).sum()
    }

    /// Lets the replicas run for so long, and measures.
    pub(crate) async fn phase(&self, length: Duration) -> Measured<Phase> {
        let end = Instant::now() + length;
        let (mut rates, mut last) = (Vec::new(), (Instant::now(), self.processed()));
        while Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
            let now = (Instant::now(), self.processed());
            let seconds = (now.0 - last.0).as_secs_f64();
            #[allow(clippy::cast_precision_loss, reason = "it is far below 2^52")]
            rates.push(now.1.saturating_sub(last.1) as f64 / seconds);
            last = now;
        }
        rates.sort_by(f64::total_cmp);
        let client = self.connect().await?;
        Ok(Phase {
            rate: rates[rates.len() / 2],
            pending: pending(&client).await?,
            jobs: size_of(&client, TABLES[0]).await?,
            events: size_of(&client, TABLES[1]).await?,
        })
    }

    /// Opens a connection, which the scenario may have made impossible for a moment.
    pub(crate) async fn connect(&self) -> Measured<Client> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match connect(self.database.superuser_url()).await {
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(200)).await,
                result => return result,
            }
        }
    }

    /// Ends the scenario: waits until all deferred jobs are processed. Returns how many jobs are not.
    pub(crate) async fn finish(mut self) -> Measured<i64> {
        // One that only processes takes over, and rescues their jobs.
        let rest = Replica::start(&self.database, 0.0, self.deletes)?;
        for replica in &mut self.replicas {
            replica.child.kill().await?;
        }
        let client = self.connect().await?;
        let deadline = Instant::now() + DRAIN_LIMIT;
        loop {
            let unfinished =
                number(&client, "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')").await?;
            if unfinished == 0 || Instant::now() > deadline {
                drop(rest);
                return Ok(unfinished);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// How many jobs the replicas have deferred.
    pub(crate) fn deferred(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.deferred.load(Ordering::Relaxed)).sum()
    }
}

pub(crate) async fn pending(client: &Client) -> Measured<i64> {
    number(client, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'").await
}
