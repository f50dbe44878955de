//! A worker that is slow or cannot reach the database, and others that consider it stalled. No job is lost, and no
//! worker finishes a job that it no longer holds.

use std::sync::Mutex;
use std::time::Duration;

use diesel::prelude::*;
use procrastinate::{AbortReason, App, JobAborted, JobContext, JobId, JobStatus, Worker, task};
use tokio::sync::Notify;

use crate::support::{Running, connect, connector, database, eventually, job, rows, sql, within_patience, workers};

/// A worker with frequent heartbeats, which considers nobody stalled meanwhile.
fn quick(worker: Worker) -> Worker {
    worker
        .update_heartbeat_interval(Duration::from_millis(50))
        .abort_job_polling_interval(Duration::from_millis(50))
        .stalled_worker_timeout(Duration::from_secs(60))
}

/// As [`quick`], but soon out of touch.
fn touchy(worker: Worker) -> Worker {
    quick(worker).stalled_worker_timeout(Duration::from_millis(1_500))
}

fn standing(connection: &mut PgConnection, id: JobId) -> (JobStatus, i32, Option<i64>) {
    let job = job(connection, id);
    (job.status, job.attempts, job.worker_id)
}

fn errors(connection: &mut PgConnection) -> Vec<String> {
    rows(connection, "SELECT job_id, attempt, error FROM procrastinate_diesel_job_errors ORDER BY job_id, attempt")
}

// ---- Considered stalled ----

#[tokio::test]
async fn a_live_worker_that_was_pruned_reclaims_its_jobs_and_stores_their_outcomes() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn go_on_all_the_same() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<go_on_all_the_same>().build().unwrap();
    let id = app.defer(go_on_all_the_same()).await.unwrap();
    let worker = Running::start(quick(app.worker()));
    within_patience(STARTED.notified()).await;
    let first = workers(&mut connection)[0].id;

    // A worker whose row is locked by its heartbeat at this moment is passed over.
    let prune = "SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(-3600)";
    eventually("it is pruned", || !rows(&mut connection, prune).is_empty()).await;
    eventually("it has registered again", || workers(&mut connection).len() == 1).await;
    let second = workers(&mut connection)[0].id;
    assert_ne!(first, second);
    assert_eq!(standing(&mut connection, id), (JobStatus::Doing, 0, Some(second)));
    GO_ON.notify_one();
    eventually("the ending is stored", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(job(&mut connection, id).attempts, 1);
    assert_eq!(errors(&mut connection), [""; 0]);
}

#[tokio::test]
async fn a_job_that_finishes_before_its_worker_knows_that_it_was_pruned_is_not_lost() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn end_unheard() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<end_unheard>().build().unwrap();
    let id = app.defer(end_unheard()).await.unwrap();
    // Its next heartbeat is due in an hour.
    let hour = Duration::from_secs(3_600);
    let worker = app.worker().update_heartbeat_interval(hour).abort_job_polling_interval(hour);
    let worker = Running::start(worker.stalled_worker_timeout(2 * hour));
    within_patience(STARTED.notified()).await;

    sql(&mut connection, "SELECT procrastinate_prune_stalled_workers_v1(-3600)");
    assert_eq!(standing(&mut connection, id), (JobStatus::Doing, 0, None));
    GO_ON.notify_one();
    eventually("the ending is stored", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    assert_eq!(standing(&mut connection, id), (JobStatus::Succeeded, 1, None));
    worker.stop().await.unwrap();
    assert!(workers(&mut connection).is_empty());
}

