//! A private cluster, which stops when its owner ends.

use std::env;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::binaries::Binaries;
use crate::directory::{PrivateDirectory, random_hex};
use crate::{Error, Options, Restart};

const WATCHDOG: &str = include_str!("watchdog.sh");
const START_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const PORTS_TO_TRY: usize = 10;

/// A running cluster. The order of the fields matters, because the server must stop before its directory is removed.
pub(crate) struct Cluster {
    watchdog: Watchdog,
    directory: PrivateDirectory,
    account: Option<Account>,
    port: u16,
    password: String,
}

impl Cluster {
    /// Creates and starts a cluster: a new one, or a standby of this primary.
    pub(crate) fn start(binaries: &Binaries, options: &Options, primary: Option<&Cluster>) -> Result<Cluster, Error> {
        let mut attempt = Cluster::start_on(free_port()?, binaries, options, primary);
        for _ in 1..PORTS_TO_TRY {
            match attempt {
                Err(error) if error.is_port_taken() => {
                    attempt = Cluster::start_on(free_port()?, binaries, options, primary);
                }
                other => return other,
            }
        }
        attempt
    }

    fn start_on(
        port: u16,
        binaries: &Binaries,
        options: &Options,
        primary: Option<&Cluster>,
    ) -> Result<Cluster, Error> {
        let account = Account::for_server()?;
        let (create, password, primary) = match primary {
            None => (binaries.initdb(), random_hex::<16>()?, String::new()),
            Some(primary) => {
                let address = format!("host=127.0.0.1 port={} user=postgres", primary.port);
                (binaries.pg_basebackup()?, primary.password.clone(), address)
            }
        };
        let path = PrivateDirectory::unused_path(&options.parent(env::var_os("POSTGRES_DIRECTORY")))?;
        // Start the watchdog before creating the directory, so that nothing remains if this process is killed in
        // between.
        let programs = [&*create, &*binaries.postgres()];
        let watchdog = Watchdog::spawn(programs, &primary, &path, account.as_ref(), &settings(options, port))?;
        let directory = PrivateDirectory::create(path)?;
        for (name, contents) in options.files() {
            directory.write(name, contents, account.as_ref())?;
        }
        if let Some(account) = &account {
            directory.give_to(account)?;
        }
        watchdog.send(&password).map_err(|error| Error::io("start a private server with /bin/sh", &error))?;
        let mut cluster = Cluster { watchdog, directory, account, port, password };
        cluster.wait_until_ready(binaries)?;
        Ok(cluster)
    }

