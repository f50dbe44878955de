//! The rig: starts everything, lets the faults happen, waits until all jobs have finished, and checks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::checker::check;
use crate::evidence::{collect, progress};
use crate::faults::Rig;
use crate::faults::disk::Disk;
use crate::ledger::Ledger;
use crate::processes::{Process, clock_library};
use crate::proxy::Proxy;
use crate::python;
use crate::report::{report, say};
use crate::schedule::{Counts, Kind, Step, schedule};
use crate::server::Server;
use crate::tasks::QUEUES_BESIDE_PYTHON;
use crate::worker::Deletes;

/// How long everything runs before the first fault.
const WARM_UP: Duration = Duration::from_secs(3);

/// How long the jobs may take to finish after the last fault.
const DRAIN_LIMIT: Duration = Duration::from_secs(90);

/// Name, concurrency, local buffer, the number of queues, and what is deleted, of each worker.
const WORKERS: [(&str, usize, usize, usize, Deletes); 4] = [
    ("all", 4, 0, 0, Deletes::Nothing),
    ("buffered", 3, 20, 0, Deletes::Old),
    ("one-queue", 3, 0, 1, Deletes::Old),
    ("one-queue-buffered", 2, 5, 1, Deletes::Successful),
];

const DEFERRERS: [&str; 2] = ["deferrer", "other-deferrer"];

/// What the command line asks for.
#[derive(Debug, Clone)]
pub(crate) struct RunArguments {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    /// Only these kinds. Empty: all.
    pub(crate) kinds: Vec<Kind>,
}

