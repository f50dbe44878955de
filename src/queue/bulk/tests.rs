#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chrono::DateTime;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde_json::json;
use throwaway_postgres::{Database, Server};

use super::record::{list_actions, list_actions_on_job, record, recorded};
use super::*;
use crate::database::connection::Connection;
use crate::database::connection::pooled::PooledConnection;
use crate::database::connection::run::{Blocking, complete};
use crate::database::migrations::{MIGRATIONS, run_pending_migrations};
use crate::database::models::{ProcrastinateAction, ProcrastinateJob};
use crate::database::statements::actions::Beyond;
use crate::database::statements::inspect::JobFilter;
use crate::queue::job_manager::sealed::Sealed;
use crate::queue::job_manager::{Operation, list_flow_controls, pause_queue, retry_job};

/// A database with these jobs: for each the queue and the status.
struct Bench {
    connection: PgConnection,
    database: Database,
}

impl Bench {
    fn new(jobs: &[(&str, &str)]) -> Self {
        let database = Server::shared().unwrap().create_database("bulk").unwrap();
        let mut connection = <PgConnection as diesel::Connection>::establish(database.url()).unwrap();
        run_pending_migrations(&mut connection, MIGRATIONS).unwrap();
        let values: Vec<_> = jobs.iter().map(|(queue, status)| format!("('{queue}', 't', '{status}')")).collect();
        let insert = "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES";
        connection.batch_execute(&format!("{insert} {}", values.join(", "))).unwrap();
        Self { connection, database }
    }

    fn run(&mut self, sql: &str) {
        self.connection.batch_execute(sql).unwrap();
    }

    /// Makes the change of this job fail.
    fn refuse(&mut self, id: i64, sqlstate: &str) {
        self.run(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN RAISE 'no' USING ERRCODE = '{sqlstate}'; END$$;
             CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = {id})
                 EXECUTE FUNCTION refuse()"
        ));
    }

    /// Changes jobs in steps of four jobs, and reads five for each where no index has only the selected ones.
    fn perform(&mut self, change: Change, targets: Targets) -> Result<BulkOutcome, Error> {
        let bulk = BulkChange { change, targets, actor: "anna".to_owned(), selected: Some(12), newest: None };
        complete(bulk.perform_in_steps(StepSize { jobs: 4, read: 5 }, &mut Blocking(&mut self.connection)))
    }

    /// The IDs of the jobs with this status.
    fn jobs(&mut self, status: JobStatus) -> Vec<i64> {
        let jobs = ProcrastinateJob::query().filter(ProcrastinateJob::has_status(status));
        let mut ids: Vec<i64> = jobs.load(&mut self.connection).unwrap().iter().map(|job| job.id).collect();
        ids.sort_unstable();
        ids
    }

    fn actions(&mut self) -> Vec<ProcrastinateAction> {
        complete(list_actions(Beyond::Nothing, 100, &mut Blocking(&mut self.connection))).unwrap()
    }

    /// The jobs of each step of the last action.
    fn steps(&mut self) -> Vec<Vec<Option<i64>>> {
        use procrastinate_schema::schema::procrastinate_diesel_action_jobs::dsl;
        let last = self.actions()[0].id;
        let chunks = dsl::procrastinate_diesel_action_jobs.filter(dsl::action_id.eq(last));
        chunks.select(dsl::job_ids).order(dsl::first_job_id).load(&mut self.connection).unwrap()
    }

    async fn connect(&self) -> PooledConnection {
        PooledConnection::new(Box::new(AsyncPgConnection::establish(self.database.url()).await.unwrap()))
    }
}

fn matching(queue: Option<&str>, status: Option<JobStatus>) -> Targets {
    let filter = JobFilter { queue: queue.map(str::to_owned), status, ..JobFilter::default() };
    Targets::Matching(JobSelection { filter, are_stalled: false })
}

