//! Cancelling, finishing and retrying.

use diesel::{Connection, PgConnection};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use procrastinate::job_manager::{cancel_job, delete_job, finish_job, get_job_status, reschedule_job, retry_job};
use procrastinate::{Error, JobId, JobStatus};

use super::{Desk, each_way, work};
use crate::support::{connect, database, events, job, jobs, rows, sql, statuses, transaction};

#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error(transparent)]
    Diesel(#[from] diesel::result::Error),
    #[error(transparent)]
    Queue(#[from] Error),
}

each_way!(
    a_pending_job_is_cancelled_once,
    a_running_job_is_only_asked_to_abort,
    a_job_can_be_deleted_instead_of_cancelled,
    a_job_is_finished_with_the_given_status,
    a_job_that_cannot_be_finished_is_an_error_and_unchanged,
    a_failed_job_is_retried_with_the_given_options,
    a_job_keeps_what_a_retry_does_not_change,
    a_running_job_with_an_abort_request_fails_when_it_is_retried,
    a_job_that_cannot_be_retried_is_an_error_and_unchanged,
    a_retry_with_a_taken_queueing_lock_is_an_error_and_changes_nothing,
    a_pending_job_is_rescheduled_for_later_and_for_now,
    a_job_that_is_not_running_is_deleted,
    invalid_values_are_refused_before_a_statement_is_sent,
);

async fn a_pending_job_is_cancelled_once(mut desk: Desk) {
    let id = desk.defer(work());
    assert!(desk.execute(cancel_job(id)).await.unwrap());
    assert_eq!(statuses(&mut desk.connection), [JobStatus::Cancelled]);
    assert_eq!(events(&mut desk.connection, id), ["deferred", "cancelled"]);
    assert!(!desk.execute(cancel_job(id)).await.unwrap());
    assert!(!desk.execute(cancel_job(4_711)).await.unwrap());
}

async fn a_running_job_is_only_asked_to_abort(mut desk: Desk) {
    let id = desk.job(work(), "doing");
    assert!(!desk.execute(cancel_job(id)).await.unwrap());
    assert!(!desk.execute(cancel_job(id).delete_job(true)).await.unwrap());
    assert!(!job(&mut desk.connection, id).abort_requested);

    assert!(desk.execute(cancel_job(id).abort(true)).await.unwrap());
    let asked = job(&mut desk.connection, id);
    assert_eq!((asked.status, asked.abort_requested), (JobStatus::Doing, true));
    assert_eq!(events(&mut desk.connection, id), ["deferred", "started", "abort_requested"]);
}

async fn a_job_can_be_deleted_instead_of_cancelled(mut desk: Desk) {
    let [gone, kept] = [desk.defer(work()), desk.defer(work())];
    assert!(desk.execute(cancel_job(gone).delete_job(true)).await.unwrap());
    assert_eq!(jobs(&mut desk.connection).len(), 1);
    assert_eq!(events(&mut desk.connection, gone), [""; 0]);
    assert_eq!(events(&mut desk.connection, kept), ["deferred"]);
}

async fn a_job_is_finished_with_the_given_status(mut desk: Desk) {
    for status in [JobStatus::Succeeded, JobStatus::Failed, JobStatus::Aborted] {
        let id = desk.job(work(), "doing");
        desk.execute(finish_job(id, status.clone())).await.unwrap();
        let finished = job(&mut desk.connection, id);
        assert_eq!((&finished.status, finished.attempts), (&status, 1));
        assert_eq!(events(&mut desk.connection, id), ["deferred", "started", status.as_str()]);
    }
    // One that waits counts no attempt.
    let id = desk.defer(work());
    let waiting = job(&mut desk.connection, id);
    desk.execute(finish_job(&waiting, JobStatus::Failed)).await.unwrap();
    assert_eq!((job(&mut desk.connection, id).status, job(&mut desk.connection, id).attempts), (JobStatus::Failed, 0));

    let id = desk.job(work(), "doing");
    desk.execute(finish_job(id, JobStatus::Succeeded).delete_job(true)).await.unwrap();
    assert_eq!(desk.execute(get_job_status(id)).await.unwrap(), None);
}

async fn a_job_that_cannot_be_finished_is_an_error_and_unchanged(mut desk: Desk) {
    let id = desk.job(work(), "succeeded");
    let error = desk.execute(finish_job(id, JobStatus::Failed)).await.unwrap_err();
    assert_eq!(error.to_string(), "could not finish job 1: it is succeeded, and must be todo or doing");
    assert!(matches!(error, Error::WrongStatus { job_id, status: JobStatus::Succeeded, .. } if job_id == id));
    assert_eq!(statuses(&mut desk.connection), [JobStatus::Succeeded]);

    let error = desk.execute(finish_job(4_711, JobStatus::Failed)).await.unwrap_err();
    assert_eq!(error.to_string(), "could not finish job 4711: there is no such job");
    assert!(matches!(error, Error::JobNotFound { .. }));
}

async fn a_failed_job_is_retried_with_the_given_options(mut desk: Desk) {
    let id = desk.job(work().queueing_lock("one"), "failed");
    let time = "2030-05-06T07:08:09Z".parse().unwrap();
    let retry = retry_job(id).priority(-3).queue("slow").lock("l").retry_at(time);
    assert_eq!(desk.execute(retry).await.unwrap(), JobStatus::Todo);

    let waiting = job(&mut desk.connection, id);
    assert_eq!((waiting.status, waiting.attempts, waiting.scheduled_at), (JobStatus::Todo, 2, Some(time)));
    assert_eq!((waiting.priority, waiting.queue_name.as_str(), waiting.lock.as_deref()), (-3, "slow", Some("l")));
    let history = events(&mut desk.connection, id);
    assert_eq!(history, ["deferred", "started", "failed", "scheduled", "retried"]);
}

async fn a_job_keeps_what_a_retry_does_not_change(mut desk: Desk) {
    let id = desk.job(work().priority(4).queue("q").lock("l").queueing_lock("one"), "doing");
    let before = chrono::Utc::now() - chrono::TimeDelta::seconds(60);
    let running = job(&mut desk.connection, id);
    assert_eq!(desk.execute(retry_job(&running)).await.unwrap(), JobStatus::Todo);

    let waiting = job(&mut desk.connection, id);
    assert!(waiting.scheduled_at > Some(before), "{waiting:?}");
    assert_eq!((waiting.priority, waiting.queue_name.as_str()), (4, "q"));
    assert_eq!((waiting.lock.as_deref(), waiting.queueing_lock.as_deref()), (Some("l"), Some("one")));
    assert_eq!((waiting.status, waiting.attempts), (JobStatus::Todo, 1));
}

async fn a_running_job_with_an_abort_request_fails_when_it_is_retried(mut desk: Desk) {
    let id = desk.job(work(), "doing");
    assert!(desk.execute(cancel_job(id).abort(true)).await.unwrap());
    assert_eq!(desk.execute(retry_job(id)).await.unwrap(), JobStatus::Failed);
    assert_eq!(statuses(&mut desk.connection), [JobStatus::Failed]);
    // The request was about the attempt that ended.
    assert_eq!(desk.execute(retry_job(id)).await.unwrap(), JobStatus::Todo);
}

async fn a_job_that_cannot_be_retried_is_an_error_and_unchanged(mut desk: Desk) {
    for status in ["todo", "succeeded", "cancelled", "aborted"] {
        let id = desk.job(work(), status);
        let error = desk.execute(retry_job(id).queue("other")).await.unwrap_err();
        assert_eq!(error.to_string(), format!("could not retry job {id}: it is {status}, and must be failed or doing"));
        assert_eq!(job(&mut desk.connection, id).queue_name, "default");
    }
    let error = desk.execute(retry_job(4_711)).await.unwrap_err();
    assert_eq!(error.to_string(), "could not retry job 4711: there is no such job");
}

async fn a_retry_with_a_taken_queueing_lock_is_an_error_and_changes_nothing(mut desk: Desk) {
    let failed = desk.job(work().queueing_lock("one \" (at) a = time"), "failed");
    let waiting = desk.defer(work().queueing_lock("one \" (at) a = time"));
    let error = desk.execute(retry_job(failed).priority(3)).await.unwrap_err();
    assert!(error.is_already_enqueued(), "{error}");
    assert_eq!(
        error.to_string(),
        "could not retry job 1 of task \"work\": another job with its queueing lock \"one \" (at) a = time\" is already \
         pending"
    );
    assert_eq!(statuses(&mut desk.connection), [JobStatus::Failed, JobStatus::Todo]);
    assert_eq!(job(&mut desk.connection, failed).priority, 0);
    assert_eq!(events(&mut desk.connection, failed), ["deferred", "started", "failed"]);

    assert!(desk.execute(cancel_job(waiting)).await.unwrap());
    assert_eq!(desk.execute(retry_job(failed)).await.unwrap(), JobStatus::Todo);
}

async fn invalid_values_are_refused_before_a_statement_is_sent(mut desk: Desk) {
    let id = desk.job(work(), "doing");
    // Any statement would say that there are no tables.
    desk.sql("ALTER TABLE procrastinate_jobs RENAME TO elsewhere");
    let refused = [
        desk.execute(finish_job(id, JobStatus::Cancelled)).await.unwrap_err(),
        desk.execute(retry_job(id).queue("")).await.unwrap_err(),
        desk.execute(retry_job(id).lock("a\0b")).await.unwrap_err(),
        desk.execute(retry_job(id).retry_at(chrono::DateTime::<chrono::Utc>::MAX_UTC)).await.unwrap_err(),
    ]
    .map(|error| if error.is_invalid() { error.to_string() } else { panic!("{error}") });
    assert_eq!(refused[0], "invalid status \"cancelled\": must be succeeded, failed or aborted");
    assert_eq!(refused[1], "invalid queue name \"\": must not be empty");
}

/// Two jobs with one queueing lock: the first has failed, the second waits.
fn two_of_one_queueing_lock(connection: &mut PgConnection) -> [JobId; 2] {
    let failed = work().queueing_lock("one").defer_blocking(connection).unwrap();
    cancel_job(failed).execute_blocking(connection).unwrap();
    sql(connection, "UPDATE procrastinate_jobs SET status = 'failed'");
    [failed, work().queueing_lock("one").defer_blocking(connection).unwrap()]
}

/// A violation that was raised would lose the transaction, and Diesel would say that it was committed.
#[test]
fn no_result_of_an_operation_breaks_the_callers_transaction() {
    let database = database();
    let mut connection = connect(&database);
    let [failed, waiting] = two_of_one_queueing_lock(&mut connection);
    connection
        .transaction(|connection| {
            assert!(finish_job(failed, JobStatus::Failed).execute_blocking(connection).is_err());
            assert!(retry_job(failed).execute_blocking(connection).is_err());
            assert!(retry_job(waiting).execute_blocking(connection).is_err());
            assert!(retry_job(4_711).execute_blocking(connection).is_err());
            assert!(!cancel_job(failed).execute_blocking(connection)?);
            work().defer_blocking(connection)?;
            Ok::<_, TestError>(())
        })
        .unwrap();
    assert_eq!(statuses(&mut connection), [JobStatus::Failed, JobStatus::Todo, JobStatus::Todo]);
}

#[tokio::test]
async fn changes_in_a_rolled_back_transaction_are_undone() {
    let database = database();
    let mut connection = AsyncPgConnection::establish(database.url()).await.unwrap();
    let [failed, waiting] = two_of_one_queueing_lock(&mut connect(&database));
    let before = jobs(&mut connect(&database));
    let rolled_back = transaction(&mut connection, async |connection| {
        assert!(cancel_job(waiting).execute(connection).await?);
        assert_eq!(retry_job(failed).execute(connection).await?, JobStatus::Todo);
        finish_job(failed, JobStatus::Succeeded).delete_job(true).execute(connection).await?;
        assert_eq!(get_job_status(failed).execute(connection).await?, None);
        assert_eq!(get_job_status(waiting).execute(connection).await?, Some(JobStatus::Cancelled));
        Err::<(), TestError>(diesel::result::Error::RollbackTransaction.into())
    })
    .await;
    assert!(matches!(rolled_back, Err(TestError::Diesel(diesel::result::Error::RollbackTransaction))));
    assert_eq!(jobs(&mut connect(&database)), before);
}

#[test]
fn a_retry_waits_for_a_lock_on_the_job_and_then_checks_its_status() {
    let database = database();
    let mut connection = connect(&database);
    let [failed, _] = two_of_one_queueing_lock(&mut connection);
    let mut other = connect(&database);
    sql(&mut connection, "BEGIN; UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = 1");
    let retry = std::thread::spawn(move || retry_job(failed).execute_blocking(&mut other));
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while rows(&mut connect(&database), waiting).is_empty() {
        assert!(!retry.is_finished());
        std::thread::yield_now();
    }
    sql(&mut connection, "COMMIT");
    let error = retry.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::WrongStatus { status: JobStatus::Succeeded, .. }), "{error}");
}