#[tokio::test]
async fn a_task_whose_job_another_worker_holds_is_aborted_and_its_outcome_is_not_stored() {
    static STARTED: Notify = Notify::const_new();
    static STOPPED: Notify = Notify::const_new();
    static REASON: Mutex<Option<AbortReason>> = Mutex::new(None);

    struct Other;

    #[task(pass_context)]
    fn be_taken_away(context: JobContext) -> Result<(), JobAborted> {
        if context.state::<Other>().is_ok() {
            return Ok(());
        }
        STARTED.notify_one();
        while !context.should_abort() {
            std::thread::yield_now();
        }
        *REASON.lock().unwrap() = context.abort_reason();
        STOPPED.notify_one();
        Err(JobAborted)
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<be_taken_away>().build().unwrap();
    let id = app.defer(be_taken_away()).await.unwrap();
    // Slow: its next heartbeat comes after the other one has the job.
    let slow = app
        .worker()
        .update_heartbeat_interval(Duration::from_secs(2))
        .abort_job_polling_interval(Duration::from_secs(2));
    let slow = Running::start(slow.stalled_worker_timeout(Duration::from_secs(60)).queues(["default"]));
    within_patience(STARTED.notified()).await;

    sql(&mut connection, "SELECT procrastinate_prune_stalled_workers_v1(-3600)");
    let other = Running::start(quick(app.worker()).state(Other));
    eventually("the other one has run it", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    let ended = standing(&mut connection, id);
    assert_eq!((ended.1, errors(&mut connection)), (2, vec![format!("{id} | 1 | the worker that ran the job died")]));

    within_patience(STOPPED.notified()).await;
    assert_eq!(*REASON.lock().unwrap(), Some(AbortReason::WorkerLost));
    slow.stop().await.unwrap();
    other.stop().await.unwrap();
    let now = standing(&mut connection, id);
    assert_eq!((now.0, now.1), (JobStatus::Succeeded, 2));
    assert_eq!(errors(&mut connection).len(), 1);
}

#[tokio::test]
async fn a_starting_worker_gives_a_pruned_one_time_to_reclaim_its_jobs() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn be_given_time() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<be_given_time>().build().unwrap();
    let id = app.defer(be_given_time()).await.unwrap();
    let slow = Running::start(quick(app.worker()).update_heartbeat_interval(Duration::from_millis(300)));
    within_patience(STARTED.notified()).await;
    sql(&mut connection, "SELECT procrastinate_prune_stalled_workers_v1(-3600)");
    // Its next look is an hour away. The first one must not rescue anything.
    let hour = Duration::from_secs(3_600);
    let other = app.worker().update_heartbeat_interval(hour).stalled_worker_timeout(2 * hour);
    let other = Running::start(other);
    eventually("both are registered", || workers(&mut connection).len() == 2).await;
    GO_ON.notify_one();
    eventually("it has ended", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    slow.stop().await.unwrap();
    other.stop().await.unwrap();
    assert_eq!((job(&mut connection, id).attempts, errors(&mut connection)), (1, vec![]));
}

#[tokio::test]
async fn a_violated_foreign_key_of_the_application_does_not_mean_a_pruned_worker() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn stay_with_its_worker() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }
    #[task]
    async fn violate() {}

    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE TABLE people (id bigint PRIMARY KEY);
         CREATE TABLE notes (person bigint REFERENCES people (id));
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO notes VALUES (1); RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
             WHEN (NEW.task_name = 'violate' AND NEW.status = 'succeeded') EXECUTE FUNCTION refuse()",
    );
    let app =
        App::builder(connector(&database).await).task::<stay_with_its_worker>().task::<violate>().build().unwrap();
    let stays = app.defer(stay_with_its_worker()).await.unwrap();
    let worker = Running::start(app.worker().concurrency(2));
    within_patience(STARTED.notified()).await;
    let violates = app.defer(violate()).await.unwrap();
    GO_ON.notify_one();
    eventually("the other one has ended", || job(&mut connection, stays).status == JobStatus::Succeeded).await;
    assert_eq!(standing(&mut connection, stays), (JobStatus::Succeeded, 1, None));
    sql(&mut connection, "INSERT INTO people VALUES (1)");
    eventually("that one has ended too", || job(&mut connection, violates).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(standing(&mut connection, violates).1, 1);
}

// ---- What the database refuses ----