fn ids(ids: impl IntoIterator<Item = i64>) -> Targets {
    Targets::Ids(ids.into_iter().map(JobId::from).collect())
}

const RETRY: Change = Change::Retry { at: None, priority: None, queue: None };

#[test]
fn all_jobs_that_match_are_changed_in_steps_and_no_later_one() {
    let mut jobs = vec![("other", "todo"), ("mails", "succeeded"), ("other", "failed")];
    for _ in 0..9 {
        jobs.extend([("mails", "todo"), ("other", "todo")]);
    }
    let mut bench = Bench::new(&jobs);
    // Somebody defers a job during the first step.
    bench.run(
        "CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('mails', 't'); RETURN NULL; END$$",
    );
    bench.run(
        "CREATE TRIGGER defer AFTER UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = 4)
             EXECUTE FUNCTION defer()",
    );
    let outcome = bench.perform(Change::Cancel, matching(Some("mails"), None)).unwrap();
    assert_eq!(outcome, BulkOutcome { action_id: 1, changed: 9, ..BulkOutcome::default() });
    assert_eq!(bench.jobs(JobStatus::Cancelled), (4..=20).step_by(2).collect::<Vec<_>>());
    assert_eq!(bench.jobs(JobStatus::Todo).len(), 11);
    let action = &bench.actions()[0];
    let told = (action.actor.as_str(), action.action.as_str(), action.target.as_str(), action.selected);
    assert_eq!(told, ("anna", "cancel", "jobs with queue=mails status=todo", Some(12)));
    assert_eq!((action.changed, action.finished_at.is_some(), &action.details), (9, true, &json!({})));
    assert_eq!(bench.steps().concat().len(), 9);
}

#[test]
fn jobs_of_every_status_are_found_to_the_last_one() {
    for (status, label, change) in [
        (JobStatus::Failed, "failed", RETRY),
        (JobStatus::Cancelled, "cancelled", Change::Delete),
        (JobStatus::Doing, "doing", Change::Abort),
        (JobStatus::Succeeded, "succeeded", Change::Delete),
        (JobStatus::Todo, "todo", Change::Priority(5)),
    ] {
        // The number of jobs is a multiple of that of a step, so that a last step finds none, and not.
        for count in [8, 9] {
            let mut jobs = vec![("mails", label); count];
            jobs.insert(3, ("other", label));
            jobs.insert(5, ("mails", "aborted"));
            let mut bench = Bench::new(&jobs);
            let outcome = bench.perform(change.clone(), matching(Some("mails"), Some(status.clone()))).unwrap();
            assert_eq!((outcome.changed, outcome.skipped), (i64::try_from(count).unwrap(), 0), "{label}");
            let action = &bench.actions()[0];
            assert_eq!((action.changed, action.finished_at.is_some()), (outcome.changed, true), "{label}");
        }
    }
}

#[test]
fn stalled_jobs_are_retried_and_others_are_not() {
    let mut bench = Bench::new(&[("a", "doing"), ("a", "doing"), ("b", "doing"), ("a", "failed")]);
    bench.run("SELECT procrastinate_register_worker_v1(); UPDATE procrastinate_jobs SET worker_id = 1 WHERE id = 2");
    let stalled = |queue: Option<&str>| {
        let filter = JobFilter { queue: queue.map(str::to_owned), ..JobFilter::default() };
        Targets::Matching(JobSelection { filter, are_stalled: true })
    };
    assert_eq!(bench.perform(RETRY, stalled(Some("a"))).unwrap().changed, 1);
    assert_eq!(bench.perform(RETRY, stalled(None)).unwrap().changed, 1);
    assert_eq!((bench.jobs(JobStatus::Todo), bench.jobs(JobStatus::Doing)), (vec![1, 3], vec![2]));
    let targets: Vec<_> = bench.actions().into_iter().map(|action| action.target).collect();
    assert_eq!(targets, ["stalled jobs", "stalled jobs with queue=a"]);
}

