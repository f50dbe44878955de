//! What an error of the database is about. Diesel does not expose the SQLSTATE, so it is recognised by other signs.

use diesel::result::DatabaseErrorKind as Kind;
use diesel::result::Error as DieselError;
use diesel::result::Error::DatabaseError;

/// Whether an object of the queue is missing: an undefined table, function or type.
///
/// The server's error has a position in the statement, which errors raised by our functions lack. Its message contains
/// one of our names. Both are the same in every language of the server.
pub(crate) fn says_that_schema_is_missing(error: &DieselError) -> bool {
    match error {
        DatabaseError(Kind::Unknown, information) => {
            information.statement_position().is_some() && information.message().contains("procrastinate_")
        }
        DieselError::SerializationError(source) => source.to_string().contains("procrastinate_"),
        _ => false,
    }
}

/// Whether the role has no permission for a table, function or sequence of the queue.
///
/// The message is in the server's language. But it contains the name of the object, and has neither a position nor a
/// constraint, as other errors with such a name have.
#[cfg(feature = "cli")]
pub(crate) fn says_that_permission_is_missing(error: &DieselError) -> bool {
    matches!(error, DatabaseError(Kind::Unknown, information)
        if information.message().contains("procrastinate_")
            && information.statement_position().is_none()
            && information.constraint_name().is_none())
}

/// Whether another connection may not have this error. Its session may be read-only, or have other settings.
///
/// These are all errors but those that are certainly about the data.
pub(crate) fn may_be_of_connection(error: &DieselError) -> bool {
    match error {
        DatabaseError(kind, _) => !matches!(
            kind,
            Kind::UniqueViolation
                | Kind::ForeignKeyViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation
                | Kind::RestrictViolation
                | Kind::ExclusionViolation
                | Kind::SerializationFailure
        ),
        DieselError::NotFound | DieselError::DeserializationError(_) | DieselError::QueryBuilderError(_) => false,
        _ => true,
    }
}
