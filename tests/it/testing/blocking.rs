//! The same on blocking connections.

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool, TestCustomizer};
use procrastinate::{App, DieselConnector, JobContext, TaskError, assert_deferred_blocking, task};
use throwaway_postgres::Database;

use super::{notes, shop};
use crate::support::{connect, jobs, rows};

type BlockingPool = Pool<ConnectionManager<PgConnection>>;

struct Connections(BlockingPool);

#[task(pass_context)]
fn note(context: JobContext, text: String) -> Result<(), TaskError> {
    let mut connection = context.state::<Connections>()?.0.get()?;
    diesel::insert_into(notes::table).values(notes::text.eq(text)).execute(&mut connection)?;
    Ok(())
}

fn test_pool(database: &Database) -> BlockingPool {
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    Pool::builder()
        .max_size(1)
        .test_on_check_out(false)
        .connection_customizer(Box::new(TestCustomizer))
        .build(manager)
        .unwrap()
}

/// A connector that no test here uses: workers of a blocking application have an async pool.
struct Unused;

impl procrastinate::pool::AsyncPool for Unused {
    fn get(
        &self,
    ) -> futures_util::future::BoxFuture<
        '_,
        Result<procrastinate::pool::PooledConnection, procrastinate::pool::PoolError>,
    > {
        Box::pin(async { Err("it must not be used".into()) })
    }

    fn dedicated(
        &self,
    ) -> futures_util::future::BoxFuture<'_, Result<diesel_async::AsyncPgConnection, procrastinate::pool::PoolError>>
    {
        Box::pin(async { Err("it must not be used".into()) })
    }
}

fn app(pool: &BlockingPool) -> App {
    App::builder(DieselConnector::new(Unused)).state(Connections(pool.clone())).task::<note>().build().unwrap()
}

#[test]
fn blocking_jobs_run_in_the_tests_transaction_and_are_gone_with_it() {
    let database = shop();
    let pool = test_pool(&database);
    let app = app(&pool);
    for text in ["one", "one", "two"] {
        note(text.into()).defer_blocking(&mut pool.get().unwrap()).unwrap();
    }
    assert_deferred_blocking!(&mut pool.get().unwrap(), note("two".into()));

    let ran = app.test_worker().unwrap().run_until_empty_blocking(|| pool.get()).unwrap();
    let succeeded: Vec<bool> = ran.iter().map(|ran| ran.ending.to_string() == "succeeded").collect();
    assert_eq!(succeeded, [true, false, true], "{ran}");
    assert_eq!(rows(&mut pool.get().unwrap(), "SELECT text FROM notes"), ["one", "two"]);
    assert_eq!(jobs(&mut connect(&database)), []);
}

#[test]
fn a_test_with_one_connection_of_its_own_can_lend_that() {
    #[task]
    fn nothing() {}
    let database = shop();
    let mut connection = connect(&database);
    connection.begin_test_transaction().unwrap();
    nothing().defer_blocking(&mut connection).unwrap();
    let app = App::builder(DieselConnector::new(Unused)).task::<nothing>().build().unwrap();
    let shared = std::sync::Mutex::new(connection);
    let lend = || shared.lock().map_err(|error| error.to_string());
    let ran = app.test_worker().unwrap().run_until_empty_blocking(lend).unwrap().expect_success();
    assert_eq!(ran.len(), 1);
    assert_eq!(jobs(&mut shared.lock().unwrap()).len(), 1);
    assert_eq!(jobs(&mut connect(&database)).len(), 0);
}

#[tokio::test]
async fn in_an_async_test_the_error_names_the_method_to_call_instead() {
    let database = shop();
    let pool = test_pool(&database);
    let error = app(&pool).test_worker().unwrap().run_until_empty_blocking(|| pool.get()).unwrap_err();
    assert!(error.to_string().contains("use run_until_empty"), "{error}");
}