#[test]
fn jobs_are_changed_by_id_once_each_and_in_order() {
    let mut bench = Bench::new(&[("a", "todo"); 10]);
    bench.run("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 7");
    bench.refuse(9, "P0001");
    let outcome = bench.perform(Change::Queue("b".to_owned()), ids([9, 1, 7, 2, 3, 1, 4, 99, 5, 6, 8, 10])).unwrap();
    let problems = vec!["job 9: no (SQLSTATE P0001)".to_owned()];
    assert_eq!(outcome, BulkOutcome { action_id: 1, changed: 8, skipped: 2, refused: 1, problems });
    let some = |ids: &[i64]| ids.iter().copied().map(Some).collect::<Vec<_>>();
    assert_eq!(bench.steps(), [some(&[1, 2, 3, 4]), some(&[5, 6, 8]), some(&[10])]);
    let action = &bench.actions()[0];
    assert_eq!((action.target.as_str(), &action.details), ("11 jobs", &json!({ "queue": "b" })));
    assert_eq!(action.problem.as_deref(), Some("job 9: no (SQLSTATE P0001)"));
    // None at all is an action, too.
    assert_eq!(bench.perform(Change::Cancel, ids([])).unwrap().changed, 0);
    assert!(bench.actions()[0].finished_at.is_some());
}

#[test]
fn a_job_that_was_seen_with_another_status_is_skipped() {
    let mut bench = Bench::new(&[("a", "failed"), ("a", "todo"), ("a", "failed")]);
    let targets = Targets::IdsWithStatus([1, 2, 3].map(JobId::from).to_vec(), JobStatus::Failed);
    let outcome = bench.perform(Change::Delete, targets).unwrap();
    assert_eq!((outcome.changed, outcome.skipped, bench.jobs(JobStatus::Todo)), (2, 1, vec![2]));
    assert_eq!(bench.actions()[0].target, "jobs 1, 2, 3");
}

#[test]
fn a_failure_in_the_middle_keeps_the_former_steps_and_is_recorded() {
    let mut bench = Bench::new(&[("a", "todo"); 10]);
    bench.refuse(6, "57014");
    let error = bench.perform(Change::Cancel, matching(Some("a"), None)).unwrap_err();
    assert_eq!(error.to_string(), "could not change the jobs: no");
    assert_eq!(bench.jobs(JobStatus::Cancelled), [1, 2, 3, 4]);
    let action = &bench.actions()[0];
    assert_eq!((action.changed, action.finished_at.is_some()), (4, true));
    assert_eq!(action.problem.as_deref(), Some("could not change the jobs: no"));
}

#[test]
fn invalid_values_change_and_record_nothing() {
    let mut bench = Bench::new(&[("a", "todo")]);
    let nul = || "\0".to_owned();
    let late = DateTime::from_timestamp(1 << 40, 0).unwrap();
    for (change, targets, rule) in [
        (Change::Delete, matching(Some("a"), None), "must be given to delete jobs"),
        (Change::Queue(String::new()), ids([1]), "must not be empty"),
        (Change::Retry { at: None, priority: None, queue: Some(nul()) }, ids([1]), "NUL"),
        (Change::Reschedule { at: late }, ids([1]), "1970 to 9999"),
        (Change::Cancel, matching(Some("\0"), None), "NUL"),
    ] {
        let error = bench.perform(change, targets).unwrap_err().to_string();
        assert!(error.contains(rule), "{error}");
    }
    let bulk = BulkChange { change: Change::Cancel, targets: ids([1]), actor: nul(), selected: None, newest: None };
    complete(bulk.perform(&mut Blocking(&mut bench.connection))).unwrap_err();
    assert_eq!(bench.actions(), []);
    assert_eq!(bench.jobs(JobStatus::Todo), [1]);
}

