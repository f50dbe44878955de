//! The models: queried alone, joined with each other and with an application's own tables, sync and async.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use procrastinate::models::{
    ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError, ProcrastinatePeriodicDefer, ProcrastinateWorker,
};
use procrastinate::schema::{
    procrastinate_diesel_job_errors, procrastinate_events, procrastinate_jobs, procrastinate_periodic_defers,
    procrastinate_workers,
};
use procrastinate::{JobEventType, JobId, JobStatus, configure_task};
use serde_json::json;

use crate::support::{connect, database, pool, sql};

diesel::table! {
    orders (id) {
        id -> BigInt,
        customer -> Text,
        job_id -> Nullable<BigInt>,
    }
}
diesel::joinable!(orders -> procrastinate_jobs (job_id));
procrastinate::allow_with_procrastinate!(orders);

/// A table as the Diesel CLI writes them, in a module, is named by its path.
mod schema {
    diesel::table! {
        customers (id) { id -> BigInt, job_id -> Nullable<BigInt>, }
    }
    diesel::table! {
        invoices (id) { id -> BigInt, job_id -> Nullable<BigInt>, }
    }
}
diesel::joinable!(schema::customers -> procrastinate_jobs (job_id));
procrastinate::allow_with_procrastinate!(schema::customers, crate::database::models::schema::invoices);

#[derive(Debug, PartialEq, Queryable, Selectable, Identifiable, Associations)]
#[diesel(table_name = orders, belongs_to(ProcrastinateJob, foreign_key = job_id))]
struct Order {
    id: i64,
    customer: String,
    job_id: Option<i64>,
}

#[test]
fn tables_in_a_module_are_allowed_by_their_paths() {
    use schema::{customers, invoices};
    let customers = customers::table.inner_join(procrastinate_jobs::table).select(ProcrastinateJob::as_select());
    let invoices = invoices::table
        .inner_join(procrastinate_jobs::table.on(invoices::job_id.eq(procrastinate_jobs::id.nullable())))
        .select(ProcrastinateJob::as_select());
    for sql in [
        diesel::debug_query::<diesel::pg::Pg, _>(&customers).to_string(),
        diesel::debug_query::<diesel::pg::Pg, _>(&invoices).to_string(),
    ] {
        assert!(sql.contains("INNER JOIN"), "{sql}");
    }
}

/// A worker, three jobs of which it has one, an order of Ada's for the first and one of Grace's for none.
fn fill(connection: &mut PgConnection) -> [JobId; 3] {
    sql(
        connection,
        "CREATE TABLE orders (
            id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
            customer text NOT NULL,
            job_id bigint REFERENCES procrastinate_jobs (id) ON DELETE SET NULL)",
    );
    let job = |name: &str| configure_task(name, json!({ "order": 1 }));
    let ids = [
        job("send").queue("mails").lock("customer-7").queueing_lock("mail-1").defer_blocking(connection).unwrap(),
        job("bill").defer_blocking(connection).unwrap(),
        job("bill").defer_blocking(connection).unwrap(),
    ];
    sql(connection, "SELECT procrastinate_fetch_job_v2('{mails}', (SELECT procrastinate_register_worker_v1()))");
    diesel::insert_into(orders::table)
        .values([
            (orders::customer.eq("Ada"), orders::job_id.eq(Some(ids[0]))),
            (orders::customer.eq("Grace"), orders::job_id.eq(None)),
        ])
        .execute(connection)
        .unwrap();
    ids
}

#[test]
fn fragments_find_jobs_by_each_of_their_properties() {
    let database = database();
    let mut connection = connect(&database);
    let [first, second, third] = fill(&mut connection).map(i64::from);
    macro_rules! ids {
        ($fragment:expr) => {
            ProcrastinateJob::query()
                .filter($fragment)
                .order(ProcrastinateJob::newest_first())
                .load(&mut connection)
                .unwrap()
                .into_iter()
                .map(|job| job.id)
                .collect::<Vec<_>>()
        };
    }
    assert_eq!(ids!(ProcrastinateJob::has_id(JobId::from(second))), [second]);
    assert_eq!(ids!(ProcrastinateJob::has_status(JobStatus::Todo)), [third, second]);
    assert_eq!(ids!(ProcrastinateJob::in_queue("mails")), [first]);
    assert_eq!(ids!(ProcrastinateJob::of_task("bill")), [third, second]);
    assert_eq!(ids!(ProcrastinateJob::has_lock("customer-7")), [first]);
    assert_eq!(ids!(ProcrastinateJob::has_queueing_lock("mail-1")), [first]);
    assert_eq!(
        ids!(ProcrastinateJob::of_task("bill").and(ProcrastinateJob::in_queue("default"))),
        [third, second],
        "fragments combine"
    );
    let waiting = ProcrastinateJob::query().filter(ProcrastinateJob::has_status(JobStatus::Todo)).count();
    assert_eq!(waiting.get_result::<i64>(&mut connection), Ok(2));
}

