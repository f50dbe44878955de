//! A queue to try the contract on: a database of its own, and a connection to it.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorInformation, Error};
use diesel::sql_types::{BigInt, Jsonb};
use serde_json::Value;
use throwaway_postgres::Database;

use crate::support::{self, PATIENCE};

/// The columns of `procrastinate_jobs` that describe the state of a job.
pub const STANDING: &str = "status, attempts, abort_requested, worker_id";

/// A migrated database without jobs, and a connection to it.
pub struct Queue {
    /// Ends before the database goes.
    pub connection: PgConnection,
    database: Database,
}

impl Queue {
    pub fn new() -> Self {
        let database = support::database();
        Self { connection: connect(&database), database }
    }

    /// A queue with these jobs, numbered from 1; see [`add`](Self::add).
    pub fn with_jobs(jobs: Value) -> Self {
        let mut queue = Self::new();
        queue.add(jobs);
        queue
    }

    /// As new, with these jobs: quicker than another database where a test looks at many cases.
    pub fn start_over(&mut self, jobs: Value) {
        self.run(
            "TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers, procrastinate_workers,
                 procrastinate_diesel_job_errors, procrastinate_diesel_flow_controls,
                 procrastinate_diesel_limit_states, procrastinate_diesel_limit_keys, procrastinate_diesel_keyed_jobs,
                 procrastinate_diesel_priority_ageings, procrastinate_diesel_job_options,
                 procrastinate_diesel_unique_keys, procrastinate_diesel_actions, procrastinate_diesel_action_jobs
             RESTART IDENTITY",
        );
        self.add(jobs);
    }

    /// One more connection to the same database.
    pub fn another_connection(&self) -> PgConnection {
        connect(&self.database)
    }

    /// Inserts jobs, an array of objects whose members are columns, and returns their ids. A time may be written as
    /// PostgreSQL reads it: `"tomorrow"`, `"infinity"`.
    pub fn add(&mut self, jobs: Value) -> Vec<i64> {
        #[derive(QueryableByName)]
        struct Inserted {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        let insert = "
            INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, status,
                                            scheduled_at, attempts, abort_requested, worker_id)
            SELECT coalesce(queue_name, 'default'), coalesce(task_name, 'task'), coalesce(priority, 0), lock,
                   queueing_lock, coalesce(args, '{}'), coalesce(status, 'todo'), scheduled_at,
                   coalesce(attempts, 0), coalesce(abort_requested, false), worker_id
            FROM jsonb_populate_recordset(NULL::procrastinate_jobs, $1)
            RETURNING id";
        let inserted = diesel::sql_query(insert).bind::<Jsonb, _>(&jobs).load::<Inserted>(&mut self.connection);
        inserted.unwrap_or_else(|error| panic!("{error}: {jobs}")).into_iter().map(|row| row.id).collect()
    }

    /// Enters a worker.
    pub fn register_worker(&mut self) -> i64 {
        self.row("SELECT worker_id FROM procrastinate_register_worker_v1()").parse().unwrap()
    }

    /// Runs any number of statements.
    pub fn run(&mut self, statements: &str) {
        support::sql(&mut self.connection, statements);
    }

    /// The rows of a query, each as the texts of its columns with bars between.
    pub fn rows(&mut self, query: &str) -> Vec<String> {
        support::rows(&mut self.connection, query)
    }

    /// The only row of a query.
    pub fn row(&mut self, query: &str) -> String {
        only(self.rows(query))
    }

    /// Columns of a job.
    pub fn job(&mut self, id: i64, columns: &str) -> String {
        self.row(&format!("SELECT {columns} FROM procrastinate_jobs WHERE id = {id}"))
    }

    /// The labels of a job's events, sorted: what one statement writes, it writes in no order.
    pub fn events(&mut self, id: i64) -> Vec<String> {
        self.rows(&format!("SELECT type FROM procrastinate_events WHERE job_id = {id} ORDER BY type::text"))
    }

    /// What the database says against a statement.
    pub fn failure_of(&mut self, statement: &str) -> Box<dyn DatabaseErrorInformation + Send + Sync> {
        match self.connection.batch_execute(statement) {
            Err(Error::DatabaseError(_, information)) => information,
            Err(error) => panic!("not an error of the database: {error}"),
            Ok(()) => panic!("no error from: {statement}"),
        }
    }

    /// Takes a job by the contract's function, for no worker.
    pub fn fetch(&mut self, queues: &str) -> Option<i64> {
        fetch(&mut self.connection, queues)
    }