    /// Returns the connection URL of the superuser.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    fn wait_until_ready(&mut self, binaries: &Binaries) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        let directory = self.directory.path();
        loop {
            let ended = directory.join("ended").exists() || matches!(self.watchdog.0.try_wait(), Ok(Some(_)) | Err(_));
            if ended {
                return Err(self.failure(binaries, "could not start"));
            }
            if is_ready(&directory.join("data/postmaster.pid")) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failure(binaries, &format!("did not become ready within {} s", START_LIMIT.as_secs())));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Restarts the server, and waits until it is ready. Also starts a server that has ended on its own.
    pub(crate) fn restart(&self, mode: Restart) -> Result<(), Error> {
        let pid_file = self.directory.path().join("data/postmaster.pid");
        let former = first_line(&pid_file);
        self.watchdog.send(mode.signal()).map_err(|error| Error::io("restart a private server", &error))?;
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready(&pid_file) || first_line(&pid_file) == former {
            if Instant::now() > deadline {
                let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
                return Err(Error::new(format!(
                    "a private PostgreSQL server did not restart within {} s. The end of its log:\n{}",
                    START_LIMIT.as_secs(),
                    tail(&String::from_utf8_lossy(&log)),
                )));
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    fn failure(&self, binaries: &Binaries, what: &str) -> Error {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let message = format!(
            "a private PostgreSQL server (programs in {}) {what}. The end of its log:\n{}{}",
            binaries.directory.display(),
            tail(&log),
            advice_for_root(self.account.as_ref(), binaries, self.directory.path()),
        );
        if log.contains("Address already in use") { Error::port_taken(message) } else { Error::new(message) }
    }
}

impl fmt::Debug for Cluster {
    /// Omits the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The shell that runs the server. Its standard input is open while this process lives. Then it stops the server.
#[derive(Debug)]
struct Watchdog(Child);

impl Watchdog {
    /// Starts the shell, which waits for the password before it does anything.
    fn spawn(
        [create, postgres]: [&Path; 2],
        primary: &str,
        directory: &Path,
        account: Option<&Account>,
        settings: &[(String, String)],
    ) -> Result<Watchdog, Error> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(WATCHDOG).arg("throwaway-postgres");
        command.arg(directory).arg(create).arg(postgres);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // Variables such as PGPORT or PGDATA would select another server, and the log is searched for English messages.
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        // The other user may have no access to this process's current directory.
        command.env("LC_ALL", "C").env("PRIMARY", primary).current_dir("/");
        // It must not keep a pipe of its owner open, so that `cargo test | tee` ends.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C signals the owner's process group, but the owner still needs the server while it ends.
        command.process_group(0);
        if let Some(account) = account {
            command.uid(account.user).gid(account.group);
        }
        command.spawn().map(Watchdog).map_err(|error| Error::io("run /bin/sh", &error))
    }

    /// Sends a line. The first one is the password, which also starts the work. The others are signals for restarts.
    fn send(&self, line: &str) -> io::Result<()> {
        match self.0.stdin.as_ref() {
            // One system call, because several threads can restart the server.
            Some(mut stdin) => stdin.write_all(format!("{line}\n").as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Closes its standard input first. Fails only if it was waited for before.
        let _ = self.0.wait();
    }
}

/// Returns a free port. Another program can take it before the server does. In that case, another port is tried.
fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| Ok(listener.local_addr()?.port()))
        .map_err(|error| Error::io("find a free port on 127.0.0.1", &error))
}

/// Returns the settings for the server's command line. A later value for a name replaces an earlier one.
fn settings(options: &Options, port: u16) -> Vec<(String, String)> {
    let durable = if options.is_durable() { "on" } else { "off" };
    let mut settings: Vec<(String, String)> = [
        ("max_connections", "200"),
        // Dropping a database waits for all connections, including those that are still being opened. A test may be
        // opening one on the same thread that drops the database, so it would block for a minute by default.
        ("authentication_timeout", "5s"),
        ("shared_buffers", "64MB"),
        // Code must not assume that the server runs in UTC. This zone reveals such mistakes. Its offset includes 45
        // minutes, it has summer time, and its date differs from UTC's for more than half of the day.
        ("timezone", "Pacific/Chatham"),
        ("fsync", durable),
        ("synchronous_commit", durable),
        ("full_page_writes", durable),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    settings.extend(options.settings().iter().cloned());
    // These cannot be changed, because the connection URL depends on them.
    settings.push(("listen_addresses".to_owned(), "127.0.0.1".to_owned()));
    settings.push(("port".to_owned(), port.to_string()));
    settings.push(("unix_socket_directories".to_owned(), String::new()));
    settings.push(("logging_collector".to_owned(), "off".to_owned()));
    settings
}

/// Whether the server is ready. Since version 10, the eighth line of this file is its status.
fn is_ready(pid_file: &Path) -> bool {
    fs::read_to_string(pid_file).is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
}

/// Returns the first line of this file, which is the process ID of the server.
fn first_line(pid_file: &Path) -> Option<String> {
    fs::read_to_string(pid_file).ok()?.lines().next().map(str::to_owned)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let mut text = String::new();
    for line in lines.iter().skip(lines.len().saturating_sub(20)) {
        let _ = writeln!(text, "    {line}");
    }
    if text.is_empty() { "    (empty)\n".to_owned() } else { text }
}

fn advice_for_root(account: Option<&Account>, binaries: &Binaries, directory: &Path) -> String {
    let Some(account) = account else {
        return String::new();
    };
    format!(
        "\nThis program runs as root, which PostgreSQL refuses, so the server ran as the user `{}`. \
         This user must have access to {} (set by POSTGRES_BIN) and {} (set by POSTGRES_DIRECTORY or TMPDIR).",
        account.name,
        binaries.directory.display(),
        directory.display(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail immediately")]
mod tests {
    use super::*;
    use crate::binaries::Places;

    #[test]
    fn a_port_in_use_is_distinguished_from_other_failures() {
        let binaries = Places::of_this_machine().find().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Cluster::start_on(port, &binaries, &Options::new(), None).unwrap_err();
        assert!(taken.is_port_taken(), "{taken}");
        drop(listener);
        let refused = Options::new().setting("no_such_setting", "1");
        let other = Cluster::start_on(port, &binaries, &refused, None).unwrap_err();
        assert!(!other.is_port_taken(), "{other}");
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_twenty_lines() {
        let log: String = (0..30).map(|number| format!("line {number}\n")).collect();
        let tail = tail(&log);
        assert_eq!(tail.lines().count(), 20);
        assert!(tail.ends_with("line 29\n"));
    }

    #[test]
    fn settings_of_the_caller_override_defaults_but_not_the_address() {
        let options = Options::new().setting("shared_buffers", "1GB").setting("port", "1");
        let settings = settings(&options, 5433);
        let last = |name| settings.iter().rfind(|(set, _)| set == name).map(|(_, value)| value.as_str());
        assert_eq!(last("shared_buffers"), Some("1GB"));
        assert_eq!(last("port"), Some("5433"));
        assert_eq!(last("fsync"), Some("off"));
    }
}
