//! Statements of the admin pages. Each reads a bounded number of rows, however large the tables are. They rely on the
//! settings of the transaction in which pages read.

pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod overview;
pub(crate) mod schedules;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Bool, Timestamptz};

use crate::database::statements::statement;

/// A count that is higher than this is not exact.
pub(crate) const CEILING: i64 = 10_000;

/// The time by the database's clock, and whether it has this crate's tables. A database of Python's alone has not.
pub(crate) struct PageTime;

statement!("ask for the server's time": PageTime -> (DateTime<Utc>, bool): (Timestamptz, Bool), |_, out| {
    out.push_sql("SELECT now(), to_regclass('procrastinate_diesel_job_options') IS NOT NULL");
    Ok(())
});
