//! The order of the folders, circles between files, and sizes. ARCHITECTURE.md says what each folder is for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The entries of `src` from the ground up. A file imports from its own entry or from an earlier one.
const FLOORS: [&[&str]; 14] = [
    &["support"],
    &["job"],
    &["error"],
    &["validation"],
    &["schedule"],
    &["retry"],
    &["database"],
    &["queue"],
    &["periodic"],
    &["task"],
    &["app"],
    &["worker"],
    &["admin"],
    &["cli", "testing"],
];

/// The same for what is inside of two large folders.
const ROOMS: [(&str, &[&[&str]]); 2] = [
    ("database", &[&["models", "migrations", "notification"], &["statements"], &["in_memory"], &["connection"]]),
    ("cli", &[&["terminal"], &["commands"], &["shell"], &["program"]]),
];

/// Files of `src` without a floor: the list of public items, and the program, which uses only those. Files of tests
/// have none, either.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

const MOST_LINES: usize = 400;
const MOST_LOOSE_FILES: usize = 4;
const MOST_IN_A_FOLDER: usize = 16;

#[test]
fn no_file_imports_from_a_floor_above_its_own() {
    let sources = Sources::read("src", "lib.rs");
    let mut wrong = Vec::new();
    for (file, imports) in &sources.imports {
        let Some(own) = floor(&FLOORS, file) else { continue };
        for import in imports {
            match floor(&FLOORS, import) {
                Some(other) if other <= own => {}
                Some(_) => wrong.push(format!("{file} imports {import}, which is above it")),
                None => wrong.push(format!("{file} imports through the root, which hides where things come from")),
            }
        }
    }
    for (folder, rooms) in ROOMS {
        let inside = |file: &str| file.strip_prefix(folder).and_then(|rest| floor(rooms, rest.strip_prefix('/')?));
        for (file, imports) in &sources.imports {
            for import in imports {
                if matches!((inside(file), inside(import)), (Some(own), Some(other)) if other > own) {
                    wrong.push(format!("{file} imports {import}, which is above it in {folder}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "write the convenience that looks up in the upper file:\n{}", wrong.join("\n"));
}

#[test]
fn every_entry_of_src_has_a_floor() {
    let sources = Sources::read("src", "lib.rs");
    let found: BTreeSet<&str> =
        sources.files.iter().map(|file| entry(file)).filter(|name| *name != "lib" && *name != "main").collect();
    let listed: BTreeSet<&str> = FLOORS.concat().into_iter().collect();
    assert_eq!(found, listed);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for (folder, root) in
        [("src", "lib.rs"), ("macros/src", "lib.rs"), ("benches/speed", "main.rs"), ("benches/load", "main.rs")]
    {
        if let Some(circle) = Sources::read(folder, root).circle() {
            panic!("{folder} has a circle: {}", circle.join(" -> "));
        }
    }
}

#[test]
fn files_and_folders_stay_small() {
    let sources = Sources::read("src", "lib.rs");
    let loose = sources.files.iter().filter(|file| !file.contains('/')).count();
    assert!(loose <= MOST_LOOSE_FILES, "src has {loose} loose files");
    let mut folders = BTreeMap::<&str, BTreeSet<&str>>::new();
    for file in &sources.files {
        let mut path = file.as_str();
        while let Some((folder, name)) = path.rsplit_once('/') {
            if name != "mod.rs" {
                folders.entry(folder).or_default().insert(name);
            }
            path = folder;
        }
    }
    for (folder, files) in folders.into_iter().filter(|(folder, _)| !folder.ends_with("/tests")) {
        assert!((2..=MOST_IN_A_FOLDER).contains(&files.len()), "src/{folder} has {} entries", files.len());
    }
    let mut long = Vec::new();
    for folder in ["src", "macros/src", "benches/speed", "benches/load"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in rust_files(&folder) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            if lines > MOST_LINES {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "split by subject:\n{}", long.join("\n"));
}

fn is_of_tests(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

#[test]
fn an_upward_import_is_noticed_however_it_is_written() {
    let files = ["lib.rs", "a/mod.rs", "a/low.rs", "b/mod.rs", "b/high.rs", "error.rs"];
    let sources = Sources::of(&files, "lib.rs");
    let imports = |file: &str, source: &str| sources.imports_of(file, source);
    assert_eq!(imports("a/low.rs", "use crate::b::high::X;"), ["b/high.rs"]);
    assert_eq!(
        imports("a/low.rs", "use crate::{b::{self, high::{X, Y as Z}}, error::Error};"),
        ["b/high.rs", "b/mod.rs", "error.rs"]
    );
    assert_eq!(imports("a/low.rs", "fn f() -> crate::b::X { super::super::error::g() }"), ["b/mod.rs", "error.rs"]);
    assert_eq!(imports("b/mod.rs", "use self::high::X; pub use high::Y;"), ["b/high.rs"]);
    assert_eq!(imports("b/high.rs", "use super::X;"), ["b/mod.rs"]);
    // Documentation, texts, test modules and macros for other crates are no imports.
    assert_eq!(
        imports("a/low.rs", "/// See [`X`](crate::b::X).\nconst S: &str = \"crate::b::X\"; // crate::b\n"),
        [""; 0]
    );
    assert_eq!(imports("a/low.rs", "macro_rules! m { () => { $crate::b::X } }"), [""; 0]);
    assert_eq!(imports("a/low.rs", "#[cfg(test)]\nmod tests {\n    use crate::b::X;\n}\n"), [""; 0]);
    // The root re-exports everything.
    assert_eq!(imports("a/low.rs", "use crate::Error;"), ["lib.rs"]);
}

#[test]
fn a_circle_is_found_unless_it_is_a_folder_that_declares_its_files() {
    let mut sources = Sources::of(&["lib.rs", "a.rs", "b.rs", "c/mod.rs", "c/d.rs"], "lib.rs");
    let arrow = |from: &str, to: &str| (from.to_owned(), BTreeSet::from([to.to_owned()]));
    sources.imports = BTreeMap::from([arrow("a.rs", "b.rs"), arrow("c/mod.rs", "c/d.rs"), arrow("c/d.rs", "c/mod.rs")]);
    assert_eq!(sources.circle(), None);
    sources.imports.extend([arrow("b.rs", "c/d.rs"), arrow("c/d.rs", "a.rs")]);
    assert_eq!(sources.circle().unwrap(), ["a.rs", "b.rs", "c/d.rs", "a.rs"]);
}

/// The floor of a file, by the entry that it is part of.
fn floor(floors: &[&[&str]], file: &str) -> Option<usize> {
    floors.iter().position(|names| names.contains(&entry(file)))
}

/// `worker/run.rs` is part of `worker`, `error.rs` of `error`.
fn entry(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The files of one crate, and which imports which.
struct Sources {
    root: String,
    files: BTreeSet<String>,
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Sources {
    fn of(files: &[&str], root: &str) -> Self {
        Self {
            root: root.to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            imports: BTreeMap::new(),
        }
    }

    fn read(folder: &str, root: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let paths = rust_files(&folder);
        let names: Vec<String> =
            paths.iter().map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned()).collect();
        let mut sources = Self::of(&names.iter().map(String::as_str).collect::<Vec<_>>(), root);
        for (name, path) in names.iter().zip(&paths) {
            let imports = sources.imports_of(name, &std::fs::read_to_string(path).unwrap());
            sources.imports.insert(name.clone(), imports.into_iter().collect());
        }
        sources.imports.retain(|file, _| !ROOTS.contains(&file.as_str()) && !is_of_tests(file));
        sources
    }

    /// The files that a file imports from, sorted.
    fn imports_of(&self, file: &str, source: &str) -> Vec<String> {
        let own: Vec<&str> = file.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
        let own = if file == self.root { Vec::new() } else { own };
        let mut found = BTreeSet::new();
        for path in paths(&code_of(source)) {
            let mut parts = path.iter().map(String::as_str).peekable();
            let mut base: Vec<&str> = match parts.next() {
                Some("crate") => Vec::new(),
                Some("self") => own.clone(),
                Some("super") => own[..own.len().saturating_sub(1)].to_vec(),
                // `pub use high::Y` in the file that declares `high`.
                Some(child) if self.module(&[own.as_slice(), &[child]].concat()).is_some() => {
                    [own.as_slice(), &[child]].concat()
                }
                _ => continue,
            };
            while parts.next_if_eq(&"super").is_some() {
                base.pop();
            }
            for part in parts {
                if self.module(&[base.as_slice(), &[part]].concat()).is_none() {
                    break;
                }
                base.push(part);
            }
            found.extend(self.module(&base));
        }
        found.retain(|import| import != file);
        found.into_iter().collect()
    }

    /// The file of a module.
    fn module(&self, path: &[&str]) -> Option<String> {
        let path = path.join("/");
        match path.as_str() {
            "" => Some(self.root.clone()),
            _ => [format!("{path}.rs"), format!("{path}/mod.rs")].into_iter().find(|file| self.files.contains(file)),
        }
    }

    /// A circle of imports, if there is one. A `mod.rs` and the root know the files that they declare, and may be known by
    /// them.
    fn circle(&self) -> Option<Vec<String>> {
        let is_declared = |from: &str, to: &str| {
            from == self.root || from.strip_suffix("mod.rs").is_some_and(|folder| to.starts_with(folder))
        };
        let mut done = BTreeSet::new();
        self.files.iter().find_map(|start| self.walk(start, &is_declared, &mut Vec::new(), &mut done))
    }

    fn walk(
        &self,
        file: &str,
        is_declared: &impl Fn(&str, &str) -> bool,
        trail: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = trail.iter().position(|earlier| earlier == file) {
            return Some(trail[start..].iter().cloned().chain([file.to_owned()]).collect());
        }
        if done.contains(file) {
            return None;
        }
        trail.push(file.to_owned());
        let imports = self.imports.get(file).into_iter().flatten();
        let circle = imports
            .filter(|import| !is_declared(file, import))
            .find_map(|import| self.walk(import, is_declared, trail, done));
        trail.pop();
        done.insert(file.to_owned());
        circle
    }
}

/// The source without comments, texts, and the test module at its end.
fn code_of(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut code = String::new();
    for line in source.lines() {
        let mut is_text = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if is_text => drop(characters.next()),
                '"' => is_text = !is_text,
                '/' if !is_text && characters.peek() == Some(&'/') => break,
                _ if is_text => {}
                _ => code.push(character),
            }
        }
        code.push('\n');
    }
    // It occurs in macros, and refers to the crates that use them.
    code.replace("$crate", "other_crate")
}

/// Every path in the code, with the groups of `use` written out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    for character in code.chars().chain([' ']) {
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        if !word.is_empty() {
            tokens.push(std::mem::take(&mut word));
        }
        if !character.is_whitespace() {
            tokens.push(character.to_string());
        }
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = tokens[at].starts_with(|first: char| first.is_alphabetic() || first == '_')
            && tokens.get(at + 1).is_some_and(|token| token == ":")
            && tokens.get(at + 2).is_some_and(|token| token == ":");
        at = if starts { read_path(&tokens, at, &[], &mut found) } else { at + 1 };
    }
    found
}

/// Reads the path that begins here, after a prefix, and returns the position behind it.
fn read_path(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    if tokens[at] == "," {
                        at += 1;
                        continue;
                    }
                    at = read_path(tokens, at, &path, found);
                    // `X as Y`
                    while tokens.get(at).is_some_and(|token| token != "," && token != "}") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some("self") if !path.is_empty() => at += 1,
            Some(token) => {
                path.push(token.to_owned());
                at += 1;
            }
            None => break,
        }
        let is_longer = tokens.get(at).is_some_and(|token| token == ":")
            && tokens.get(at + 1).is_some_and(|token| token == ":")
            && tokens.get(at + 2).is_some_and(|token| token != "<");
        if !is_longer {
            break;
        }
        at += 2;
    }
    found.push(path);
    at.max(1)
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
    files.sort();
    files
}
