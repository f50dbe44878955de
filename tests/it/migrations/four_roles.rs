//! Four roles share a queue: one migrates, one defers, one works, and one looks. Each has only the grants that the guide
//! lists for it.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::job_manager::{cancel_job, get_stalled_jobs, list_jobs, list_queues};
use procrastinate::migrations::{MIGRATIONS, check_contract, run_pending_migrations};
use procrastinate::models::ProcrastinateEvent;
use procrastinate::{App, Deferred, DieselConnector, IfEnqueued, JobStatus, batch_defer_blocking, task};
use throwaway_postgres::Database;

use crate::support::{connect, database, empty_database, rows, sql, statuses, superuser, try_rows};

#[task]
async fn greet(name: String) {
    let _ = name;
}

struct Roles<'a> {
    database: &'a Database,
    /// The roles of all databases are one list, so each name has this part.
    suffix: String,
}

impl<'a> Roles<'a> {
    fn create(database: &'a Database) -> Self {
        let suffix = database.name()[database.name().len() - 16..].to_owned();
        let roles = Self { database, suffix };
        let [migrates, defers, works, looks] = ["migrates", "defers", "works", "looks"].map(|role| roles.name(role));
        sql(
            &mut superuser(database),
            &format!(
                "CREATE ROLE {migrates}; CREATE ROLE {defers}; CREATE ROLE {works}; CREATE ROLE {looks};
                 CREATE SCHEMA queue AUTHORIZATION {migrates}"
            ),
        );
        roles
    }

    fn name(&self, role: &str) -> String {
        format!("{role}_{}", self.suffix)
    }

    fn url(&self, role: &str) -> String {
        let url = self.database.superuser_url();
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}options=-csearch_path%3Dqueue%20-crole%3D{}", self.name(role))
    }

    fn connect(&self, role: &str) -> PgConnection {
        let mut connection = PgConnection::establish(&self.url(role)).unwrap();
        let is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
        assert_eq!(rows(&mut connection, is_superuser), ["false"]);
        connection
    }
}

impl Drop for Roles<'_> {
    fn drop(&mut self) {
        for role in ["looks", "works", "defers", "migrates"].map(|role| self.name(role)) {
            // Nobody could act on a failure here.
            let _ = superuser(self.database).batch_execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
        }
    }
}

/// The grants of the guide, in the words of SQL.
fn grants(roles: &Roles<'_>) -> String {
    let [defers, works, looks] = ["defers", "works", "looks"].map(|role| roles.name(role));
    format!(
        "GRANT USAGE ON SCHEMA queue TO {defers}, {works}, {looks};

         GRANT INSERT, SELECT (id, queue_name, queueing_lock, status, scheduled_at) ON procrastinate_jobs TO {defers};
         GRANT SELECT, INSERT, UPDATE ON procrastinate_diesel_keyed_jobs TO {defers};
         GRANT INSERT ON procrastinate_events TO {defers};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA queue TO {defers};
         GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_diesel_job_options, procrastinate_diesel_unique_keys
             TO {defers};
         GRANT INSERT (kind, name), UPDATE (changed_at) ON procrastinate_diesel_flow_controls TO {defers};

         GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers,
             procrastinate_workers, procrastinate_diesel_job_errors, procrastinate_diesel_schedules,
             procrastinate_diesel_job_options, procrastinate_diesel_unique_keys TO {works};
         GRANT INSERT (kind, name), UPDATE (changed_at), DELETE ON procrastinate_diesel_flow_controls TO {works};
         GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_diesel_limit_states, procrastinate_diesel_limit_keys,
             procrastinate_diesel_keyed_jobs TO {works};
         GRANT SELECT, UPDATE ON procrastinate_diesel_priority_ageings TO {works};
         GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_diesel_actions, procrastinate_diesel_action_jobs TO {works};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA queue TO {works};

         GRANT SELECT ON procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers,
             procrastinate_workers, procrastinate_diesel_job_errors, procrastinate_diesel_schedules, procrastinate_diesel_actions,
             procrastinate_diesel_action_jobs TO {looks}"
    )
}

/// The grant for replacing pending jobs.
fn grant_to_replace(roles: &Roles<'_>) -> String {
    let columns = "queue_name, task_name, priority, lock, args, scheduled_at";
    format!("GRANT UPDATE ({columns}) ON procrastinate_jobs TO {}", roles.name("defers"))
}

