//! Deleting old jobs: in one statement, and in steps.

use std::sync::Barrier;

use diesel::prelude::*;
use procrastinate::JobId;
use procrastinate::job_manager::delete_old_jobs;
use procrastinate::models::ProcrastinatePeriodicDefer;

use super::{Desk, each_way, work};
use crate::support::{connect, database, hours, jobs, rows, sql};

each_way!(
    succeeded_jobs_are_deleted_when_their_newest_event_is_old,
    other_statuses_are_deleted_when_they_are_included,
    only_the_jobs_of_the_queue_are_deleted,
    an_unfinished_job_stays_however_old_its_events_are,
    a_job_whose_latest_event_is_not_its_final_one_stays,
    pending_jobs_that_were_finished_manually_are_deleted_like_others,
    a_periodic_tick_stays_when_its_job_is_deleted,
    invalid_ages_are_refused,
);

const EVERY_STATUS: [&str; 4] = ["succeeded", "failed", "cancelled", "aborted"];

/// Lets this much time pass since all that has happened.
fn age(connection: &mut PgConnection, ids: &[JobId], time: &str) {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let ids = ids.join(", ");
    sql(connection, &format!("UPDATE procrastinate_events SET at = at - interval '{time}' WHERE job_id IN ({ids})"));
}

fn left(connection: &mut PgConnection) -> Vec<i64> {
    jobs(connection).into_iter().map(|job| job.id).collect()
}

async fn succeeded_jobs_are_deleted_when_their_newest_event_is_old(mut desk: Desk) {
    let ids: Vec<JobId> = EVERY_STATUS.map(|status| desk.job(work(), status)).into();
    age(&mut desk.connection, &ids, "3 hours");
    desk.job(work(), "succeeded");
    assert_eq!(desk.execute(delete_old_jobs(hours(4))).await.unwrap(), 0);
    assert_eq!(desk.execute(delete_old_jobs(hours(2))).await.unwrap(), 1);
    assert_eq!(left(&mut desk.connection), [2, 3, 4, 5]);
    assert_eq!(rows(&mut desk.connection, "SELECT id FROM procrastinate_events WHERE job_id = 1"), [""; 0]);
    assert_eq!(desk.execute(delete_old_jobs(hours(0))).await.unwrap(), 1);
}

async fn other_statuses_are_deleted_when_they_are_included(mut desk: Desk) {
    let ids: Vec<JobId> = EVERY_STATUS.map(|status| desk.job(work(), status)).into();
    age(&mut desk.connection, &ids, "3 hours");
    let included = delete_old_jobs(hours(2)).include_failed(true).include_cancelled(true).include_aborted(true);
    assert_eq!(desk.execute(included.clone().include_failed(false)).await.unwrap(), 3);
    assert_eq!(left(&mut desk.connection), [2]);
    assert_eq!(desk.execute(included).await.unwrap(), 1);
}

async fn only_the_jobs_of_the_queue_are_deleted(mut desk: Desk) {
    let ids = ["x", "y"].map(|queue| desk.job(work().queue(queue), "succeeded"));
    age(&mut desk.connection, &ids, "3 hours");
    assert_eq!(desk.execute(delete_old_jobs(hours(2)).queue("y")).await.unwrap(), 1);
    assert_eq!(left(&mut desk.connection), [1]);
    assert_eq!(desk.execute(delete_old_jobs(hours(2)).queue("z")).await.unwrap(), 0);
}

async fn an_unfinished_job_stays_however_old_its_events_are(mut desk: Desk) {
    // The last two have final events: they failed, and wait or run again.
    let ids = ["todo", "doing", "failed", "failed"].map(|status| desk.job(work(), status));
    desk.sql("UPDATE procrastinate_jobs SET status = 'todo' WHERE id IN (3, 4)");
    desk.sql("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 4");
    age(&mut desk.connection, &ids, "3 hours");
    let all = delete_old_jobs(hours(2)).include_failed(true).include_cancelled(true).include_aborted(true);
    assert_eq!(desk.execute(all).await.unwrap(), 0);
    assert_eq!(left(&mut desk.connection), [1, 2, 3, 4]);
}

