//! Deferring: one at a time, ten producers on connections, ten and a hundred through the application, and batches of
//! 1,000.

use std::time::Instant;

use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::Measured;
use crate::bench_server::{self, BenchServer, Contents};
use crate::raw::{BulkInsert, Insert};
use crate::table::Table;
use crate::tasks::{TEXT, arguments, no_op};

/// The number of concurrent producers.
const PRODUCERS: u32 = 10;
/// The number of jobs in a batch.
const BATCH: usize = 1_000;
/// How many jobs a connection defers before the measurement, so that its statement is prepared.
const WARM_UP: u32 = 20;

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let mut table = Table::new("Deferring, jobs per second", &["what", "this crate", "raw SQL", "ratio"]);
    let (single, bulk) = (bench.arguments.single_jobs() / 2, bench.arguments.jobs());

    // The time of a commit varies from second to second, so many short rounds are measured.
    let mut figures = Figures::default();
    for round in 0..3 * bench.arguments.rounds() {
        figures.take(round, async || ours(bench, 1, single).await, async || theirs(bench, 1, single).await).await?;
    }
    figures.print("one at a time, one connection", &mut table);

    let mut figures = Figures::default();
    for round in 0..3 * bench.arguments.rounds() {
        let each = single / PRODUCERS;
        figures
            .take(round, async || ours(bench, PRODUCERS, each).await, async || theirs(bench, PRODUCERS, each).await)
            .await?;
    }
    figures.print("ten producers on ten connections", &mut table);

    let through_application = [
        (1, 1, true, "one at a time, through `App::defer`"),
        (1, 1, false, "the same, with a pool that does not test its connections"),
        (PRODUCERS, 1, true, "ten producers, through `App::defer`"),
        (10 * PRODUCERS, 4, true, "a hundred producers, through `App::defer`"),
    ];
    for (producers, factor, is_tested, what) in through_application {
        let mut figures = Figures::default();
        for round in 0..3 * bench.arguments.rounds() {
            let connections = producers.min(PRODUCERS);
            let jobs = factor * single / producers;
            let ours = async || through_application_of(bench, producers, jobs, is_tested).await;
            figures.take(round, ours, async || theirs(bench, connections, single / connections).await).await?;
        }
        figures.print(what, &mut table);
    }

    let mut figures = Figures::default();
    for round in 0..bench.arguments.rounds() {
        figures.take(round, async || our_bulk(bench, bulk).await, async || their_bulk(bench, bulk).await).await?;
    }
    figures.print("in batches of 1,000", &mut table);
    Ok(vec![table])
}

/// The figures of both sides, one pair per round.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) ours: Vec<f64>,
    pub(crate) others: Vec<f64>,
}

impl Figures {
    /// Measures both sides. The other side begins in each round.
    pub(crate) async fn take(
        &mut self,
        round: u32,
        ours: impl AsyncFnOnce() -> Measured<f64>,
        others: impl AsyncFnOnce() -> Measured<f64>,
    ) -> Measured<()> {
        if round.is_multiple_of(2) {
            self.others.push(others().await?);
            self.ours.push(ours().await?);
        } else {
            self.ours.push(ours().await?);
            self.others.push(others().await?);
        }
        Ok(())
    }

    pub(crate) fn print(&self, what: &str, table: &mut Table) {
        table.compare(what, &self.ours, &self.others, []);
    }
}

fn rate(jobs: u32, started_at: Instant) -> f64 {
    f64::from(jobs) / started_at.elapsed().as_secs_f64()
}

/// Measures this many producers, each with a connection and this many jobs.
async fn ours(bench: &BenchServer, producers: u32, jobs: u32) -> Measured<f64> {
    let database = bench.database()?;
    let mut connections = Vec::new();
    for _ in 0..producers {
        let mut connection = AsyncPgConnection::establish(database.superuser_url()).await?;
        for a in 0..WARM_UP {
            no_op(a.into(), TEXT.to_owned()).defer(&mut connection).await?;
        }
        connections.push(connection);
    }
    let started_at = Instant::now();
    let running: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            tokio::spawn(async move {
                for a in 0..jobs {
                    no_op(a.into(), TEXT.to_owned()).defer(&mut connection).await?;
                }
                Measured::Ok(())
            })
        })
        .collect();
    for one in running {
        one.await??;
    }
    let rate = rate(producers * jobs, started_at);
    Contents::deferred(producers * (jobs + WARM_UP)).expect(database.superuser_url()).await?;
    Ok(rate)
}

