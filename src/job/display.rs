//! The text form of a job: `task[7](a=3, b="x")`.

use std::fmt;

use super::JobId;

/// Writes a job the way Procrastinate does: `task[7](a=3, b="x")`.
pub(crate) struct CallString<'a> {
    pub(crate) task_name: &'a str,
    pub(crate) job_id: JobId,
    pub(crate) args: &'a serde_json::Value,
}

impl fmt::Display for CallString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]{}", self.task_name, self.job_id, Arguments(self.args))
    }
}

/// Writes the arguments of a job: `(a=3, b="x")`.
pub(crate) struct Arguments<'a>(pub(crate) &'a serde_json::Value);

impl fmt::Display for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (position, (name, value)) in self.0.as_object().into_iter().flatten().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{name}={value}")?;
        }
        f.write_str(")")
    }
}
