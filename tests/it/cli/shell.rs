//! The shell: one command, lines that are piped into it, and a terminal.

use std::io::Write;
use std::process::Stdio;

use procrastinate::JobStatus;

use super::jobs::furnished;
use super::{on, run};
use crate::support::job;

#[test]
fn one_command_on_the_command_line_is_run_and_no_more() {
    let (database, mut connection) = furnished();
    let out = run(on(&database, &["shell", "list_jobs", "queue=sums", "details"])).well();
    assert_eq!(out.lines().count(), 3, "{out}");
    assert_eq!(run(on(&database, &["shell", "list_jobs queue=sums details"])).well(), out);
    assert!(run(on(&database, &["shell", "list_queues"])).well().contains("mails"));
    assert!(run(on(&database, &["shell", "list_tasks", "queue=sums"])).well().contains("sum"));
    assert!(run(on(&database, &["shell", "list_locks"])).well().contains("customer 7"));
    assert_eq!(run(on(&database, &["shell", "retry", "4"])).well(), "#4 sum on sums - [todo]\n");
    assert_eq!(run(on(&database, &["shell", "cancel", "1"])).well(), "#1 send on mails - [cancelled]\n");
    assert_eq!(job(&mut connection, 1.into()).status, JobStatus::Cancelled);
    assert!(run(on(&database, &["shell", "help"])).well().contains("list_locks"));
    assert_eq!(run(on(&database, &["shell", "exit"])).well(), "");
    run(on(&database, &["shell", "cancel", "1"])).with(1);
    assert!(run(on(&database, &["shell", "lsit_jobs"])).with(2).contains("lsit_jobs"));
}

#[test]
fn lines_that_are_piped_in_are_all_run_and_a_failed_one_shows_in_the_status() {
    let (database, _connection) = furnished();
    let piped = |lines: &str| {
        let mut command = on(&database, &["shell"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, err) = piped("# a comment\n\nlist_jobs lock='customer 7'\nlist_queues\n");
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(out.contains("doing") && out.contains("sums") && !out.contains("procrastinate>"), "{out}");
    let (status, out, err) = piped("cancel 3\nlist_tasks\nexit\nlist_locks\n");
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("it is succeeded") && out.contains("sum") && !out.contains("customer"), "{out}{err}");
    assert!(piped("list_jobs 'open\n").2.contains("quotation mark"));
}

#[cfg(unix)]
mod on_a_terminal {
    use std::fs::File;
    use std::io::{BufReader, Read, Write};
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::{Duration, Instant};

    use procrastinate::JobStatus;

    use super::super::on;
    use super::furnished;
    use crate::support::{PATIENCE, job};

    /// A program on a terminal of its own.
    struct Terminal {
        child: Child,
        keyboard: File,
        screen: Receiver<u8>,
        seen: String,
    }

    impl Terminal {
        fn start(mut command: Command) -> Self {
            let size = nix::pty::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
            let pair = nix::pty::openpty(&size, None).unwrap();
            let side = || Stdio::from(pair.slave.try_clone().unwrap());
            command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm");
            let child = command.spawn().unwrap();
            let (sender, screen) = channel();
            let keyboard = File::from(pair.master);
            let reader = keyboard.try_clone().unwrap();
            std::thread::spawn(move || {
                for byte in BufReader::new(reader).bytes() {
                    let Ok(byte) = byte else { return };
                    if sender.send(byte).is_err() {
                        return;
                    }
                }
            });
            Self { child, keyboard, screen, seen: String::new() }
        }

        fn type_in(&mut self, keys: &str) {
            self.keyboard.write_all(keys.as_bytes()).unwrap();
        }

        /// Waits until this has come since the last call, and returns what came up to it.
        fn shows(&mut self, text: &str) -> String {
            let deadline = Instant::now() + PATIENCE;
            let mut bytes = Vec::new();
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.screen.recv_timeout(left) {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => panic!("{text:?} does not come: {}{:?}", self.seen, String::from_utf8_lossy(&bytes)),
                }
                if bytes.ends_with(text.as_bytes()) {
                    let shown = String::from_utf8_lossy(&bytes).into_owned();
                    self.seen.push_str(&shown);
                    return shown;
                }
            }
        }

        fn ends(mut self) {
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    assert!(status.success(), "{status}");
                    return;
                }
                assert!(Instant::now() < deadline, "it does not end: {}", self.seen);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn the_shell_edits_completes_remembers_and_asks() {
        let (database, mut connection) = furnished();
        let home = std::env::temp_dir().join(format!("procrastinate-shell-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let mut command = on(&database, &["shell"]);
        command.env("HOME", &home);
        let mut terminal = Terminal::start(command);
        assert!(terminal.shows("procrastinate> ").contains("Type help or ?"));

        // Completed: the command, and the name of a queue.
        terminal.type_in("list_j\t queue=su\t\r");
        terminal.shows("id");
        let shown = terminal.shows("procrastinate> ");
        assert!(shown.contains("sums") && !shown.contains("mails"), "{shown:?}");
        assert!(shown.contains("\x1b[31m"), "a failed job is red: {shown:?}");

        // From the history, edited: `details` is added to it.
        terminal.type_in("\x1b[A details\r");
        terminal.shows("arguments");
        terminal.shows("procrastinate> ");

        // A mistake does not end it.
        terminal.type_in("cancel 3\r");
        terminal.shows("it is succeeded");
        terminal.shows("procrastinate> ");
        terminal.type_in("?\r");
        terminal.shows("list_locks");
        terminal.shows("procrastinate> ");

        // Many jobs are asked about first.
        terminal.type_in("cancel queue=mails\r");
        terminal.shows("Cancel 2 jobs? [y/N] ");
        terminal.type_in("n\r");
        terminal.shows("nothing changed");
        terminal.shows("procrastinate> ");
        assert_eq!(job(&mut connection, 1.into()).status, JobStatus::Todo);
        terminal.type_in("cancel queue=mails\r");
        terminal.shows("Cancel 2 jobs? [y/N] ");
        terminal.type_in("y\r");
        terminal.shows("2 jobs changed");
        terminal.shows("procrastinate> ");
        assert_eq!(job(&mut connection, 1.into()).status, JobStatus::Cancelled);
        terminal.type_in("\x04");
        terminal.ends();

        let history = std::fs::read_to_string(home.join(".local/state/procrastinate/history")).unwrap();
        assert!(history.contains("list_jobs queue=sums details"), "{history}");
        std::fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn colours_are_for_terminals_whose_user_wants_them() {
        let (database, _connection) = furnished();
        for (variables, expected) in [(&[][..], true), (&[("NO_COLOR", "1")], false), (&[("NO_COLOR", "")], true)] {
            let mut command = on(&database, &["list_jobs", "status=failed"]);
            command.envs(variables.iter().copied());
            let mut terminal = Terminal::start(command);
            let shown = terminal.shows("sum");
            assert_eq!(shown.contains("\x1b[31mfailed"), expected, "{variables:?}: {shown:?}");
            terminal.ends();
        }
    }
}
