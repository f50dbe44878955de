//! Whether the database contract is still what it was, whatever the record of migrations says.

use diesel::connection::{Connection, LoadConnection};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::Bool;

use super::sql::SQL_MIGRATIONS;
use crate::error::Error;

/// Checks that the tables, types, functions, triggers and unique indexes of Procrastinate's contract are there, in the form
/// of version 3.10, whoever created them: that nobody has dropped a trigger or altered a column since. It compares what
/// can be seen from outside, not the bodies of functions, since those of Python's Procrastinate are others than this
/// crate's.
///
/// It looks into the first schema of `search_path`, where the migrations put everything, in a read-only transaction or a
/// savepoint of the caller's. What is this crate's own, beside the
/// contract, it does not look at: see [`migration_status`](crate::migrations::migration_status()) for that.
///
/// # Errors
///
/// [`Error::SchemaMissing`] when there are no tables. [`Error::Migration`] when something differs: its message lists every
/// difference, and says how a database of an older Procrastinate is brought up. [`Error::Database`] when the check itself
/// fails.
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) {
/// if let Err(error) = procrastinate::migrations::check_contract(connection) {
///     eprintln!("{error}");
/// }
/// # }
/// ```
pub fn check_contract<C>(connection: &mut C) -> Result<(), Error>
where
    C: Connection<Backend = Pg> + LoadConnection<Backend = Pg>,
{
    const ACTION: &str = "check the database contract";
    let checked = connection.transaction(|connection| {
        let is_there = sql::<Bool>("to_regclass(quote_ident(current_schema()) || '.procrastinate_jobs') IS NOT NULL");
        if !RunQueryDsl::get_result::<bool>(diesel::select(is_there), connection)? {
            return Err(DieselError::NotFound);
        }
        // The first migration describes what it finds, and raises if that is not the contract. Read-only, it could not
        // create anything even if a table were dropped at this very moment.
        connection.batch_execute("SET TRANSACTION READ ONLY")?;
        connection.batch_execute(SQL_MIGRATIONS[0].up)
    });
    checked.map_err(|source| match source {
        DieselError::NotFound => {
            let source = DieselError::QueryBuilderError("there is no table procrastinate_jobs".into());
            Error::SchemaMissing { action: ACTION, source }
        }
        source if source.to_string().contains(" difference(s):") => Error::Migration { source: source.into() },
        source => Error::database(ACTION, source),
    })
}