#[test]
fn relations_lead_from_workers_to_jobs_to_events_and_back() {
    let database = database();
    let mut connection = connect(&database);
    let [first, ..] = fill(&mut connection);
    let worker: ProcrastinateWorker = ProcrastinateWorker::query().first(&mut connection).unwrap();
    let job: ProcrastinateJob =
        ProcrastinateJob::belonging_to(&worker).select(ProcrastinateJob::as_select()).first(&mut connection).unwrap();
    assert_eq!((first, job.status.clone()), (job.id.into(), JobStatus::Doing));

    let events: Vec<ProcrastinateEvent> = ProcrastinateEvent::belonging_to(&job)
        .select(ProcrastinateEvent::as_select())
        .order(ProcrastinateEvent::oldest_first())
        .load(&mut connection)
        .unwrap();
    let labels: Vec<_> = events.iter().filter_map(|event| event.event_type.clone()).collect();
    assert_eq!(labels, [JobEventType::Deferred, JobEventType::Started]);

    let workers: Vec<(i64, Option<ProcrastinateWorker>)> = procrastinate_jobs::table
        .left_join(procrastinate_workers::table)
        .inner_join(procrastinate_events::table)
        .filter(procrastinate_events::type_.eq(JobEventType::Deferred))
        .order(procrastinate_jobs::id)
        .select((procrastinate_jobs::id, Option::<ProcrastinateWorker>::as_select()))
        .load(&mut connection)
        .unwrap();
    assert_eq!(workers, [(1, Some(worker)), (2, None), (3, None)]);
}

#[test]
fn jobs_come_with_their_events_in_one_query_or_in_two() {
    let database = database();
    let mut connection = connect(&database);
    let ids = fill(&mut connection);
    sql(&mut connection, &format!("DELETE FROM procrastinate_events WHERE job_id = {}", ids[2]));
    let rows: Vec<(ProcrastinateJob, Option<ProcrastinateEvent>)> = procrastinate_jobs::table
        .left_join(procrastinate_events::table)
        .order((ProcrastinateJob::newest_first(), ProcrastinateEvent::oldest_first()))
        .select((ProcrastinateJob::as_select(), Option::<ProcrastinateEvent>::as_select()))
        .load(&mut connection)
        .unwrap();
    let mut in_one: Vec<(ProcrastinateJob, Vec<ProcrastinateEvent>)> = Vec::new();
    for (job, event) in rows {
        match in_one.last_mut() {
            Some((last, events)) if last.id == job.id => events.extend(event),
            _ => in_one.push((job, event.into_iter().collect())),
        }
    }
    let counts: Vec<_> = in_one.iter().map(|(job, events)| (JobId::from(job.id), events.len())).collect();
    assert_eq!(counts, [(ids[2], 0), (ids[1], 1), (ids[0], 2)]);

    let jobs: Vec<ProcrastinateJob> =
        ProcrastinateJob::query().order(ProcrastinateJob::newest_first()).load(&mut connection).unwrap();
    let events: Vec<ProcrastinateEvent> = ProcrastinateEvent::belonging_to(&jobs)
        .select(ProcrastinateEvent::as_select())
        .order(ProcrastinateEvent::oldest_first())
        .load(&mut connection)
        .unwrap();
    let events = events.grouped_by(&jobs);
    assert_eq!(jobs.into_iter().zip(events).collect::<Vec<_>>(), in_one);
}

