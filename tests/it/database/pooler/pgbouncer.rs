//! A PgBouncer of a test's own, in transaction mode, that ends with the test.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use throwaway_postgres::Database;

use crate::support::{PATIENCE, connect, rows};

/// With this variable set to 1, tests fail where there is no PgBouncer.
const REQUIRE: &str = "PROCRASTINATE_REQUIRE_PGBOUNCER";

/// Names another program than the one on `PATH` or in `/usr/sbin`.
const PROGRAM: &str = "PGBOUNCER";

/// Major and minor.
type Version = (u32, u32);

/// The first version that keeps statements prepared in transaction mode.
const KEEPS_STATEMENTS: Version = (1, 21);

/// Waits for the end of its standard input, and then ends the pooler: so that none is left of a test that was killed. Asked
/// to end, newer versions would wait for their clients.
const WATCHDOG: &str = r#""$@" & pooler=$!; cat >/dev/null; kill -9 $pooler"#;

/// How it is set up.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many connections to the server it shares out. Transactions take turns on them, so that no two of one client
    /// in a row meet the same one.
    pub pool_size: usize,
    /// How many prepared statements it keeps for each of its connections; 0 for none, as older versions do.
    pub max_prepared_statements: usize,
    /// What follows under `[pgbouncer]`, and what is done on each new connection to the server.
    pub more: &'static str,
    pub connect_query: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pool_size: 3, max_prepared_statements: 0, more: "", connect_query: "" }
    }
}

/// A pooler before the server of a database.
pub struct PgBouncer {
    watchdog: Child,
    directory: PathBuf,
    url: String,
}

impl PgBouncer {
    /// Starts one. Where there is no program, or an older one than is needed: `None`, and a line on standard error says
    /// which test is skipped and why.
    pub fn start(database: &Database, settings: Settings) -> Option<Self> {
        let (program, version) = program()?;
        if settings.max_prepared_statements > 0 && *version < KEEPS_STATEMENTS {
            skip(&format!("it takes PgBouncer {KEEPS_STATEMENTS:?}, and this one is {version:?}"));
            return None;
        }
        // Somebody else may take the port that was free.
        let started = (0..10).find_map(|_| Self::start_on(free_port(), program, *version, database, settings));
        let started = started.expect("PgBouncer starts in one of ten tries");
        started.wait_for_connections(database, settings.pool_size);
        Some(started)
    }

    /// Waits until it has all its connections to the server: only then do transactions take turns on them.
    fn wait_for_connections(&self, database: &Database, wanted: usize) {
        let mut connection = connect(database);
        // It looks after how many there are once somebody has come.
        let client = PgConnection::establish(&self.url).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let connected =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        while rows(&mut connection, connected)[0].parse::<usize>().unwrap() < wanted {
            assert!(Instant::now() < deadline, "it does not connect to the server: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
        drop(client);
    }

    fn start_on(port: u16, program: &Path, version: Version, database: &Database, settings: Settings) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pgbouncer-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&directory).unwrap();
        let file = directory.join("pgbouncer.ini");
        let server = Address::of(database.url());
        fs::write(&file, server.configuration(port, version, settings)).unwrap();

        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCHDOG, "watchdog"]).arg(program).arg("--quiet");
        if is_root() {
            // It refuses to run as root.
            command.args(["--user", "nobody"]);
        }
        let log = fs::File::create(directory.join("log")).unwrap();
        command.arg(&file).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let pooler = Self {
            watchdog: command.spawn().unwrap(),
            directory,
            url: format!("postgres://{}:irrelevant@127.0.0.1:{port}/{}", server.user, server.database),
        };
        pooler.is_ready(port).then_some(pooler)
    }

    fn is_ready(&self, port: u16) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return !self.log().contains("Address already in use");
            }
            if self.log().contains("FATAL") {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        eprintln!("PgBouncer did not start: {}", self.log());
        false
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// The URL of the database through the pooler.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // This closes its standard input first.
        let _ = self.watchdog.wait();
        if thread::panicking() {
            eprintln!("what PgBouncer has logged:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Where the server is, of a URL as the tests' own server has it.
struct Address {
    user: String,
    password: String,
    host: String,
    port: String,
    database: String,
}

impl Address {
    fn of(url: &str) -> Self {
        let (_, rest) = url.split_once("://").unwrap();
        let (account, rest) = rest.rsplit_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        let (host, port) = server.rsplit_once(':').unwrap_or((server, "5432"));
        let [user, password, host, port] = [user, password, host, port].map(str::to_owned);
        Self { user, password, host, port, database: database.split('?').next().unwrap().to_owned() }
    }

    fn configuration(&self, port: u16, version: Version, settings: Settings) -> String {
        let Self { user, password, host, port: server_port, database } = self;
        let Settings { pool_size, max_prepared_statements, more, connect_query } = settings;
        let mut text = format!(
            "[databases]\n\
             {database} = host={host} port={server_port} user={user} password={password} dbname={database}"
        );
        if !connect_query.is_empty() {
            write!(text, " connect_query='{}'", connect_query.replace('\'', "''")).unwrap();
        }
        write!(
            text,
            "\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\nserver_round_robin = 1\ndefault_pool_size = {pool_size}\nmin_pool_size = {pool_size}\n{more}\n"
        )
        .unwrap();
        if version >= KEEPS_STATEMENTS {
            writeln!(text, "max_prepared_statements = {max_prepared_statements}").unwrap();
        }
        text
    }
}

/// The program and its version.
fn program() -> Option<&'static (PathBuf, Version)> {
    static FOUND: OnceLock<Result<(PathBuf, Version), String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(found) => Some(found),
        Err(reason) if std::env::var(REQUIRE).is_ok_and(|value| value == "1") => {
            panic!("{REQUIRE} is set, but {reason}")
        }
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

fn skip(reason: &str) {
    let thread = thread::current();
    // Not `eprintln!`: the harness shows that of failed tests only.
    let _ = writeln!(std::io::stderr(), "skipped: {}: {reason}", thread.name().unwrap_or("a test with PgBouncer"));
}

fn find() -> Result<(PathBuf, Version), String> {
    let named = std::env::var_os(PROGRAM).filter(|name| !name.is_empty()).map(PathBuf::from);
    let candidates = named.map_or_else(|| vec!["pgbouncer".into(), "/usr/sbin/pgbouncer".into()], |named| vec![named]);
    let is_there = |program: &PathBuf| Command::new(program).arg("--version").output().ok();
    let Some((program, answer)) =
        candidates.into_iter().find_map(|program| Some((program.clone(), is_there(&program)?)))
    else {
        return Err("there is no program `pgbouncer`: apt-get install pgbouncer, or name it with PGBOUNCER".to_owned());
    };
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let version = answer.split_whitespace().nth(1).and_then(|version| {
        let mut numbers = version.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    version.map(|version| (program, version)).ok_or_else(|| format!("`pgbouncer --version` answers {answer:?}"))
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