#[test]
fn the_options_of_a_change_are_recorded() {
    let at = "2030-01-01T08:00:00.5Z".parse().unwrap();
    let retry = Change::Retry { at: Some(at), priority: Some(-1), queue: Some("slow".to_owned()) };
    assert_eq!(retry.details(), json!({ "at": "2030-01-01T08:00:00.500Z", "priority": -1, "queue": "slow" }));
    assert_eq!(Change::Reschedule { at }.details(), json!({ "at": "2030-01-01T08:00:00.500Z" }));
    assert_eq!(Change::Delete.details(), json!({}));
    assert_eq!(ids([7]).describe(), "job 7");
    assert_eq!(ids([7, 8]).describe(), "jobs 7, 8");
    assert_eq!(matching(None, None).describe(), "all jobs");
}

#[test]
fn no_plan_of_a_step_reads_more_than_it_needs() {
    use diesel::sql_types::BigInt;
    #[derive(Debug, QueryableByName)]
    struct Reads {
        #[diesel(sql_type = BigInt)]
        scans: i64,
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let reads = |connection: &mut PgConnection| {
        let query = "SELECT coalesce(seq_scan, 0) AS scans, coalesce(idx_tup_fetch, 0) AS rows
                     FROM pg_stat_xact_user_tables WHERE relname = 'procrastinate_jobs'";
        diesel::sql_query(query).get_result::<Reads>(connection).unwrap()
    };
    // The jobs to change are the newest ones.
    let mut bench = Bench::new(&[("a", "succeeded")]);
    for (label, count) in [("succeeded", 30_000), ("failed", 40), ("doing", 20), ("todo", 40)] {
        bench.run(&format!(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)
             SELECT 'a', 't', '{label}', NULL FROM generate_series(1, {count})"
        ));
    }
    for prepare in ["SET plan_cache_mode = force_generic_plan", "SET plan_cache_mode = force_custom_plan", "ANALYZE"] {
        bench.run(prepare);
        for (status, change) in [
            (JobStatus::Failed, Change::Delete),
            (JobStatus::Doing, Change::Abort),
            (JobStatus::Todo, Change::Priority(1)),
        ] {
            bench.run("BEGIN");
            let before = reads(&mut bench.connection);
            let bulk = BulkChange {
                change,
                targets: matching(Some("a"), Some(status)),
                actor: "a".into(),
                selected: None,
                newest: None,
            };
            let size = StepSize { jobs: 10, read: 1_000 };
            let changed = complete(bulk.perform_in_steps(size, &mut Blocking(&mut bench.connection))).unwrap().changed;
            let after = reads(&mut bench.connection);
            bench.run("ROLLBACK");
            assert!(changed >= 20, "{changed}");
            assert!(after.scans == before.scans && after.rows - before.rows < 1_000, "{before:?} {after:?} {prepare}");
        }
    }
}

fn pause() -> Record {
    let (actor, target) = ("anna".to_owned(), "queue mails".to_owned());
    Record { actor, action: "pause", target, details: json!({ "reason": "x" }) }
}

#[test]
fn actions_are_listed_by_pages_and_by_job() {
    let mut bench = Bench::new(&[("a", "todo"); 3]);
    for priority in 1..=4 {
        bench.perform(Change::Priority(priority), ids([1, i64::from(priority % 2) + 2])).unwrap();
    }
    assert_eq!(complete(record(pause(), &mut Blocking(&mut bench.connection))).unwrap(), 5);
    let mut page = |beyond| {
        let actions = complete(list_actions(beyond, 2, &mut Blocking(&mut bench.connection))).unwrap();
        actions.into_iter().map(|action| action.id).collect::<Vec<_>>()
    };
    assert_eq!(page(Beyond::Nothing), [5, 4]);
    assert_eq!(page(Beyond::Before(4)), [3, 2]);
    assert_eq!(page(Beyond::Before(1)), [0; 0]);
    assert_eq!(page(Beyond::After(1)), [3, 2]);
    assert_eq!(page(Beyond::After(4)), [5]);
    let mut on_job = |id: i64, before| {
        let mut run = Blocking(&mut bench.connection);
        let actions = complete(list_actions_on_job(id.into(), before, 3, &mut run)).unwrap();
        actions.into_iter().map(|action| action.id).collect::<Vec<_>>()
    };
    assert_eq!((on_job(1, None), on_job(1, Some(2))), (vec![4, 3, 2], vec![1]));
    assert_eq!((on_job(2, None), on_job(3, None)), (vec![4, 2], vec![3, 1]));
    let on_job = ProcrastinateAction::query().filter(ProcrastinateAction::on_job(3_i64)).count();
    assert_eq!(on_job.get_result(&mut bench.connection), Ok(2));
    let by = |actor| ProcrastinateAction::query().filter(ProcrastinateAction::by(actor)).count();
    assert_eq!(by("anna").get_result(&mut bench.connection), Ok(5));
    assert_eq!(by("bob").get_result(&mut bench.connection), Ok(0));
}

