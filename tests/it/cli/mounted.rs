//! The commands in programs with tasks: one whose command line they are, and hosts that have one of their own.
//!
//! The program is this binary again, asked for the test [`be_a_program`] alone.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::cli::{self, Commands};
use procrastinate::{App, DieselConnector, JobContext, JobStatus, task};
use throwaway_postgres::Database;

use super::{Ended, on, run};
use crate::support::{connect, database, jobs, statuses};

/// What the program's arguments are: as JSON.
const ARGUMENTS: &str = "PROCRASTINATE_TEST_CLI_ARGUMENTS";

/// Where there is no server.
const NOWHERE: &str = "postgres://127.0.0.1:1/nowhere";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[task(queue = "sums", priority = 3)]
async fn sum(a: i64, b: i64) -> Result<(), String> {
    println!("the sum is {}", a + b);
    if a < 0 { Err("below zero".to_owned()) } else { Ok(()) }
}

#[task(pass_context)]
async fn introduce(context: JobContext) {
    println!("run by {} on {:?}", context.worker_name(), context.worker_queues());
}

#[task]
async fn report(timestamp: i64) {
    let _ = timestamp;
}

#[task(queueing_lock = "index:{page}", unless_enqueued)]
async fn index(page: u32) {
    let _ = page;
}

async fn build() -> Result<App, Failure> {
    let url = std::env::var("DATABASE_URL")?;
    // bb8 tries for as long to reach a server that is not there.
    let patience = if url == NOWHERE { Duration::from_millis(50) } else { Duration::from_secs(30) };
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    let pool = Pool::builder().max_size(2).connection_timeout(patience).build_unchecked(manager);
    let connector = DieselConnector::new(pool);
    let defaults = |worker: procrastinate::Worker| worker.name("of the application").concurrency(3).queues(["default"]);
    Ok(App::builder(connector)
        .task::<sum>()
        .task::<introduce>()
        .task::<index>()
        .task::<report>()
        .worker_defaults(defaults)
        .build()?)
}

#[test]
#[ignore = "a program that other tests run"]
fn be_a_program() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments: Vec<String> = serde_json::from_str(&arguments).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(cli::main_from(arguments, build));
    std::process::exit((0..=2).find(|status| ExitCode::from(*status) == code).unwrap().into());
}

/// The program on a database, before it is run.
pub fn worker_program(database: &Database, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["cli::mounted::be_a_program", "--exact", "--ignored", "--nocapture"]);
    let arguments: Vec<&str> = ["shop"].iter().chain(arguments).copied().collect();
    command.env_clear().env("DATABASE_URL", database.url()).env(ARGUMENTS, serde_json::to_string(&arguments).unwrap());
    command.stdin(Stdio::null());
    command
}

fn in_program(database: &Database, arguments: &[&str]) -> Ended {
    run(worker_program(database, arguments))
}

#[test]
fn a_job_is_deferred_with_its_tasks_options_and_run_by_the_worker() {
    let database = database();
    in_program(&database, &["defer", "sum", r#"{"a": 3, "b": 5}"#]).well();
    let [job] = <[_; 1]>::try_from(jobs(&mut connect(&database))).unwrap();
    assert_eq!((job.queue_name.as_str(), job.priority), ("sums", 3));

    let said = in_program(&database, &["defer", "product"]).with(1);
    assert!(said.contains("sum") && said.contains("--unknown"), "{said}");
    in_program(&database, &["defer", "product", "--unknown", "--queue", "elsewhere"]).well();

    let ended = in_program(&database, &["worker", "--queues", " sums, ", "--one-shot"]);
    assert!(ended.err.contains("Launching a worker on sums\n"), "{ended:?}");
    assert!(ended.well().contains("the sum is 8"));
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded, JobStatus::Todo]);
}

