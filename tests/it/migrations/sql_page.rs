//! `docs/sql.md`, which lists the functions: written from the catalogue, as `schema.rs` is by `diesel print-schema`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use procrastinate::migrations::SQL_MIGRATIONS;

use crate::support::{connect, database, rows};

const HEAD: &str = "# Functions in the database

<!-- Written by the test `migrations::sql_page`. To update it: PROCRASTINATE_UPDATE_SQL_PAGE=1 scripts/test sql_page -->

Every function that the migrations create, by migration. Functions with `diesel` in their name belong to the crate. The
others are Procrastinate's contract: their names, arguments and results are the same in every client. *Called by* lists
the statements of the crate, the functions and the triggers that use a function. Where nothing is listed, it is there
for Python's clients.
";

/// A function of the catalogue.
struct Function {
    name: String,
    signature: String,
    comment: String,
    body: String,
}

fn functions() -> Vec<Function> {
    let database = database();
    // No character of these is in a signature or a comment.
    let query = "SELECT concat_ws(chr(1), proname, format('%s(%s) → %s', proname, pg_get_function_arguments(oid),
                                 pg_get_function_result(oid)), obj_description(oid, 'pg_proc'), prosrc)
                 FROM pg_proc WHERE starts_with(proname::text, 'procrastinate_') ORDER BY oid";
    let functions = rows(&mut connect(&database), query).into_iter().map(|row| {
        let mut columns = row.split('\u{1}').map(str::to_owned);
        let mut next = || columns.next().unwrap();
        let (name, signature, comment) = (next(), next(), next());
        // What replaced functions were is no call, and neither is what a comment says.
        let is_code = |line: &&str| !line.trim_start().starts_with("--") && name != "procrastinate_diesel_originals_v1";
        let body = next().lines().filter(is_code).collect::<Vec<_>>().join("\n");
        Function { name, signature, comment, body }
    });
    functions.collect()
}

/// All files below a directory that end so.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether a text names the function, and not one with a longer name.
fn mentions(text: &str, name: &str) -> bool {
    let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.match_indices(name).any(|(place, _)| {
        let (before, after) = (&text[..place], &text[place + name.len()..]);
        !before.ends_with(is_of_a_name) && !after.starts_with(is_of_a_name)
    })
}

/// The statements of the crate, each with its text in the source: from `statement!(Name -> …` to the end of the call.
/// Wherever they are, so that files can move.
fn statements() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut statements = Vec::new();
    for text in files(&source, "rs").into_iter().map(|path| fs::read_to_string(path).unwrap()) {
        for (place, _) in text.match_indices("statement!(") {
            let rest = &text[place + "statement!(".len()..];
            let end = rest.find("\n);").or_else(|| rest.find("\n});")).unwrap_or(rest.len());
            let end = rest.find("\n});").map_or(end, |other| end.min(other));
            // `"cancel the job": CancelJobQuery -> …`
            let name = rest.split(" ->").next().and_then(|start| start.split_whitespace().last()).unwrap_or_default();
            if name.starts_with(char::is_uppercase) {
                statements.push((name.to_owned(), rest[..end].to_owned()));
            }
        }
    }
    statements.sort();
    statements
}

/// Each function's text in the migration that has the last word on it.
fn migration_of(name: &str) -> &'static str {
    let creates = |text: &str| {
        ["CREATE FUNCTION ", "CREATE OR REPLACE FUNCTION "].iter().any(|create| {
            text.match_indices(create).any(|(place, _)| {
                text[place + create.len()..].strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
            })
        })
    };
    let originals = "procrastinate_diesel_originals_v1";
    let is_made_by = |text: &str| {
        creates(text) || name == originals && text.contains("CREATE FUNCTION procrastinate_diesel_originals_v1")
    };
    let migration = SQL_MIGRATIONS.iter().rev().find(|migration| is_made_by(migration.up));
    migration.unwrap_or_else(|| panic!("no migration creates {name}")).name
}

