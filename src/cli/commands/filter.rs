//! Which jobs are meant: as flags, or as the words of Procrastinate's shell.

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::values;
use crate::database::statements::cli::JobSelection;
use crate::database::statements::inspect::JobFilter;

/// What jobs are to be like. All that is given has to be so.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Filter {
    /// Only jobs that are so: queue=NAME, task=NAME, status=STATUS, lock=LOCK; and of jobs also queueing_lock=LOCK, id=JOB,
    /// worker=ID, stalled
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,

    #[command(flatten)]
    flags: Flags,
}

/// The same as flags.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which jobs")]
pub(crate) struct Flags {
    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs of this task
    #[arg(long)]
    task: Option<String>,
    /// Only jobs that stand so: todo, doing, succeeded, failed, cancelled, aborted
    #[arg(long)]
    status: Option<String>,
    /// Only jobs with this lock
    #[arg(long)]
    lock: Option<String>,
    /// Only jobs with this queueing lock
    #[arg(long)]
    queueing_lock: Option<String>,
    /// Only jobs that this worker has taken
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// Only jobs that are doing while their worker is gone, or silent for thirty seconds
    #[arg(long)]
    stalled: bool,
}

/// What the words and flags say.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) jobs: JobSelection,
    /// Whether the word `details` is among them.
    pub(crate) details: bool,
}

impl Filter {
    pub(crate) fn wanted(&self) -> Result<Wanted, Failure> {
        read(&self.words, &self.flags)
    }

    /// For counting, which goes by queue, task, status and lock alone.
    pub(crate) fn of_counts(&self) -> Result<JobFilter, Failure> {
        let Wanted { jobs: JobSelection { filter, are_stalled }, .. } = self.wanted()?;
        let others = filter.id.is_some() || filter.queueing_lock.is_some() || filter.worker_id.is_some();
        if others || are_stalled {
            return Err(Failure::usage("jobs are counted by queue, task, status and lock only"));
        }
        Ok(filter)
    }
}

/// The words, and the flags where they say something else.
pub(crate) fn read(words: &[String], flags: &Flags) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::default();
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
                set(key, value, &mut wanted.jobs.filter)?;
                // A job has one of each, so no two can hold, and the last one alone would be more than was meant.
                if keys.contains(&key) {
                    return Err(Failure::usage(format!("{key} is given twice: a job has only one")));
                }
                keys.push(key);
            }
            None if word == "details" => wanted.details = true,
            None if word == "stalled" => wanted.jobs.are_stalled = true,
            None => {
                let rule = match values::job_id(word) {
                    Ok(id) => format!("of jobs by number no filters are taken; among filters it is id={id}"),
                    Err(_) => "a filter is KEY=VALUE, such as queue=mails or status=failed".to_owned(),
                };
                return Err(Failure::usage(format!("{word:?} is no filter: {rule}")));
            }
        }
    }
    for (key, value) in given {
        if let Some(value) = value {
            set(key, value, &mut wanted.jobs.filter)?;
        }
    }
    wanted.jobs.are_stalled |= flags.stalled;
    Ok(wanted)
}

fn set(key: &str, value: &str, filter: &mut JobFilter) -> Result<(), Failure> {
    let wrong = |rule: String| Failure::usage(format!("invalid {key} {value:?}: {rule}"));
    if value.contains('\0') {
        return Err(wrong("a text in PostgreSQL has no NUL character".to_owned()));
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
            filter.worker_id = Some(value.parse().map_err(|_| wrong("it is the number of a worker".to_owned()))?);
        }
        _ => {
            let known = "id, queue, task, status, lock, queueing_lock, worker, stalled";
            return Err(Failure::usage(format!("jobs cannot be filtered by {key:?}; there are {known}")));
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
    fn the_words_of_the_shell_and_flags_say_the_same() {
        let wanted = read(&words("queue=mails status=failed id=7 details"), &Flags::default()).unwrap();
        assert!(wanted.details && wanted.jobs.filter.queue.as_deref() == Some("mails"));
        assert_eq!(wanted.jobs.filter.status, Some(JobStatus::Failed));
        let flags = Flags { queue: Some("sums".to_owned()), stalled: true, ..Flags::default() };
        let wanted = read(&words("queue=mails lock=a=b"), &flags).unwrap();
        assert_eq!(wanted.jobs.filter.queue.as_deref(), Some("sums"));
        assert!(wanted.jobs.are_stalled && wanted.jobs.filter.lock.as_deref() == Some("a=b"));
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for text in ["colour=red", "status=fialed", "id=x", "failed", "queue=a status=failed queue=b", "7 queue=a"] {
            assert_eq!(read(&words(text), &Flags::default()).unwrap_err().status(), 2, "{text}");
        }
    }
}
