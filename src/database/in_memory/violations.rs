//! Errors that the database would return, in Diesel's form.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};

/// A constraint of the table of jobs that a change would violate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Violation {
    /// Another pending job holds this queueing lock.
    QueueingLock(String),
    /// Another running job holds this lock.
    Lock(String),
    /// There is no such worker.
    Worker(i64),
}

impl From<Violation> for DieselError {
    fn from(violation: Violation) -> Self {
        let unique = |constraint: &'static str, column: &str, value: &str| Refusal {
            kind: DatabaseErrorKind::UniqueViolation,
            message: format!("duplicate key value violates unique constraint \"{constraint}\""),
            details: Some(format!("Key ({column})=({value}) already exists.")),
            constraint: Some(constraint),
        };
        match violation {
            Violation::QueueingLock(lock) => {
                unique("procrastinate_jobs_queueing_lock_idx_v1", "queueing_lock", &lock).into()
            }
            Violation::Lock(lock) => unique("procrastinate_jobs_lock_idx_v1", "lock", &lock).into(),
            Violation::Worker(id) => worker_not_registered(
                "insert or update on table \"procrastinate_jobs\" violates foreign key constraint \
                 \"procrastinate_jobs_worker_id_fkey\""
                    .to_owned(),
                Some(format!("Key (worker_id)=({id}) is not present in table \"procrastinate_workers\".")),
            ),
        }
    }
}

/// The error of a reference to a missing worker.
pub(super) fn worker_not_registered(message: String, details: Option<String>) -> DieselError {
    let kind = DatabaseErrorKind::ForeignKeyViolation;
    Refusal { kind, message, details, constraint: Some("procrastinate_jobs_worker_id_fkey") }.into()
}

/// The error that a function of the database raises.
pub(super) fn raised(message: String) -> DieselError {
    Refusal { kind: DatabaseErrorKind::Unknown, message, details: None, constraint: None }.into()
}

struct Refusal {
    kind: DatabaseErrorKind,
    message: String,
    details: Option<String>,
    constraint: Option<&'static str>,
}

impl From<Refusal> for DieselError {
    fn from(refusal: Refusal) -> Self {
        Self::DatabaseError(refusal.kind, Box::new(refusal))
    }
}

impl DatabaseErrorInformation for Refusal {
    fn message(&self) -> &str {
        &self.message
    }

    fn details(&self) -> Option<&str> {
        self.details.as_deref()
    }

    fn hint(&self) -> Option<&str> {
        None
    }

    fn table_name(&self) -> Option<&str> {
        self.constraint.map(|_| "procrastinate_jobs")
    }

    fn column_name(&self) -> Option<&str> {
        None
    }

    fn constraint_name(&self) -> Option<&str> {
        self.constraint
    }

    fn statement_position(&self) -> Option<i32> {
        None
    }
}
