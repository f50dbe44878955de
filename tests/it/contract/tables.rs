//! Types, tables, constraints and indexes.

use serde_json::json;

use super::queue::Queue;

const TABLES: &str = "'procrastinate_workers', 'procrastinate_jobs', 'procrastinate_periodic_defers', \
                      'procrastinate_events'";

#[test]
fn the_labels_of_the_enum_types_have_their_order() {
    let mut queue = Queue::new();
    let labels = queue.rows(
        "SELECT type.typname, string_agg(label.enumlabel, ' ' ORDER BY label.enumsortorder)
         FROM pg_type AS type JOIN pg_enum AS label ON label.enumtypid = type.oid
         GROUP BY type.typname ORDER BY type.typname",
    );
    assert_eq!(
        labels,
        [
            "procrastinate_job_event_type | deferred started deferred_for_retry failed succeeded cancelled \
             abort_requested aborted scheduled retried",
            "procrastinate_job_status | todo doing succeeded failed cancelled aborting aborted",
        ]
    );
}

#[test]
fn a_job_to_defer_has_its_fields_in_their_order() {
    let mut queue = Queue::new();
    let fields = queue.rows(
        "SELECT field.attname, format_type(field.atttypid, field.atttypmod)
         FROM pg_class AS class JOIN pg_attribute AS field ON field.attrelid = class.oid
         WHERE class.relname = 'procrastinate_job_to_defer_v1' AND class.relkind = 'c'
         ORDER BY field.attnum",
    );
    assert_eq!(
        fields,
        [
            "queue_name | character varying",
            "task_name | character varying",
            "priority | integer",
            "lock | text",
            "queueing_lock | text",
            "args | jsonb",
            "scheduled_at | timestamp with time zone",
        ]
    );
}

#[test]
fn every_column_has_its_type_its_nullability_and_its_default() {
    let mut queue = Queue::new();
    let columns = queue.rows(&format!(
        "SELECT class.relname,
                field.attname,
                format_type(field.atttypid, field.atttypmod),
                CASE WHEN field.attnotnull THEN 'not null' ELSE 'nullable' END,
                CASE field.attidentity
                    WHEN 'a' THEN 'always as identity'
                    ELSE coalesce(pg_get_expr(initial.adbin, initial.adrelid), 'none')
                END
         FROM pg_class AS class
             JOIN pg_attribute AS field ON field.attrelid = class.oid
             LEFT JOIN pg_attrdef AS initial ON initial.adrelid = class.oid AND initial.adnum = field.attnum
         WHERE class.relname IN ({TABLES}) AND class.relkind = 'r' AND field.attnum > 0
         ORDER BY class.relname, field.attnum"
    ));
    assert_eq!(
        columns,
        [
            "procrastinate_events | id | bigint | not null | nextval('procrastinate_events_id_seq'::regclass)",
            "procrastinate_events | job_id | bigint | not null | none",
            "procrastinate_events | type | procrastinate_job_event_type | nullable | none",
            "procrastinate_events | at | timestamp with time zone | nullable | now()",
            "procrastinate_jobs | id | bigint | not null | nextval('procrastinate_jobs_id_seq'::regclass)",
            "procrastinate_jobs | queue_name | character varying(128) | not null | none",
            "procrastinate_jobs | task_name | character varying(128) | not null | none",
            "procrastinate_jobs | priority | integer | not null | 0",
            "procrastinate_jobs | lock | text | nullable | none",
            "procrastinate_jobs | queueing_lock | text | nullable | none",
            "procrastinate_jobs | args | jsonb | not null | '{}'::jsonb",
            "procrastinate_jobs | status | procrastinate_job_status | not null | 'todo'::procrastinate_job_status",
            "procrastinate_jobs | scheduled_at | timestamp with time zone | nullable | none",
            "procrastinate_jobs | attempts | integer | not null | 0",
            "procrastinate_jobs | abort_requested | boolean | not null | false",
            "procrastinate_jobs | worker_id | bigint | nullable | none",
            "procrastinate_periodic_defers | id | bigint | not null \
             | nextval('procrastinate_periodic_defers_id_seq'::regclass)",
            "procrastinate_periodic_defers | task_name | character varying(128) | not null | none",
            "procrastinate_periodic_defers | defer_timestamp | bigint | nullable | none",
            "procrastinate_periodic_defers | job_id | bigint | nullable | none",
            "procrastinate_periodic_defers | periodic_id | character varying(128) | not null | ''::character varying",
            "procrastinate_workers | id | bigint | not null | always as identity",
            "procrastinate_workers | last_heartbeat | timestamp with time zone | not null | now()",
        ]
    );
}

