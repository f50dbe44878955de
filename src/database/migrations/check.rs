//! Checks the database contract, independently of the record of migrations.

use diesel::connection::{Connection, LoadConnection};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Bool, Nullable, Text};

use super::sql::SQL_MIGRATIONS;
use crate::error::Error;

/// Selects the functions that fetch jobs without regard to pauses and limits, as one text. NULL if there are none. A
/// later version of Procrastinate can bring such a function.
pub(crate) const FETCHES_PAST_FLOW_CONTROL: &str = "SELECT string_agg(proc.proname::text, ', ' ORDER BY proc.proname) \
     FROM pg_catalog.pg_proc AS proc \
     WHERE proc.pronamespace = quote_ident(current_schema())::regnamespace \
       AND starts_with(proc.proname::text, 'procrastinate_fetch_job') \
       AND strpos(proc.prosrc, 'procrastinate_diesel_fetch_jobs_v1') = 0";

/// The same, if anything is paused or limited.
const BYPASSED_FLOW_CONTROL: &str = " AND EXISTS (SELECT FROM procrastinate_diesel_flow_controls)";

/// Checks that the tables, types, functions, triggers and unique indexes of Procrastinate 3.10 exist and are unchanged.
///
/// It does not matter who created them. The check finds, for instance, a dropped trigger or an altered column. It does
/// not compare the bodies of functions, because Python's Procrastinate has other ones than this crate.
///
/// It reads the first schema of `search_path`, where the migrations put everything. It runs in a read-only transaction,
/// or in a savepoint of yours. It does not check the objects that only this crate has. Use
/// [`migration_status`](crate::migrations::migration_status()) for those.
///
/// If anything is paused or limited, it logs a warning if there is another function that fetches jobs, such as one of a
/// later version of Procrastinate. Workers that call it would ignore pauses and limits.
///
/// # Errors
///
/// [`Error::SchemaMissing`] if there are no tables.
///
/// [`Error::Migration`] if something differs. The message lists every difference, and says how to update the database
/// of an older Procrastinate.
///
/// [`Error::Database`] if the check itself fails.
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
    /// The name in the error of the first migration.
    const CONSTRAINT: &str = "procrastinate_diesel_contract";
    let checked = connection.transaction(|connection| {
        let is_there = sql::<Bool>("to_regclass(quote_ident(current_schema()) || '.procrastinate_jobs') IS NOT NULL");
        if !RunQueryDsl::get_result::<bool>(diesel::select(is_there), connection)? {
            return Err(DieselError::NotFound);
        }
        // The first migration compares the objects that it finds with the contract, and raises an error if they differ.
        // In a read-only transaction it cannot create anything, even if a table is dropped at this moment.
        connection.batch_execute("SET TRANSACTION READ ONLY")?;
        connection.batch_execute(SQL_MIGRATIONS[0].up)?;
        warn_of_bypassed_flow_control(connection)
    });
    checked.map_err(|source| match source {
        DieselError::NotFound => {
            let source = DieselError::QueryBuilderError("there is no table procrastinate_jobs".into());
            Error::SchemaMissing { action: ACTION, source }
        }
        DieselError::DatabaseError(_, ref details) if details.constraint_name() == Some(CONSTRAINT) => {
            Error::Migration { source: source.into() }
        }
        source => Error::database(ACTION, source),
    })
}

fn warn_of_bypassed_flow_control<C>(connection: &mut C) -> QueryResult<()>
where
    C: Connection<Backend = Pg> + LoadConnection<Backend = Pg>,
{
    let is_there = sql::<Bool>("to_regclass('procrastinate_diesel_flow_controls') IS NOT NULL");
    if !RunQueryDsl::get_result::<bool>(diesel::select(is_there), connection)? {
        return Ok(());
    }
    let functions =
        diesel::select(sql::<Nullable<Text>>(&format!("({FETCHES_PAST_FLOW_CONTROL}{BYPASSED_FLOW_CONTROL})")));
    if let Some(functions) = RunQueryDsl::get_result::<Option<String>>(functions, connection)? {
        tracing::warn!(
            action = "flow_control_bypassed",
            "pauses and limits exist, and these functions fetch jobs without regard to them: {functions}",
        );
    }
    Ok(())
}
