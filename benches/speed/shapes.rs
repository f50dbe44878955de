//! Other jobs that are in the tables during a measurement.

use crate::table::number;
use crate::tasks::TEXT;

/// The queues of a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queues {
    One,
    Ten,
    All,
}

impl Queues {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one queue",
            Self::Ten => "ten queues",
            Self::All => "all queues",
        }
    }

    /// Returns their names. `None` means all queues.
    pub(crate) fn names(self) -> Option<Vec<String>> {
        match self {
            Self::One => Some(vec!["work-0".to_owned()]),
            Self::Ten => Some((0..10).map(|n| format!("work-{n}")).collect()),
            Self::All => None,
        }
    }

    /// Returns the queue of job `n`, in SQL.
    pub(crate) fn of_job(self) -> &'static str {
        if self == Self::One { "'work-0'" } else { "'work-' || n % 10" }
    }
}

const EVERY: &[Queues] = &[Queues::One, Queues::Ten, Queues::All];

/// A kind of other jobs.
pub(crate) struct Shape {
    pub(crate) name: String,
    /// SQL that inserts them.
    pub(crate) fill: String,
    /// The workers for which they can make a difference.
    pub(crate) queues: &'static [Queues],
    /// Whether these jobs themselves are processed, instead of others.
    pub(crate) is_due: bool,
}

/// Returns all kinds, with this many rows in the largest. Jobs that are processed themselves are as many as that takes.
pub(crate) fn shapes(rows: u32, processed: u32) -> Vec<Shape> {
    let locked = processed.max(rows / 10);
    let due = processed.max(rows);
    let count = |rows: u32| number(rows.into());
    let mut shapes = vec![
        Shape {
            name: format!("{} finished", count(rows)),
            fill: finished(1, rows, "now() - interval '1 hour'"),
            queues: &[Queues::One],
            is_due: false,
        },
        Shape {
            name: format!("{} scheduled for tomorrow", count(rows)),
            fill: pending(rows, "'work-0'", "NULL", "now() + interval '1 day' + n * interval '1 ms'"),
            queues: EVERY,
            is_due: false,
        },
        Shape {
            name: format!("{} of another queue, with earlier IDs", count(rows)),
            fill: pending(rows, "'other'", "NULL", "NULL"),
            queues: &[Queues::One, Queues::Ten],
            is_due: false,
        },
    ];
    shapes.extend([rows / 50, rows / 5].map(|rows| Shape {
        name: format!("{} with earlier IDs, blocked by one lock", count(rows)),
        fill: format!("{};\n{HOLD}", pending(rows, "'work-0'", "'held'", "NULL")),
        queues: EVERY,
        is_due: false,
    }));
    shapes.extend([
        Shape {
            name: format!("{} due, each with a different lock", count(locked)),
            fill: pending(locked, "'work-0'", "'lock ' || n", "NULL"),
            queues: EVERY,
            is_due: true,
        },
        Shape {
            name: format!("{} scheduled, all due", count(due)),
            fill: pending(due, "'work-0'", "NULL", "now() - interval '1 hour' + n * interval '1 ms'"),
            queues: EVERY,
            is_due: true,
        },
    ]);
    shapes
}

/// Starts the first job with a lock, for a worker that never counts as stalled.
const HOLD: &str = "
    WITH worker AS (
        INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 day') RETURNING id)
    UPDATE procrastinate_jobs SET status = 'doing', worker_id = worker.id
    FROM worker
    WHERE procrastinate_jobs.id = (SELECT min(id) FROM procrastinate_jobs)";

/// Returns SQL that inserts pending jobs with their events. The arguments are SQL expressions of the number `n`.
fn pending(rows: u32, queue: &str, lock: &str, scheduled_at: &str) -> String {
    format!(
        r#"WITH inserted AS (
               INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock, scheduled_at)
               SELECT {queue}, 'counted', jsonb_build_object('a', n, 'b', '{TEXT}'), {lock}, {scheduled_at}
               FROM generate_series(1, {rows}) AS n
               RETURNING id, scheduled_at)
           INSERT INTO procrastinate_events (job_id, type, at)
           SELECT id, 'deferred'::procrastinate_job_event_type, now() FROM inserted
           UNION ALL
           SELECT id, 'scheduled', scheduled_at FROM inserted WHERE scheduled_at IS NOT NULL"#
    )
}

/// Returns SQL that inserts succeeded jobs with their events, numbered from `first` to `last`. `at` is an SQL expression
/// of the number `n` for the time of the latest event.
pub(crate) fn finished(first: u32, last: u32, at: &str) -> String {
    format!(
        r#"WITH inserted AS (
               INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts)
               SELECT 'work-0', 'counted', jsonb_build_object('a', n, 'b', '{TEXT}'), 'succeeded', 1
               FROM generate_series({first}, {last}) AS n
               RETURNING id, (args ->> 'a')::integer AS n)
           INSERT INTO procrastinate_events (job_id, type, at)
           SELECT id, type, {at} + (step - 3) * interval '1 second'
           FROM inserted,
                unnest('{{deferred, started, succeeded}}'::procrastinate_job_event_type[])
                    WITH ORDINALITY AS event (type, step)"#
    )
}
