//! A server that does not speak English.

use diesel::prelude::*;
use procrastinate::job_manager::list_queues;
use procrastinate::{App, Error, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use crate::support::{connect, connector, database, empty_database, rows, sql, superuser};

/// Makes the server answer in another language on new connections, if it has one.
fn translate(database: &Database) -> bool {
    let mut connection = superuser(database);
    let set = |locale: &&str| {
        let set = format!("ALTER DATABASE \"{}\" SET lc_messages = '{locale}'", database.name());
        diesel::sql_query(set).execute(&mut connection).is_ok()
    };
    ["de_DE.UTF-8", "fr_FR.UTF-8", "es_ES.UTF-8", "ja_JP.UTF-8"].iter().any(set)
        && !diesel::sql_query("nonsense")
            .execute(&mut connect(database))
            .unwrap_err()
            .to_string()
            .contains("syntax error at")
}

#[tokio::test]
async fn what_went_wrong_is_recognised_in_every_language() {
    let (database, empty) = (database(), empty_database());
    if !translate(&database) || !translate(&empty) {
        return;
    }
    let error = App::builder(connector(&empty).await).build().unwrap().perform(list_queues()).await.unwrap_err();
    assert!(matches!(error, Error::SchemaMissing { .. }), "{error}");

    let mut connection = connect(&database);
    let job = || configure_task("work", json!({})).queueing_lock("q");
    job().defer_blocking(&mut connection).unwrap();
    assert!(job().defer_blocking(&mut connection).unwrap_err().is_already_enqueued());
    sql(&mut connection, "ALTER TABLE procrastinate_jobs DROP COLUMN attempts CASCADE");
    let error = procrastinate::migrations::check_contract(&mut connection).unwrap_err();
    assert!(matches!(error, Error::Migration { .. }) && error.to_string().contains("attempts"), "{error}");
}

#[cfg(feature = "cli")]
#[test]
fn a_missing_permission_is_recognised_in_every_language() {
    use crate::cli::{program, run};

    let database = database();
    translate(&database);
    let mut connection = superuser(&database);
    let role = format!("{}_guest", &database.name()[database.name().len() - 16..]);
    sql(&mut connection, &format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'guest'"));
    let (_, server) = database.url().rsplit_once('@').unwrap();
    let mut command = program(&["list_jobs"]);
    command.env("DATABASE_URL", format!("postgres://{role}:guest@{server}"));
    let error = run(command).with(1);
    sql(&mut connection, &format!("DROP ROLE \"{role}\""));
    assert!(error.contains("what to do: grant the role SELECT"), "{error}");
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs"), ["0"]);
}
