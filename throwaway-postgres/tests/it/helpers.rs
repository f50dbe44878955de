//! Asking servers and processes, and running this program again as a child.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use throwaway_postgres::{Options, Server};
use tokio_postgres::{NoTls, SimpleQueryMessage};

pub(crate) fn own_cluster() -> Server {
    Server::start_with(&Options::new().ignore_database_url(true)).unwrap()
}

/// The first column of all rows.
pub(crate) fn query(url: &str, statement: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let messages = client.simple_query(statement).await;
        drop(client);
        let _ = connection.await.unwrap();
        let value = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(messages?.iter().filter_map(value).collect())
    })
}

pub(crate) fn value(url: &str, statement: &str) -> String {
    query(url, statement).unwrap().remove(0)
}

pub(crate) fn databases(url: &str) -> Vec<String> {
    query(url, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname").unwrap()
}

/// The directory the server was given, which holds its data directory.
pub(crate) fn directory(url: &str) -> PathBuf {
    Path::new(&value(url, "SHOW data_directory")).parent().unwrap().to_owned()
}

/// The numbers of the server's processes and of the shell which watches over it.
pub(crate) fn processes_naming(directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let list = command_lines().into_iter();
    list.filter(|(_, command)| command.contains(directory)).map(|(number, _)| number).collect()
}

/// Number and command line of every process. Small containers have no `ps`, and other systems no `/proc`.
fn command_lines() -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        let list = Command::new("ps").args(["-e", "-o", "pid=", "-o", "args="]).output().unwrap().stdout;
        let list = String::from_utf8_lossy(&list).into_owned();
        let lines = list.lines().filter_map(|line| line.trim_start().split_once(' '));
        return lines.map(|(number, command)| (number.to_owned(), command.to_owned())).collect();
    };
    let read = |entry: fs::DirEntry| {
        // A process may have ended meanwhile.
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        Some((entry.file_name().into_string().ok()?, String::from_utf8_lossy(&command).into_owned()))
    };
    entries.filter_map(|entry| read(entry.ok()?)).filter(|(number, _)| number.parse::<u32>().is_ok()).collect()
}

pub(crate) fn postmaster(directory: &Path) -> String {
    fs::read_to_string(directory.join("data/postmaster.pid")).unwrap().lines().next().unwrap().to_owned()
}

/// The shell has this command built in; small containers have no program for it.
pub(crate) fn kill(signal: &str, process: &str) -> bool {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "kill \"$1\" \"$2\"", "kill", signal, process]).stderr(Stdio::null());
    shell.status().unwrap().success()
}

pub(crate) fn is_alive(process: &str) -> bool {
    kill("-0", process)
}

pub(crate) fn assert_comes_true(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not after 30 s");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn assert_everything_goes_away(directory: &Path, postmaster: &str) {
    assert_comes_true("the directory is gone", || !directory.exists());
    assert_comes_true("the server is gone", || !is_alive(postmaster));
    assert_comes_true("the watching shell is gone", || processes_naming(directory).is_empty());
}

/// This program again, playing a part.
pub(crate) fn child(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    play(&mut command, part);
    command
}

pub(crate) fn play(command: &mut Command, part: &str) {
    command.args(["--exact", "a_part_is_played_in_a_child_process", "--nocapture", "--test-threads=1"]);
    command.env("PART", part).env_remove("DATABASE_URL");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
}

/// What a child told until it ended. Each line it tells starts with a mark: the test harness writes lines as well.
pub(crate) fn told_by(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter_map(mark_removed).collect()
}

pub(crate) fn tell(line: impl std::fmt::Display) {
    // An error has several lines, and the harness does not end its own line before a test starts.
    println!("\nTOLD {}", line.to_string().replace('\n', " "));
}

pub(crate) fn mark_removed(line: &str) -> Option<String> {
    line.strip_prefix("TOLD ").map(str::to_owned)
}

/// Starts a child which holds a server, and waits until it tells the server's URL.
pub(crate) fn child_holding_a_server(mut command: Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let url = reader.by_ref().lines().map(Result::unwrap).find_map(|line| mark_removed(&line)).expect("a URL is told");
    // The child may go on writing.
    child.stdout = Some(reader.into_inner());
    assert!(url.starts_with("postgres://"), "{url}");
    (child, url)
}

pub(crate) fn is_root() -> bool {
    let directory = env::temp_dir().join(format!("throwaway-postgres-test-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let owner = fs::metadata(&directory).unwrap().uid();
    fs::remove_dir(&directory).unwrap();
    owner == 0
}
