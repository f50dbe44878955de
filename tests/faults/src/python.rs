//! Python's Procrastinate, whose worker and deferrer take part in some runs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// What pip installs. The tests of the crate use the same environment.
const REQUIREMENTS: [&str; 2] = ["procrastinate[django]==3.10.*", "psycopg[binary]"];

/// The virtual environment's directory.
const ENVIRONMENT: &str = "python-with-procrastinate-3.10";

/// With this variable set to 1, it is an error if Python's Procrastinate is not available.
const REQUIRE: &str = "PROCRASTINATE_REQUIRE_PYTHON";

const PROGRAM: &str = include_str!("python.py");

/// Returns the command line of `python.py`, or `None` and says why it is left out.
pub(crate) fn command_line(directory: &Path) -> Result<Option<Vec<String>>, Failure> {
    match installed() {
        Ok(interpreter) => {
            let program = directory.join("python.py");
            fs::write(&program, PROGRAM)?;
            Ok(Some(vec![text(&interpreter)?, text(&program)?]))
        }
        Err(reason) if env::var(REQUIRE).is_ok_and(|value| value == "1") => Err(reason),
        Err(reason) => {
            crate::report::say(format!("left out: the processes of Python: {reason}"));
            Ok(None)
        }
    }
}

/// Returns the interpreter of the virtual environment, which is made if it is missing.
fn installed() -> Result<PathBuf, Failure> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(default_target_directory, PathBuf::from);
    let directory = target.join("tmp").join(ENVIRONMENT);
    let interpreter = directory.join("bin/python");
    if !works(&interpreter) {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(target.join("tmp"))?;
        run(Path::new("python3"), &["-m", "venv", &text(&directory)?])?;
        let mut arguments = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
        arguments.extend(REQUIREMENTS);
        run(&interpreter, &arguments)?;
    }
    Ok(interpreter)
}

fn default_target_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

fn works(interpreter: &Path) -> bool {
    interpreter.exists() && run(interpreter, &["-c", "import procrastinate, psycopg"]).is_ok()
}

fn text(path: &Path) -> Result<String, Failure> {
    Ok(path.to_str().ok_or("a path is not text")?.to_owned())
}

fn run(program: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{} could not be run: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned();
    Err(format!("{} failed: {complaint}", program.display()).into())
}
