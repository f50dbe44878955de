//! Processor time and memory of this process, where the system has `/proc`; elsewhere they are unknown.

use std::time::Duration;

/// The kernel counts processor time for programs in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// The processor time that this process has used, its threads that have ended included.
pub(crate) fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have blanks in it. After it comes the third field.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// In KiB, from a line of the kernel's such as `VmRSS:  1234 kB`.
fn memory(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok())
}

/// How much this process has used since.
pub(crate) struct Usage {
    processor_time: Option<Duration>,
    resident: Option<f64>,
}

impl Usage {
    pub(crate) fn begin() -> Self {
        // Has the kernel forget the peak so far. Where that is not allowed, the growth reads as too small at worst.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self { processor_time: processor_time(), resident: memory("VmRSS") }
    }

    /// Microseconds of processor time for each of so many jobs.
    pub(crate) fn processor_time_per_job(&self, jobs: u32) -> Option<f64> {
        let used = processor_time()? - self.processor_time?;
        Some(1e6 * used.as_secs_f64() / f64::from(jobs))
    }

    /// By how many MiB the process was larger at its largest.
    pub(crate) fn peak_growth(&self) -> Option<f64> {
        Some((memory("VmHWM")? - self.resident?).max(0.0) / 1_024.0)
    }
}
