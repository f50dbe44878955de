//! Parts of messages that depend on values.

use crate::job::JobId;

pub(super) fn explain_duplicate(name: &str, [one, other]: &[&'static str; 2]) -> String {
    if one == other {
        return format!("could not build the application: the task \"{name}\" ({one}) was added twice");
    }
    format!(
        "could not build the application: the tasks {one} and {other} are both named \"{name}\"; rename one with \
         #[task(name = \"…\")] or give it a namespace with #[task(namespace = \"…\")]"
    )
}

pub(super) fn holder_name(job_id: Option<JobId>) -> String {
    job_id.map_or_else(|| "an earlier job of the batch has".to_owned(), |job_id| format!("job {job_id} holds"))
}

pub(super) fn schedule_name(task_name: &str, periodic_id: &str) -> String {
    if periodic_id.is_empty() {
        return format!("of the task \"{task_name}\"");
    }
    format!("\"{periodic_id}\" of the task \"{task_name}\"")
}

pub(super) fn join(job_ids: &[JobId]) -> String {
    job_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