#[test]
fn a_job_has_the_lock_of_its_arguments_and_is_deferred_unless_one_is_pending() {
    let database = database();
    let defer = |arguments: &[&str]| in_program(&database, &[&["defer", "index"], arguments].concat());
    assert!(defer(&[r#"{"page": 7}"#]).well().contains("deferred job 1\n"));
    let said = defer(&[r#"{"page": 7}"#]).well();
    assert!(said.contains("job 1 with the same queueing lock is already pending\n"), "{said}");
    let said = defer(&[r#"{"page": 7}"#, "--json"]).well();
    assert!(said.contains(r#"{"deferred":"kept","id":1}"#), "{said}");
    let said = defer(&[r#"{"page": "seven"}"#]).with(2);
    assert!(said.contains("must fit the task, and do not at page: invalid type: string, expected u32"), "{said}");
    let jobs = jobs(&mut connect(&database));
    assert_eq!(jobs.iter().map(|job| job.queueing_lock.as_deref()).collect::<Vec<_>>(), [Some("index:7")]);
}

#[test]
fn a_worker_is_set_by_flags_then_variables_then_the_application() {
    let database = database();
    for arguments in [&[][..], &["--name", "of the flag"], &["-n", "of the flag"], &[]] {
        in_program(&database, &["defer", "introduce"]).well();
        let with_variable = arguments.is_empty() && jobs(&mut connect(&database)).len() > 1;
        let mut command = worker_program(&database, &[&["worker", "--one-shot"], arguments].concat());
        if with_variable || !arguments.is_empty() {
            command.env("PROCRASTINATE_WORKER_NAME", "of the variable");
        }
        let expected = match (arguments.is_empty(), with_variable) {
            (false, _) => "of the flag",
            (true, true) => "of the variable",
            (true, false) => "of the application",
        };
        let out = run(command).well();
        assert!(out.contains(&format!("run by {expected} on Some([\"default\"])")), "{out}");
    }
    let out = in_program(&database, &["defer", "introduce"]).well();
    assert!(out.contains("deferred job"));
    // Nothing between the quotes: all queues, whatever the application says.
    let ended = in_program(&database, &["worker", "-q", "", "--one-shot"]);
    assert!(ended.err.contains("on all queues"), "{ended:?}");
    assert!(ended.well().contains("on None"));
}

/// What the worker is set to, by its own account.
fn settings(database: &Database, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    // It ends immediately, whatever is tested, because its pool has no database.
    let mut command = worker_program(database, &[&["--log-level", "debug", "worker"], arguments].concat());
    command.env("DATABASE_URL", NOWHERE);
    command.envs(variables.iter().map(|(name, value)| (format!("PROCRASTINATE_WORKER_{name}"), value)));
    run(command).with(1)
}

#[test]
fn every_flag_and_every_variable_of_the_worker_sets_what_it_names() {
    let database = database();
    let rows: [(&[&str], &str, &str, &str); 15] = [
        (&["-c", "7"], "CONCURRENCY", "7", "concurrency: 7"),
        (&["--concurrency", "7"], "CONCURRENCY", "7", "concurrency: 7"),
        (&["-p", "2.5"], "FETCH_JOB_POLLING_INTERVAL", "2.5", "fetch_job_polling_interval: 2.5s"),
        (
            &["--fetch-job-polling-interval", "2500ms"],
            "FETCH_JOB_POLLING_INTERVAL",
            "2.5s",
            "fetch_job_polling_interval: 2.5s",
        ),
        (&["-a", "7"], "ABORT_JOB_POLLING_INTERVAL", "7", "abort_job_polling_interval: 7s"),
        (&["--abort-job-polling-interval", "7"], "ABORT_JOB_POLLING_INTERVAL", "7", "abort_job_polling_interval: 7s"),
        (
            &["--shutdown-graceful-timeout", "20"],
            "SHUTDOWN_GRACEFUL_TIMEOUT",
            "20",
            "shutdown_graceful_timeout: Some(20s)",
        ),
        (&["--one-shot"], "WAIT", "0", "wait: false"),
        (&["--no-listen-notify"], "LISTEN_NOTIFY", "f", "listen_notify: false"),
        (&["--delete-jobs", "successful"], "DELETE_JOBS", "successful", "delete_jobs: Successful"),
        (&["--delete-jobs", "always"], "DELETE_JOBS", "always", "delete_jobs: Always"),
        (&["--local-buffer", "50"], "LOCAL_BUFFER", "50", "local_buffer: 50"),
        (&["--timeout", "1m"], "TIMEOUT", "60", "timeout: Some(60s)"),
        (&["--update-heartbeat-interval", "3"], "UPDATE_HEARTBEAT_INTERVAL", "3", "update_heartbeat_interval: 3s"),
        (&["--stalled-worker-timeout", "60"], "STALLED_WORKER_TIMEOUT", "60", "stalled_worker_timeout: 60s"),
    ];
    for (flags, variable, value, expected) in rows {
        let said = settings(&database, flags, &[]);
        assert!(said.contains(expected), "{flags:?}: {said}");
        let said = settings(&database, &[], &[(variable, value)]);
        assert!(said.contains(expected), "{variable}: {said}");
    }
    let own_queues = r#"own_queues: [("mails", 5), ("reports", 1)]"#;
    let flags = ["--queue-concurrency", "mails=5", "--queue-concurrency", "reports=1"];
    assert!(settings(&database, &flags, &[]).contains(own_queues));
    let variable = [("QUEUE_CONCURRENCY", "mails=5, reports=1")];
    assert!(settings(&database, &[], &variable).contains(own_queues));
    let older_than = "retention: [(Succeeded, 604800s), (Failed, 7776000s)]";
    let flags = ["--delete-jobs-older-than", "succeeded=7d", "--delete-jobs-older-than", "failed=90d"];
    assert!(settings(&database, &flags, &[]).contains(older_than));
    let variable = [("DELETE_JOBS_OLDER_THAN", "succeeded=7d, failed=90d")];
    assert!(settings(&database, &[], &variable).contains(older_than));
}

#[test]
fn flags_win_over_variables_and_the_last_of_two_opposites_counts() {
    let database = database();
    let off = [("WAIT", "0"), ("LISTEN_NOTIFY", "0"), ("CONCURRENCY", "")];
    for flags in [["-w", "-l"], ["--wait", "--listen-notify"]] {
        let said = settings(&database, &flags, &off);
        assert!(said.contains(" wait: true") && said.contains("listen_notify: true"), "{said}");
        assert!(said.contains("concurrency: 3"), "the application's, since the variable is empty: {said}");
    }
    assert!(settings(&database, &["--wait", "--one-shot"], &[]).contains(" wait: false"));
    let mut command = worker_program(&database, &["worker"]);
    command.env("PROCRASTINATE_WORKER_CONCURRENCY", "many");
    assert!(run(command).with(2).contains("PROCRASTINATE_WORKER_CONCURRENCY"));
}

#[test]
fn a_program_with_tasks_passes_the_health_checks() {
    let database = database();
    let out = in_program(&database, &["healthchecks"]).well();
    assert!(out.contains("App configuration: OK (4 tasks)"), "{out}");
    assert!(in_program(&database, &["--help"]).well().contains("worker"));
    in_program(&database, &["schema", "--read"]).well();
}

/// As a field of a host, together with its own options.
#[derive(Parser)]
struct WithFields {
    #[arg(long, global = true)]
    verbose: bool,
    #[command(flatten)]
    queue: Commands,
}

/// As one of a host's subcommands.
#[derive(Parser)]
enum AsSubcommand {
    Serve,
    Queue(Commands),
}

/// Together with a host's subcommands.
#[derive(Parser)]
enum Beside {
    Serve,
    #[command(flatten)]
    Queue(Commands),
}

#[test]
fn a_host_can_mount_the_commands_with_either_interface_of_clap() {
    WithFields::command().debug_assert();
    AsSubcommand::command().debug_assert();
    Beside::command().debug_assert();
    let host = WithFields::try_parse_from(["shop", "worker", "-c", "2", "--verbose"]).unwrap();
    assert!(host.verbose && format!("{:?}", host.queue).contains("concurrency: Some(2)"));
    assert!(matches!(AsSubcommand::try_parse_from(["shop", "queue", "healthchecks"]), Ok(AsSubcommand::Queue(_))));
    assert!(matches!(Beside::try_parse_from(["shop", "healthchecks"]), Ok(Beside::Queue(_))));
    assert!(matches!(Beside::try_parse_from(["shop", "serve"]), Ok(Beside::Serve)));
    assert!(matches!(AsSubcommand::try_parse_from(["shop", "serve"]), Ok(AsSubcommand::Serve)));
    assert!(AsSubcommand::try_parse_from(["shop", "queue"]).is_err());

    let builder = clap::Command::new("shop").subcommand(Commands::augment_args(clap::Command::new("queue")));
    let matches = builder.try_get_matches_from(["shop", "queue", "defer", "sum"]).unwrap();
    let commands = Commands::from_arg_matches(matches.subcommand_matches("queue").unwrap()).unwrap();
    assert!(format!("{commands:?}").contains("sum") && Commands::has_subcommand("worker"));
}

#[tokio::test]
async fn a_mounted_command_runs_on_the_application() {
    let database = database();
    let pool = crate::support::pool(&database).await;
    let app = App::builder(DieselConnector::new(pool)).task::<sum>().build().unwrap();
    let arguments = ["shop", "defer", "sum", r#"{"a": 3, "b": 5}"#, "--lock", "l"];
    let Beside::Queue(commands) = Beside::try_parse_from(arguments).unwrap() else {
        panic!("it is a command of the queue's");
    };
    assert_eq!(commands.run(&app).await, ExitCode::SUCCESS);
    assert_eq!(jobs(&mut connect(&database))[0].lock.as_deref(), Some("l"));
}

#[test]
fn a_schedule_with_arguments_that_do_not_fit_its_task_is_refused_or_listed_as_such() {
    let database = database();
    let create = ["schedules", "create", "sum", "@daily"];
    for arguments in [&["--args", r#"{"a":1,"b":"x"}"#][..], &[]] {
        let said = in_program(&database, &[&create[..], arguments].concat()).with(2);
        assert!(said.contains("\"sum\""), "{said}");
    }
    in_program(&database, &[&create[..], &["--args", r#"{"a":1,"b":2}"#]].concat()).well();
    // Each job gets its tick as an argument.
    in_program(&database, &["schedules", "create", "report", "@daily"]).well();
    assert_eq!(in_program(&database, &["schedules", "list"]).well().matches("active").count(), 2);
    let said = in_program(&database, &["schedules", "change", "sum", "--args", r#"{"a":1}"#]).with(2);
    assert!(said.contains("missing field `b`"), "{said}");
    assert!(in_program(&database, &["schedules", "list"]).well().contains("active"));
    // A program without tasks cannot know.
    run(on(&database, &["schedules", "change", "sum", "--args", r#"{"a":1}"#])).well();
    assert!(in_program(&database, &["schedules", "list"]).well().contains("its arguments do not fit the task"));
    // There is no such day.
    run(on(&database, &["schedules", "create", "other", "0 0 30 2 *"])).well();
    assert!(run(on(&database, &["schedules", "list"])).well().contains("never"));
}
