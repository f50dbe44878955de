//! The floors: a module imports from its own floor or from one below, never from above.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The floors from the ground up, with the modules that stand on each. ARCHITECTURE.md says what each floor is.
const FLOORS: [&[&str]; 7] = [
    &[
        "schema",
        "backoff",
        "clock",
        "error",
        "job",
        "job_options",
        "checks",
        "retry",
        "answer",
        "interruption",
        "state",
        "panics",
        "blocking",
        "worker_handle",
        "cron",
        "task_name",
        "metrics",
    ],
    &["models", "migrations"],
    &["queries"],
    &[
        "in_memory",
        "app_connector",
        "run",
        "connector",
        "pooled_connection",
        "manager",
        "notifications",
        "job_to_defer",
        "defer_in_company",
        "batch",
        "periodic_job",
        "job_manager",
    ],
    &[
        "job_context",
        "middleware",
        "task",
        "periodic",
        "builtin_tasks",
        "blueprint",
        "task_table",
        "discovery",
        "app",
        "app_builder",
    ],
    &["worker"],
    &["cli", "testing"],
];

/// What stands on no floor: the crate's root, which is the list of what is public, and the program, which sees no more of
/// the crate than anybody.
const OUTSIDE: [&str; 2] = ["lib", "main"];

#[test]
fn no_module_imports_from_a_floor_above_its_own() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&sources) {
        let module = module_of(file.strip_prefix(&sources).unwrap());
        if !OUTSIDE.contains(&module.as_str()) {
            wrong.extend(upward_imports(&module, &std::fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(wrong.is_empty(), "convenience that looks up is an `impl` written upstairs:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_stands_on_a_floor_and_every_floor_is_built() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: Vec<String> =
        rust_files(&sources).iter().map(|file| module_of(file.strip_prefix(&sources).unwrap())).collect();
    found.push("schema".to_owned());
    found.retain(|module| !OUTSIDE.contains(&module.as_str()));
    found.sort();
    found.dedup();
    let mut listed: Vec<&str> = FLOORS.concat();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn an_upward_import_is_noticed_however_it_is_written() {
    let source = "use crate::error::Error;\nuse crate::worker::Worker;\nfn f() { crate::app::App::builder(c) }\n";
    assert_eq!(
        upward_imports("queries", source),
        ["queries (floor 2) uses worker (floor 5)", "queries (floor 2) uses app (floor 4)"]
    );
    assert_eq!(upward_imports("worker", source), [""; 0]);
    // The root re-exports everything, so going through it would hide where things come from.
    assert_eq!(upward_imports("worker", "use crate::Error;"), ["worker (floor 5) uses the root's `Error`"]);
    assert_eq!(
        upward_imports("worker", "use crate::{app, task};"),
        ["worker (floor 5) imports a group: one `use` per module"]
    );
    assert_eq!(upward_imports("job", "/// See [`App`](crate::App), or `use crate::app`.\n// crate::app"), [""; 0]);
}

/// The imports of a file that look upward, or through the root.
fn upward_imports(module: &str, source: &str) -> Vec<String> {
    let floors: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, modules)| modules.iter().map(move |module| (*module, floor)))
        .collect();
    let own = floors[module];
    let code = source.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    // `$crate` stands in macros, and is for the crates that use them.
    code.map(|line| line.replace("$crate::", ""))
        .flat_map(|line| line.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>())
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned())
        .filter_map(|used| match floors.get(used.as_str()) {
            Some(&floor) if floor > own => Some(format!("{module} (floor {own}) uses {used} (floor {floor})")),
            Some(_) => None,
            None if used.is_empty() => Some(format!("{module} (floor {own}) imports a group: one `use` per module")),
            None => Some(format!("{module} (floor {own}) uses the root's `{used}`")),
        })
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// `models/job.rs` belongs to the module `models`, `app.rs` to `app`.
fn module_of(path: &Path) -> String {
    Path::new(path.components().next().unwrap().as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}
