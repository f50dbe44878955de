//! Workers and clients on databases whose default isolation level is a higher one: nothing is lost or done twice, and
//! nobody has to retry what the crate does on its own connections.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use procrastinate::job_manager::{cancel_job, delete_job, reschedule_job};
use procrastinate::{App, Error, JobId, Task, configure_task};
use serde_json::json;
use throwaway_postgres::Database;

use super::Random;
use super::model::{NewJob, Schedule};
use super::workers::{Hall, Logged};
use crate::support::{Running, connect, connector, database, eventually, rows, sql, superuser, within_patience};

const LEVELS: [&str; 2] = ["repeatable read", "serializable"];

fn set_level(database: &Database, level: &str) {
    let setting = format!("default_transaction_isolation TO '{level}'");
    sql(&mut connect(database), &format!("ALTER DATABASE \"{}\" SET {setting}", database.name()));
}

#[tokio::test]
async fn the_migrations_run_at_every_level() {
    for level in LEVELS {
        let database = crate::support::empty_database();
        set_level(&database, level);
        let connector = connector(&database).await;
        connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await.unwrap();
        connector.check_contract().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_workers_deferrers_and_cancellers_lose_and_double_nothing() {
    const DEFERRERS: usize = 3;
    const JOBS: usize = 120;
    for (level, mut random) in LEVELS.into_iter().zip(Random::each(0..2)) {
        let mut hall = Hall::new();
        set_level(&hall.database, level);
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(Running::start(hall.worker().await.concurrency(4)));
        }
        let app = App::builder(connector(&hall.database).await).build().unwrap();
        let deferred: Arc<Mutex<Vec<(JobId, NewJob)>>> = Arc::default();
        let deferring = (0..DEFERRERS).map(|_| tokio::spawn(defer(app.clone(), random.fork(), JOBS, deferred.clone())));
        let deferring: Vec<_> = deferring.collect();
        let changed = change_jobs(&app, &mut random, DEFERRERS * JOBS / 2, &deferred).await;
        for deferrer in deferring {
            deferrer.await.unwrap();
        }

        let mut connection = connect(&hall.database);
        let unfinished = "SELECT id FROM procrastinate_jobs WHERE status IN ('todo', 'doing')";
        eventually("all jobs have ended", || rows(&mut connection, unfinished).is_empty()).await;
        for worker in workers {
            worker.stop().await.unwrap();
        }
        hall.jobs = deferred.lock().unwrap().iter().copied().collect();
        let ran = hall.ran_once();
        for id in hall.jobs.keys() {
            assert!(!(changed.cancelled.contains(id) && ran.contains(id)), "{level}: job {id} was cancelled, and ran");
            let is_over = changed.cancelled.contains(id) || changed.deleted.contains(id);
            assert!(is_over || ran.contains(id), "{level}: job {id} did not run");
        }
        let kept = hall.jobs.keys().filter(|id| !changed.deleted.contains(id));
        let expected = kept.map(|id| match changed.cancelled.contains(id) {
            true => format!("{id} | cancelled | 0"),
            false => format!("{id} | succeeded | 1"),
        });
        let found = rows(&mut connection, "SELECT id, status, attempts FROM procrastinate_jobs ORDER BY id");
        assert_eq!(found, expected.collect::<Vec<_>>(), "{level}");
        let oddities = "SELECT job_id, string_agg(type::text, ' ' ORDER BY id) FROM procrastinate_events
                        WHERE type <> 'scheduled' GROUP BY job_id HAVING string_agg(type::text, ' ' ORDER BY id)
                        NOT IN ('deferred cancelled', 'deferred started succeeded')";
        assert_eq!(rows(&mut connection, oddities), [""; 0], "{level}");
        assert_eq!(rows(&mut connection, "SELECT id FROM procrastinate_workers"), [""; 0], "{level}");
    }
}

/// Defers jobs one by one, some of them with queueing locks that others take at the same time.
async fn defer(app: App, mut random: Random, jobs: usize, deferred: Arc<Mutex<Vec<(JobId, NewJob)>>>) {
    for _ in 0..jobs {
        let new = NewJob { schedule: Schedule::AtOnce, ..NewJob::any(&mut random) };
        let result = if random.once_in(4) {
            app.batch_defer([new.to_defer(Logged::NAME)]).await.map(|ids| ids[0])
        } else {
            app.defer(new.to_defer(Logged::NAME)).await
        };
        match result {
            Ok(id) => deferred.lock().unwrap().push((id, new)),
            Err(Error::AlreadyEnqueued { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The jobs that were changed while workers ran.
#[derive(Debug, Default)]
struct Changed {
    cancelled: BTreeSet<JobId>,
    /// Pending or finished ones.
    deleted: BTreeSet<JobId>,
}

/// Cancels, deletes and reschedules jobs.
async fn change_jobs(app: &App, random: &mut Random, times: usize, deferred: &Mutex<Vec<(JobId, NewJob)>>) -> Changed {
    let mut changed = Changed::default();
    for _ in 0..times {
        let known = loop {
            let known = deferred.lock().unwrap().len();
            if known > 0 {
                break known;
            }
            tokio::task::yield_now().await;
        };
        // Mostly one of the last ones, which may not have started yet.
        let place = known - 1 - random.below(known.min(6));
        let (id, _) = deferred.lock().unwrap()[place];
        let result = match random.below(3) {
            0 => app.perform(cancel_job(id)).await.map(|is_cancelled| {
                changed.cancelled.extend(is_cancelled.then_some(id));
            }),
            1 => app.perform(reschedule_job(id)).await,
            _ => app.perform(delete_job(id)).await.map(|()| changed.deleted.extend([id])),
        };
        match result {
            Ok(()) | Err(Error::WrongStatus { .. } | Error::JobNotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    changed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_a_deadlock_ends_is_run_again() {
    let database = database();
    let name = database.name();
    // The application's session looks for circles after a second, and the other one later.
    let mut superuser = superuser(&database);
    sql(
        &mut superuser,
        &format!("ALTER DATABASE \"{name}\" SET deadlock_timeout = '1s'; SET deadlock_timeout = '30s'"),
    );
    let app = App::builder(connector(&database).await).build().unwrap();
    let insert = |lock: &str| {
        format!("INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('q', 'task', '{lock}')")
    };
    sql(&mut superuser, &format!("BEGIN; {}", insert("second")));
    let jobs = ["first", "second"].map(|lock| configure_task("task", json!({})).queueing_lock(lock));
    let deferring = tokio::spawn(async move { app.batch_defer(jobs).await });
    let waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    eventually("it waits for the second lock", || !rows(&mut superuser, waiting).is_empty()).await;
    tokio::task::spawn_blocking(move || sql(&mut superuser, &format!("{}; ROLLBACK", insert("first")))).await.unwrap();

    let deferred = within_patience(deferring).await.unwrap().unwrap();
    let statement = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let mut connection = connect(&database);
    eventually("the deadlock is counted", || rows(&mut connection, statement) != ["0"]).await;
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs"), [deferred.len().to_string()]);
}
