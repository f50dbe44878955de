//! A worker made of operations.

use std::time::Duration;

use procrastinate::JobStatus;
use procrastinate::job_manager::{
    fetch_job, finish_job, prune_stalled_workers, register_worker, unregister_worker, update_heartbeat,
};

use super::{Desk, each_way, work};
use crate::support::{job, statuses, workers};

each_way!(
    a_worker_registers_fetches_finishes_and_leaves,
    a_job_is_fetched_from_the_queues_that_are_asked_for,
    silent_workers_are_removed_and_learn_of_it,
);

async fn a_worker_registers_fetches_finishes_and_leaves(mut desk: Desk) {
    let [low, high] = [desk.defer(work().lock("l")), desk.defer(work().lock("l").priority(5))];
    let worker_id = desk.execute(register_worker()).await.unwrap();
    assert!(desk.execute(update_heartbeat(worker_id)).await.unwrap());

    let fetched = desk.execute(fetch_job(worker_id)).await.unwrap().unwrap();
    assert_eq!(fetched, job(&mut desk.connection, high));
    assert_eq!((fetched.status.clone(), fetched.worker_id), (JobStatus::Doing, Some(worker_id)));
    // The other one waits for the lock.
    assert_eq!(desk.execute(fetch_job(worker_id)).await.unwrap(), None);
    desk.execute(finish_job(&fetched, JobStatus::Succeeded)).await.unwrap();
    assert_eq!(desk.execute(fetch_job(worker_id)).await.unwrap().unwrap().id, i64::from(low));

    desk.execute(unregister_worker(worker_id)).await.unwrap();
    assert_eq!(workers(&mut desk.connection), []);
    assert_eq!(job(&mut desk.connection, low).worker_id, None);
    assert_eq!(statuses(&mut desk.connection), [JobStatus::Doing, JobStatus::Succeeded]);
    desk.execute(unregister_worker(worker_id)).await.unwrap();
}

async fn a_job_is_fetched_from_the_queues_that_are_asked_for(mut desk: Desk) {
    let [first, _, third] = ["x", "y", "z"].map(|queue| desk.defer(work().queue(queue)));
    let worker_id = desk.execute(register_worker()).await.unwrap();
    let none: [&str; 0] = [];
    assert_eq!(desk.execute(fetch_job(worker_id).queues(none)).await.unwrap(), None);
    assert_eq!(desk.execute(fetch_job(worker_id).queues(["w"])).await.unwrap(), None);
    let fetched = desk.execute(fetch_job(worker_id).queues(["w", "z"])).await.unwrap().unwrap();
    assert_eq!(fetched.id, i64::from(third));
    assert_eq!(desk.execute(fetch_job(worker_id)).await.unwrap().unwrap().id, i64::from(first));
    assert!(desk.execute(fetch_job(worker_id).queues(["a\0b"])).await.unwrap_err().is_invalid());
    // A worker that is not registered cannot have a job.
    assert!(desk.execute(fetch_job(4_711)).await.is_err());
}

async fn silent_workers_are_removed_and_learn_of_it(mut desk: Desk) {
    desk.sql(
        "INSERT INTO procrastinate_workers (last_heartbeat)
         VALUES (now()), (now() - interval '20 seconds'), (now() - interval '40 seconds')",
    );
    assert_eq!(desk.execute(prune_stalled_workers()).await.unwrap(), [3]);
    let impatient = || prune_stalled_workers().seconds_since_heartbeat(Duration::from_secs(10));
    assert_eq!(desk.execute(impatient()).await.unwrap(), [2]);
    assert_eq!(desk.execute(impatient()).await.unwrap(), [0; 0]);
    assert!(desk.execute(update_heartbeat(1)).await.unwrap());
    assert!(!desk.execute(update_heartbeat(2)).await.unwrap());
    let endless = prune_stalled_workers().seconds_since_heartbeat(Duration::MAX);
    assert!(desk.execute(endless).await.unwrap_err().is_invalid());
}