#[test]
fn a_dropped_table_takes_its_sequence_along() {
    let mut queue = Queue::new();
    let owners = queue.rows(
        "SELECT pg_get_serial_sequence(name, 'id')
         FROM unnest(ARRAY['procrastinate_jobs', 'procrastinate_events', 'procrastinate_periodic_defers']) AS name",
    );
    assert_eq!(
        owners,
        [
            "public.procrastinate_jobs_id_seq",
            "public.procrastinate_events_id_seq",
            "public.procrastinate_periodic_defers_id_seq",
        ]
    );
}

#[test]
fn the_tables_are_tied_by_keys() {
    let mut queue = Queue::new();
    let keys = queue.rows(&format!(
        "SELECT conrelid::regclass, pg_get_constraintdef(oid)
         FROM pg_constraint
         WHERE conrelid::regclass::text IN ({TABLES}) AND contype IN ('p', 'f', 'u')
         ORDER BY conrelid::regclass::text, 2"
    ));
    assert_eq!(
        keys,
        [
            "procrastinate_events | FOREIGN KEY (job_id) REFERENCES procrastinate_jobs(id) ON DELETE CASCADE",
            "procrastinate_events | PRIMARY KEY (id)",
            "procrastinate_jobs | FOREIGN KEY (worker_id) REFERENCES procrastinate_workers(id) ON DELETE SET NULL",
            "procrastinate_jobs | PRIMARY KEY (id)",
            "procrastinate_periodic_defers | FOREIGN KEY (job_id) REFERENCES procrastinate_jobs(id) ON DELETE SET NULL",
            "procrastinate_periodic_defers | PRIMARY KEY (id)",
            "procrastinate_periodic_defers | UNIQUE (task_name, periodic_id, defer_timestamp)",
            "procrastinate_workers | PRIMARY KEY (id)",
        ]
    );
}

#[test]
fn the_first_of_everything_is_number_one() {
    let mut queue = Queue::new();
    assert_eq!(queue.add(json!([{ "scheduled_at": "tomorrow" }])), [1]);
    assert_eq!(queue.rows("SELECT id FROM procrastinate_events ORDER BY id"), ["1", "2"]);
    assert_eq!(queue.register_worker(), 1);
    queue.run("INSERT INTO procrastinate_periodic_defers (task_name) VALUES ('task')");
    assert_eq!(queue.row("SELECT id FROM procrastinate_periodic_defers"), "1");
}

#[test]
fn a_pending_job_never_has_an_abort_request() {
    let mut queue = Queue::with_jobs(json!([{}]));
    for status in ["doing", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
        queue.add(json!([{ "status": status, "abort_requested": true }]));
    }
    for statement in [
        "UPDATE procrastinate_jobs SET abort_requested = true WHERE id = 1",
        "UPDATE procrastinate_jobs SET status = 'todo' WHERE status = 'failed'",
        "INSERT INTO procrastinate_jobs (queue_name, task_name, abort_requested) VALUES ('default', 'task', true)",
    ] {
        let failure = queue.failure_of(statement);
        assert_eq!(failure.constraint_name(), Some("check_not_todo_abort_requested"), "{statement}");
    }
}

#[test]
fn the_legacy_label_can_be_read() {
    let mut queue = Queue::with_jobs(json!([{ "status": "aborting" }]));
    assert_eq!(queue.job(1, "status"), "aborting");
    assert_eq!(queue.fetch("NULL"), None);
}