    /// Does something, and returns its result after undoing it.
    pub fn and_undo<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.run("BEGIN");
        let result = act(self);
        self.run("ROLLBACK");
        result
    }

    /// What a statement does to a job in the state `start`, as `result -> state; events`: the state of the job
    /// afterwards, by [`STANDING`], and the events that were added; or the error. The job's ID is written `$id`.
    pub fn effect(&mut self, start: &Value, statement: &str) -> String {
        // A number that occurs nowhere else.
        self.row("SELECT setval('procrastinate_jobs_id_seq', 7654321, false)");
        self.and_undo(|queue| {
            queue.add(Value::Array(vec![start.clone()]));
            let newest = queue.row("SELECT coalesce(max(id), 0) FROM procrastinate_events");
            let answer = match support::try_rows(&mut queue.connection, &statement.replace("$id", "7654321")) {
                Ok(rows) => only(rows).replace("7654321", "$id"),
                Err(error) => return format!("error: {}", error.to_string().replace("7654321", "$id")),
            };
            let standing = queue.rows(&format!("SELECT {STANDING} FROM procrastinate_jobs WHERE id = 7654321"));
            let standing = standing.first().map_or("gone", String::as_str);
            let events = queue.rows(&format!(
                "SELECT type FROM procrastinate_events WHERE job_id = 7654321 AND id > {newest} ORDER BY type::text"
            ));
            format!("{answer} -> {standing}; {}", events.join(", "))
        })
    }

    /// Listens on these channels from now on.
    pub fn listen(&mut self, channels: &[&str]) {
        for channel in channels {
            self.run(&format!("LISTEN \"{channel}\""));
        }
    }

    /// What came in on the channels since the last call. A connection has its own messages when its transaction ends.
    pub fn notifications(&mut self) -> Vec<(String, String)> {
        self.connection
            .notifications_iter()
            .map(|notification| notification.unwrap())
            .map(|notification| (notification.channel, notification.payload))
            .collect()
    }
}

/// A connection whose statements may wait for long, but not indefinitely: a statement that does is a failure.
fn connect(database: &Database) -> PgConnection {
    let mut connection = support::connect(database);
    support::sql(&mut connection, &format!("SET statement_timeout = {}", PATIENCE.as_millis()));
    connection
}

/// Takes a job on any connection.
pub fn fetch(connection: &mut PgConnection, queues: &str) -> Option<i64> {
    let query = format!("SELECT id FROM procrastinate_fetch_job_v2({queues}, NULL)");
    match only(support::rows(connection, &query)).as_str() {
        "NULL" => None,
        id => Some(id.parse().unwrap()),
    }
}

fn only(rows: Vec<String>) -> String {
    let [row] = <[String; 1]>::try_from(rows).unwrap_or_else(|rows| panic!("not one row but {rows:?}"));
    row
}

/// A query that another connection has been given and that waits for somebody's lock.
pub struct Waiting {
    process: String,
    thread: JoinHandle<QueryResult<Vec<String>>>,
}

impl Waiting {
    /// Starts the query, and returns as soon as it waits.
    pub fn start(queue: &mut Queue, query: &str) -> Self {
        Self::start_on(queue.another_connection(), queue, query)
    }

    /// The same on a connection of its own choice.
    pub fn start_on(mut connection: PgConnection, queue: &mut Queue, query: &str) -> Self {
        let process = only(support::rows(&mut connection, "SELECT pg_backend_pid()"));
        let query = query.to_owned();
        let thread = thread::spawn(move || support::try_rows(&mut connection, &query));
        let waiting = Self { process, thread };
        waiting.wait_again(queue);
        waiting
    }

    /// Returns as soon as the query waits, after what it waited for has come.
    pub fn wait_again(&self, queue: &mut Queue) {
        let start = Instant::now();
        while queue.row(&format!("SELECT cardinality(pg_blocking_pids({}))", self.process)) == "0" {
            assert!(!self.thread.is_finished(), "the query did not wait");
            assert!(start.elapsed() < PATIENCE, "the query neither waits nor ends");
        }
    }

    /// The rows, once the lock is free.
    pub fn rows(self) -> Vec<String> {
        self.result().unwrap()
    }

    /// The rows or the error, once the lock is free.
    pub fn result(self) -> QueryResult<Vec<String>> {
        self.thread.join().unwrap()
    }
}

/// The arrays that a function for many jobs takes, as SQL: one job for each of these queueing locks, or without one
/// where there is `NULL`.
pub(super) fn arrays_of_jobs(queueing_locks: &[&str]) -> String {
    let all = |value: &str| vec![value; queueing_locks.len()].join(", ");
    format!(
        "ARRAY[{queues}]::varchar[], ARRAY[{tasks}]::varchar[], ARRAY[{priorities}]::integer[],
         ARRAY[{nulls}]::text[], ARRAY[{queueing_locks}]::text[], ARRAY[{args}]::jsonb[],
         ARRAY[{nulls}]::timestamptz[]",
        queues = all("'default'"),
        tasks = all("'task'"),
        priorities = all("0"),
        nulls = all("NULL"),
        queueing_locks = queueing_locks.join(", "),
        args = all("'{}'"),
    )
}
