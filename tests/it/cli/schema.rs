//! `schema`: migrations from the command line.

use std::fs;

use procrastinate::migrations::{MIGRATIONS, SQL_MIGRATIONS, migration_status};
use serde_json::Value;

use super::{on, program, run};
use crate::support::{connect, database, empty_database, rows, sql};

#[test]
fn applying_creates_the_schema_once_however_it_is_written() {
    for arguments in [&["schema"][..], &["schema", "--apply"], &["schema", "apply"]] {
        let database = empty_database();
        let ended = run(on(&database, arguments));
        assert!(ended.err.contains("Applying schema"), "{ended:?}");
        assert_eq!(ended.well().lines().count(), SQL_MIGRATIONS.len());
        assert_eq!(run(on(&database, arguments)).well(), "");
        assert!(migration_status(&mut connect(&database), MIGRATIONS).unwrap().is_up_to_date());
    }
}

#[test]
fn the_printed_schema_sets_up_an_empty_database_and_needs_no_database() {
    let text = run(program(&["schema", "--read"])).well();
    assert_eq!(run(program(&["schema", "read"])).well(), text);
    let database = empty_database();
    sql(&mut connect(&database), &text);
    assert!(migration_status(&mut connect(&database), MIGRATIONS).unwrap().is_up_to_date());
    procrastinate::migrations::check_contract(&mut connect(&database)).unwrap();
    assert_eq!(run(on(&database, &["defer", "sum"])).well(), "deferred job 1\n");
}

#[test]
fn migrations_are_written_where_they_are_wanted() {
    let home = std::env::temp_dir().join(format!("procrastinate-cli-{}", std::process::id()));
    let directory = home.join("migrations");
    fs::create_dir_all(&directory).unwrap();
    let ejected = run(program(&["schema", "eject", directory.to_str().unwrap()])).well();
    assert_eq!(ejected.lines().count(), SQL_MIGRATIONS.len());
    assert!(directory.join(SQL_MIGRATIONS[0].name).join("up.sql").exists());

    for arguments in [&["schema", "--migrations-path"][..], &["schema", "migrations-path"]] {
        let mut command = program(arguments);
        command.env("HOME", &home);
        let path = run(command).well();
        let path = std::path::Path::new(path.trim());
        assert_eq!(fs::read_to_string(path.join(SQL_MIGRATIONS[0].name).join("up.sql")).unwrap(), SQL_MIGRATIONS[0].up);
    }
    fs::remove_dir_all(&home).unwrap();
    let said = run(program(&["schema", "eject", directory.to_str().unwrap()])).with(1);
    assert!(said.contains("could not write the migration"), "{said}");
}

#[test]
fn the_status_lists_applied_and_pending_migrations() {
    let database = database();
    let out = run(on(&database, &["schema", "status"])).well();
    assert!(out.lines().all(|line| line.starts_with("[X]")), "{out}");
    run(on(&database, &["schema", "revert", "-y"])).well();
    let out = run(on(&database, &["schema", "status", "--json"])).well();
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["pending"], serde_json::json!([SQL_MIGRATIONS.last().unwrap().name]));
}

#[test]
fn a_dropped_trigger_is_found() {
    let database = database();
    run(on(&database, &["schema", "check"])).well();
    let out = run(on(&database, &["schema", "check", "--json"])).well();
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), serde_json::json!({ "ok": true, "error": null }));
    sql(&mut connect(&database), "DROP TRIGGER procrastinate_trigger_delete_jobs_v1 ON procrastinate_jobs");
    let said = run(on(&database, &["schema", "check"])).with(1);
    assert!(said.contains("procrastinate_trigger_delete_jobs_v1"), "{said}");
    let ended = run(on(&database, &["schema", "check", "--json"]));
    let checked: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.status, &checked["ok"]), (1, &false.into()));
    assert!(checked["error"].as_str().unwrap().contains("procrastinate_trigger_delete_jobs_v1"), "{checked}");
}

#[test]
fn all_migrations_are_reverted_only_after_a_confirmation() {
    let database = database();
    run(on(&database, &["defer", "sum"])).well();
    let said = run(on(&database, &["schema", "revert", "--all"])).with(2);
    assert!(said.contains("1 job in them") && said.contains("--yes"), "{said}");
    assert_eq!(
        run(on(&database, &["schema", "revert", "--all", "--yes"])).well().lines().count(),
        SQL_MIGRATIONS.len()
    );
    let tables = "SELECT to_regclass('procrastinate_jobs') IS NULL AS gone";
    assert_eq!(rows(&mut connect(&database), tables), ["true"]);
    let out = run(on(&database, &["schema", "revert", "--all", "--yes"])).well();
    assert_eq!(out, "nothing to revert\n");
}

#[test]
fn an_empty_database_cannot_be_adopted() {
    let database = empty_database();
    let said = run(on(&database, &["schema", "adopt"])).with(1);
    assert!(said.contains("run `schema apply`") && said.contains("no table procrastinate_jobs"), "{said}");
}
