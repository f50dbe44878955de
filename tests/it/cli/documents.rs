//! Completions of shells, and manual pages.

use std::fs;

use super::{program, run};

#[test]
fn completions_are_made_for_every_shell_without_a_database() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(program(&["completions", shell])).well();
        assert!(script.contains("list_queues") && script.contains("healthchecks"), "{shell}");
    }
    run(program(&["completions", "tcsh"])).with(2);
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = std::env::temp_dir().join(format!("procrastinate-man-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    run(program(&["man", directory.to_str().unwrap()])).well();
    let page = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    assert!(page("procrastinate.1").contains("healthchecks"));
    assert!(page("procrastinate-defer.1").contains("PROCRASTINATE_DEFER_QUEUEING_LOCK"));
    assert!(page("procrastinate-list_jobs.1").contains("KEY=VALUE"));
    // Its own pages are replaced, and nobody else's.
    fs::write(directory.join("procrastinate-why.1"), ".TH mine").unwrap();
    fs::remove_file(directory.join("procrastinate.1")).unwrap();
    let error = run(program(&["man", directory.to_str().unwrap()])).with(1);
    assert!(error.contains("the file procrastinate-why.1 is not one of these pages"), "{error}");
    assert_eq!(page("procrastinate-why.1"), ".TH mine");
    assert!(!directory.join("procrastinate.1").exists());
    fs::remove_file(directory.join("procrastinate-why.1")).unwrap();
    run(program(&["man", directory.to_str().unwrap()])).well();
    assert!(page("procrastinate.1").contains("healthchecks"));
    // It does not write into the current directory unasked.
    run(program(&["man"])).with(2);
    fs::remove_dir_all(&directory).unwrap();
    assert!(run(program(&["man", directory.to_str().unwrap()])).with(1).contains("could not write"));
}
