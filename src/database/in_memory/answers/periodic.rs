//! Statements about periodic tasks.

use diesel::result::QueryResult;

use crate::database::in_memory::violations::Violation;
use crate::database::in_memory::{Answer, Store};
use crate::database::statements::periodic::{DeferPeriodicJob, DeferredOrTaken};

/// How far in the future a tick may be and still block earlier ones. A tick beyond that came from a wrong clock.
const LONGEST_AHEAD_SECONDS: i64 = 60;

impl Answer for DeferPeriodicJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<DeferredOrTaken>> {
        let Self { job, periodic_id, defer_timestamp } = self;
        let latest = store.now().timestamp() + LONGEST_AHEAD_SECONDS;
        let is_late = store.periodic_defers().any(|later| {
            later.task_name == job.task_name
                && later.periodic_id == periodic_id
                && later.defer_timestamp.is_some_and(|later| later > defer_timestamp && later <= latest)
        });
        if is_late {
            return Ok(vec![(None, false)]);
        }
        let Some(claim) = store.claim_tick(&job.task_name, &periodic_id, defer_timestamp) else {
            return Ok(vec![(None, false)]);
        };
        if store.skips_tick(&job.queue, &job.task_name) {
            store.settle_tick(claim, None, latest);
            return Ok(vec![(None, false)]);
        }
        let queue = job.queue.clone();
        match store.insert_job(job) {
            Ok(job_id) => {
                store.settle_tick(claim, Some(job_id), latest);
                store.listeners.tell_of_job(&queue, job_id);
                Ok(vec![(Some(job_id.into()), false)])
            }
            Err(violation) => {
                store.give_back_tick(claim);
                match violation {
                    Violation::QueueingLock(_) => Ok(vec![(None, true)]),
                    other => Err(other.into()),
                }
            }
        }
    }
}
