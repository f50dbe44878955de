//! A short run of the rig, for the project's check.
#![cfg(unix)]
#![allow(missing_docs, clippy::print_stderr, reason = "a test says why it skips")]

use std::process::Command;

#[test]
fn the_promises_are_kept_in_a_short_run() {
    let Ok(seconds) = std::env::var("PROCRASTINATE_FAULT_SECONDS") else {
        eprintln!("left out: set PROCRASTINATE_FAULT_SECONDS to run the fault rig for so many seconds");
        return;
    };
    let mut rig = Command::new(env!("CARGO_BIN_EXE_fault-rig"));
    let status = rig.args(["run", "--seed", "1", "--seconds", &seconds]).status();
    assert!(status.is_ok_and(|status| status.success()), "the rig says above what went wrong");
}