async fn app(url: &str) -> App {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    let pool = Pool::builder().max_size(3).build(manager).await.unwrap();
    App::builder(DieselConnector::new(pool)).task::<greet>().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_does_its_part_and_no_more() {
    let database = empty_database();
    let roles = Roles::create(&database);
    let mut migrates = roles.connect("migrates");
    run_pending_migrations(&mut migrates, MIGRATIONS).unwrap();
    check_contract(&mut migrates).unwrap();
    sql(&mut migrates, &grants(&roles));

    let mut defers = roles.connect("defers");
    let job = || greet("Ada".to_owned());
    job().defer_blocking(&mut defers).unwrap();
    let held = job().queueing_lock("once").lock("one").defer_unless_enqueued_blocking(&mut defers).unwrap().unwrap();
    assert!(job().queueing_lock("once").defer_unless_enqueued_blocking(&mut defers).unwrap().is_none());
    batch_defer_blocking([job(), job().schedule_in(Duration::from_secs(3_600))], &mut defers).unwrap();
    app(&roles.url("defers")).await.defer(job()).await.unwrap();
    let error = batch_defer_blocking([job(), job().queueing_lock("once")], &mut defers).unwrap_err();
    assert!(error.to_string().contains("\"once\""), "{error}");
    let error = cancel_job(held).execute_blocking(&mut defers).unwrap_err().to_string();
    assert!(error.contains("permission denied for table procrastinate_jobs"), "{error}");
    assert!(try_rows(&mut defers, "SELECT id FROM procrastinate_events").is_err());
    for column in ["args", "task_name", "lock"] {
        assert!(try_rows(&mut defers, &format!("SELECT {column} FROM procrastinate_jobs")).is_err(), "{column}");
    }
    // Replacing a pending job needs one more grant.
    let replace = || job().queueing_lock("once").if_enqueued(IfEnqueued::Replace);
    let error = replace().defer_blocking(&mut defers).unwrap_err().to_string();
    assert!(error.contains("permission denied for table procrastinate_jobs"), "{error}");
    sql(&mut migrates, &grant_to_replace(&roles));
    assert_eq!(replace().defer_detailed_blocking(&mut defers).unwrap(), Deferred::Replaced(held));
    assert!(try_rows(&mut defers, "SELECT args FROM procrastinate_jobs").is_err());
    // A job that must start by some time. It cannot be told from a pause by the rights, but by a rule of the table.
    job().start_within(Duration::from_secs(3_600)).queueing_lock("late").defer_blocking(&mut defers).unwrap();
    let replace = job().queueing_lock("late").if_enqueued(IfEnqueued::Replace);
    replace.start_within(Duration::from_secs(7_200)).defer_blocking(&mut defers).unwrap();
    let pause = "SELECT procrastinate_diesel_pause_v1('queue', 'default')";
    assert!(try_rows(&mut defers, pause).unwrap_err().to_string().contains("permission denied"));
    let by_contract =
        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('default', 'greet', 0, NULL, 'twice', '{\"name\": \"Grace\"}',
        now() + interval '1 day')::procrastinate_job_to_defer_v1])::text";
    try_rows(&mut defers, by_contract).unwrap();

    let app = app(&roles.url("works")).await;
    app.worker().install_signal_handlers(false).stop_when_empty().run().await.unwrap();

    let mut looks = roles.connect("looks");
    assert_eq!(statuses(&mut looks).iter().filter(|status| **status == JobStatus::Succeeded).count(), 5);
    assert_eq!(list_jobs().execute_blocking(&mut looks).unwrap().len(), 7);
    assert_eq!(list_queues().execute_blocking(&mut looks).unwrap().len(), 1);
    assert!(get_stalled_jobs().execute_blocking(&mut looks).unwrap().is_empty());
    assert!(!ProcrastinateEvent::query().load::<ProcrastinateEvent>(&mut looks).unwrap().is_empty());
    let error = job().defer_blocking(&mut looks).unwrap_err().to_string();
    assert!(error.contains("permission denied for table procrastinate_jobs"), "{error}");
}

