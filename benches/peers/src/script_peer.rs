//! Python's Procrastinate, measured by a script that prints one line of JSON.

use serde::Deserialize;

use crate::{CONCURRENCY, Measured, Sample, Sizes};

#[derive(Deserialize)]
struct Figures {
    single: f64,
    bulk: f64,
    work: f64,
    latency: Vec<f64>,
}

pub async fn measure(url: &str, sizes: Sizes) -> Measured<Sample> {
    let python = std::env::var("PROCRASTINATE_PYTHON")
        .map_err(|_| "PROCRASTINATE_PYTHON is not set; set it to an interpreter that has Procrastinate")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/procrastinate_peer.py");
    let numbers = [sizes.single, sizes.bulk, sizes.latency, CONCURRENCY].map(|number| number.to_string());
    let output = tokio::process::Command::new(python).arg(script).arg(url).args(numbers).output().await?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let Figures { single, bulk, work, latency } = serde_json::from_slice(&output.stdout)?;
    Ok(Sample { single, bulk: Some(bulk), work, latency })
}
