//! Statements about workers: registration, heartbeats and the removal of stalled ones.

use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable};

use super::statement;
use crate::job::JobId;

/// Registers a worker, and returns its ID.
pub(crate) struct RegisterWorkerQuery;

statement!(
    "register the worker": RegisterWorkerQuery -> i64: BigInt,
    select "worker_id" from "procrastinate_register_worker_v1"()
);

/// Removes a worker, and returns one row.
pub(crate) struct UnregisterWorkerQuery {
    pub(crate) worker_id: i64,
}

statement!(
    "unregister the worker": UnregisterWorkerQuery -> bool: Bool,
    select "true" from "procrastinate_unregister_worker_v1"(worker_id: BigInt)
);

/// Removes the workers that have missed their heartbeats, and returns their IDs.
pub(crate) struct PruneStalledWorkersQuery {
    pub(crate) seconds_since_heartbeat: f64,
}

statement!(
    "prune stalled workers": PruneStalledWorkersQuery -> i64: BigInt,
    select "worker_id" from "procrastinate_prune_stalled_workers_v1"(seconds_since_heartbeat: Double)
);

/// Registers a worker again whose row was removed while it held these jobs. It returns the new ID with each job that
/// the worker holds again, and once with NULL.
pub(crate) struct RegisterWorkerAgain {
    pub(crate) job_ids: Vec<JobId>,
    /// Parallel to `job_ids`: the attempts of each job, so that a job that was run elsewhere in between is not
    /// reclaimed.
    pub(crate) attempts: Vec<i32>,
}

statement!(
    "re-register the worker": RegisterWorkerAgain -> (i64, Option<JobId>): (BigInt, Nullable<BigInt>),
    select "worker_id, job_id" from "procrastinate_diesel_reregister_worker_v1"(
        job_ids: Array<BigInt>, attempts: Array<Integer>)
);

/// Sends a heartbeat. It returns each job that the worker holds, with whether its abort was requested, and a row of
/// NULLs. It returns no row if the worker is no longer registered.
pub(crate) struct UpdateHeartbeatQuery {
    pub(crate) worker_id: i64,
}

/// The ID of a job, and whether its abort was requested.
pub(crate) type JobOfHeartbeat = (Option<JobId>, Option<bool>);

statement!(
    "send the heartbeat": UpdateHeartbeatQuery -> JobOfHeartbeat: (Nullable<BigInt>, Nullable<Bool>),
    select "job_id, abort_requested" from "procrastinate_diesel_update_heartbeat_v1"(worker_id: BigInt)
);
