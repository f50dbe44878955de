//! Jobs that fail and are tried again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use procrastinate::retry::{AttemptError, RetryDecision, RetryPolicy, RetryStrategy};
use procrastinate::{App, Job, JobContext, JobStatus, task};

use crate::support::{connect, connector, database, events, job, jobs, rows, sql, statuses};

#[tokio::test]
async fn a_job_is_retried_immediately_until_it_succeeds() {
    static ATTEMPTS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

    #[task(retry = true, pass_context)]
    async fn third_time_lucky(context: JobContext) -> Result<(), String> {
        let mut attempts = ATTEMPTS.lock().unwrap();
        attempts.push(context.job().attempts);
        if attempts.len() == 3 { Ok(()) } else { Err("not yet".to_owned()) }
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<third_time_lucky>().build().unwrap();
    let id = app.defer(third_time_lucky()).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    assert_eq!(*ATTEMPTS.lock().unwrap(), [0, 1, 2]);
    let mut connection = connect(&database);
    let job = job(&mut connection, id);
    assert_eq!((job.status, job.attempts), (JobStatus::Succeeded, 3));
    let retry = ["started", "deferred_for_retry", "scheduled"];
    let mut events = events(&mut connection, id);
    // The two events of one retry have no order among them.
    events.sort();
    let mut expected = [&["deferred"], &retry[..], &retry[..], &["started", "succeeded"]].concat();
    expected.sort_unstable();
    assert_eq!(events, expected);
}

#[tokio::test]
async fn a_job_fails_when_its_retries_are_used_up() {
    static RAN: AtomicU32 = AtomicU32::new(0);

    #[task(retry = 2)]
    fn hopeless() {
        RAN.fetch_add(1, Ordering::SeqCst);
        panic!("again");
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<hopeless>().build().unwrap();
    app.defer(hopeless()).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    assert_eq!(RAN.load(Ordering::SeqCst), 3);
    let jobs = jobs(&mut connect(&database));
    assert_eq!((&jobs[0].status, jobs[0].attempts), (&JobStatus::Failed, 3));
}

#[tokio::test]
async fn a_wait_schedules_the_next_attempt() {
    #[task(retry = RetryStrategy::new().wait(100).linear_wait(1000).exponential_wait(3))]
    async fn patient() -> Result<(), String> {
        Err("not yet".to_owned())
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<patient>().build().unwrap();
    app.defer(patient()).await.unwrap();
    let mut connection = connect(&database);
    sql(&mut connection, "UPDATE procrastinate_jobs SET attempts = 1");

    let before = Utc::now();
    app.worker().stop_when_empty().run().await.unwrap();

    let job = jobs(&mut connection).remove(0);
    assert_eq!((job.status, job.attempts), (JobStatus::Todo, 2));
    let wait = TimeDelta::seconds(100 + 1000 + 9);
    let scheduled_at = job.scheduled_at.unwrap();
    assert!(scheduled_at >= before + wait && scheduled_at <= Utc::now() + wait, "{scheduled_at}");
}

#[tokio::test]
async fn a_custom_retry_policy_can_change_priority_queue_and_lock() {
    struct Elsewhere;

    impl RetryPolicy for Elsewhere {
        fn decide(&self, error: &AttemptError, job: &Job) -> Option<RetryDecision> {
            assert_eq!((error.to_string().as_str(), job.attempts), ("not here", 0));
            Some(RetryDecision::retry_in(Duration::ZERO).priority(7).queue("elsewhere").lock("there"))
        }
    }

    #[task(retry = Elsewhere)]
    async fn move_on() -> Result<(), String> {
        Err("not here".to_owned())
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<move_on>().build().unwrap();
    app.defer(move_on()).await.unwrap();

    app.worker().queues(["default"]).stop_when_empty().run().await.unwrap();

    let job = jobs(&mut connect(&database)).remove(0);
    assert_eq!((job.status, job.priority), (JobStatus::Todo, 7));
    assert_eq!((job.queue_name.as_str(), job.lock.as_deref()), ("elsewhere", Some("there")));
}

#[tokio::test]
async fn a_job_whose_queueing_lock_is_taken_meanwhile_fails_and_delays_no_other() {
    #[task(retry = 1, pass_context, queueing_lock = "one")]
    async fn replace_yourself(context: JobContext) -> Result<(), String> {
        // Its own queueing lock is free while it runs, and here somebody else takes it.
        context.defer(replace_yourself()).await.map_err(|error| error.to_string())?;
        Err("once more".to_owned())
    }
    #[task]
    async fn bystander() {}

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<replace_yourself>().task::<bystander>().build().unwrap();
    app.defer(replace_yourself()).await.unwrap();
    app.defer(bystander()).await.unwrap();
    // The second one is not to run.
    sql(
        &mut connection,
        "CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id > 2 THEN NEW.scheduled_at = now() + interval '1 day'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER hold_back BEFORE INSERT ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION hold_back()",
    );

    app.worker().concurrency(2).stop_when_empty().run().await.unwrap();

    assert_eq!(statuses(&mut connection), [JobStatus::Failed, JobStatus::Succeeded, JobStatus::Todo]);
}

#[tokio::test]
async fn an_abort_that_was_requested_wins_over_a_retry() {
    static URL: OnceLock<String> = OnceLock::new();

    #[task(retry = true, pass_context)]
    async fn stubborn(context: JobContext) -> Result<(), String> {
        let mut connection = connection_of_its_own().await;
        let cancel =
            diesel::sql_query(format!("SELECT procrastinate_cancel_job_v1({}, true, false)", context.job().id));
        diesel_async::RunQueryDsl::execute(cancel, &mut connection).await.unwrap();
        Err("never mind".to_owned())
    }

    async fn connection_of_its_own() -> diesel_async::AsyncPgConnection {
        let url = URL.get().unwrap();
        <diesel_async::AsyncPgConnection as diesel_async::AsyncConnection>::establish(url).await.unwrap()
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<stubborn>().build().unwrap();
    URL.set(database.url().to_owned()).unwrap();
    app.defer(stubborn()).await.unwrap();

    app.worker().stop_when_empty().run().await.unwrap();

    let job = jobs(&mut connect(&database)).remove(0);
    assert_eq!((job.status, job.attempts, job.abort_requested), (JobStatus::Failed, 0, true));
}

#[tokio::test]
async fn a_retry_policy_that_panics_affects_neither_the_worker_nor_another_job() {
    struct Broken;

    impl RetryPolicy for Broken {
        fn decide(&self, _: &AttemptError, _: &Job) -> Option<RetryDecision> {
            panic!("no decision")
        }

        fn max_attempts(&self) -> Option<u32> {
            panic!("no number")
        }
    }

    #[task(retry = Broken)]
    async fn fail_undecided() -> Result<(), String> {
        Err("not this time".to_owned())
    }
    #[task]
    async fn go_on() {}

    let database = database();
    let mut connection = connect(&database);
    let app = App::builder(connector(&database).await).task::<fail_undecided>().task::<go_on>().build().unwrap();
    app.batch_defer([fail_undecided(), fail_undecided(), go_on(), go_on()]).await.unwrap();
    // The worker of one of each has died.
    sql(&mut connection, "UPDATE procrastinate_jobs SET status = 'doing' WHERE id IN (2, 4)");

    app.worker().stop_when_empty().run().await.unwrap();

    use JobStatus::{Failed, Succeeded};
    assert_eq!(statuses(&mut connection), [Failed, Failed, Succeeded, Succeeded]);
    let errors = "SELECT job_id, error FROM procrastinate_diesel_job_errors ORDER BY job_id";
    let died = "the worker that ran the job died";
    assert_eq!(rows(&mut connection, errors), ["1 | not this time", &format!("2 | {died}"), &format!("4 | {died}")]);
}
