//! Job filters, as flags or as the words of Procrastinate's shell.

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::values;
use crate::database::statements::cli::JobSelection;
use crate::database::statements::inspect::JobFilter;

/// Filters as words. All of them must match.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Filter {
    /// Filters: queue=NAME, task=NAME, status=STATUS, lock=LOCK; for jobs also queueing_lock=LOCK, id=JOB, worker=ID,
    /// stalled
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,

    #[command(flatten)]
    flags: Flags,
}

/// Filters as flags.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which jobs")]
pub(crate) struct Flags {
    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs of this task
    #[arg(long)]
    task: Option<String>,
    /// Only jobs with this status: todo, doing, succeeded, failed, cancelled, aborted
    #[arg(long)]
    status: Option<String>,
    /// Only jobs with this lock
    #[arg(long)]
    lock: Option<String>,
    /// Only jobs with this queueing lock
    #[arg(long)]
    queueing_lock: Option<String>,
    /// Only jobs of this worker
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// Only running jobs whose worker is gone or has sent no heartbeat for 30 seconds
    #[arg(long)]
    stalled: bool,
}

/// The jobs that words and flags select.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    pub(crate) jobs: JobSelection,
    /// Whether the words include `details`.
    pub(crate) details: bool,
}

impl Filter {
    pub(crate) fn selected(&self) -> Result<Selected, Failure> {
        read(&self.words, &self.flags)
    }

    /// The filter for counting jobs. It has only a queue, task, status and lock.
    pub(crate) fn of_counts(&self) -> Result<JobFilter, Failure> {
        let Selected { jobs: JobSelection { filter, are_stalled }, .. } = self.selected()?;
        let others = filter.id.is_some() || filter.queueing_lock.is_some() || filter.worker_id.is_some();
        if others || are_stalled {
            return Err(Failure::usage("invalid filter: jobs can be counted only by queue, task, status and lock"));
        }
        Ok(filter)
    }
}

/// Reads words and flags. Flags take precedence.
pub(crate) fn read(words: &[String], flags: &Flags) -> Result<Selected, Failure> {
    let mut selected = Selected::default();
    let mut keys = Vec::new();
    let given = [
        ("queue", &flags.queue),
        ("task", &flags.task),
        ("status", &flags.status),
        ("lock", &flags.lock),
        ("queueing_lock", &flags.queueing_lock),
        ("worker", &flags.worker),
    ];
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => {
                set(key, value, &mut selected.jobs.filter)?;
                // A job has one value of each, so two can never match. Using the last one would select more than
                // intended.
                if keys.contains(&key) {
                    return Err(Failure::usage(format!("{key} is given twice; must be given once")));
                }
                keys.push(key);
            }
            None if word == "details" => selected.details = true,
            None if word == "stalled" => selected.jobs.are_stalled = true,
            None => {
                let rule = match values::job_id(word) {
                    Ok(id) => format!("must be used without filters; use id={id} to combine it with filters"),
                    Err(_) => "must be KEY=VALUE, such as queue=mails or status=failed".to_owned(),
                };
                return Err(Failure::usage(format!("invalid filter {word:?}: {rule}")));
            }
        }
    }
    for (key, value) in given {
        if let Some(value) = value {
            set(key, value, &mut selected.jobs.filter)?;
        }
    }
    selected.jobs.are_stalled |= flags.stalled;
    Ok(selected)
}

fn set(key: &str, value: &str, filter: &mut JobFilter) -> Result<(), Failure> {
    let wrong = |rule: String| Failure::usage(format!("invalid {key} {value:?}: {rule}"));
    if value.contains('\0') {
        return Err(wrong("must not contain NUL characters".to_owned()));
    }
    let text = Some(value.to_owned());
    match key {
        "id" => filter.id = Some(values::job_id(value).map_err(wrong)?),
        "queue" | "queue_name" => filter.queue = text,
        "task" | "task_name" => filter.task = text,
        "status" => filter.status = Some(values::status(value).map_err(wrong)?),
        "lock" => filter.lock = text,
        "queueing_lock" => filter.queueing_lock = text,
        "worker" | "worker_id" => {
            filter.worker_id = Some(value.parse().map_err(|_| wrong("must be a worker ID".to_owned()))?);
        }
        _ => {
            let known = "id, queue, task, status, lock, queueing_lock, worker, stalled";
            return Err(Failure::usage(format!("unknown filter {key:?}; must be one of {known}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Flags, read};
    use crate::job::JobStatus;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_and_flags_select_the_same_jobs() {
        let selected = read(&words("queue=mails status=failed id=7 details"), &Flags::default()).unwrap();
        assert!(selected.details && selected.jobs.filter.queue.as_deref() == Some("mails"));
        assert_eq!(selected.jobs.filter.status, Some(JobStatus::Failed));
        let flags = Flags { queue: Some("sums".to_owned()), stalled: true, ..Flags::default() };
        let selected = read(&words("queue=mails lock=a=b"), &flags).unwrap();
        assert_eq!(selected.jobs.filter.queue.as_deref(), Some("sums"));
        assert!(selected.jobs.are_stalled && selected.jobs.filter.lock.as_deref() == Some("a=b"));
    }

    #[test]
    fn misspelt_filters_are_refused() {
        for text in ["colour=red", "status=fialed", "id=x", "failed", "queue=a status=failed queue=b", "7 queue=a"] {
            assert_eq!(read(&words(text), &Flags::default()).unwrap_err().status(), 2, "{text}");
        }
    }
}
