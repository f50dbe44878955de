//! Databases of older versions of Procrastinate: they are refused with the version that they look like, and taken over when
//! Procrastinate's own migrations have brought them up.

use std::path::Path;

use procrastinate::migrations::{MIGRATIONS, check_contract, run_pending_migrations};

use super::catalog::catalog;
use crate::python::peer::{Python, python};
use crate::support::{connect, empty_database, sql};

/// Versions from the last ones of which the tables were another form, and what each is said to look like.
const VERSIONS: [(&str, &str); 5] =
    [("2.15.1", "2 or older"), ("3.0.2", "3.0"), ("3.1.0", "3.1"), ("3.2.2", "3.2 or 3.3"), ("3.3.0", "3.2 or 3.3")];

/// The names of Procrastinate's own migrations begin with the version: `03.04.00_01_pre_…`.
fn prefix(version: &str) -> String {
    let numbers: Vec<_> = version.split('.').map(|number| format!("{number:0>2}")).collect();
    format!("{}_", numbers.join("."))
}

#[tokio::test]
async fn each_is_named_in_the_error_and_adopted_after_procrastinates_own_migrations() {
    let Some(interpreter) = python() else { return };
    for (version, looks_like) in VERSIONS {
        let database = empty_database();
        let newest = Python::new(interpreter, database.url());
        let older = match Python::new(interpreter, database.url()).with_procrastinate(version) {
            Ok(older) => older,
            Err(reason) => {
                assert!(std::env::var("PROCRASTINATE_REQUIRE_PYTHON").is_err(), "{reason}");
                eprintln!("skipped: Procrastinate {version}: {reason}");
                continue;
            }
        };
        older.procrastinate(&["schema", "--apply"]).await;
        let mut connection = connect(&database);
        let before = catalog(&mut connection);
        for error in [
            run_pending_migrations(&mut connection, MIGRATIONS).unwrap_err(),
            check_contract(&mut connection).unwrap_err(),
        ] {
            let message = error.to_string();
            assert!(message.contains(&format!("are those of Procrastinate {looks_like}. ")), "{version}: {message}");
            assert!(message.contains("brought up by Procrastinate 3.10's own migrations"), "{message}");
            assert!(message.contains("missing or different: "), "{message}");
        }
        assert_eq!(catalog(&mut connection), before, "{version}");

        // As the message says.
        let directory = newest.procrastinate(&["schema", "--migrations-path"]).await;
        let mut files: Vec<_> = std::fs::read_dir(Path::new(directory.trim())).unwrap().map(Result::unwrap).collect();
        files.retain(|file| file.path().extension().is_some_and(|extension| extension == "sql"));
        files.sort_by_key(std::fs::DirEntry::file_name);
        let installed = prefix(version);
        let is_later = |name: &str| *name > *installed && !name.starts_with(&installed);
        for file in files.iter().filter(|file| is_later(&file.file_name().to_string_lossy())) {
            sql(&mut connection, &std::fs::read_to_string(file.path()).unwrap());
        }
        run_pending_migrations(&mut connection, MIGRATIONS).unwrap_or_else(|error| panic!("{version}: {error}"));
        check_contract(&mut connection).unwrap();
    }
}