/// Measures this many producers that defer through the application, on at most ten connections of its pool. The pool
/// tests each connection that it lends, as by default, or none.
async fn through_application_of(bench: &BenchServer, producers: u32, jobs: u32, is_tested: bool) -> Measured<f64> {
    let database = bench.database()?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.superuser_url());
    let pool = Pool::builder().max_size(PRODUCERS).test_on_check_out(is_tested).build(manager).await?;
    let app = bench_server::app(pool)?;
    let start = |jobs: u32| {
        let each = (0..producers).map(|_| {
            let app = app.clone();
            tokio::spawn(async move {
                for a in 0..jobs {
                    app.defer(no_op(a.into(), TEXT.to_owned())).await?;
                }
                Measured::Ok(())
            })
        });
        each.collect::<Vec<_>>()
    };
    for one in start(WARM_UP) {
        one.await??;
    }
    let started_at = Instant::now();
    for one in start(jobs) {
        one.await??;
    }
    let rate = rate(producers * jobs, started_at);
    Contents::deferred(producers * (jobs + WARM_UP)).expect(database.superuser_url()).await?;
    Ok(rate)
}

async fn theirs(bench: &BenchServer, producers: u32, jobs: u32) -> Measured<f64> {
    let database = bench.database()?;
    let mut clients = Vec::new();
    for _ in 0..producers {
        let client = bench_server::connect(database.superuser_url()).await?;
        let insert = Insert::prepare(&client).await?;
        for a in 0..WARM_UP {
            insert.run("work", "no_op", a.into()).await?;
        }
        clients.push(client);
    }
    let started_at = Instant::now();
    let running: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(async move {
                let insert = Insert::prepare(&client).await?;
                for a in 0..jobs {
                    insert.run("work", "no_op", a.into()).await?;
                }
                Measured::Ok(())
            })
        })
        .collect();
    for one in running {
        one.await??;
    }
    let rate = rate(producers * jobs, started_at);
    Contents::deferred(producers * (jobs + WARM_UP)).expect(database.superuser_url()).await?;
    Ok(rate)
}

async fn our_bulk(bench: &BenchServer, jobs: u32) -> Measured<f64> {
    let database = bench.database()?;
    let app = bench_server::app(bench_server::pool(database.superuser_url()).await?)?;
    app.batch_defer((0..WARM_UP).map(|a| no_op(a.into(), TEXT.to_owned()))).await?;
    let numbers: Vec<u32> = (0..jobs).collect();
    let started_at = Instant::now();
    for chunk in numbers.chunks(BATCH) {
        app.batch_defer(chunk.iter().map(|a| no_op((*a).into(), TEXT.to_owned()))).await?;
    }
    let rate = rate(jobs, started_at);
    Contents::deferred(jobs + WARM_UP).expect(database.superuser_url()).await?;
    Ok(rate)
}

async fn their_bulk(bench: &BenchServer, jobs: u32) -> Measured<f64> {
    let database = bench.database()?;
    bench_server::disable_triggers(database.superuser_url()).await?;
    let client = bench_server::connect(database.superuser_url()).await?;
    let insert = BulkInsert::prepare(&client).await?;
    let args = |numbers: &[u32]| numbers.iter().map(|a| arguments((*a).into())).collect::<Vec<_>>();
    let numbers: Vec<u32> = (0..jobs).collect();
    insert.run(&args(&numbers[..WARM_UP as usize])).await?;
    let started_at = Instant::now();
    for chunk in numbers.chunks(BATCH) {
        insert.run(&args(chunk)).await?;
    }
    let rate = rate(jobs, started_at);
    Contents::deferred(jobs + WARM_UP).expect(database.superuser_url()).await?;
    Ok(rate)
}