async fn a_pending_job_is_rescheduled_for_later_and_for_now(mut desk: Desk) {
    let id = desk.defer(work());
    let time = "2099-01-31T08:00:00Z".parse().unwrap();
    desk.execute(reschedule_job(id).schedule_at(time)).await.unwrap();
    assert_eq!(job(&mut desk.connection, id).scheduled_at, Some(time));
    assert_eq!(events(&mut desk.connection, id), ["deferred", "scheduled"]);
    desk.execute(reschedule_job(id)).await.unwrap();
    assert_eq!(job(&mut desk.connection, id).scheduled_at, None);

    let running = desk.job(work(), "doing");
    let error = desk.execute(reschedule_job(running)).await.unwrap_err();
    assert!(matches!(error, Error::WrongStatus { status: JobStatus::Doing, .. }), "{error}");
    let error = desk.execute(reschedule_job(4_711)).await.unwrap_err();
    assert!(matches!(error, Error::JobNotFound { .. }), "{error}");
    let too_early = "1969-12-31T00:00:00Z".parse().unwrap();
    assert!(desk.execute(reschedule_job(id).schedule_at(too_early)).await.unwrap_err().is_invalid());
}

async fn a_job_that_is_not_running_is_deleted(mut desk: Desk) {
    for status in ["todo", "succeeded", "failed", "cancelled"] {
        let id = desk.job(work(), status);
        desk.execute(delete_job(id)).await.unwrap();
        assert_eq!(events(&mut desk.connection, id), [""; 0]);
    }
    let running = desk.job(work(), "doing");
    let error = desk.execute(delete_job(running)).await.unwrap_err();
    assert!(matches!(error, Error::WrongStatus { status: JobStatus::Doing, .. }), "{error}");
    let error = desk.execute(delete_job(4_711)).await.unwrap_err();
    assert!(matches!(error, Error::JobNotFound { .. }), "{error}");
    assert_eq!(statuses(&mut desk.connection), [JobStatus::Doing]);
}
