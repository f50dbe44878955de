//! Several workers on one database, in one process and in several: up to how many the rate grows, and what the server's
//! sessions wait for.

use std::collections::HashMap;
use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use procrastinate::{App, task};
use throwaway_postgres::Database;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::Measured;
use crate::arguments::Arguments;
use crate::server::{LoadServer, connect, connector, number};

/// The URL of the database, for a process that runs one worker.
const URL: &str = "PROCRASTINATE_LOAD_SCALE_URL";

const WORKERS: [usize; 4] = [1, 2, 4, 8];

/// How many jobs each worker runs at the same time, and how many more it fetches.
const SETTINGS: [(usize, usize); 2] = [(10, 0), (100, 500)];

/// How often the sessions are asked what they wait for.
const SAMPLED_EACH: Duration = Duration::from_millis(10);

#[task]
async fn nothing() {}

/// Whether this process should run one worker.
pub(crate) fn is_asked_for() -> bool {
    env::var_os(URL).is_some()
}

/// Runs one worker, with the settings that the arguments give.
pub(crate) async fn run() -> Measured<()> {
    let mut numbers = env::args().skip(1).map(|argument| argument.parse());
    let (Some(concurrency), Some(local_buffer)) = (numbers.next(), numbers.next()) else {
        return Err("the settings are missing".into());
    };
    let app = App::builder(connector(&env::var(URL)?, 5).await?).task::<nothing>().build()?;
    app.worker().concurrency(concurrency?).local_buffer(local_buffer?).run().await?;
    Ok(())
}

pub(crate) async fn measure(server: &LoadServer, arguments: &Arguments) -> Measured<()> {
    println!(
        "\n| concurrency, local buffer | workers | in | jobs/s: median (slowest to fastest) | for one worker: 1 | active \
         sessions: what they do, share of the samples |\n|---|---|---|---|---|---|"
    );
    for (concurrency, local_buffer) in SETTINGS {
        let mut of_one = None;
        for workers in WORKERS {
            for is_apart in [false, true] {
                let mut rates = Vec::new();
                let mut waits = HashMap::new();
                for _ in 0..arguments.rounds() {
                    let database = server.database()?;
                    let fleet = Fleet { workers, concurrency, local_buffer, is_apart };
                    rates.push(fleet.process(&database, arguments.processed(), &mut waits).await?);
                }
                rates.sort_by(f64::total_cmp);
                let median = f64::midpoint(rates[rates.len() / 2], rates[(rates.len() - 1) / 2]);
                let of_one = *of_one.get_or_insert(median);
                println!(
                    "| {concurrency}, {local_buffer} | {workers} | {} | {median:.0} ({:.0} to {:.0}) | {:.2} | {} |",
                    if is_apart { "processes" } else { "one process" },
                    rates[0],
                    rates[rates.len() - 1],
                    median / of_one,
                    most_frequent(&waits),
                );
            }
        }
    }
    Ok(())
}

struct Fleet {
    workers: usize,
    concurrency: usize,
    local_buffer: usize,
    /// Whether each worker has a process of its own.
    is_apart: bool,
}

impl Fleet {
    /// Lets the workers process jobs, which they all see at the same time. Returns how many they process per second.
    async fn process(&self, database: &Database, jobs: u32, waits: &mut HashMap<String, u32>) -> Measured<f64> {
        let mut gate = connect(database.superuser_url()).await?;
        gate.batch_execute("SET session_replication_role = replica").await?;
        let inserting = gate.transaction().await?;
        // Whoever fetches waits until the jobs are there.
        inserting.batch_execute("LOCK TABLE procrastinate_jobs IN EXCLUSIVE MODE").await?;
        let running = self.start(database).await?;
        inserting
            .batch_execute(&format!(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args)
                SELECT 'default', 'nothing', '{{}}' FROM generate_series(1, {jobs})"
            ))
            .await?;
        let watcher = connect(database.superuser_url()).await?;
        let expected = i64::try_from(self.workers)?;
        while number(&watcher, "SELECT count(*) FROM procrastinate_workers").await? < expected {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(200)).await;
        inserting.commit().await?;
        let started_at = Instant::now();
        let left =
            "SELECT (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'todo' LIMIT 1) AS todo)
            + (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'doing' LIMIT 1) AS doing)";
        while number(&watcher, left).await? > 0 {
            sample(&watcher, waits).await?;
            sleep(SAMPLED_EACH).await;
        }
        let rate = f64::from(jobs) / started_at.elapsed().as_secs_f64();
        drop(running);
        Ok(rate)
    }

    async fn start(&self, database: &Database) -> Measured<Running> {
        let mut running = Running { together: JoinSet::new(), apart: Vec::new() };
        if self.is_apart {
            for _ in 0..self.workers {
                let child = Command::new(env::current_exe()?)
                    .args([self.concurrency.to_string(), self.local_buffer.to_string()])
                    .env(URL, database.url())
                    .stdin(Stdio::null())
                    .spawn()?;
                running.apart.push(child);
            }
        } else {
            let connector = connector(database.url(), u32::try_from(self.workers + 2)?).await?;
            let app = App::builder(connector).task::<nothing>().build()?;
            for _ in 0..self.workers {
                let worker = app.worker().concurrency(self.concurrency).local_buffer(self.local_buffer);
                running.together.spawn(worker.install_signal_handlers(false).run());
            }
        }
        Ok(running)
    }
}

/// Workers that end when it is dropped.
struct Running {
    together: JoinSet<Result<(), procrastinate::Error>>,
    apart: Vec<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.together.abort_all();
        for child in &mut self.apart {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Counts what the other active sessions of the database do at this moment.
async fn sample(client: &Client, waits: &mut HashMap<String, u32>) -> Measured<()> {
    let active = "SELECT coalesce(wait_event_type || ' ' || wait_event, 'runs') FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
    for row in client.query(active, &[]).await? {
        *waits.entry(row.get(0)).or_default() += 1;
    }
    Ok(())
}

fn most_frequent(waits: &HashMap<String, u32>) -> String {
    let all: u32 = waits.values().sum();
    let mut waits: Vec<_> = waits.iter().collect();
    waits.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let share = |count: u32| 100.0 * f64::from(count) / f64::from(all.max(1));
    let shares: Vec<_> = waits.iter().take(4).map(|(wait, count)| format!("{wait} {:.0} %", share(**count))).collect();
    shares.join(", ")
}
