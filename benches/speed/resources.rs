//! CPU time and memory of this process from `/proc`. On systems without it they are unknown.

use std::time::Duration;

/// The kernel counts CPU time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time of this process, including threads that have ended.
pub(crate) fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, can contain spaces. The third field follows it.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// Returns a value in KiB from a line such as `VmRSS:  1234 kB`.
fn memory(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok())
}

/// Measures the CPU time and memory that the process uses from now on.
pub(crate) struct Usage {
    cpu_time: Option<Duration>,
    resident: Option<f64>,
}

impl Usage {
    pub(crate) fn begin() -> Self {
        // Resets the kernel's peak. If that is not allowed, the growth appears too small.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self { cpu_time: cpu_time(), resident: memory("VmRSS") }
    }

    /// Returns the CPU time per job in microseconds.
    pub(crate) fn cpu_time_per_job(&self, jobs: u32) -> Option<f64> {
        let used = cpu_time()? - self.cpu_time?;
        Some(1e6 * used.as_secs_f64() / f64::from(jobs))
    }

    /// Returns the growth of the process at its peak, in MiB.
    pub(crate) fn peak_growth(&self) -> Option<f64> {
        Some((memory("VmHWM")? - self.resident?).max(0.0) / 1_024.0)
    }
}
