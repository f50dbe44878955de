//! Deferring through PgBouncer: on the pool of the queue, and in transactions of the application's.

use diesel::connection::CacheSize;
use diesel::prelude::*;
use diesel_async::AsyncConnection;
use futures_util::future::try_join_all;
use procrastinate::models::{ProcrastinateEvent, ProcrastinateJob};
use procrastinate::{App, Error, JobStatus, batch_defer, configure_task};
use serde_json::json;

use super::pgbouncer::{PgBouncer, Settings};
use super::{connector_before, keeping_statements, ordinary_pool_before, pool_before};
use crate::support::{connect, database, jobs, rows, sql, statuses, superuser, transaction};

fn job() -> procrastinate::JobToDefer {
    configure_task("task", json!({ "text": "ü" }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_transaction_of_the_applications_nothing_is_prepared_for_later() {
    let database = database();
    let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
    let pool = pool_before(&pooler).await;
    let take_orders = (0..40).map(|number| {
        let pool = pool.clone();
        async move {
            let mut connection = pool.get().await.unwrap();
            connection.set_prepared_statement_cache_size(CacheSize::Disabled);
            transaction(&mut connection, async |connection| {
                job().defer(connection).await?;
                let lock = format!("lock {}", number % 20);
                job().queueing_lock(lock).defer_unless_enqueued(connection).await?;
                batch_defer([job(), job()], connection).await.map(drop)
            })
            .await
        }
    });
    try_join_all(take_orders).await.unwrap();
    // With a lock each, 20 of 40 were waiting already.
    assert_eq!(jobs(&mut connect(&database)).len(), 40 + 20 + 80);
}

#[test]
fn blocking_programs_defer_in_a_transaction() {
    let database = database();
    let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
    let mut connections: Vec<_> = (0..4).map(|_| PgConnection::establish(pooler.url()).unwrap()).collect();
    for number in 0..40 {
        let connection = &mut connections[number % 4];
        connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        connection.transaction(|connection| job().defer_blocking(connection)).unwrap();
    }
    assert_eq!(statuses(&mut connect(&database)), vec![JobStatus::Todo; 40]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_of_a_transaction_a_statement_is_prepared_on_one_connection_and_run_on_another() {
    let database = database();
    let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
    let pool = pool_before(&pooler).await;
    let mut connection = pool.get().await.unwrap();
    // This is what there are transactions and `without_prepared_statements` for.
    for size in [CacheSize::Unbounded, CacheSize::Disabled] {
        connection.set_prepared_statement_cache_size(size);
        let error = job().defer(&mut *connection).await.unwrap_err();
        assert!(matches!(error, Error::Database { .. }), "{error:?}");
        assert!(error.to_string().contains("prepared statement"), "{error}");
    }
    assert_eq!(jobs(&mut connect(&database)).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_pooler_that_keeps_prepared_statements_deferring_works_as_usual() {
    let database = database();
    let Some(pooler) = PgBouncer::start(&database, keeping_statements()) else { return };
    let pool = ordinary_pool_before(&pooler).await;
    let defer = (0..40).map(|_| async { job().defer(&mut *pool.get().await.unwrap()).await });
    try_join_all(defer).await.unwrap();
    let waiting = || ProcrastinateJob::query().filter(ProcrastinateJob::has_status(JobStatus::Todo));
    let read = (0..20).map(|_| async {
        diesel_async::RunQueryDsl::load::<ProcrastinateJob>(waiting(), &mut pool.get().await.unwrap()).await
    });
    assert!(try_join_all(read).await.unwrap().iter().all(|jobs| jobs.len() == 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_pooler_that_keeps_none_enums_are_read_on_direct_connections() {
    let database = database();
    let Some(pooler) = PgBouncer::start(&database, Settings::default()) else { return };
    job().defer_blocking(&mut connect(&database)).unwrap();
    let pool = pool_before(&pooler).await;
    let mut connection = pool.get().await.unwrap();
    connection.set_prepared_statement_cache_size(CacheSize::Disabled);
    // What an enum is, diesel-async asks with a statement that it keeps: two of them, asked for in two transactions.
    let status = transaction(&mut connection, async |connection| {
        diesel_async::RunQueryDsl::load::<ProcrastinateJob>(ProcrastinateJob::query(), connection).await
    })
    .await;
    assert_eq!(status.unwrap().len(), 1);
    let event = transaction(&mut connection, async |connection| {
        diesel_async::RunQueryDsl::load::<ProcrastinateEvent>(ProcrastinateEvent::query(), connection).await
    })
    .await;
    assert!(event.unwrap_err().to_string().contains("prepared statement"));
}

#[tokio::test]
async fn a_statement_name_that_another_program_left_behind_is_skipped() {
    let database = database();
    let one = Settings { pool_size: 1, ..Settings::default() };
    let Some(pooler) = PgBouncer::start(&database, one) else { return };
    let app = App::builder(connector_before(&pooler).await).build().unwrap();
    app.defer(job()).await.unwrap();
    // The names are numbers that count up in each program. Every tenth of the next ones is taken.
    let mut through = PgConnection::establish(pooler.url()).unwrap();
    sql(
        &mut through,
        "DO $$ BEGIN
             FOR number IN 0..20000 BY 10 LOOP EXECUTE 'PREPARE s' || number || ' AS SELECT 1'; END LOOP;
         END $$",
    );
    for _ in 0..100 {
        app.defer(job()).await.unwrap();
    }
    assert_eq!(jobs(&mut connect(&database)).len(), 101);
}

#[tokio::test]
async fn the_schema_of_the_queue_is_the_roles_or_the_poolers_to_set() {
    const URL_OPTIONS: &str = "ignore_startup_parameters = options";
    let database = database();
    let before = Settings { connect_query: "SET search_path TO queue", more: URL_OPTIONS, ..Settings::default() };
    let Some(pooler) = PgBouncer::start(&database, before) else { return };
    // In PostgreSQL 13, the schema does not belong to the owner of the database.
    sql(&mut superuser(&database), "ALTER SCHEMA public RENAME TO queue");
    let app = App::builder(connector_before(&pooler).await).build().unwrap();
    app.defer(job()).await.unwrap();
    assert_eq!(rows(&mut connect(&database), "SELECT count(*) FROM queue.procrastinate_jobs"), ["1"]);

    // What a client asks for at its start is refused, or lost without a word.
    let url = format!("{}?options=-csearch_path%3Dnowhere", pooler.url());
    let mut lost = PgConnection::establish(&url).unwrap();
    assert_eq!(rows(&mut lost, "SELECT current_schema()"), ["queue"]);
    drop(lost);
    let strict = Settings { more: "", ..before };
    let Some(pooler) = PgBouncer::start(&database, strict) else { return };
    let url = format!("{}?options=-csearch_path%3Dnowhere", pooler.url());
    let error = PgConnection::establish(&url).map(drop).unwrap_err();
    assert!(error.to_string().contains("options"), "{error}");
}
