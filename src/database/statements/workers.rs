//! Statements about workers: registration, heartbeats and the removal of stalled ones.

use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable};

use super::statement;
use crate::job::JobId;

/// Registers a worker, and returns its ID.
pub(crate) struct RegisterWorkerQuery;

statement!("register the worker": RegisterWorkerQuery -> i64: BigInt, |_, out| {
    out.push_sql("SELECT worker_id FROM procrastinate_register_worker_v1()");
    Ok(())
});

/// Removes a worker, and returns one row.
pub(crate) struct UnregisterWorkerQuery {
    pub(crate) worker_id: i64,
}

statement!("unregister the worker": UnregisterWorkerQuery -> bool: Bool, |statement, out| {
    out.push_sql("SELECT true FROM procrastinate_unregister_worker_v1(");
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    out.push_sql(")");
    Ok(())
});

/// Removes the workers that have missed their heartbeats, and returns their IDs.
pub(crate) struct PruneStalledWorkersQuery {
    pub(crate) seconds_since_heartbeat: f64,
}

statement!("prune stalled workers": PruneStalledWorkersQuery -> i64: BigInt, |statement, out| {
    out.push_sql("SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(");
    out.push_bind_param::<Double, _>(&statement.seconds_since_heartbeat)?;
    out.push_sql(")");
    Ok(())
});

/// Registers a worker again whose row was removed while it held these jobs. It returns the new ID with each job that
/// the worker holds again, and once with NULL.
pub(crate) struct RegisterWorkerAgain {
    pub(crate) job_ids: Vec<JobId>,
    /// Parallel to `job_ids`: the attempts of each job, so that a job that was run elsewhere in between is not
    /// reclaimed.
    pub(crate) attempts: Vec<i32>,
}

statement!("re-register the worker": RegisterWorkerAgain -> (i64, Option<JobId>): (BigInt, Nullable<BigInt>), |statement, out| {
    out.push_sql("SELECT worker_id, job_id FROM procrastinate_diesel_reregister_worker_v1(");
    out.push_bind_param::<Array<BigInt>, _>(&statement.job_ids)?;
    out.push_sql(", ");
    out.push_bind_param::<Array<Integer>, _>(&statement.attempts)?;
    out.push_sql(")");
    Ok(())
});

/// Sends a heartbeat. It returns each job that the worker holds, with whether its abort was requested, and a row of
/// NULLs. It returns no row if the worker is no longer registered.
pub(crate) struct UpdateHeartbeatQuery {
    pub(crate) worker_id: i64,
}

/// The ID of a job, and whether its abort was requested.
pub(crate) type JobOfHeartbeat = (Option<JobId>, Option<bool>);

statement!("send the heartbeat": UpdateHeartbeatQuery -> JobOfHeartbeat: (Nullable<BigInt>, Nullable<Bool>), |statement, out| {
    out.push_sql("SELECT job_id, abort_requested FROM procrastinate_diesel_update_heartbeat_v1(");
    out.push_bind_param::<BigInt, _>(&statement.worker_id)?;
    out.push_sql(")");
    Ok(())
});