#[test]
fn the_grants_of_the_guide_are_those_of_the_test() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let guide: Vec<&str> = page.split("```sql\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    let words = |sql: &str| sql.replace(';', " ").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let database = empty_database();
    let roles = Roles::create(&database);
    for (guide, grants) in guide.into_iter().zip([grants(&roles), grant_to_replace(&roles)]) {
        assert_eq!(words(guide), words(&grants.replace(&format!("_{}", roles.suffix), "")));
    }
}

#[test]
fn no_function_runs_with_the_rights_of_its_owner() {
    let database = database();
    let functions = "SELECT count(*) > 20, count(*) FILTER (WHERE prosecdef) FROM pg_proc
        WHERE starts_with(proname, 'procrastinate_')";
    assert_eq!(rows(&mut connect(&database), functions), ["true | 0"]);
}

#[test]
fn a_role_without_the_grants_for_limits_obeys_pauses() {
    let database = empty_database();
    let roles = Roles::create(&database);
    let mut migrates = roles.connect("migrates");
    run_pending_migrations(&mut migrates, MIGRATIONS).unwrap();
    sql(&mut migrates, &grants(&roles));
    sql(
        &mut migrates,
        &format!(
            "REVOKE ALL ON procrastinate_diesel_limit_states FROM {};
             INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('paused', 'greet'), ('default', 'greet');
             SELECT procrastinate_diesel_pause_v1('queue', 'paused')",
            roles.name("works")
        ),
    );
    let mut works = roles.connect("works");
    let fetch = "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)";
    assert_eq!(rows(&mut works, fetch), ["2"]);
    assert_eq!(rows(&mut works, fetch), ["NULL"]);
    sql(
        &mut migrates,
        "SELECT procrastinate_diesel_set_limit_v1('queue', 'paused', 1, NULL, NULL);
                        SELECT procrastinate_diesel_resume_v1('queue', 'paused')",
    );
    let error = try_rows(&mut works, fetch).unwrap_err().to_string();
    assert!(error.contains("permission denied for table procrastinate_diesel_limit_states"), "{error}");
}

#[test]
fn a_role_without_the_grants_for_ageing_looks_in_vain_and_one_with_them_ages() {
    let database = empty_database();
    let roles = Roles::create(&database);
    let mut migrates = roles.connect("migrates");
    run_pending_migrations(&mut migrates, MIGRATIONS).unwrap();
    sql(&mut migrates, &grants(&roles));
    let age = "SELECT queue_name, has_more FROM procrastinate_diesel_age_priorities_v1()";
    let [mut works, mut looks] = ["works", "looks"].map(|role| roles.connect(role));
    for connection in [&mut works, &mut looks] {
        assert_eq!(rows(connection, age), ["NULL | false"]);
        let error = try_rows(connection, "SELECT procrastinate_diesel_set_ageing_v1('default', 60, 1, 5)").unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{error}");
    }
    sql(
        &mut migrates,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'greet');
         SELECT procrastinate_diesel_set_ageing_v1('default', 60, 1, 5);
         UPDATE procrastinate_diesel_priority_ageings SET last_aged_at = now() - interval '1 minute', last_job_id = 1",
    );
    let error = try_rows(&mut looks, age).unwrap_err().to_string();
    assert!(error.contains("permission denied for table procrastinate_diesel_priority_ageings"), "{error}");
    assert_eq!(rows(&mut works, age), ["default | false"]);
    assert_eq!(rows(&mut works, "SELECT priority FROM procrastinate_jobs"), ["1"]);
}

#[test]
fn a_role_without_the_grants_for_options_starts_no_job_too_late() {
    let database = empty_database();
    let roles = Roles::create(&database);
    let mut migrates = roles.connect("migrates");
    run_pending_migrations(&mut migrates, MIGRATIONS).unwrap();
    sql(&mut migrates, &grants(&roles));
    sql(
        &mut migrates,
        &format!(
            "REVOKE ALL ON procrastinate_diesel_job_options, procrastinate_diesel_flow_controls FROM {works};
             INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'greet'), ('default', 'greet');
             SELECT procrastinate_diesel_store_options_v1('{{1}}', '{{new}}', '{{fail}}', ARRAY[now()], '{{NULL}}')",
            works = roles.name("works")
        ),
    );
    let mut works = roles.connect("works");
    let fetch = "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)";
    assert_eq!(rows(&mut works, fetch), ["2"]);
    assert_eq!(rows(&mut works, fetch), ["NULL"]);
    assert_eq!(rows(&mut migrates, "SELECT expired FROM procrastinate_diesel_tend_job_options_v1(0)"), ["1"]);
}