/// Triggers by the function that they call.
fn triggers() -> Vec<(String, String)> {
    let database = database();
    let query = "SELECT proname || ' ' || tgname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
                 WHERE NOT tgisinternal ORDER BY tgname";
    let triggers = rows(&mut connect(&database), query).into_iter().map(|row| {
        let (function, trigger) = row.split_once(' ').unwrap();
        (function.to_owned(), trigger.to_owned())
    });
    triggers.collect()
}

/// How long a line of the page may be.
const WIDTH: usize = 110;

/// The text in lines of that width.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        if width > 0 && width + 1 + word.len() > WIDTH {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines += word;
        width += word.len();
    }
    lines
}

fn page() -> String {
    let (functions, statements, triggers) = (functions(), statements(), triggers());
    assert!(functions.len() > 40 && statements.len() > 30, "{} {}", functions.len(), statements.len());
    let mut page = HEAD.to_owned();
    for migration in SQL_MIGRATIONS {
        let of_migration: Vec<_> =
            functions.iter().filter(|function| migration_of(&function.name) == migration.name).collect();
        if of_migration.is_empty() {
            continue;
        }
        write!(page, "\n## {}\n", migration.name).unwrap();
        for Function { name, signature, comment, .. } in of_migration {
            let signature =
                if signature.len() > WIDTH { signature.replace(", ", ",\n    ") } else { signature.clone() };
            let comment = wrapped(comment);
            write!(page, "\n### `{name}`\n\n```text\n{signature}\n```\n\n{comment}\n").unwrap();
            let callers: Vec<String> = statements
                .iter()
                .filter(|(_, text)| mentions(text, name))
                .map(|(statement, _)| format!("`{statement}`"))
                .chain(
                    triggers
                        .iter()
                        .filter(|(function, _)| function == name)
                        .map(|(_, trigger)| format!("trigger `{trigger}`")),
                )
                .chain(
                    functions
                        .iter()
                        .filter(|other| other.name != *name && mentions(&other.body, name))
                        .map(|other| format!("[`{0}`](#{0})", other.name)),
                )
                .collect();
            if !callers.is_empty() {
                let callers = wrapped(&format!("Called by: {}.", callers.join(", ")));
                write!(page, "\n{callers}\n").unwrap();
            }
        }
    }
    page
}

#[test]
fn the_page_lists_what_is_in_the_database() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sql.md");
    let page = page();
    if std::env::var_os("PROCRASTINATE_UPDATE_SQL_PAGE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let first_difference = page.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    assert!(
        page == found,
        "docs/sql.md is not up to date, run this test with PROCRASTINATE_UPDATE_SQL_PAGE=1: {first_difference:?}"
    );
}

#[test]
fn every_function_of_the_crate_is_called_by_something() {
    let (functions, statements) = (functions(), statements());
    let migrations: String = SQL_MIGRATIONS.iter().map(|migration| migration.down.to_owned() + migration.up).collect();
    for Function { name, .. } in functions.iter().filter(|function| function.name.contains("diesel")) {
        let by_statement = statements.iter().any(|(_, text)| mentions(text, name));
        let by_function = functions.iter().any(|other| other.name != *name && mentions(&other.body, name));
        let by_migration =
            ["SELECT", "FROM", "EXECUTE FUNCTION"].iter().any(|word| migrations.contains(&format!("{word} {name}(")));
        assert!(by_statement || by_function || by_migration, "nothing calls {name}");
    }
}

#[test]
fn functions_are_short_and_comments_narrow() {
    for migration in SQL_MIGRATIONS {
        let mut started_at = None;
        for (number, line) in migration.up.lines().enumerate() {
            let place = format!("{}, line {}", migration.name, number + 1);
            if line.starts_with("CREATE FUNCTION") || line.starts_with("CREATE OR REPLACE FUNCTION") {
                started_at = Some(number);
            } else if line.starts_with("$function$;") {
                let lines = number + 1 - started_at.take().unwrap();
                assert!(lines < 80, "{place}: a function of {lines} lines");
            }
            let is_comment = line.trim_start().starts_with("--") || line.starts_with("    '");
            let most = if is_comment { 100 } else { 120 };
            assert!(line.chars().count() <= most, "{place}: {line}");
            assert!(!line.contains("-----"), "{place}: a rule");
        }
    }
}