async fn a_job_whose_latest_event_is_not_its_final_one_stays(mut desk: Desk) {
    // Cancelled long ago, and scheduled for tomorrow: that is what Procrastinate goes by.
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let scheduled = desk.job(work().schedule_at(tomorrow), "cancelled");
    // It has failed and been retried, long ago, and has succeeded just now.
    let retried = desk.job(work(), "failed");
    age(&mut desk.connection, &[scheduled, retried], "3 hours");
    desk.sql("UPDATE procrastinate_events SET at = at + interval '3 hours' WHERE type = 'scheduled'");
    for status in ["todo", "doing", "succeeded"] {
        desk.sql(&format!("UPDATE procrastinate_jobs SET status = '{status}' WHERE id = {retried}"));
    }
    // One of its events has no date, which is newer than any.
    let undated = desk.job(work(), "succeeded");
    age(&mut desk.connection, &[undated], "3 hours");
    desk.sql("UPDATE procrastinate_events SET at = NULL WHERE job_id = 3 AND type = 'started'");

    let all = || delete_old_jobs(hours(2)).include_failed(true).include_cancelled(true).include_aborted(true);
    assert_eq!(desk.execute(all()).await.unwrap(), 0);
    desk.sql("UPDATE procrastinate_events SET at = now() - interval '3 hours'");
    // Found by either of its two final events, and deleted once.
    assert_eq!(desk.execute(all()).await.unwrap(), 3);
}

async fn pending_jobs_that_were_finished_manually_are_deleted_like_others(mut desk: Desk) {
    let ids = EVERY_STATUS.map(|_| desk.defer(work()));
    for (id, status) in ids.iter().zip(["succeeded", "failed", "aborted", "cancelled"]) {
        desk.sql(&format!("UPDATE procrastinate_jobs SET status = '{status}' WHERE id = {id}"));
    }
    age(&mut desk.connection, &ids, "3 hours");
    assert_eq!(desk.execute(delete_old_jobs(hours(2))).await.unwrap(), 1);
    assert_eq!(left(&mut desk.connection), [2, 3, 4]);
    assert_eq!(desk.execute(delete_old_jobs(hours(2)).include_aborted(true)).await.unwrap(), 1);
    assert_eq!(left(&mut desk.connection), [2, 4]);
    assert_eq!(desk.execute(delete_old_jobs(hours(2)).include_failed(true)).await.unwrap(), 1);
    assert_eq!(left(&mut desk.connection), [4]);
}

async fn a_periodic_tick_stays_when_its_job_is_deleted(mut desk: Desk) {
    desk.sql("SELECT procrastinate_defer_periodic_job_v2('default', NULL, NULL, 'tick', 0, '', 600, '{}')");
    desk.sql("UPDATE procrastinate_jobs SET status = 'doing'");
    desk.sql("UPDATE procrastinate_jobs SET status = 'succeeded'");
    age(&mut desk.connection, &[JobId::from(1)], "3 hours");
    assert_eq!(desk.execute(delete_old_jobs(hours(2))).await.unwrap(), 1);
    let [tick] = <[_; 1]>::try_from(ProcrastinatePeriodicDefer::query().load(&mut desk.connection).unwrap()).unwrap();
    assert_eq!((tick.defer_timestamp, tick.job_id), (Some(600), None));
}

async fn invalid_ages_are_refused(mut desk: Desk) {
    let error = desk.execute(delete_old_jobs(hours(u32::MAX))).await.unwrap_err();
    assert!(error.is_invalid() && error.to_string().ends_with("must be at most 1,000 years"), "{error}");
    assert!(desk.execute(delete_old_jobs(hours(1)).queue("a\0")).await.unwrap_err().is_invalid());
    assert_eq!(desk.execute(delete_old_jobs(hours(8_000_000))).await.unwrap(), 0);
}

/// So many jobs that ended in the given status at one moment, three hours ago.
fn fill(connection: &mut PgConnection, status: &str, number: u32) {
    sql(
        connection,
        &format!(
            "INSERT INTO procrastinate_jobs (queue_name, task_name)
             SELECT 'default', 't' FROM generate_series(1, {number});
             UPDATE procrastinate_jobs SET status = 'doing' WHERE status = 'todo' AND '{status}' <> 'cancelled';
             UPDATE procrastinate_jobs SET status = '{status}' WHERE status IN ('todo', 'doing');
             UPDATE procrastinate_events SET at = date_trunc('day', now()) - interval '3 hours';"
        ),
    );
}

/// One step. Returns how many were deleted, whether there is more, and where to go on.
fn step(connection: &mut PgConnection, statuses: &str, max_events: u32, start_after: &str) -> (u64, bool, String) {
    let start_after = if start_after.is_empty() { "NULL".to_owned() } else { format!("'{start_after}'") };
    let call = format!(
        "SELECT deleted, has_more, stopped_at FROM procrastinate_diesel_delete_old_jobs_v1(
             '{{{statuses}}}', '2 hours', NULL, {max_events}, {start_after})"
    );
    let answer = rows(connection, &call).remove(0);
    let mut parts = answer.splitn(3, " | ");
    let mut next = || parts.next().unwrap();
    (next().parse().unwrap(), next().parse().unwrap(), next().to_owned())
}

