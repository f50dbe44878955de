//! Statements about options that few jobs have. Their SQL functions are in the migration
//! `…_procrastinate_job_options`.

#[cfg(any(feature = "cli", feature = "admin"))]
use diesel::sql_types::Array;
use diesel::sql_types::{BigInt, Bool, Integer};
#[cfg(feature = "cli")]
use diesel::sql_types::{Double, Text};

#[cfg(any(feature = "cli", feature = "admin"))]
use crate::database::models::ProcrastinateJobOptions;
use crate::database::statements::statement;
#[cfg(any(feature = "cli", feature = "admin"))]
use procrastinate_schema::schema::procrastinate_diesel_job_options;

/// Does a step of what is due. Cancels jobs that have not started in time, and deletes the options of jobs that are
/// gone. Records when the unique keys of ended jobs are free, and deletes free ones.
pub(crate) struct TendJobOptions {
    /// The job after which it searches for jobs that are gone.
    pub(crate) start_after: i64,
    /// The job after which it searches for jobs that have ended, for their unique keys.
    pub(crate) start_keys_after: i64,
}

/// A row of [`TendJobOptions`]: how many jobs were cancelled, whether there may be more to do, and after which job the
/// next step continues with either search.
pub(crate) type TendedJobOptions = (i32, bool, i64, i64);

statement!(
    "cancel jobs that have not started in time, and free unique keys":
    TendJobOptions -> TendedJobOptions: (Integer, Bool, BigInt, BigInt),
    |statement, out| {
        out.push_sql(
            "SELECT options.expired, options.has_more OR keys.has_more, options.stopped_at, keys.stopped_at \
             FROM procrastinate_diesel_tend_job_options_v1(",
        );
        out.push_bind_param::<BigInt, _>(&statement.start_after)?;
        out.push_sql(") AS options, procrastinate_diesel_tend_unique_keys_v1(");
        out.push_bind_param::<BigInt, _>(&statement.start_keys_after)?;
        out.push_sql(") AS keys");
        Ok(())
    }
);

/// The unique keys of a job that are not known to be free, each with its period in seconds.
#[cfg(feature = "cli")]
pub(crate) struct KeysOfJob {
    pub(crate) job_id: i64,
}

#[cfg(feature = "cli")]
statement!("look up the unique keys of the job": KeysOfJob -> (String, f64): (Text, Double), |statement, out| {
    out.push_sql(
        "SELECT key, period_seconds FROM procrastinate_diesel_unique_keys \
         WHERE (free_at IS NULL OR free_at > now()) AND job_id = ",
    );
    out.push_bind_param::<BigInt, _>(&statement.job_id)?;
    out.push_sql(" ORDER BY key");
    Ok(())
});

/// The options of these jobs, as far as they have any.
#[cfg(any(feature = "cli", feature = "admin"))]
pub(crate) struct OptionsOfJobs {
    pub(crate) job_ids: Vec<i64>,
}

#[cfg(any(feature = "cli", feature = "admin"))]
statement!(
    "look up the options of the jobs":
    OptionsOfJobs -> ProcrastinateJobOptions: procrastinate_diesel_job_options::SqlType,
    |statement, out| {
        out.push_sql(
            "SELECT job_id, start_before, limit_key, checked_at, is_expired FROM procrastinate_diesel_job_options \
             WHERE job_id = ANY(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&statement.job_ids)?;
        out.push_sql(")");
        Ok(())
    }
);
