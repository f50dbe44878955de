//! Python's Procrastinate: installed once for a target directory, and run as processes that end with the test.

use std::fs;
use std::io::{ErrorKind, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// What pip installs.
const REQUIREMENTS: [&str; 2] = ["procrastinate[django]==3.10.*", "psycopg[binary]"];

/// The virtual environment's directory.
const ENVIRONMENT: &str = "python-with-procrastinate-3.10";

/// With this variable set to 1, tests fail where Python's Procrastinate cannot be had.
const REQUIRE: &str = "PROCRASTINATE_REQUIRE_PYTHON";

/// The directory of `peer.py`.
pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python");

/// Runs `peer.py` as a module, which Procrastinate wants an application to be.
const PROGRAM: &str = "import peer; peer.main()";

/// A Python that has Procrastinate. Where there is none: `None`, and a line on standard error says which test is skipped
/// and why.
pub fn python() -> Option<&'static Path> {
    static INTERPRETER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match INTERPRETER.get_or_init(installed) {
        Ok(interpreter) => Some(interpreter),
        Err(reason) if std::env::var(REQUIRE).is_ok_and(|value| value == "1") => {
            panic!("{REQUIRE} is set, but {reason}")
        }
        Err(reason) => {
            let thread = std::thread::current();
            // Not `eprintln!`: the harness shows that of failed tests only.
            let _ = writeln!(stderr(), "skipped: {}: {reason}", thread.name().unwrap_or("a test with Python"));
            None
        }
    }
}

/// The interpreter of the virtual environment, which is made if it is not there or does not work any more.
fn installed() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(ENVIRONMENT);
    let interpreter = directory.join("bin/python");
    if works(&interpreter) {
        return Ok(interpreter);
    }
    let _ = fs::remove_dir_all(&directory);
    // Under a name of this process until it is finished. If several do so at the same time, the first one's stays.
    let unfinished = directory.with_file_name(format!("{ENVIRONMENT}-{}", std::process::id()));
    let result = install(&unfinished);
    if result.is_ok() {
        let _ = fs::rename(&unfinished, &directory);
    }
    let _ = fs::remove_dir_all(&unfinished);
    result?;
    if works(&interpreter) { Ok(interpreter) } else { Err(format!("{} does not work", interpreter.display())) }
}

fn works(interpreter: &Path) -> bool {
    interpreter.exists() && run(interpreter, &["-c", "import procrastinate, psycopg, django"]).is_ok()
}

fn install(directory: &Path) -> Result<(), String> {
    let place = directory.to_str().ok_or("the path of the target directory is not text")?;
    run(Path::new("python3"), &["-m", "venv", place])?;
    let mut arguments = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
    arguments.extend(REQUIREMENTS);
    run(&directory.join("bin/python"), &arguments)
}

/// Runs a program to its end. The error says what was run, and the last thing that it said.
fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("`{} {}`", program.display(), arguments.join(" "));
    match std::process::Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let told = [output.stdout, output.stderr].concat();
            let told = String::from_utf8_lossy(&told).trim().lines().last().unwrap_or_default().to_owned();
            Err(format!("{shown} failed: {told}"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("{} was not found", program.display())),
        Err(error) => Err(format!("{shown} could not be run: {error}")),
    }
}

/// A Python that works on one database.
pub struct Python {
    interpreter: &'static Path,
    database_url: String,
    /// Where its modules are, first those that are to be found first.
    modules: Vec<PathBuf>,
}

impl Python {
    pub fn new(interpreter: &'static Path, database_url: &str) -> Self {
        Self { interpreter, database_url: database_url.to_owned(), modules: vec![DIRECTORY.into()] }
    }

