//! What a job writes, and how many round trips it takes. These figures hardly depend on the machine.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::DeleteJobs;
use tokio_postgres::Client;

use crate::Measured;
use crate::bench_server::{self, BenchServer, Contents};
use crate::table::{Table, number};
use crate::tasks::{TEXT, no_op};

/// The server's counters.
struct Counts {
    /// Bytes of the write-ahead log.
    wal: i64,
    transactions: i64,
    inserted: i64,
    updated: i64,
    /// The updated rows that needed no new index entries.
    hot: i64,
    deleted: i64,
}

pub(crate) async fn measure(bench: &BenchServer) -> Measured<Vec<Table>> {
    let head = [
        "what",
        "transactions",
        "rows inserted",
        "rows updated",
        "of these without index writes",
        "rows deleted",
        "WAL, bytes",
    ];
    let mut table = Table::new("Cost of a job in the database", &head);
    let (single, bulk) = (bench.arguments.single_jobs(), bench.arguments.jobs());

    let database = bench.database()?;
    let before = settled(database.superuser_url()).await?;
    let mut connection = AsyncPgConnection::establish(database.superuser_url()).await?;
    for a in 0..single {
        no_op(a.into(), TEXT.to_owned()).defer(&mut connection).await?;
    }
    drop(connection);
    row("deferred one at a time", &before, &settled(database.superuser_url()).await?, single, &mut table);
    Contents::deferred(single).expect(database.superuser_url()).await?;

    let database = bench.database()?;
    let before = settled(database.superuser_url()).await?;
    let app = bench_server::app(bench_server::pool(database.superuser_url()).await?)?;
    let numbers: Vec<u32> = (0..bulk).collect();
    for chunk in numbers.chunks(1_000) {
        app.batch_defer(chunk.iter().map(|a| no_op((*a).into(), TEXT.to_owned()))).await?;
    }
    drop(app);
    row("deferred in batches of 1,000", &before, &settled(database.superuser_url()).await?, bulk, &mut table);
    Contents::deferred(bulk).expect(database.superuser_url()).await?;

    for (concurrency, delete_jobs) in [(1, false), (10, false), (100, false), (10, true), (100, true)] {
        let database = bench.database_with_jobs(bulk).await?;
        let before = settled(database.superuser_url()).await?;
        let app = bench_server::app(bench_server::pool(database.superuser_url()).await?)?;
        let deletes = if delete_jobs { DeleteJobs::Always } else { DeleteJobs::Never };
        let worker = app.worker().concurrency(concurrency).delete_jobs(deletes);
        worker.install_signal_handlers(false).stop_when_empty().run().await?;
        drop(app);
        let after = settled(database.superuser_url()).await?;
        let kept = if delete_jobs { "jobs deleted when they finish" } else { "jobs kept" };
        row(&format!("processed, concurrency {concurrency}, {kept}"), &before, &after, bulk, &mut table);
        let contents = if delete_jobs { Contents::nothing() } else { Contents::processed(bulk) };
        contents.expect(database.superuser_url()).await?;
    }
    table.note(
        "The write-ahead log contains a whole page when the page changes for the first time after a checkpoint. There \
         is a checkpoint just before jobs are processed here.",
    );
    Ok(vec![table])
}

fn row(what: &str, before: &Counts, after: &Counts, jobs: u32, table: &mut Table) {
    let each = |count: fn(&Counts) -> i64| {
        #[allow(clippy::cast_precision_loss, reason = "counts of a few million")]
        let more = (count(after) - count(before)) as f64;
        number(more / f64::from(jobs))
    };
    table.row([
        what.to_owned(),
        each(|counts| counts.transactions),
        each(|counts| counts.inserted),
        each(|counts| counts.updated),
        each(|counts| counts.hot),
        each(|counts| counts.deleted),
        each(|counts| counts.wal),
    ]);
}

/// Returns the counters after all other sessions have ended, because a session reports its counts when it ends.
async fn settled(url: &str) -> Measured<Counts> {
    let client = bench_server::connect(url).await?;
    for _ in 0..200 {
        let others: i64 = client
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
                &[],
            )
            .await?
            .get(0);
        if others == 0 {
            return counts(&client).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("a session stays connected to the database".into())
}

async fn counts(client: &Client) -> Measured<Counts> {
    let row = client
        .query_one(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
                    (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
                    sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint, sum(n_tup_hot_upd)::bigint, sum(n_tup_del)::bigint
             FROM pg_stat_user_tables WHERE relname LIKE 'procrastinate%'",
            &[],
        )
        .await?;
    Ok(Counts {
        wal: row.get(0),
        transactions: row.get(1),
        inserted: row.get(2),
        updated: row.get(3),
        hot: row.get(4),
        deleted: row.get(5),
    })
}