#[test]
fn a_step_reads_no_more_than_its_limit_and_the_next_one_continues_there() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection, "succeeded", 7);
    fill(&mut connection, "cancelled", 4);
    fill(&mut connection, "failed", 5);
    let mut position = String::new();
    let mut deleted = Vec::new();
    loop {
        let (deleted_now, has_more, stopped_at) = step(&mut connection, "succeeded,failed", 3, &position);
        deleted.push(deleted_now);
        position = stopped_at;
        if !has_more || deleted.len() == 20 {
            break;
        }
    }
    // Seven have succeeded, five failed; four cancelled ones are looked at, because they might have.
    assert_eq!(deleted, [3, 3, 3, 3, 0, 0]);
    assert_eq!(rows(&mut connection, "SELECT DISTINCT status FROM procrastinate_jobs"), ["cancelled"]);
    // What has been looked at is not looked at again.
    assert_eq!(step(&mut connection, "succeeded,failed", 3, &position), (0, false, position.clone()));
    fill(&mut connection, "succeeded", 2);
    sql(&mut connection, "UPDATE procrastinate_events SET at = at + interval '1 second' WHERE type = 'succeeded'");
    assert_eq!(step(&mut connection, "succeeded,failed", 3, &position).0, 2);
}

#[test]
fn a_step_skips_the_jobs_that_it_keeps() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection, "failed", 6);
    // These wait again, with an old failure behind them.
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'todo' WHERE id <= 4");
    sql(&mut connection, "UPDATE procrastinate_events SET at = now() - interval '3 hours'");
    let (deleted, has_more, position) = step(&mut connection, "failed", 4, "");
    assert_eq!((deleted, has_more), (0, true));
    assert_eq!(step(&mut connection, "failed", 4, &position).0, 2);
    assert_eq!(left(&mut connection), [1, 2, 3, 4]);
}

#[test]
fn only_finished_jobs_can_be_selected() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection, "failed", 2);
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'todo' WHERE id = 1");
    sql(&mut connection, "UPDATE procrastinate_events SET at = now() - interval '3 hours'");
    assert_eq!(step(&mut connection, "todo,doing,failed", 10, "").0, 1);
    assert_eq!(left(&mut connection), [1]);
}

#[test]
fn a_locked_job_is_skipped() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection, "succeeded", 3);
    let mut other = connect(&database);
    sql(&mut other, "BEGIN; SELECT FROM procrastinate_jobs WHERE id = 2 FOR UPDATE");
    sql(&mut connection, "SET lock_timeout = '5s'");
    assert_eq!(delete_old_jobs(hours(2)).execute_blocking(&mut connection).unwrap(), 2);
    assert_eq!(left(&mut connection), [2]);
    sql(&mut other, "COMMIT");
    assert_eq!(delete_old_jobs(hours(2)).execute_blocking(&mut connection).unwrap(), 1);
}

#[test]
fn several_programs_can_delete_at_the_same_time() {
    let database = database();
    fill(&mut connect(&database), "succeeded", 600);
    let start = Barrier::new(4);
    let deleted: u64 = std::thread::scope(|scope| {
        let cleaners: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = connect(&database);
                    let (mut deleted, mut position) = (0, String::new());
                    start.wait();
                    loop {
                        let (deleted_now, has_more, stopped_at) = step(&mut connection, "succeeded", 20, &position);
                        deleted += deleted_now;
                        position = stopped_at;
                        if !has_more {
                            return deleted;
                        }
                    }
                })
            })
            .collect();
        cleaners.into_iter().map(|cleaner| cleaner.join().unwrap()).sum()
    });
    let mut connection = connect(&database);
    assert_eq!((deleted, left(&mut connection)), (600, vec![]));
}

#[test]
fn deletions_in_a_rolled_back_transaction_are_undone() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection, "succeeded", 3);
    connection.test_transaction(|connection| {
        assert_eq!(delete_old_jobs(hours(2)).execute_blocking(connection).unwrap(), 3);
        assert_eq!(left(connection), [0; 0]);
        QueryResult::Ok(())
    });
    assert_eq!(left(&mut connection), [1, 2, 3]);
}