#[test]
fn a_role_that_works_can_change_jobs_and_record_it_and_one_that_looks_can_read_that() {
    let database = empty_database();
    let roles = Roles::create(&database);
    let mut migrates = roles.connect("migrates");
    run_pending_migrations(&mut migrates, MIGRATIONS).unwrap();
    sql(&mut migrates, &grants(&roles));
    sql(
        &mut migrates,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'greet'), ('default', 'greet');
         INSERT INTO procrastinate_diesel_actions (at, actor, action, target) VALUES ('2001-01-01', 'bob', 'retry', 'job 1')",
    );
    let [mut works, mut looks] = ["works", "looks"].map(|role| roles.connect(role));
    let begin = "SELECT action_id FROM procrastinate_diesel_begin_action_v1('anna', 'delete', 'job 1', NULL, 1)";
    let step = |action: &str, job: i64| {
        format!(
            "SELECT changed FROM procrastinate_diesel_change_some_jobs_v1(
                 {action}, '{{{job}}}', true, 'delete', NULL, NULL, NULL, NULL)"
        )
    };
    // Without the right to delete them, the role keeps old actions.
    let delete = format!("DELETE ON procrastinate_diesel_actions FROM {}", roles.name("works"));
    sql(&mut migrates, &format!("REVOKE {delete}"));
    let action = rows(&mut works, begin).remove(0);
    assert_eq!(rows(&mut works, &step(&action, 1)), ["1"]);
    let actors = "SELECT actor FROM procrastinate_diesel_actions ORDER BY id";
    assert_eq!(rows(&mut looks, actors), ["bob", "anna"]);
    sql(&mut migrates, &grants(&roles));
    let action = rows(&mut works, begin).remove(0);
    assert_eq!(rows(&mut works, &step(&action, 2)), ["1"]);
    assert_eq!(rows(&mut looks, actors), ["anna", "anna"]);
    let on_job = "SELECT count(*) FROM procrastinate_diesel_actions_on_job_v1(2, NULL, 9)";
    assert_eq!(rows(&mut looks, on_job), ["1"]);
    for statement in [begin.to_owned(), step("3", 2)] {
        let error = try_rows(&mut looks, &statement).unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{error}");
    }
}

#[test]
fn roles_that_could_defer_and_work_before_can_do_so_with_all_options() {
    let database = empty_database();
    let roles = Roles::create(&database);
    let mut migrates = roles.connect("migrates");
    run_pending_migrations(&mut migrates, MIGRATIONS).unwrap();
    let [defers, works] = ["defers", "works"].map(|role| roles.name(role));
    let tables = "procrastinate_jobs, procrastinate_events";
    sql(
        &mut migrates,
        &format!(
            "GRANT USAGE ON SCHEMA queue TO {defers}, {works};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA queue TO {defers}, {works};
             GRANT INSERT, SELECT ON {tables} TO {defers}; GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {works}"
        ),
    );
    // The tables of the queue were there, with their grants, before the migrations that add the options.
    for migration in procrastinate::migrations::SQL_MIGRATIONS.iter().rev() {
        if migration.name < "00000000031006" {
            break;
        }
        sql(&mut migrates, migration.down);
        let version = migration.name.split('_').next().unwrap();
        sql(&mut migrates, &format!("DELETE FROM __diesel_schema_migrations WHERE version = '{version}'"));
    }
    run_pending_migrations(&mut migrates, MIGRATIONS).unwrap();
    let job = greet("Ada".to_owned()).start_within(Duration::from_secs(3_600));
    job.defer_blocking(&mut roles.connect("defers")).unwrap();
    sql(&mut migrates, "UPDATE procrastinate_diesel_job_options SET start_before = now()");
    assert_eq!(rows(&mut roles.connect("works"), "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), ["NULL"]);
    assert_eq!(rows(&mut migrates, "SELECT status FROM procrastinate_jobs"), ["cancelled"]);
}
