//! `clean`: deletes old jobs in small steps.

use std::time::{Duration, Instant};

use crate::cli::commands::jobs::act::some_jobs;
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;
use crate::cli::terminal::values;
use crate::database::statements::cli::CountOfOldJobs;
use crate::error::Error;
use crate::job::JobStatus;
use crate::queue::retention::{RetentionRule, SWEEP_SIZE, pause_after};

/// Delete old finished jobs in small steps
///
/// Default: only succeeded jobs. Workers can do the same with --delete-jobs-older-than.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  clean --older-than 30d --status succeeded --status cancelled")]
pub(crate) struct Clean {
    /// Minimum age since the latest event: seconds, or 72h, 30d
    #[arg(long, value_name = "AGE", value_parser = values::duration, allow_negative_numbers = true)]
    older_than: Duration,

    /// Status: succeeded, failed, cancelled or aborted; may be repeated
    #[arg(long, value_parser = values::status)]
    status: Vec<JobStatus>,

    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,

    /// Skip the confirmation
    #[arg(short, long)]
    yes: bool,
}

impl Clean {
    pub(crate) async fn run(mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.status.is_empty() {
            self.status.push(JobStatus::Succeeded);
        }
        for status in &self.status {
            RetentionRule::of(status.clone(), self.older_than).queue(self.queue.clone()).check()?;
        }
        if !self.yes && !self.confirm(session).await? {
            return Ok(());
        }
        let mut deleted = 0;
        for status in &self.status {
            let rule = RetentionRule::of(status.clone(), self.older_than).queue(self.queue.clone());
            deleted += sweep(&rule, deleted, session).await?;
        }
        session.output.line(deleted_jobs(deleted))
    }

    /// Counts the jobs and asks for confirmation.
    async fn confirm(&self, session: &mut Session<'_>) -> Result<bool, Failure> {
        let statement = CountOfOldJobs {
            statuses: self.status.iter().map(|status| status.as_str().to_owned()).collect(),
            older_than_seconds: self.older_than.as_secs_f64(),
            queue: self.queue.clone(),
        };
        let count = session.load(statement).await?.first().copied().unwrap_or_default();
        if count == 0 {
            session.output.note("no matching jobs");
            return Ok(false);
        }
        let count = if count >= 10_000 { some_jobs("10,000 or more") } else { some_jobs(count) };
        let labels: Vec<_> = self.status.iter().map(JobStatus::as_str).collect();
        let (labels, age) = (labels.join(" or "), format_age(self.older_than));
        let question = format!("Delete {count} ({labels}) without an event for {age}?");
        let is_confirmed = session.confirm(false, &question)?;
        if !is_confirmed {
            session.output.note("nothing changed");
        }
        Ok(is_confirmed)
    }
}

fn deleted_jobs(count: u64) -> String {
    format!("deleted {}", some_jobs(count))
}

/// Formats an age in the largest unit that fits exactly.
fn format_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let fits = |length: u64| age.subsec_nanos() == 0 && seconds > 0 && seconds.is_multiple_of(length);
    match [(86_400, "d"), (3_600, "h"), (60, "min")].into_iter().find(|(length, _)| fits(*length)) {
        Some((length, unit)) => format!("{} {unit}", seconds / length),
        None => format!("{} s", age.as_secs_f64()),
    }
}

/// Deletes step by step, until no old job is left.
async fn sweep(rule: &RetentionRule, before: u64, session: &mut Session<'_>) -> Result<u64, Failure> {
    let (mut deleted, mut stopped_at) = (0, None);
    loop {
        let begin = Instant::now();
        let step = {
            let mut connection = session.app.connector().get("delete old jobs").await?;
            rule.step(Some(SWEEP_SIZE), stopped_at, &mut connection).await
        };
        let step = step.map_err(|error| match error {
            error @ Error::SchemaMissing { .. } => {
                Failure::failed(error, "run `schema adopt` first; `delete` works without it")
            }
            error => error.into(),
        })?;
        deleted += step.deleted;
        if !step.has_more {
            return Ok(deleted);
        }
        session.output.progress(deleted_jobs(before + deleted));
        stopped_at = Some(step.stopped_at);
        tokio::time::sleep(pause_after(begin.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, format_age};

    #[test]
    fn an_age_is_shown_as_it_was_given() {
        for (seconds, expected) in
            [(2_592_000.0, "30 d"), (216_000.0, "60 h"), (90.0, "90 s"), (0.5, "0.5 s"), (0.0, "0 s")]
        {
            assert_eq!(format_age(Duration::from_secs_f64(seconds)), expected);
        }
    }
}