#[test]
fn the_last_error_of_each_job_is_one_query() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error)
         VALUES (1, 1, 'no answer'), (1, 2, 'no such address'), (2, 1, 'no money'), (3, 1, 'not asked for')",
    );
    let jobs: Vec<ProcrastinateJob> =
        ProcrastinateJob::query().filter(procrastinate_jobs::id.le(2)).load(&mut connection).unwrap();
    let errors: Vec<ProcrastinateJobError> = ProcrastinateJobError::belonging_to(&jobs)
        .select(ProcrastinateJobError::as_select())
        .distinct_on(procrastinate_diesel_job_errors::job_id)
        .order((procrastinate_diesel_job_errors::job_id, ProcrastinateJobError::newest_first()))
        .load(&mut connection)
        .unwrap();
    assert_eq!(errors.iter().map(|error| error.error.as_str()).collect::<Vec<_>>(), ["no such address", "no money"]);
}

#[test]
fn a_periodic_defer_leads_to_its_job() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        r#"SELECT procrastinate_defer_periodic_job_v2('q', NULL, NULL, 't', 0, 'nightly', 1000, '{"timestamp": 1000}')"#,
    );
    let (tick, job): (ProcrastinatePeriodicDefer, ProcrastinateJob) = procrastinate_periodic_defers::table
        .inner_join(procrastinate_jobs::table)
        .select((ProcrastinatePeriodicDefer::as_select(), ProcrastinateJob::as_select()))
        .first(&mut connection)
        .unwrap();
    assert_eq!((tick.defer_timestamp, tick.periodic_id.as_str(), tick.job_id), (Some(1000), "nightly", Some(job.id)));
    assert_eq!(job.to_string(), "t[1](timestamp=1000)");
    assert_eq!(ProcrastinatePeriodicDefer::belonging_to(&job).count().get_result(&mut connection), Ok(1_i64));
}

#[test]
fn an_applications_table_joins_with_jobs_and_belongs_to_them() {
    let database = database();
    let mut connection = connect(&database);
    fill(&mut connection);
    let joined: Vec<(Order, Option<ProcrastinateJob>)> = orders::table
        .left_join(procrastinate_jobs::table)
        .select((Order::as_select(), Option::<ProcrastinateJob>::as_select()))
        .order(orders::id)
        .load(&mut connection)
        .unwrap();
    let summary: Vec<_> = joined
        .iter()
        .map(|(order, job)| (order.customer.as_str(), job.as_ref().map(|job| job.status.as_str())))
        .collect();
    assert_eq!(summary, [("Ada", Some("doing")), ("Grace", None)]);

    let nested: Vec<(String, Option<JobEventType>)> = orders::table
        .inner_join(procrastinate_jobs::table.inner_join(procrastinate_events::table))
        .filter(ProcrastinateJob::in_queue("mails"))
        .order(procrastinate_events::id)
        .select((orders::customer, procrastinate_events::type_))
        .load(&mut connection)
        .unwrap();
    assert_eq!(nested.len(), 2);

    let jobs: Vec<ProcrastinateJob> =
        ProcrastinateJob::query().order(procrastinate_jobs::id).load(&mut connection).unwrap();
    let orders: Vec<Order> = Order::belonging_to(&jobs).select(Order::as_select()).load(&mut connection).unwrap();
    let grouped = orders.grouped_by(&jobs);
    assert_eq!(grouped.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
    assert_eq!(grouped[0][0].id, 1);
}

#[tokio::test]
async fn the_same_queries_load_on_an_async_connection() {
    let database = database();
    fill(&mut connect(&database));
    let pool = pool(&database).await;
    let query = ProcrastinateJob::query().filter(ProcrastinateJob::of_task("bill"));
    let jobs: Vec<ProcrastinateJob> =
        diesel_async::RunQueryDsl::load(query, &mut pool.get().await.unwrap()).await.unwrap();
    assert_eq!(jobs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["bill[2](order=1)", "bill[3](order=1)"]);
}

#[test]
fn an_unknown_label_can_be_read_and_filtered() {
    let database = database();
    let mut connection = connect(&database);
    let [first, ..] = fill(&mut connection);
    sql(&mut connection, "ALTER TYPE procrastinate_job_status ADD VALUE 'paused'");
    sql(&mut connection, "ALTER TYPE procrastinate_job_event_type ADD VALUE 'reviewed'");
    sql(&mut connection, &format!("UPDATE procrastinate_jobs SET status = 'paused' WHERE id = {first}"));
    sql(
        &mut connection,
        &format!("INSERT INTO procrastinate_events (job_id, type) VALUES ({first}, 'reviewed'), ({first}, NULL)"),
    );

    let paused = JobStatus::Unknown("paused".to_owned());
    let job: ProcrastinateJob =
        ProcrastinateJob::query().filter(ProcrastinateJob::has_status(paused.clone())).first(&mut connection).unwrap();
    assert_eq!((job.id.into(), job.status), (first, paused));
    let events: Vec<ProcrastinateEvent> = ProcrastinateEvent::query()
        .filter(ProcrastinateEvent::of_job(first))
        .order(procrastinate_events::id.desc())
        .limit(2)
        .load(&mut connection)
        .unwrap();
    assert_eq!(events[0].event_type, None);
    assert_eq!(events[1].event_type, Some(JobEventType::Unknown("reviewed".to_owned())));
}

/// The ids of the jobs that these filters find, smallest first.
macro_rules! ids_where {
    ($connection:expr, $($filter:expr),+) => {
        ProcrastinateJob::query()
            $( .filter($filter) )+
            .order(ProcrastinateJob::oldest_first())
            .load($connection)
            .unwrap()
            .into_iter()
            .map(|job: ProcrastinateJob| job.id)
            .collect::<Vec<i64>>()
    };
}

#[test]
fn scheduled_jobs_are_found_by_their_time_and_others_are_not() {
    let database = database();
    let mut connection = connect(&database);
    let noon: DateTime<Utc> = "2030-01-01T12:00:00Z".parse().unwrap();
    let job = |minutes: i64| configure_task("t", json!({})).schedule_at(noon + TimeDelta::minutes(minutes));
    for minutes in [-1, 0, 1] {
        job(minutes).defer_blocking(&mut connection).unwrap();
    }
    configure_task("t", json!({})).defer_blocking(&mut connection).unwrap();
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::scheduled_before(noon)), [1]);
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::scheduled_after(noon)), [3]);
}

