//! A private server, and a large database on it.

use std::time::Instant;

use throwaway_postgres::{Database, Options, Server};
use tokio_postgres::{Client, NoTls};

use crate::Measured;

/// The jobs of two weeks, the newest of them minutes old. One in twenty is pending, with a lock of its own or for a later
/// time; of the others a few have failed or were cancelled. Some of the last fifty run, on workers that count as alive
/// for an hour.
const JOBS: &str = "
    SET session_replication_role = replica;
    INSERT INTO procrastinate_workers (last_heartbeat) SELECT now() + interval '1 hour' FROM generate_series(1, 20);
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock, scheduled_at, status, worker_id, attempts)
    SELECT 'queue-' || n % 40, 'app.task_' || n % 61,
        jsonb_build_object('customer', 'customer ' || n % 100000, 'amount', n),
        CASE WHEN n % 40 = 0 THEN 'lock ' || n / 40 % 100000 END,
        CASE WHEN n % 60 = 0 THEN now() + n % 100000 * interval '1 minute' END,
        (CASE WHEN n % 20 = 0 THEN 'todo' WHEN n > $JOBS - 50 THEN 'doing' WHEN n % 150 = 1 THEN 'failed'
              WHEN n % 300 = 2 THEN 'cancelled' ELSE 'succeeded' END)::procrastinate_job_status,
        CASE WHEN n % 20 <> 0 AND n > $JOBS - 50 THEN 1 + n % 20 END, CASE WHEN n % 20 = 0 THEN 0 ELSE 2 END
    FROM generate_series(1, $JOBS) AS n";

/// Two attempts of each finished job: about five events.
const EVENTS: &str = "
    SET session_replication_role = replica;
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT job.id, event.type::procrastinate_job_event_type,
        now() - (interval '14 days') * (1 - (job.id - 1) / $JOBS::float8) - interval '1 minute'
            + event.seconds * interval '1 second'
    FROM procrastinate_jobs AS job
    CROSS JOIN LATERAL (VALUES
        ('deferred', 0),
        (CASE WHEN job.status <> 'todo' THEN 'started' END, 1 + job.id % 9),
        (CASE WHEN job.status <> 'todo' THEN 'deferred_for_retry' END, 10),
        (CASE WHEN job.status <> 'todo' THEN 'scheduled' END, 20),
        (CASE WHEN job.status <> 'todo' THEN 'started' END, 20 + job.id % 7),
        (CASE WHEN job.status IN ('succeeded', 'failed', 'cancelled') THEN job.status::text END, 30)) AS event (type, seconds)
    WHERE event.type IS NOT NULL
    ORDER BY job.id, event.seconds";

/// A database with many jobs and events.
pub(crate) struct LargeDatabase {
    // Before the server, because it must be dropped first.
    database: Database,
    server: Server,
}

impl LargeDatabase {
    pub(crate) async fn create(jobs: u32) -> Measured<Self> {
        let started_at = Instant::now();
        let options = Options::new()
            .ignore_database_url(true)
            .setting("shared_buffers", "1GB")
            .setting("max_wal_size", "4GB")
            .setting("autovacuum", "on");
        let server = Server::start_with(&options)?;
        let database = server.create_database("pages")?;
        let url = database.url().to_owned();
        tokio::task::spawn_blocking(move || {
            use diesel::Connection;
            let mut connection = diesel::PgConnection::establish(&url)?;
            procrastinate::migrations::run_pending_migrations(&mut connection, procrastinate::migrations::MIGRATIONS)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })
        .await??;
        let large = Self { database, server };
        let client = large.superuser().await?;
        for fill in [JOBS, EVENTS] {
            client.batch_execute(&fill.replace("$JOBS", &jobs.to_string())).await?;
        }
        client.batch_execute("VACUUM ANALYZE procrastinate_jobs, procrastinate_events").await?;
        eprintln!("the jobs were created in {:.0} s", started_at.elapsed().as_secs_f64());
        Ok(large)
    }

    /// The URL of a role that owns the database, and is no superuser.
    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }

    async fn superuser(&self) -> Measured<Client> {
        let (client, connection) = tokio_postgres::connect(self.database.superuser_url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) async fn introduction(&self) -> Measured<String> {
        let row = self
            .superuser()
            .await?
            .query_one(
                "SELECT (SELECT count(*) FROM procrastinate_jobs), (SELECT count(*) FROM procrastinate_events)",
                &[],
            )
            .await?;
        Ok(format!(
            "procrastinate {}, PostgreSQL {} on the same machine, which has {} cores; {}; {} jobs, {} events",
            env!("CARGO_PKG_VERSION"),
            self.server.major_version()?,
            std::thread::available_parallelism()?,
            if cfg!(debug_assertions) { "DEBUG BUILD, not comparable" } else { "release build" },
            row.get::<_, i64>(0),
            row.get::<_, i64>(1),
        ))
    }

    /// The server's processes for the sessions of the pages.
    pub(crate) async fn sessions(&self) -> Measured<Vec<i32>> {
        let query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        Ok(self.superuser().await?.query(query, &[]).await?.iter().map(|row| row.get(0)).collect())
    }
}
