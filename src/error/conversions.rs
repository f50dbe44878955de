//! Conversions from Diesel's error, and into it.

use super::Error;

/// Lets a transaction that only uses this crate have [`Error`] as its error type. Errors of `BEGIN`, `COMMIT` and your
/// own statements become an [`Error::Database`].
///
/// ```no_run
/// use diesel_async::{AsyncConnection, AsyncPgConnection};
/// # use procrastinate::task;
/// # #[task] async fn welcome(customer: i64) { let _ = customer; }
///
/// # async fn example(connection: &mut AsyncPgConnection) -> Result<(), procrastinate::Error> {
/// connection
///     .transaction(async |connection| {
///         welcome(1).defer(connection).await?;
///         welcome(2).defer(connection).await
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
impl From<diesel::result::Error> for Error {
    fn from(source: diesel::result::Error) -> Self {
        Self::database("run the transaction", source)
    }
}

/// Lets `?` return an [`Error`] from a function with Diesel's `QueryResult`. An error of the database becomes itself
/// again. Others become a `QueryBuilderError`, which can be downcast.
impl From<Error> for diesel::result::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database { source, .. } | Error::SchemaMissing { source, .. } => source,
            other => Self::QueryBuilderError(other.into()),
        }
    }
}
