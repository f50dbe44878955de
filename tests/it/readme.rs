//! The README's section "Add it to your application", followed to the letter from an empty crate.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::empty_database;

/// A code block of the section: shell commands, or a file.
enum Block {
    Commands(String),
    File { path: String, text: String },
}

#[test]
fn the_steps_of_the_readme_lead_from_an_empty_crate_to_a_running_worker() {
    if std::env::var_os("PROCRASTINATE_README").is_none() {
        eprintln!("skipped: it builds an application and all that it depends on; set PROCRASTINATE_README to have it");
        return;
    }
    let database = empty_database();
    let shop = empty_crate();
    let blocks = blocks(include_str!("../../README.md"));
    let files = blocks.iter().filter(|block| matches!(block, Block::File { .. })).count();
    assert_eq!((blocks.len(), files), (8, 6), "two blocks of commands, and the files");
    let mut output = Vec::new();
    for block in blocks {
        match block {
            Block::File { path, text } => {
                let path = shop.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Block::Commands(commands) => {
                for command in commands.lines() {
                    output.extend(follow(command, &shop, database.url()));
                }
            }
        }
    }
    assert_that_jobs_cannot_be_saved(&shop);
    fs::remove_dir_all(shop.parent().unwrap()).unwrap();
    assert_eq!(output, ["order 1 is placed", "Dear Ada, thank you for order 1."]);
}

/// As from `cargo new shop`, with the versions that the rest of the tests has. Not below this repository, to whose workspace
/// cargo would add it.
fn empty_crate() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("readme-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    assert!(cargo().current_dir(&directory).args(["new", "--quiet", "shop"]).status().unwrap().success());
    let shop = directory.join("shop");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"), shop.join("Cargo.lock")).unwrap();
    shop
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    // Kept from one run to the next.
    cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme"));
    cargo
}

/// That takes the feature `writable-models`, which an application does not have. All other tests have it.
fn assert_that_jobs_cannot_be_saved(shop: &Path) {
    let program = "
        use procrastinate::{diesel, models::ProcrastinateJob};
        pub fn save(job: &ProcrastinateJob) { let _ = diesel::update(job).set(job); }
        fn main() {}";
    let programs = shop.join("src/bin");
    fs::create_dir_all(&programs).unwrap();
    fs::write(programs.join("save.rs"), program).unwrap();
    let build = cargo().current_dir(shop).args(["build", "--quiet", "--bin", "save"]).output().unwrap();
    let errors = String::from_utf8(build.stderr).unwrap();
    let is_refused = ["E0277", "AsChangeset", "due to 1 previous error"].iter().all(|part| errors.contains(part));
    assert!(!build.status.success() && is_refused, "{errors}");
}

/// Runs one command of the section. If it runs the application, returns the last line of its output: for a worker, as
/// soon as there is one.
fn follow(command: &str, shop: &Path, database_url: &str) -> Option<String> {
    let command = command.split('#').next().unwrap().trim();
    let mut words = command.split_whitespace();
    match (words.next(), words.next()) {
        (None, _) | (Some("export"), _) => None,
        (Some("cargo"), Some("add")) => {
            let mut add = cargo();
            add.current_dir(shop).args(["add", "--quiet"]).args(words.clone());
            if words.eq(["procrastinate"]) {
                // The one that is tested, not the one that was published.
                add.args(["--path", env!("CARGO_MANIFEST_DIR")]);
            }
            assert!(add.status().unwrap().success(), "{command}");
            None
        }
        (Some("cargo"), Some("run")) => {
            let mut run = cargo();
            run.current_dir(shop).args(["run", "--quiet"]).args(words).env("DATABASE_URL", database_url);
            let mut program = Program(run.stdout(Stdio::piped()).spawn().unwrap());
            let line = BufReader::new(program.0.stdout.take().unwrap()).lines().next().unwrap().unwrap();
            if command == "cargo run" {
                // Ctrl-C: on Unix cargo has become the program that it runs.
                let interrupt = Command::new("kill").args(["-INT", &program.0.id().to_string()]).status().unwrap();
                assert!(interrupt.success());
            }
            assert!(program.0.wait().unwrap().success(), "{command}");
            Some(line)
        }
        _ => panic!("what is {command:?}?"),
    }
}

/// Ends with the test, also with one that fails.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The fences of the section that are commands, or follow a line that ends with a file's name.
fn blocks(readme: &str) -> Vec<Block> {
    let start = readme.find("## Add it to your application").unwrap();
    let section = &readme[start..][..readme[start..].find("\n## ").unwrap()];
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if !line.is_empty() {
                before = line;
            }
            continue;
        };
        let text: String = lines
            .by_ref()
            .take_while(|line| *line != "```")
            // Lines that only the documentation's own tests see.
            .filter(|line| !(language.starts_with("rust") && line.starts_with("# ")))
            .map(|line| format!("{line}\n"))
            .collect();
        if language == "sh" {
            blocks.push(Block::Commands(text));
        } else if let Some(path) = before.strip_suffix("`:").and_then(|before| before.rsplit('`').next())
            && path.contains(['/', '.'])
        {
            blocks.push(Block::File { path: path.to_owned(), text });
        }
    }
    blocks
}
