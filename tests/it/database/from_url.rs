//! A connector from a URL, for programs without a pool of their own.

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use procrastinate::job_manager::list_queues;
use procrastinate::migrations::MIGRATIONS;
use procrastinate::{App, DieselConnector, Error, JobContext, JobStatus, TaskError, configure_task, task};
use serde_json::json;
use tokio::runtime;

use super::pools::dead_url;
use crate::support::{connect, database, empty_database, eventually, job, rows, statuses, within_patience};

const PASSWORD: &str = "s3cret";

type BlockingPool = Pool<ConnectionManager<PgConnection>>;

#[task(pass_context)]
fn copy_name(context: JobContext, name: String) -> Result<(), TaskError> {
    let mut connection = context.state::<BlockingPool>()?.get()?;
    copy_name_once_more(name).defer_blocking(&mut connection)?;
    Ok(())
}

#[task]
fn copy_name_once_more(name: String) {
    drop(name);
}

/// What the errors of a connector say.
fn chain(error: &dyn std::error::Error) -> String {
    format!("{error} {error:?} {}", error.source().map(chain).unwrap_or_default())
}

#[test]
fn a_program_without_async_code_runs_a_worker_in_a_thread() {
    let database = database();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(2).build(manager).unwrap();
    // There is no runtime yet.
    let connector = DieselConnector::from_url(database.url()).unwrap();
    let app =
        App::builder(connector).state(pool.clone()).task::<copy_name>().task::<copy_name_once_more>().build().unwrap();
    let worker = app.worker().install_signal_handlers(false).concurrency(10);
    let handle = worker.handle();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let working = std::thread::spawn(move || runtime.block_on(worker.run()));

    let mut connection = pool.get().unwrap();
    for number in 0..20 {
        copy_name(number.to_string()).defer_blocking(&mut connection).unwrap();
    }
    drop(connection);
    let mut connection = connect(&database);
    let waiting = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    waiting.block_on(eventually("all jobs have run", || {
        let statuses = statuses(&mut connection);
        statuses.len() == 40 && statuses.iter().all(|status| *status == JobStatus::Succeeded)
    }));
    handle.stop();
    working.join().unwrap().unwrap();
}

#[tokio::test]
async fn it_migrates_and_works_and_keeps_few_connections() {
    let database = empty_database();
    let connector = DieselConnector::from_url(database.url()).unwrap();
    connector.run_pending_migrations(MIGRATIONS).await.unwrap();
    let app = App::builder(connector).task::<copy_name_once_more>().build().unwrap();
    let deferring: Vec<_> = (0..30).map(|number| app.defer(copy_name_once_more(number.to_string()))).collect();
    for result in futures_util::future::join_all(deferring).await {
        result.unwrap();
    }
    // Unlike jobs to defer, these do not share a statement.
    for result in futures_util::future::join_all((0..30).map(|_| app.perform(list_queues()))).await {
        result.unwrap();
    }
    let mut connection = connect(&database);
    let sessions = "SELECT pid::text FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    assert_eq!(rows(&mut connection, sessions).len(), 2);
    app.worker().install_signal_handlers(false).stop_when_empty().run().await.unwrap();
    let statuses = statuses(&mut connection);
    assert!(statuses.len() == 30 && statuses.iter().all(|status| *status == JobStatus::Succeeded), "{statuses:?}");
    let id = app.defer(configure_task("later", json!({}))).await.unwrap();
    assert_eq!(job(&mut connection, id).status, JobStatus::Todo);
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let (before, after) = ["postgres://ada:", "@127.0.0.1:1/shop"].into();
    let urls = [
        format!("{before}{PASSWORD}@127.0.0.1:port/shop"),
        format!("{before}{PASSWORD}#{after}"),
        format!("{before}x/{PASSWORD}{after}"),
        format!("{before}x?{PASSWORD}{after}"),
        format!("{before}{PASSWORD}{after}?sslmode=require"),
        format!("{before}{PASSWORD}{after}?sslmode=verify-full"),
        format!("{before}{PASSWORD}{after}?nothing=1"),
        format!("host=h port=x password={PASSWORD}"),
        format!("postgres:ada:{PASSWORD}@host"),
        PASSWORD.to_owned(),
    ];
    for url in urls {
        // Special characters in a password are not always a mistake.
        let said = match DieselConnector::from_url(&url) {
            Ok(connector) => format!("{connector:?}"),
            Err(error) => chain(&error),
        };
        assert!(!said.contains(PASSWORD), "{url}: {said}");
    }

    let dead = dead_url().replace("postgres@", &format!("ada:{PASSWORD}@"));
    let connector = DieselConnector::from_url(&dead).unwrap();
    assert!(!format!("{connector:?}").contains(PASSWORD));
    let app = App::builder(connector.clone()).build().unwrap();
    assert!(!format!("{app:?}").contains(PASSWORD));
    let deferred = within_patience(app.defer(configure_task("task", json!({})))).await.unwrap_err();
    let migrated = within_patience(connector.run_pending_migrations(MIGRATIONS)).await.unwrap_err();
    for error in [deferred, migrated] {
        assert!(matches!(error, Error::Pool { .. }), "{error:?}");
        let said = chain(&error);
        assert!(said.contains("error connecting to server: Connection refused"), "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }

    let database = database();
    let wrong = database.url().replace('@', &format!("{PASSWORD}@"));
    let connector =
        DieselConnector::from_url(&wrong.replace(&format!("/{}", database.name()), "/no_such_database")).unwrap();
    let error = within_patience(connector.check_contract()).await.unwrap_err();
    assert!(!chain(&error).contains(PASSWORD), "{}", chain(&error));
}

#[test]
fn a_url_that_requires_tls_is_refused_with_what_to_do() {
    for (mode, shown) in [
        ("sslmode=require", "(sslmode=require)"),
        ("sslmode=verify-full", "(invalid value for option `sslmode`)"),
        ("sslmode=verify-ca", "(invalid value for option `sslmode`)"),
        ("sslrootcert=system", "(unknown option `sslrootcert`)"),
    ] {
        let error =
            DieselConnector::from_url(&format!("postgres://ada@localhost/shop?{mode}")).unwrap_err().to_string();
        let expected =
            format!("invalid database URL {shown}: must not require TLS, because `DieselConnector::from_url`");
        assert!(error.starts_with(&expected) && error.contains("`DieselConnector::new`"), "{error}");
    }
    for mode in ["disable", "prefer"] {
        DieselConnector::from_url(&format!("postgres://ada@localhost/shop?sslmode={mode}")).unwrap();
    }
}

#[test]
fn a_url_that_cannot_be_read_is_refused_with_the_rule() {
    for (url, shown) in [
        ("", "(no host)"),
        ("postgres:///shop", "(no host)"),
        ("postgres://ada@host/shop?pass@word=1", "(not shown)"),
        ("localhost", "(unexpected EOF)"),
        ("postgres://ada@host:x/shop", "(invalid value for option `port`)"),
        ("postgres://ada@host/shop?client_encoding=utf8", "(unknown option `client_encoding`)"),
    ] {
        let error = DieselConnector::from_url(url).unwrap_err().to_string();
        let expected = format!("invalid database URL {shown}: must be postgres://user:password@host:port/database");
        assert!(error.starts_with(&expected), "{error}");
    }
}
