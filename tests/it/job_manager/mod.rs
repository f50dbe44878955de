//! The job manager: every operation on blocking and async connections and on the pool, in and out of transactions.

mod ageing;
mod changing;
mod cleaning;
mod flow_control;
mod listening;
mod looking;
mod working;

use diesel::PgConnection;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::job_manager::Operation;
use procrastinate::{App, Error, JobId, JobToDefer, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use crate::support::{connect, connector, database, sql};

/// A database, and one of the ways to execute operations on it.
struct Desk {
    way: Way,
    _database: Database,
    /// To prepare and to look, whatever the way.
    connection: PgConnection,
}

enum Way {
    Blocking(PgConnection),
    Async(Box<AsyncPgConnection>),
    Pool(App),
}

impl Desk {
    async fn blocking() -> Self {
        let database = database();
        Self { way: Way::Blocking(connect(&database)), connection: connect(&database), _database: database }
    }

    async fn asynchronous() -> Self {
        let database = database();
        let way = Way::Async(Box::new(AsyncPgConnection::establish(database.url()).await.unwrap()));
        Self { way, connection: connect(&database), _database: database }
    }

    async fn from_the_pool() -> Self {
        let database = database();
        let way = Way::Pool(App::builder(connector(&database).await).build().unwrap());
        Self { way, connection: connect(&database), _database: database }
    }

    async fn execute<O: Operation>(&mut self, operation: O) -> Result<O::Output, Error> {
        match &mut self.way {
            Way::Blocking(connection) => operation.execute_blocking(connection),
            Way::Async(connection) => operation.execute(&mut **connection).await,
            Way::Pool(app) => app.perform(operation).await,
        }
    }

    fn defer(&mut self, job: JobToDefer) -> JobId {
        job.defer_blocking(&mut self.connection).unwrap()
    }

    fn sql(&mut self, statements: &str) {
        sql(&mut self.connection, statements);
    }

    /// A job that has come to this status in the ordinary way.
    fn job(&mut self, job: JobToDefer, status: &str) -> JobId {
        let id = self.defer(job);
        match status {
            "todo" => {}
            "cancelled" => self.sql(&format!("UPDATE procrastinate_jobs SET status = 'cancelled' WHERE id = {id}")),
            "doing" => self.sql(&format!("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = {id}")),
            ended => {
                self.sql(&format!("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = {id}"));
                self.sql(&format!("UPDATE procrastinate_jobs SET status = '{ended}', attempts = 1 WHERE id = {id}"));
            }
        }
        id
    }
}

fn work() -> JobToDefer {
    configure_task("work", json!({}))
}

/// Makes three tests of each story, one for each way.
macro_rules! each_way {
    ($($story:ident),+ $(,)?) => {
        $crate::job_manager::each_way!(in blocking: $($story),+);
        $crate::job_manager::each_way!(in asynchronous: $($story),+);
        $crate::job_manager::each_way!(in from_the_pool: $($story),+);
    };
    (in $way:ident: $($story:ident),+) => {
        mod $way {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story($crate::job_manager::Desk::$way().await).await;
                }
            )+
        }
    };
}
use each_way;
