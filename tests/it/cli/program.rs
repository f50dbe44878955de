//! What all commands share: the address of the database, the log, exit statuses and help.

use std::io::Read;

use super::{on, program, run};
use crate::support::{connect, database, rows, superuser};

#[test]
fn the_database_is_the_one_of_the_flag_or_of_either_kind_of_variables() {
    let database = database();
    let mut command = program(&["--database-url", database.url(), "defer", "sum"]);
    command.env("DATABASE_URL", "postgres://127.0.0.1:1/nowhere");
    run(command).well();
    // After the command as well as before it.
    run(program(&["defer", "sum", "--database-url", database.url()])).well();

    let question = "SELECT split_part(current_setting('unix_socket_directories'), ', ', 1), current_setting('port')";
    let mut answer = rows(&mut superuser(&database), question).remove(0);
    answer = format!("{answer} | {}", rows(&mut connect(&database), "SELECT current_user").remove(0));
    let [directory, port, user] = *answer.split(" | ").collect::<Vec<_>>() else { panic!("{answer}") };
    if !std::path::Path::new(directory).join(format!(".s.PGSQL.{port}")).exists() {
        eprintln!("left out: the server has no socket here, so PGHOST cannot name it");
        return;
    }
    let mut command = program(&["defer", "sum"]);
    command.env("PGHOST", directory).env("PGPORT", port).env("PGUSER", user).env("PGDATABASE", database.name());
    assert_eq!(run(command).well(), "deferred job 3\n");
}

#[test]
fn without_an_address_the_error_explains_how_to_set_one() {
    let said = run(program(&["healthchecks"])).with(2);
    assert!(said.contains("--database-url") && said.contains("DATABASE_URL"), "{said}");
}

#[test]
fn the_output_of_a_command_can_be_cut_off() {
    let mut command = program(&["schema", "--read"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn help_is_no_failure_and_a_misspelt_command_is_one() {
    for arguments in [&["--help"][..], &["-h"], &["defer", "--help"], &["worker", "--help"], &["--version"], &["-V"]] {
        assert!(!run(program(arguments)).well().is_empty());
    }
    let said = run(program(&["healthcheck"])).with(2);
    assert!(said.contains("healthchecks"), "it knows what was meant: {said}");
    assert!(run(program(&[])).with(2).contains("Usage:"));
}

#[test]
fn a_program_without_tasks_explains_why_it_cannot_run_a_worker() {
    let database = database();
    let said = run(on(&database, &["worker"])).with(2);
    assert!(said.contains("this program has no tasks"), "{said}");
}

#[test]
fn an_invalid_address_is_refused_without_its_password() {
    for (address, reason) in [
        ("shop", "unexpected EOF"),
        ("postgres:ada:s3cret@localhost/shop", "postgres://user:password@host:port/database"),
        ("postgres://ada:s3cret@localhost/shop?password=s3cret&colour=red", "unknown option `colour`"),
        ("host=localhost port=many password=s3cret", "`port`"),
    ] {
        let said = run(program(&["--database-url", address, "list_jobs"])).with(2);
        assert!(said.contains(reason) && !said.contains("s3cret"), "{said}");
    }
    let mut command = program(&["list_jobs"]);
    command.envs([("PGHOST", "127.0.0.1"), ("PGPORT", "1"), ("PGPASSWORD", "two s3cret words")]);
    let said = run(command).with(1);
    assert!(said.contains("could not connect to host='127.0.0.1' port='1'"), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("words"), "{said}");
    assert_eq!(run(program(&["--database-url", "postgres://127.0.0.1:1/shop", "list_jobs", "--json"])).out, "");
}

#[test]
fn the_application_of_python_may_be_named_but_is_not_needed() {
    let database = database();
    for arguments in [["--app=shop.app", "healthchecks"], ["-ashop.app", "healthchecks"]] {
        run(on(&database, &arguments)).well();
    }
}

#[test]
fn the_log_is_as_loud_as_the_flags_say_before_the_variables() {
    let database = database();
    let loud = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = on(&database, arguments);
        command.envs(variables.iter().copied());
        let ended = run(command);
        assert_eq!(ended.status, 0, "{ended:?}");
        ended.err.contains("--app has no effect")
    };
    let quiet: &[&str] = &["--app=shop", "healthchecks"];
    assert!(!loud(quiet, &[]));
    assert!(loud(&["--app=shop", "-v", "healthchecks"], &[("PROCRASTINATE_LOG_LEVEL", "error")]));
    assert!(loud(&["--app=shop", "healthchecks", "--verbose"], &[]));
    assert!(loud(&["--app=shop", "--log-level", "debug", "healthchecks"], &[("PROCRASTINATE_LOG_LEVEL", "error")]));
    assert!(loud(quiet, &[("PROCRASTINATE_LOG_LEVEL", "debug")]));
    assert!(loud(quiet, &[("PROCRASTINATE_VERBOSE", "1")]));
    assert!(!loud(quiet, &[("PROCRASTINATE_VERBOSE", "1"), ("PROCRASTINATE_LOG_LEVEL", "critical")]));
    run(on(&database, &["-v", "--log-level", "debug", "healthchecks"])).with(2);
    run(on(&database, &["--log-level", "loud", "healthchecks"])).with(2);
}

#[test]
fn the_log_is_text_or_json_and_a_format_of_python_is_a_warning() {
    let database = database();
    let log = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = on(&database, &[arguments, &["--app=shop", "-v", "healthchecks"]].concat());
        command.envs(variables.iter().copied());
        run(command).err
    };
    for text in [log(&[], &[]), log(&["--log-format", "text"], &[])] {
        assert!(text.contains("DEBUG procrastinate::cli::program::stand_alone: --app has no effect"), "{text}");
    }
    let line = log(&["--log-format", "json"], &[]);
    let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!((&line["level"], line["message"].as_str().unwrap().starts_with("--app")), (&"DEBUG".into(), true));
    for python in [
        log(&["--log-format", "[%(levelname)s] %(message)s"], &[]),
        log(&["--log-format-style", "{", "--log-format", "<{levelname}>"], &[]),
        log(&[], &[("PROCRASTINATE_LOG_FORMAT", "$levelname!"), ("PROCRASTINATE_LOG_FORMAT_STYLE", "$")]),
    ] {
        assert!(python.contains("is not supported; using text"), "{python}");
        assert!(python.contains("DEBUG procrastinate::cli"), "{python}");
        assert_eq!(python.matches("not supported").count(), 1, "{python}");
    }
    assert!(run(on(&database, &["--log-format", "plain", "healthchecks"])).with(2).contains("must be text or json"));
}