#[test]
fn stalled_jobs_are_running_and_their_worker_is_gone_or_missed_its_heartbeats() {
    let database = database();
    let mut connection = connect(&database);
    let limit: DateTime<Utc> = "2030-01-01T12:00:00Z".parse().unwrap();
    sql(
        &mut connection,
        "INSERT INTO procrastinate_workers (last_heartbeat)
         VALUES ('2030-01-01T11:59:59Z'), ('2030-01-01T12:00:00Z');
         INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id) VALUES
             ('q', 't', 'doing', 1), ('q', 't', 'doing', 2), ('q', 't', 'doing', NULL), ('q', 't', 'succeeded', 1),
             ('q', 't', 'todo', NULL)",
    );
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::stalled(limit)), [1, 3]);
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::of_worker(1)), [1, 4]);
    assert_eq!(
        ids_where!(&mut connection, ProcrastinateJob::of_worker(1), ProcrastinateJob::stalled(limit)),
        [1],
        "fragments combine"
    );
    let others = diesel::dsl::not(ProcrastinateJob::stalled(limit)).and(ProcrastinateJob::in_queue("q"));
    assert_eq!(ids_where!(&mut connection, others), [2, 4, 5]);
}

#[test]
fn a_job_has_finished_before_a_time_when_its_newest_event_is_older() {
    let database = database();
    let mut connection = connect(&database);
    let limit: DateTime<Utc> = "2030-01-01T12:00:00Z".parse().unwrap();
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES
             ('q', 'old', 'succeeded'), ('q', 'at the limit', 'failed'), ('q', 'old', 'cancelled'), ('q', 'old', 'aborted'),
             ('q', 'retried since', 'failed'), ('q', 'without events', 'succeeded'), ('q', 'undated', 'succeeded'),
             ('q', 'still running', 'doing');
         DELETE FROM procrastinate_events;
         INSERT INTO procrastinate_events (job_id, type, at)
         SELECT id, 'started', '2030-01-01T11:59:59Z' FROM procrastinate_jobs WHERE id <> 6;
         INSERT INTO procrastinate_events (job_id, type, at)
         VALUES (2, 'failed', '2030-01-01T12:00:00Z'), (5, 'retried', '2030-01-02T00:00:00Z'), (7, NULL, NULL)",
    );
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::finished_before(limit)), [1, 3, 4]);
    let succeeded = ProcrastinateJob::has_status(JobStatus::Succeeded);
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::finished_before(limit), succeeded), [1]);
}