#[test]
fn a_queueing_lock_is_held_by_one_pending_job() {
    let mut queue = Queue::with_jobs(json!([{ "queueing_lock": "report (März)" }]));
    let second = "
        INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock)
        VALUES ('other', 'other', 'report (März)')";

    let failure = queue.failure_of(second);

    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_queueing_lock_idx_v1"));
    assert_eq!(failure.table_name(), Some("procrastinate_jobs"));
    assert!(failure.details().unwrap().contains("Key (queueing_lock)=(report (März))"), "{:?}", failure.details());
    for status in ["doing", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
        queue.add(json!([{ "queueing_lock": "report (März)", "status": status }]));
    }
    queue.add(json!([{ "queueing_lock": "another" }, {}, {}]));
    assert_eq!(queue.fetch("NULL"), Some(1));
    queue.run(second);
}

#[test]
fn a_lock_is_held_by_one_running_job() {
    let mut queue = Queue::with_jobs(json!([{ "lock": "customer 7", "status": "doing" }]));
    for status in ["todo", "todo", "succeeded", "failed", "cancelled", "aborting", "aborted"] {
        queue.add(json!([{ "lock": "customer 7", "status": status }]));
    }
    queue.add(json!([{ "lock": "another", "status": "doing" }, { "status": "doing" }, { "status": "doing" }]));

    let failure = queue.failure_of("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 2");

    assert_eq!(failure.constraint_name(), Some("procrastinate_jobs_lock_idx_v1"));
    assert!(failure.details().unwrap().contains("Key (lock)=(customer 7)"), "{:?}", failure.details());
    queue.row("SELECT procrastinate_finish_job_v1(1, 'succeeded', false)");
    queue.run("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 2");
}

#[test]
fn the_indexes_that_clients_know_by_name_are_there() {
    let mut queue = Queue::new();
    // Of the plain ones, only the name, the table and the first column are fixed.
    let indexes = queue.rows(&format!(
        "SELECT index.indexrelid::regclass,
                index.indrelid::regclass,
                pg_get_indexdef(index.indexrelid, 1, true),
                CASE WHEN index.indisunique
                    THEN format('unique of %s where %s', index.indnkeyatts, pg_get_expr(index.indpred, index.indrelid))
                    ELSE 'plain'
                END
         FROM pg_index AS index
         WHERE index.indrelid::regclass::text IN ({TABLES})
           AND index.indexrelid::regclass::text ~ '_v1$|^idx_'
           AND index.indexrelid::regclass::text !~ 'diesel'
           AND index.indisvalid
         ORDER BY index.indexrelid::regclass::text"
    ));
    assert_eq!(
        indexes,
        [
            "idx_procrastinate_jobs_worker_not_null | procrastinate_jobs | worker_id | plain",
            "idx_procrastinate_workers_last_heartbeat | procrastinate_workers | last_heartbeat | plain",
            "procrastinate_events_job_id_fkey_v1 | procrastinate_events | job_id | plain",
            "procrastinate_jobs_id_lock_idx_v1 | procrastinate_jobs | id | plain",
            "procrastinate_jobs_lock_idx_v1 | procrastinate_jobs | lock \
             | unique of 1 where (status = 'doing'::procrastinate_job_status)",
            "procrastinate_jobs_priority_idx_v1 | procrastinate_jobs | priority | plain",
            "procrastinate_jobs_queue_name_idx_v1 | procrastinate_jobs | queue_name | plain",
            "procrastinate_jobs_queueing_lock_idx_v1 | procrastinate_jobs | queueing_lock \
             | unique of 1 where ((status = 'todo'::procrastinate_job_status) AND (queueing_lock IS NOT NULL))",
            "procrastinate_periodic_defers_job_id_fkey_v1 | procrastinate_periodic_defers | job_id | plain",
        ]
    );
}

#[test]
fn a_tick_of_a_periodic_task_is_recorded_once() {
    let mut queue = Queue::new();
    let insert = |task: &str, periodic_id: &str, tick: i64| {
        format!(
            "INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
             VALUES ('{task}', '{periodic_id}', {tick})"
        )
    };
    for tick in [insert("a", "x", 1), insert("b", "x", 1), insert("a", "y", 1), insert("a", "x", 2)] {
        queue.run(&tick);
    }
    let failure = queue.failure_of(&insert("a", "x", 1));
    assert_eq!(failure.constraint_name(), Some("procrastinate_periodic_defers_unique"));
}
