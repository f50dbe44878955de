//! Queues in other languages, measured by a script that prints one line of JSON.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{Measured, Sample, Sizes};

/// A script, and the variable that names the program to run it with.
#[derive(Clone, Copy)]
pub struct Script {
    pub file: &'static str,
    pub program: &'static str,
}

#[derive(Deserialize)]
struct Figures {
    single: f64,
    bulk: f64,
    work: f64,
    latency: Vec<f64>,
}

/// Runs the script with the server's URL, the numbers of jobs and a setting whose meaning depends on the script.
pub async fn measure(script: Script, url: &str, sizes: Sizes, setting: u32) -> Measured<Sample> {
    let program = std::env::var(script.program)
        .map_err(|_| format!("{} is not set; set it to a program that can run {}", script.program, script.file))?;
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "scripts", script.file].iter().collect();
    let numbers = [sizes.single, sizes.bulk, sizes.latency, setting].map(|number| number.to_string());
    let output = tokio::process::Command::new(program).arg(file).arg(url).args(numbers).output().await?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let Figures { single, bulk, work, latency } = serde_json::from_slice(&output.stdout)?;
    Ok(Sample { single, bulk: Some(bulk), work, latency })
}