    /// The same with another version of Procrastinate, which is installed alongside the first one.
    pub fn with_procrastinate(mut self, version: &str) -> Result<Self, String> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("procrastinate-{version}"));
        if !directory.join("procrastinate").exists() {
            let unfinished = directory.with_extension(format!("unfinished-{}", std::process::id()));
            let place = unfinished.to_str().ok_or("the path of the target directory is not text")?;
            let requirement = format!("procrastinate=={version}");
            let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"];
            let result = run(self.interpreter, &[&arguments[..], &[place, &requirement]].concat());
            if result.is_ok() {
                let _ = fs::rename(&unfinished, &directory);
            }
            let _ = fs::remove_dir_all(&unfinished);
            result?;
        }
        self.modules.insert(0, directory);
        Ok(self)
    }

    /// Runs a module together with modules of the test. Returns what it prints.
    pub async fn run_module(&self, directory: &Path, arguments: &[&str]) -> String {
        let mut command = self.command(&[&["-m"], arguments].concat());
        command.env("PYTHONPATH", directory);
        output_of(command).await
    }

    /// Runs one command of `peer.py`. Returns the lines that it prints.
    pub async fn ask(&self, command: &str, argument: Value) -> Vec<Value> {
        let output = output_of(self.command(&["-c", PROGRAM, command, &argument.to_string()])).await;
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// As [`ask`](Self::ask), for a command that prints one line: its only field.
    pub async fn ask_one(&self, command: &str, argument: Value) -> Value {
        let [line] = <[Value; 1]>::try_from(self.ask(command, argument).await).unwrap();
        line.as_object().unwrap().values().next().unwrap().clone()
    }

    /// Runs Procrastinate's own command line. Returns what it prints.
    pub async fn procrastinate(&self, arguments: &[&str]) -> String {
        output_of(self.command(&[&["-m", "procrastinate", "--app", "peer.app"], arguments].concat())).await
    }

    /// Starts a worker that stays.
    pub fn start_worker(&self, options: &Value) -> PythonWorker {
        let mut command = self.command(&["-c", PROGRAM, "work", &options.to_string()]);
        let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let complaints = Arc::new(Mutex::new(String::new()));
        tokio::spawn(collect(process.stderr.take().unwrap(), complaints.clone()));
        PythonWorker { process, lines, complaints }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.interpreter);
        command.args(arguments).current_dir(DIRECTORY).kill_on_drop(true);
        let modules = std::env::join_paths(&self.modules).unwrap();
        command.env("PEER_DATABASE_URL", &self.database_url).env("PYTHONPATH", modules);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

async fn output_of(mut command: Command) -> String {
    let Output { status, stdout, stderr } =
        timeout(PATIENCE, command.output()).await.expect("Python takes too long").unwrap();
    assert!(status.success(), "Python ended with {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

async fn collect(mut source: ChildStderr, complaints: Arc<Mutex<String>>) {
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = source.read(&mut part).await {
        complaints.lock().unwrap().push_str(&String::from_utf8_lossy(&part[..length]));
    }
}

/// A running Python worker. It is killed when this is dropped, and stops by itself should this process be killed.
pub struct PythonWorker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: Arc<Mutex<String>>,
}

impl PythonWorker {
    /// Waits for a line with this field. Returns its value.
    pub async fn says(&mut self, field: &str) -> Value {
        loop {
            let Ok(line) = timeout(PATIENCE, self.lines.next_line()).await else {
                panic!("the Python worker does not say \"{field}\": {}", self.complaints.lock().unwrap());
            };
            let Some(line) = line.unwrap() else {
                panic!("the Python worker ended before it said \"{field}\": {}", self.complaints.lock().unwrap());
            };
            let line: Value = serde_json::from_str(&line).unwrap();
            if let Some(value) = line.get(field) {
                return value.clone();
            }
        }
    }

    /// Waits until it has said that it did this, in its log.
    pub async fn did(&mut self, action: &str) {
        while self.says("action").await != action {}
    }

    /// Lets it come to its end.
    pub async fn stop(mut self) {
        drop(self.process.stdin.take());
        while let Some(line) = timeout(PATIENCE, self.lines.next_line()).await.expect("it does not stop").unwrap() {
            drop(line);
        }
        let status = timeout(PATIENCE, self.process.wait()).await.expect("it does not stop").unwrap();
        assert!(status.success(), "the Python worker ended with {status}: {}", self.complaints.lock().unwrap());
    }

    /// Ends it without a chance to say goodbye.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
