//! Checks whether the machine was quiet.
//!
//! The same arithmetic and the same small durable write are timed before the first group and after each group. If the
//! slowest differs too much from the fastest, other programs used the machine.

use std::fs::File;
use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use crate::Measured;
use crate::table::Table;

/// How much longer the arithmetic may take at one time than at another.
const CPU_BOUND: f64 = 0.15;
/// The same for a write. Disks vary more.
const SYNC_BOUND: f64 = 0.5;

struct Calibration {
    when: String,
    /// The arithmetic: the median of nine runs.
    cpu: Duration,
    /// A durable write of 8 KiB: the median of five hundred.
    sync: Duration,
    /// The system's load average over the last minute.
    load: String,
}

#[derive(Default)]
pub(crate) struct Calibrations(Vec<Calibration>);

impl Calibrations {
    pub(crate) fn take(&mut self, when: &str) -> Measured<()> {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        self.0.push(Calibration { when: when.to_owned(), cpu: arithmetic(), sync: sync()?, load });
        Ok(())
    }

    pub(crate) fn table(&self) -> Table {
        let mut table =
            Table::new("The machine", &["when", "arithmetic, ms", "write to disk, ms", "load average, 1 minute"]);
        for one in &self.0 {
            table.row([one.when.clone(), milliseconds(one.cpu), milliseconds(one.sync), one.load.clone()]);
        }
        table
    }

    pub(crate) fn verdict(&self) -> String {
        let cpu = excess(self.0.iter().map(|one| one.cpu));
        let sync = excess(self.0.iter().map(|one| one.sync));
        let figures = format!(
            "the same arithmetic took up to {:.0} % longer (bound: {:.0} %), the same write up to {:.0} % (bound: {:.0} %)",
            100.0 * cpu,
            100.0 * CPU_BOUND,
            100.0 * sync,
            100.0 * SYNC_BOUND
        );
        if cpu > CPU_BOUND || sync > SYNC_BOUND {
            format!("Too noisy to tell: {figures}. Ratios may still hold, because both sides were measured in turns.")
        } else {
            format!("Quiet: {figures}.")
        }
    }
}

/// Returns how much longer the longest time is than the shortest.
fn excess(times: impl Iterator<Item = Duration> + Clone) -> f64 {
    let shortest = times.clone().min().unwrap_or_default().as_secs_f64();
    let longest = times.max().unwrap_or_default().as_secs_f64();
    longest / shortest.max(1e-9) - 1.0
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", 1_000.0 * time.as_secs_f64())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn arithmetic() -> Duration {
    let once = |_| {
        let started_at = Instant::now();
        let mut state = black_box(88_172_645_463_325_252_u64);
        for _ in 0..10_000_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        black_box(state);
        started_at.elapsed()
    };
    median((0..9).map(once).collect())
}

/// Times writes in the directory for temporary files, which also has the server's files.
fn sync() -> Measured<Duration> {
    let path = std::env::temp_dir().join(format!("procrastinate_speed_{}", std::process::id()));
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..500 {
        let started_at = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[7; 8_192])?;
        file.sync_data()?;
        times.push(started_at.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(median(times))
}
