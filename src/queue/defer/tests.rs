//! Jobs with `unless_enqueued`, while other programs start the jobs that are pending.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_dsl::CompatibleType;

use crate::database::connection::run::{Executable, Run, complete};
use crate::database::in_memory::{Memory, MemoryConnection};
use crate::database::statements::defer::InsertJob;
use crate::database::statements::finish_and_fetch::FinishAndFetchJobs;
use crate::database::statements::workers::RegisterWorkerQuery;
use crate::error::Error;
use crate::queue::defer::batch::{defer_all, ids};
use crate::queue::defer::configure_task;
use crate::queue::defer::if_enqueued::Deferred;
use crate::queue::defer::insert::{CheckedJob, insert_or_find};

/// A connection whose other programs start every pending job before its holder is looked up, so many times.
struct Busy {
    connection: MemoryConnection,
    times: usize,
}

impl Busy {
    async fn start_all(&mut self) -> Result<(), Error> {
        let worker = self.connection.load_one(RegisterWorkerQuery).await?;
        self.connection.load(FinishAndFetchJobs::new(worker, None, 10)).await.map(drop)
    }

    async fn insert(&mut self) -> Result<(), Error> {
        self.connection.load(InsertJob(job("a").row)).await.map(drop)
    }
}

impl Run for Busy {
    async fn load<S>(&mut self, statement: S) -> Result<Vec<S::Row>, Error>
    where
        S: Executable,
        S::SqlType: CompatibleType<S::Row, Pg, SqlType = S::SqlType>,
        Pg: QueryMetadata<S::SqlType>,
    {
        if S::NAME == "LivingHolders" && self.times > 0 {
            self.times -= 1;
            self.start_all().await?;
            let rows = self.connection.load(statement).await?;
            if self.times > 0 {
                self.insert().await?;
            }
            return Ok(rows);
        }
        self.connection.load(statement).await
    }
}

fn job(queueing_lock: &str) -> CheckedJob {
    let job = configure_task("task", serde_json::json!({})).queueing_lock(queueing_lock).unless_enqueued();
    job.into_checked_job().unwrap()
}

/// A connection on which a pending job holds the lock `a`.
fn busy(times: usize) -> Busy {
    let mut busy = Busy { connection: Memory::default().connect(), times };
    complete(busy.insert()).unwrap();
    busy
}

#[test]
fn a_job_is_inserted_again_if_the_pending_one_has_started() {
    for times in [1, 3] {
        let deferred = complete(insert_or_find(job("a"), &mut busy(times))).unwrap();
        assert!(matches!(deferred, Deferred::New(_)), "{deferred:?}");
    }
    let deferred = complete(insert_or_find(job("a"), &mut busy(0))).unwrap();
    assert!(matches!(deferred, Deferred::Kept(_)), "{deferred:?}");
}

#[test]
fn a_batch_is_inserted_again_if_a_pending_job_has_started() {
    let ids = ids(complete(defer_all(vec![job("b"), job("a"), job("a")], &mut busy(2))).unwrap());
    assert!(ids[0] != ids[1] && ids[1] == ids[2], "{ids:?}");
}

#[test]
fn the_number_of_tries_is_limited() {
    let error = complete(insert_or_find(job("a"), &mut busy(usize::MAX))).unwrap_err();
    assert!(matches!(error, Error::AlreadyEnqueued { .. }), "{error}");
    let error = complete(defer_all(vec![job("a")], &mut busy(usize::MAX))).unwrap_err();
    assert!(matches!(error, Error::AlreadyEnqueued { .. }), "{error}");
}
