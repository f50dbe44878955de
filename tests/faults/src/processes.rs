//! The child processes of the rig: each behind a proxy, with a ledger and a log of its own for each life.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::ledger::{Ledger, Line, now};
use crate::proxy::Proxy;

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(25);

/// A process that is started again after it was killed.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) proxy: Proxy,
    /// The command line with its program, but without what each life has of its own.
    arguments: Vec<String>,
    directory: PathBuf,
    history: Arc<Ledger>,
    life: Mutex<Life>,
}

/// The current life of a process.
#[derive(Debug, Default)]
struct Life {
    number: usize,
    pid: u32,
    /// The file from which the process reads by how much its clock is wrong.
    clock: Option<PathBuf>,
    child: Option<Child>,
}

impl Process {
    /// Starts a process in the rig's directory, which has `ledgers` and `logs`.
    pub(crate) async fn start(
        name: &str,
        arguments: Vec<String>,
        proxy: Proxy,
        directory: &Path,
        history: Arc<Ledger>,
    ) -> Result<Self, Failure> {
        let directory = directory.to_owned();
        let process =
            Self { name: name.to_owned(), proxy, arguments, directory, history, life: Mutex::new(Life::default()) };
        process.spawn(&mut *process.life.lock().await)?;
        Ok(process)
    }

    fn spawn(&self, life: &mut Life) -> Result<(), Failure> {
        life.number += 1;
        let name = format!("{}-{}", self.name, life.number);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("logs").join(format!("{name}.log")))?;
        let [program, arguments @ ..] = &*self.arguments else { return Err("there is no program".into()) };
        let mut command = Command::new(program);
        if let (Some(clock), Some(library)) = (&life.clock, clock_library()) {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.args(arguments);
        command.arg("--name").arg(&name);
        command.arg("--ledger").arg(self.directory.join("ledgers").join(format!("{name}.jsonl")));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command.spawn()?;
        life.pid = child.id().unwrap_or_default();
        life.child = Some(child);
        Ok(())
    }

    /// Kills the process, and starts it again.
    pub(crate) async fn kill(&self) -> Result<(), Failure> {
        let mut life = self.life.lock().await;
        self.end(&mut life, Signal::SIGKILL).await?;
        self.spawn(&mut life)
    }

    /// Asks the process to shut down, and starts it again.
    pub(crate) async fn shut_down(&self) -> Result<(), Failure> {
        let mut life = self.life.lock().await;
        self.end(&mut life, Signal::SIGTERM).await?;
        self.spawn(&mut life)
    }

    /// Stops the process for a while.
    pub(crate) async fn pause(&self, duration: Duration) -> Result<(), Failure> {
        let life = self.life.lock().await;
        let Some(pid) = life.child.as_ref().and_then(Child::id) else { return Ok(()) };
        let from = now();
        signal(pid, Signal::SIGSTOP)?;
        sleep(duration).await;
        signal(pid, Signal::SIGCONT)?;
        self.history.write(&Line::Stopped { pid, from, to: now() });
        Ok(())
    }

    /// Starts the process again with a clock that jumps forwards and backwards, and then with the right one.
    pub(crate) async fn step_clock(&self, duration: Duration) -> Result<(), Failure> {
        let mut life = self.life.lock().await;
        let file = self.directory.join(format!("{}.clock", self.name));
        self.end(&mut life, Signal::SIGKILL).await?;
        life.clock = Some(file.clone());
        for (index, offset) in ["+0", "+90", "-90", "+1800"].into_iter().enumerate() {
            fs::write(&file, format!("{offset}\n"))?;
            if index == 0 {
                self.spawn(&mut life)?;
            }
            sleep(duration / 4).await;
        }
        life.clock = None;
        self.end(&mut life, Signal::SIGKILL).await?;
        self.spawn(&mut life)
    }

    /// Ends the process for good. `by_input` ends its standard input instead of sending a signal.
    pub(crate) async fn finish(&self, by_input: bool) -> Result<(), Failure> {
        let mut life = self.life.lock().await;
        if by_input {
            if let Some(child) = &mut life.child {
                drop(child.stdin.take());
            }
            self.wait(&mut life).await
        } else {
            self.end(&mut life, Signal::SIGTERM).await
        }
    }

    /// Whether the process has ended although nobody asked it to.
    pub(crate) async fn has_died(&self) -> bool {
        let mut life = self.life.lock().await;
        life.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    async fn end(&self, life: &mut Life, how: Signal) -> Result<(), Failure> {
        if let Some(pid) = life.child.as_ref().and_then(Child::id) {
            signal(pid, how)?;
        }
        self.wait(life).await
    }

    /// Waits until the process has ended, and kills it if that takes too long.
    async fn wait(&self, life: &mut Life) -> Result<(), Failure> {
        let Some(mut child) = life.child.take() else { return Ok(()) };
        // Its standard input stays open: the end of that would end it at once.
        let input = child.stdin.take();
        if timeout(PATIENCE, child.wait()).await.is_err() {
            child.kill().await?;
        }
        drop(input);
        self.history.write(&Line::Gone { pid: life.pid, at: now() });
        Ok(())
    }
}

fn signal(pid: u32, signal: Signal) -> Result<(), Failure> {
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
}

/// Returns the library of faketime, if it is installed.
pub(crate) fn clock_library() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?;
    let libraries = directories.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.exists())
}