/// Runs the rig. Returns whether all promises were kept.
pub(crate) async fn run(arguments: RunArguments) -> Result<bool, Failure> {
    let directory = std::env::temp_dir().join(format!("fault-rig-{}", std::process::id()));
    for part in ["ledgers", "logs"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let (disk, kinds) = possible_kinds(&arguments, &directory)?;
    say(format!("seed {}, {} s, files in {}", arguments.seed, arguments.length.as_secs(), directory.display()));
    let mut terminated = signal(SignalKind::terminate())?;
    // Whatever ends the rig, its processes end and its disk is unmounted.
    let result = tokio::select! {
        result = run_in(&directory, disk, &kinds, &arguments) => result,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminated.recv() => Err("terminated".into()),
    };
    if matches!(result, Ok(true)) {
        let _ = fs::remove_dir_all(&directory);
    }
    result
}

/// Returns the kinds of faults that can happen here, and says why others are left out.
fn possible_kinds(arguments: &RunArguments, directory: &Path) -> Result<(Option<Disk>, Vec<Kind>), Failure> {
    let mut kinds = if arguments.kinds.is_empty() { Kind::ALL.to_vec() } else { arguments.kinds.clone() };
    let mut leave_out = |kind: Kind, reason: &str| {
        if kinds.contains(&kind) {
            kinds.retain(|other| *other != kind);
            say(format!("left out: {kind}: {reason}"));
        }
    };
    if clock_library().is_none() {
        leave_out(Kind::StepClock, "faketime is not installed");
    }
    let disk = Disk::mount(directory).map_err(|reason| leave_out(Kind::FillDisk, &reason)).ok();
    if kinds.is_empty() {
        return Err("there is no fault left to happen".into());
    }
    Ok((disk, kinds))
}

async fn run_in(
    directory: &Path,
    disk: Option<Disk>,
    kinds: &[Kind],
    arguments: &RunArguments,
) -> Result<bool, Failure> {
    let server = Server::start(disk.as_ref().map(|disk| disk.path.as_path())).await?;
    let kinds = &with_programs(&server, kinds).await?;
    let history = Arc::new(Ledger::open(&directory.join("ledgers/rig.jsonl"))?);
    let place = directory.to_owned();
    let mut rig = Rig { workers: Vec::new(), deferrers: Vec::new(), server, disk, directory: place, history };
    start_processes(&mut rig, directory, arguments).await?;
    let mut deaths = Vec::new();
    let counts = let_faults_happen(&rig, schedule(arguments.seed, arguments.length, kinds), &mut deaths).await?;
    rig.heal().await?;
    say("waiting for the jobs");
    for deferrer in &rig.deferrers {
        deferrer.finish(true).await?;
    }
    // It holds a job whose outcome it could not store until it ends.
    for worker in rig.workers.iter().skip(WORKERS.len()) {
        worker.shut_down().await?;
    }
    let drained_up_to = drain(&rig, directory, &mut deaths).await?;
    for worker in &rig.workers {
        worker.finish(false).await?;
    }
    let evidence = collect(&rig.server, &directory.join("ledgers"), drained_up_to, are_deleted(arguments.seed)).await?;
    let violations = check(&evidence);
    Ok(report(&evidence, &violations, &deaths, &counts, arguments, directory))
}

/// Leaves out the kinds that need a program that the server's installation does not have.
async fn with_programs(server: &Server, kinds: &[Kind]) -> Result<Vec<Kind>, Failure> {
    let mut kinds = kinds.to_vec();
    for (kind, programs) in
        [(Kind::PromoteReplica, &["pg_basebackup"][..]), (Kind::DumpAndRestore, &["pg_dump", "pg_restore"])]
    {
        for program in programs {
            if kinds.contains(&kind)
                && let Err(reason) = server.program(program).await
            {
                kinds.retain(|other| *other != kind);
                say(format!("left out: {kind}: {reason}"));
            }
        }
    }
    if kinds.is_empty() { Err("there is no fault left to happen".into()) } else { Ok(kinds) }
}

async fn start_processes(rig: &mut Rig, directory: &Path, arguments: &RunArguments) -> Result<(), Failure> {
    let program = std::env::current_exe()?.to_string_lossy().into_owned();
    let python = if has_python(arguments.seed) { python::command_line(directory)? } else { None };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    for (name, concurrency, local_buffer, queues, deletes) in WORKERS {
        let queues = if queues == 0 && python.is_some() { QUEUES_BESIDE_PYTHON.len() } else { queues };
        let deletes = if are_deleted(arguments.seed) { deletes } else { Deletes::Nothing };
        let proxy = Proxy::start(rig.server.address()).await?;
        let url = rig.server.url_through(proxy.port());
        let [concurrency, local_buffer, queues] = [concurrency, local_buffer, queues].map(|number| number.to_string());
        let options = ["--concurrency", &concurrency, "--local-buffer", &local_buffer, "--queues", &queues];
        let mut command = words(&[&program, "worker", "--url", &url]);
        command.extend(words(&options));
        command.extend(words(&["--deletes", deletes.word()]));
        rig.workers.push(Process::start(name, command, proxy, directory, rig.history.clone()).await?);
    }
    for (number, name) in (1..).zip(DEFERRERS) {
        let proxy = Proxy::start(rig.server.address()).await?;
        let url = rig.server.url_through(proxy.port());
        let seed = arguments.seed.wrapping_add(number).to_string();
        let command = words(&[&program, "deferrer", "--url", &url, "--seed", &seed]);
        rig.deferrers.push(Process::start(name, command, proxy, directory, rig.history.clone()).await?);
    }
    let Some(python) = python else { return Ok(()) };
    for (name, processes) in [("worker", &mut rig.workers), ("deferrer", &mut rig.deferrers)] {
        let proxy = Proxy::start(rig.server.address()).await?;
        let mut command = python.clone();
        command.extend(words(&[name, "--url", &rig.server.url_through(proxy.port())]));
        let name = format!("python-{name}");
        processes.push(Process::start(&name, command, proxy, directory, rig.history.clone()).await?);
    }
    Ok(())
}

/// Whether Python takes part. It is excused from some promises, so it does so in every other pair of runs.
fn has_python(seed: u64) -> bool {
    seed % 4 >= 2
}

/// Whether workers delete jobs. What is deleted cannot be checked completely, so it is in every other run.
fn are_deleted(seed: u64) -> bool {
    !seed.is_multiple_of(2)
}

async fn let_faults_happen(rig: &Rig, steps: Vec<Step>, deaths: &mut Vec<String>) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    let start = Instant::now();
    sleep(WARM_UP).await;
    for step in steps {
        sleep(step.pause).await;
        for fault in [&step.fault].into_iter().chain(&step.other) {
            say(format!("{:>7.1} s: {} ({:?})", start.elapsed().as_secs_f64(), fault.kind, fault.duration));
            counts.add(fault.kind);
        }
        let other = async {
            match &step.other {
                Some(fault) => rig.apply(fault).await,
                None => Ok(()),
            }
        };
        for result in <[_; 2]>::from(tokio::join!(rig.apply(&step.fault), other)) {
            if let Err(error) = result {
                say(format!("a fault did not end as planned: {error}"));
                rig.heal().await?;
            }
        }
        look_for_deaths(rig, deaths).await;
    }
    Ok(counts)
}

/// Notes the processes that ended although nobody asked them to.
async fn look_for_deaths(rig: &Rig, deaths: &mut Vec<String>) {
    for process in rig.processes() {
        if process.has_died().await && !deaths.contains(&process.name) {
            deaths.push(process.name.clone());
        }
    }
}

/// Waits until the jobs that exist have finished. Returns the ID of the last of them.
async fn drain(rig: &Rig, directory: &Path, deaths: &mut Vec<String>) -> Result<i64, Failure> {
    let (newest, _) = progress(&rig.server, 0).await?;
    let deadline = Instant::now() + DRAIN_LIMIT;
    loop {
        let (_, unfinished) = progress(&rig.server, newest).await?;
        look_for_deaths(rig, deaths).await;
        if unfinished == 0 {
            return Ok(newest);
        }
        if Instant::now() > deadline {
            let logs: PathBuf = directory.join("logs");
            say(format!("{unfinished} jobs did not finish within {DRAIN_LIMIT:?}; see {}", logs.display()));
            return Ok(newest);
        }
        sleep(Duration::from_millis(200)).await;
    }
}