/// Executes an operation and records it.
async fn execute_recorded<O: Operation>(
    operation: O,
    what: Record,
    connection: &mut Connection,
) -> Result<O::Output, Error> {
    let work = async |connection: &mut Connection| operation.execute_pooled(connection).await;
    Ok(recorded(what, connection, work).await?.1)
}

#[tokio::test]
async fn an_operation_and_its_record_are_done_together_or_not_at_all() {
    let mut bench = Bench::new(&[("mails", "todo")]);
    for pooled in [bench.connect().await, bench.connect().await.without_prepared_statements()] {
        let mut connection = Connection::Pooled(pooled);
        execute_recorded(pause_queue("mails").by("anna"), pause(), &mut connection).await.unwrap();
        let error = execute_recorded(retry_job(99), pause(), &mut connection).await.unwrap_err();
        assert!(matches!(error, Error::JobNotFound { .. }), "{error}");
        let nameless = Record { actor: "\0".to_owned(), ..pause() };
        execute_recorded(pause_queue("other"), nameless, &mut connection).await.unwrap_err();
        assert!(!connection.is_in_transaction() && !connection.is_discarded());
    }
    assert_eq!(bench.actions().len(), 2);
    // The record is refused, so the queue is not paused.
    bench.run("ALTER TABLE procrastinate_diesel_actions ADD CHECK (id < 0) NOT VALID");
    let mut connection = Connection::Pooled(bench.connect().await);
    execute_recorded(pause_queue("other"), pause(), &mut connection).await.unwrap_err();
    let paused = procrastinate_schema::schema::procrastinate_diesel_flow_controls::table.count();
    assert_eq!(paused.get_result(&mut bench.connection), Ok(1_i64));
}

#[tokio::test]
async fn a_change_through_a_pool_without_prepared_statements_is_the_same() {
    let mut bench = Bench::new(&[("a", "todo"); 10]);
    let mut connection = Connection::Pooled(bench.connect().await.without_prepared_statements());
    let bulk = BulkChange {
        change: Change::Cancel,
        targets: matching(Some("a"), None),
        actor: "a".into(),
        selected: None,
        newest: None,
    };
    assert_eq!(bulk.perform(&mut connection).await.unwrap().changed, 10);
    assert_eq!(bench.steps().len(), 1);
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_queue_in_memory_is_refused() {
    let mut connection = Connection::InMemory(crate::database::in_memory::Memory::default().connect());
    let bulk =
        BulkChange { change: Change::Cancel, targets: ids([1]), actor: "a".into(), selected: None, newest: None };
    let error = bulk.perform(&mut connection).await.unwrap_err();
    assert!(format!("{error:?}").contains("the admin pages need PostgreSQL"), "{error:?}");
    execute_recorded(pause_queue("a"), pause(), &mut connection).await.unwrap_err();
    assert_eq!(list_flow_controls().execute_pooled(&mut connection).await.unwrap(), []);
}
