//! `healthchecks`: a line for each check, and the exit status.

use serde_json::Value;

use super::{on, program, run};
use crate::support::{connect, database, empty_database, sql};

#[test]
fn a_healthy_database_has_a_line_for_each_check() {
    let database = database();
    let out = run(on(&database, &["healthchecks"])).well();
    for check in ["App configuration", "DB connection", "Found procrastinate_jobs table", "Migrations", "Worker pool"] {
        assert!(out.lines().any(|line| line.starts_with(&format!("{check}: OK"))), "{check}: {out}");
    }
    assert!(out.contains("Workers: OK (none)"), "{out}");

    sql(&mut connect(&database), "SELECT procrastinate_register_worker_v1()");
    let out = run(on(&database, &["healthchecks", "--json"])).well();
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["checks"][5]["detail"], "1 alive");
}

#[test]
fn a_database_without_tables_fails_with_advice() {
    let database = empty_database();
    let ended = run(on(&database, &["healthchecks"]));
    assert!(ended.out.contains("DB connection: OK") && ended.out.contains("table: FAILED"), "{ended:?}");
    assert!(ended.with(1).contains("run `schema apply`"));
    let ended = run(on(&database, &["healthchecks", "--json"]));
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.status, &report["ok"]), (1, &Value::Bool(false)));
}

#[test]
fn pending_migrations_fail() {
    let database = database();
    run(on(&database, &["schema", "revert", "--yes"])).well();
    let ended = run(on(&database, &["healthchecks"]));
    assert!(ended.out.contains("Migrations: FAILED"), "{ended:?}");
    assert!(ended.with(1).contains("pending"));
}

#[test]
fn an_unreachable_server_fails_with_its_address_but_without_the_password() {
    let arguments = ["healthchecks", "--database-url", "postgres://ada:s3cret@127.0.0.1:1/shop"];
    let ended = run(program(&arguments));
    assert!(ended.out.contains("DB connection: FAILED"), "{ended:?}");
    let said = ended.with(1);
    assert!(said.contains("127.0.0.1:1/shop") && said.contains("refused"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}