#[tokio::test]
async fn an_outcome_that_the_database_refuses_does_not_prevent_other_jobs() {
    static RAN: Notify = Notify::const_new();

    #[task]
    async fn be_refused() {}
    #[task]
    async fn run_all_the_same() {
        RAN.notify_one();
    }

    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not that one'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
             WHEN (NEW.task_name = 'be_refused' AND NEW.status = 'succeeded') EXECUTE FUNCTION refuse()",
    );
    let app = App::builder(connector(&database).await).task::<be_refused>().task::<run_all_the_same>().build().unwrap();
    let refused = app.defer(be_refused()).await.unwrap();
    let worker = Running::start(app.worker());
    eventually("it is running", || job(&mut connection, refused).status == JobStatus::Doing).await;
    for _ in 0..3 {
        let id = app.defer(run_all_the_same()).await.unwrap();
        within_patience(RAN.notified()).await;
        eventually("its ending is stored", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    }
    assert_eq!(job(&mut connection, refused).status, JobStatus::Doing);
    sql(&mut connection, "DROP TRIGGER refuse ON procrastinate_jobs");
    eventually("it has ended", || job(&mut connection, refused).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!(job(&mut connection, refused).attempts, 1);
}

#[tokio::test]
async fn a_job_that_the_database_refuses_to_start_does_not_prevent_outcomes() {
    static STARTED: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn end_all_the_same() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }
    #[task]
    async fn never_start() {}

    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not that one'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
             WHEN (NEW.task_name = 'never_start' AND NEW.status = 'doing') EXECUTE FUNCTION refuse()",
    );
    let app =
        App::builder(connector(&database).await).task::<end_all_the_same>().task::<never_start>().build().unwrap();
    let id = app.defer(end_all_the_same()).await.unwrap();
    let worker = Running::start(app.worker());
    within_patience(STARTED.notified()).await;
    app.defer(never_start()).await.unwrap();
    GO_ON.notify_one();
    eventually("its ending is stored", || job(&mut connection, id).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_announced_during_a_fetch_is_not_missed() {
    static RAN: Notify = Notify::const_new();
    static GO_ON: Notify = Notify::const_new();

    #[task]
    async fn take_long() {
        RAN.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    // A worker that takes the job 1 waits for as long as this connection likes, after it has looked at the table.
    sql(
        &mut connection,
        "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
         CREATE TRIGGER wait_here BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
             WHEN (OLD.id = 1 AND NEW.status = 'doing') EXECUTE FUNCTION wait_here();
         SELECT pg_advisory_lock(1)",
    );
    let app = App::builder(connector(&database).await).task::<take_long>().build().unwrap();
    let worker = app.worker().concurrency(5).fetch_job_polling_interval(Duration::from_secs(3_600));
    let worker = Running::start(worker);
    app.defer(take_long()).await.unwrap();
    let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    eventually("the worker is at the gate", || !rows(&mut connection, waiting).is_empty()).await;
    app.defer(take_long()).await.unwrap();
    // That the announcement has arrived cannot be seen from here.
    tokio::time::sleep(Duration::from_millis(300)).await;
    sql(&mut connection, "SELECT pg_advisory_unlock(1)");
    for _ in 0..2 {
        within_patience(RAN.notified()).await;
    }
    GO_ON.notify_one();
    GO_ON.notify_waiters();
    GO_ON.notify_one();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_rescue_does_not_prevent_other_rescues() {
    #[task]
    async fn be_refused_a_rescue() {}
    #[task]
    async fn be_rescued() {}

    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not that one'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW
             WHEN (NEW.task_name = 'be_refused_a_rescue' AND NEW.status = 'todo') EXECUTE FUNCTION refuse()",
    );
    let app = App::builder(connector(&database).await);
    let app = app.task::<be_refused_a_rescue>().task::<be_rescued>().build().unwrap();
    let ids = app.batch_defer([be_rescued(), be_refused_a_rescue(), be_rescued()]).await.unwrap();
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'doing'");

    app.worker().stop_when_empty().run().await.unwrap();

    let mut status = |place: usize| job(&mut connection, ids[place]).status;
    assert_eq!([status(0), status(1), status(2)], [JobStatus::Succeeded, JobStatus::Doing, JobStatus::Succeeded]);
}

// ---- Out of touch ----

#[tokio::test]
async fn a_worker_without_a_heartbeat_aborts_its_jobs_and_fetches_none_until_the_next_one() {
    static STARTED: Notify = Notify::const_new();
    static REASON: Mutex<Option<AbortReason>> = Mutex::new(None);
    static GO_ON: Notify = Notify::const_new();

    struct Watch(JobContext);

    impl Drop for Watch {
        fn drop(&mut self) {
            *REASON.lock().unwrap() = self.0.abort_reason();
        }
    }

    #[task(pass_context)]
    async fn lose_touch(context: JobContext) {
        if context.job().attempts > 0 {
            return;
        }
        let _watch = Watch(context);
        STARTED.notify_one();
        std::future::pending::<()>().await;
    }
    #[task(stalled = "leave")]
    async fn stay() {
        STARTED.notify_one();
        GO_ON.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<lose_touch>().task::<stay>().build().unwrap();
    let id = app.defer(lose_touch()).await.unwrap();
    let stays = app.defer(stay()).await.unwrap();
    let worker = touchy(app.worker().concurrency(5)).fetch_job_polling_interval(Duration::from_millis(50));
    let worker = Running::start(worker);
    for _ in 0..2 {
        within_patience(STARTED.notified()).await;
    }
    let registered = workers(&mut connection)[0].id;

    // Its heartbeats wait for this row.
    sql(&mut connection, "BEGIN; SELECT FROM procrastinate_workers FOR NO KEY UPDATE");
    let mut other = connect(&database);
    eventually("the job was told to stop, and its ending is stored", || job(&mut other, id).status == JobStatus::Todo)
        .await;
    assert_eq!(*REASON.lock().unwrap(), Some(AbortReason::WorkerLost));
    // A worker that fetches would fetch it immediately.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(standing(&mut other, id), (JobStatus::Todo, 1, None));
    assert_eq!(standing(&mut other, stays), (JobStatus::Doing, 0, Some(registered)));

    sql(&mut connection, "COMMIT");
    eventually("it goes on", || job(&mut other, id).status == JobStatus::Succeeded).await;
    GO_ON.notify_one();
    eventually("that one has ended by itself", || job(&mut other, stays).status == JobStatus::Succeeded).await;
    worker.stop().await.unwrap();
    assert_eq!((job(&mut other, id).attempts, job(&mut other, stays).attempts), (2, 1));
    let expected = "the worker aborted the task because it could not reach the database";
    let kept = errors(&mut connection);
    assert!(kept.len() == 1 && kept[0].starts_with(&format!("{id} | 1 | {expected}")), "{kept:?}");
}

#[test]
fn heartbeats_continue_while_code_blocks_the_only_thread_of_the_runtime() {
    #[task]
    async fn hog() {
        // Longer than a worker may be without a heartbeat.
        std::thread::sleep(Duration::from_millis(2_500));
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = database();
    let (url, name) = (database.url().to_owned(), database.name().to_owned());
    runtime.block_on(async {
        let app = App::builder(connector(&database).await).task::<hog>().build().unwrap();
        app.defer(hog()).await.unwrap();
        let watch = std::thread::spawn(move || {
            let mut connection = PgConnection::establish(&url).unwrap();
            let started = std::time::Instant::now();
            let mut beats = std::collections::BTreeSet::new();
            while rows(&mut connection, "SELECT id FROM procrastinate_jobs WHERE status = 'doing'").is_empty() {
                assert!(started.elapsed() < crate::support::PATIENCE, "the job does not start in {name}");
                std::thread::sleep(Duration::from_millis(5));
            }
            while rows(&mut connection, "SELECT id FROM procrastinate_jobs WHERE status = 'succeeded'").is_empty() {
                assert!(started.elapsed() < crate::support::PATIENCE, "the job does not end in {name}");
                beats.extend(rows(&mut connection, "SELECT last_heartbeat FROM procrastinate_workers"));
                std::thread::sleep(Duration::from_millis(5));
            }
            beats.len()
        });
        let worker = Running::start(touchy(app.worker()));
        let beats = tokio::task::spawn_blocking(|| watch.join().unwrap()).await.unwrap();
        worker.stop().await.unwrap();
        assert!(beats > 5, "{beats} heartbeats");
    });
    let mut connection = connect(&database);
    assert_eq!(rows(&mut connection, "SELECT status, attempts FROM procrastinate_jobs"), ["succeeded | 1"]);
}

// ---- Stopping ----

#[tokio::test]
async fn a_failure_long_after_a_stop_request_does_not_end_the_worker_before_its_jobs() {
    static STARTED: Notify = Notify::const_new();
    static END_ONE: Notify = Notify::const_new();
    static END_OTHER: Notify = Notify::const_new();

    #[task]
    async fn end_early() {
        STARTED.notify_one();
        END_ONE.notified().await;
    }
    #[task]
    async fn end_late() {
        STARTED.notify_one();
        END_OTHER.notified().await;
    }

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<end_early>().task::<end_late>().build().unwrap();
    app.defer(end_early()).await.unwrap();
    app.defer(end_late()).await.unwrap();
    let worker = quick(app.worker().concurrency(2)).stalled_worker_timeout(Duration::from_secs(1));
    let worker = Running::start(worker);
    for _ in 0..2 {
        within_patience(STARTED.notified()).await;
    }
    let stopped = worker.ask_to_stop();
    // Nothing may happen for longer than a worker waits for an unreachable database.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    // The outcome is refused once.
    sql(
        &mut connection,
        "CREATE SEQUENCE tries;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') = 1 THEN RAISE 'not now'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    END_ONE.notify_one();
    eventually("the ending is stored", || {
        rows(&mut connection, "SELECT id FROM procrastinate_jobs WHERE status = 'succeeded'").len() == 1
    })
    .await;
    END_OTHER.notify_one();
    within_patience(stopped).await.unwrap().unwrap();
    let jobs = "SELECT status, attempts FROM procrastinate_jobs";
    assert_eq!(rows(&mut connection, jobs), ["succeeded | 1", "succeeded | 1"]);
    assert_eq!(rows(&mut connection, "SELECT last_value >= 3 FROM tries"), ["true"]);
}
