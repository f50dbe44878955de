//! Statements about workers: registration, heartbeats and the removal of stalled ones.

use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text};

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

/// Releases the running jobs of the workers that have missed their heartbeats. It returns the ID of each worker,
/// whether it was not released before, and why the database refused to release its jobs.
pub(crate) struct ReleaseStalledWorkers {
    pub(crate) seconds_since_heartbeat: f64,
}

statement!(
    "release the jobs of stalled workers":
    ReleaseStalledWorkers -> (i64, bool, Option<String>): (BigInt, Bool, Nullable<Text>),
    select "worker_id, is_new, problem" from "procrastinate_diesel_release_stalled_workers_v1"(
        seconds_since_heartbeat: Double)
);

/// Unlinks at most so many jobs from a released worker, and removes it if that were all. It returns whether nothing is
/// left to do, and the number of jobs.
pub(crate) struct RemoveWorker {
    pub(crate) worker_id: i64,
    pub(crate) most: i32,
}

statement!(
    "remove the worker": RemoveWorker -> (bool, i32): (Bool, Integer),
    select "is_removed, unlinked" from "procrastinate_diesel_remove_worker_v1"(worker_id: BigInt, most: Integer)
);

/// Releases a worker, and does the first step of its removal. It returns the same as [`RemoveWorker`].
pub(crate) struct ReleaseWorker {
    pub(crate) worker_id: i64,
    pub(crate) most: i32,
}

statement!(
    "unregister the worker": ReleaseWorker -> (bool, i32): (Bool, Integer),
    select "is_removed, unlinked" from "procrastinate_diesel_unregister_worker_v1"(worker_id: BigInt, most: Integer)
);

/// Draws an ID for [`ReregisterWorker`].
pub(crate) struct DrawWorkerId;

statement!(
    "re-register the worker": DrawWorkerId -> i64: BigInt,
    select "*" from "procrastinate_diesel_draw_worker_id_v1"()
);

/// Replaces the registration of a worker by one with a new ID. It returns all jobs that the worker holds, each with its
/// attempts.
pub(crate) struct ReregisterWorker {
    pub(crate) former_id: i64,
    pub(crate) new_id: i64,
    /// The jobs that the worker gets back if it was pruned.
    pub(crate) job_ids: Vec<JobId>,
    /// Parallel to `job_ids`: the attempts of each job, so that a job that was run elsewhere in between is not
    /// reclaimed.
    pub(crate) attempts: Vec<i32>,
}

statement!(
    "re-register the worker": ReregisterWorker -> (JobId, i32): (BigInt, Integer),
    select "job_id, attempts" from "procrastinate_diesel_reregister_worker_v1"(
        former_id: BigInt, new_id: BigInt, job_ids: Array<BigInt>, attempts: Array<Integer>)
);

/// Sends a heartbeat. It returns how many workers are registered, or 0 if this one is not.
pub(crate) struct UpdateHeartbeatQuery {
    pub(crate) worker_id: i64,
}

statement!(
    "send the heartbeat": UpdateHeartbeatQuery -> i32: Integer,
    select "*" from "procrastinate_diesel_update_heartbeat_v1"(worker_id: BigInt)
);

/// The jobs that a worker holds.
pub(crate) struct HeldJobs {
    pub(crate) worker_id: i64,
}

/// The ID of a job, its attempts before this one, and whether its abort was requested.
pub(crate) type HeldJob = (JobId, i32, bool);

statement!(
    "list the worker's jobs": HeldJobs -> HeldJob: (BigInt, Integer, Bool),
    select "job_id, attempts, abort_requested" from "procrastinate_diesel_held_jobs_v1"(worker_id: BigInt)
);