#[test]
fn a_job_is_pending_since_a_time_when_it_could_have_started_then() {
    let database = database();
    let mut connection = connect(&database);
    let limit: DateTime<Utc> = "2030-01-01T12:00:00Z".parse().unwrap();
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, scheduled_at) VALUES
             ('q', 'deferred', 'todo', NULL), ('q', 'deferred later', 'todo', NULL), ('q', 'running', 'doing', NULL),
             ('q', 'due', 'todo', '2030-01-01T12:00:00Z'), ('q', 'not due', 'todo', '2030-01-01T12:00:01Z'),
             ('q', 'retried later', 'todo', NULL), ('q', 'rescheduled', 'todo', '2030-01-01T11:00:00Z'),
             ('q', 'without events', 'todo', NULL), ('q', 'abort requested later', 'todo', NULL);
         DELETE FROM procrastinate_events;
         INSERT INTO procrastinate_events (job_id, type, at)
         SELECT id, 'deferred', CASE id WHEN 2 THEN '2030-01-01T12:00:01Z' ELSE '2030-01-01T11:59:59Z' END::timestamptz
         FROM procrastinate_jobs WHERE id <> 8;
         INSERT INTO procrastinate_events (job_id, type, at)
         VALUES (6, 'deferred_for_retry', '2030-01-01T12:00:01Z'), (7, 'scheduled', '2030-02-01T00:00:00Z'),
                (9, 'abort_requested', '2030-01-01T13:00:00Z')",
    );
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::pending_since(limit)), [1, 4, 7, 9]);
    assert_eq!(ids_where!(&mut connection, ProcrastinateJob::deferred_before(limit)), [1, 3, 4, 5, 6, 7, 9]);
    let others = diesel::dsl::not(ProcrastinateJob::pending_since(limit)).and(ProcrastinateJob::in_queue("q"));
    assert_eq!(ids_where!(&mut connection, others), [2, 3, 5, 6, 8]);
}

#[test]
fn conditions_on_other_tables_can_be_used_in_a_join_with_them() {
    let database = database();
    let mut connection = connect(&database);
    let [first, ..] = fill(&mut connection);
    sql(&mut connection, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'");
    let customers: Vec<String> = orders::table
        .inner_join(procrastinate_jobs::table.left_join(procrastinate_workers::table))
        .filter(ProcrastinateJob::stalled(Utc::now() - TimeDelta::seconds(30)))
        .select(orders::customer)
        .load(&mut connection)
        .unwrap();
    assert_eq!(customers, ["Ada"]);

    sql(&mut connection, &format!("SELECT procrastinate_finish_job_v1({first}, 'succeeded', false)"));
    let events: i64 = procrastinate_jobs::table
        .inner_join(procrastinate_events::table)
        .filter(ProcrastinateJob::finished_before(Utc::now() + TimeDelta::days(1)))
        .count()
        .get_result(&mut connection)
        .unwrap();
    assert_eq!(events, 3);
}

#[tokio::test]
async fn conditions_load_on_an_async_connection_and_find_the_latest_event_of_each_job() {
    let database = database();
    let [first, second, _] = fill(&mut connect(&database));
    let pool = pool(&database).await;
    let mut connection = pool.get().await.unwrap();
    let in_an_hour = Utc::now() + TimeDelta::hours(1);
    let stalled = ProcrastinateJob::query().filter(ProcrastinateJob::stalled(in_an_hour));
    let stalled: Vec<ProcrastinateJob> = diesel_async::RunQueryDsl::load(stalled, &mut connection).await.unwrap();
    assert_eq!(stalled.iter().map(|job| JobId::from(job.id)).collect::<Vec<_>>(), [first]);

    let latest = ProcrastinateEvent::query()
        .filter(procrastinate_events::job_id.le(i64::from(second)))
        .distinct_on(procrastinate_events::job_id)
        .order((procrastinate_events::job_id, ProcrastinateEvent::newest_first()));
    let latest: Vec<ProcrastinateEvent> = diesel_async::RunQueryDsl::load(latest, &mut connection).await.unwrap();
    let labels: Vec<_> = latest.into_iter().filter_map(|event| event.event_type).collect();
    assert_eq!(labels, [JobEventType::Started, JobEventType::Deferred]);
    let deferred = ProcrastinateEvent::query().filter(ProcrastinateEvent::of_type(JobEventType::Deferred)).count();
    assert_eq!(diesel_async::RunQueryDsl::get_result::<i64>(deferred, &mut connection).await, Ok(3));
}
