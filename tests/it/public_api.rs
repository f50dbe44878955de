//! The crates whose types are in the public signatures can be reached through this one.

use std::collections::BTreeSet;

/// Crates whose items another crate re-exports under its own name.
const PARTS: [(&str, &str); 3] = [("clap_builder", "clap"), ("http", "axum"), ("serde_core", "serde")];

/// Crates that need no re-export, and the primitive types, which look like one in a path such as `i64::from`. The items
/// of `procrastinate_schema` are re-exported themselves.
const KNOWN: [&str; 6] = ["procrastinate", "procrastinate_schema", "core", "alloc", "std", "i64"];

/// The crates at the start of all paths in a list of public items. The list has no colon after an associated type.
fn crates_in(api: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let paths = api.split(|c: char| !is_part(c) && c != ':').filter_map(|path| path.split_once("::"));
    let names = paths.map(|(name, _)| PARTS.iter().find(|(part, _)| *part == name).map_or(name, |(_, whole)| whole));
    names.filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()) && !KNOWN.contains(name)).collect()
}

fn reexports_in(api: &str) -> BTreeSet<&str> {
    api.lines().filter_map(|line| line.strip_prefix("pub use procrastinate::")).collect()
}

#[test]
fn each_crate_of_a_public_signature_is_reexported() {
    let api = include_str!("../../docs/public_api.txt");
    let reexports = reexports_in(api);
    let missing: Vec<_> = crates_in(api).into_iter().filter(|name| !reexports.contains(name)).collect();
    assert!(missing.is_empty(), "re-export these at the root, or keep them out of the signatures: {missing:?}");
}

#[test]
fn a_crate_without_a_reexport_is_noticed() {
    let api = "pub use procrastinate::chrono\n\
               pub fn procrastinate::at(chrono::DateTime) -> Option<uuid::Uuid> where T: serde_core::ser::Serialize\n\
               pub fn procrastinate::Job::id::of(&mut a_crate::Thing<'_, core::time::Duration>)";
    assert_eq!(crates_in(api), BTreeSet::from(["a_crate", "chrono", "serde", "uuid"]));
    assert_eq!(reexports_in(api), BTreeSet::from(["chrono"]));
}
