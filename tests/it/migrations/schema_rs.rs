//! `schema.rs` is what a migrated database looks like to Diesel.

use diesel::prelude::*;

use crate::support::{connect, database, rows, sql};

const SCHEMA_RS: &str = include_str!("../../../schema/src/schema.rs");

/// The lines of `schema.rs` that describe tables, as `table (primary key)` and `table.column -> type`, in their order.
///
/// The name of a column is the one in the database, and a type's greatest length is put in brackets behind it. The enum
/// types have their names in the database.
fn described(schema_rs: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut table = String::new();
    let (mut sql_name, mut max_length) = (None, None);
    let mut postgres_type = "";
    let mut enums = Vec::new();
    for line in schema_rs.lines().map(str::trim) {
        if let Some(name) = between(line, "#[diesel(postgres_type(name = \"", "\"))]") {
            postgres_type = name;
        } else if let Some(name) = between(line, "pub struct ", ";") {
            enums.push((name, postgres_type));
        } else if let Some(name) = between(line, "#[sql_name = \"", "\"]") {
            sql_name = Some(name);
        } else if let Some(length) = between(line, "#[max_length = ", "]") {
            max_length = Some(length);
        } else if let Some((name, key)) = line.strip_suffix(") {").and_then(|line| line.split_once(" (")) {
            table = name.to_owned();
            lines.push(format!("{table} ({key})"));
        } else if let Some((name, sql_type)) = line.strip_suffix(',').and_then(|line| line.split_once(" -> ")) {
            let length = max_length.take().map(|length| format!("({length})")).unwrap_or_default();
            lines.push(format!("{table}.{} -> {sql_type}{length}", sql_name.take().unwrap_or(name)));
        }
    }
    let with_database_name = |line: String| enums.iter().fold(line, |line, (ours, theirs)| line.replace(ours, theirs));
    lines.into_iter().map(with_database_name).collect()
}

fn between<'a>(line: &'a str, start: &str, end: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix(end)
}

/// The same lines, from the database.
fn found(connection: &mut PgConnection) -> Vec<String> {
    rows(
        connection,
        r"
        WITH tables AS (
            SELECT oid, relname FROM pg_class WHERE relname LIKE 'procrastinate\_%' AND relkind = 'r'),
        columns AS (
            SELECT tables.relname,
                   field.attnum,
                   field.attname,
                   field.attnotnull,
                   CASE field.atttypid::regtype::text
                       WHEN 'bigint' THEN 'Int8'
                       WHEN 'integer' THEN 'Int4'
                       WHEN 'boolean' THEN 'Bool'
                       WHEN 'double precision' THEN 'Float8'
                       WHEN 'text' THEN 'Text'
                       WHEN 'jsonb' THEN 'Jsonb'
                       WHEN 'character varying' THEN 'Varchar'
                       WHEN 'timestamp with time zone' THEN 'Timestamptz'
                       WHEN 'timestamp with time zone[]' THEN 'Array<Nullable<Timestamptz>>'
                       WHEN 'bigint[]' THEN 'Array<Nullable<Int8>>'
                       WHEN 'integer[]' THEN 'Array<Nullable<Int4>>'
                       WHEN 'text[]' THEN 'Array<Nullable<Text>>'
                       ELSE field.atttypid::regtype::text
                   END AS sql_type,
                   substring(format_type(field.atttypid, field.atttypmod) FROM '\(.*\)') AS length
            FROM tables JOIN pg_attribute AS field ON field.attrelid = tables.oid
            WHERE field.attnum > 0 AND NOT field.attisdropped)
        SELECT line FROM (
            SELECT tables.relname, 0 AS place,
                   format('%s (%s)', tables.relname,
                          (SELECT string_agg(key.attname, ', ' ORDER BY key.attnum)
                           FROM pg_index JOIN pg_attribute AS key ON key.attrelid = pg_index.indexrelid
                           WHERE pg_index.indrelid = tables.oid AND pg_index.indisprimary)) AS line
            FROM tables
          UNION ALL
            SELECT relname, attnum,
                   format('%s.%s -> ' || CASE WHEN attnotnull THEN '%s' ELSE 'Nullable<%s>' END || '%s',
                          relname, attname, sql_type, length)
            FROM columns) AS lines
        ORDER BY relname, place",
    )
}

/// What one side has and the other has not, and `order` if the same lines are in another order.
fn differences(described: &[String], found: &[String]) -> Vec<String> {
    let only = |side: &str, here: &[String], there: &[String]| -> Vec<String> {
        here.iter().filter(|line| !there.contains(line)).map(|line| format!("only in {side}: {line}")).collect()
    };
    let differences = [only("schema.rs", described, found), only("the database", found, described)].concat();
    if differences.is_empty() && described != found { vec!["order".to_owned()] } else { differences }
}

#[test]
fn schema_rs_describes_a_migrated_database() {
    let database = database();
    let found = found(&mut connect(&database));
    assert!(found.len() >= 5 + 30, "{found:?}");
    assert_eq!(differences(&described(SCHEMA_RS), &found), [""; 0]);
}

#[test]
fn a_change_in_schema_rs_is_noticed() {
    let database = database();
    let found = found(&mut connect(&database));
    for (from, to) in [
        ("priority -> Int4", "priority -> Int8"),
        ("attempts -> Int4,", ""),
        ("args -> Jsonb", "args -> Nullable<Jsonb>"),
        ("scheduled_at -> Nullable<Timestamptz>", "scheduled_at -> Timestamptz"),
        ("last_heartbeat", "heartbeat"),
        ("lock -> Nullable<Text>,", "lock -> Nullable<Text>,\nextra -> Text,"),
        ("#[max_length = 128]", ""),
        ("#[sql_name = \"type\"]", ""),
        ("postgres_type(name = \"procrastinate_job_status\")", "postgres_type(name = \"status\")"),
        ("status -> ProcrastinateJobStatus", "status -> ProcrastinateJobEventType"),
        ("procrastinate_workers (id)", "procrastinate_workers (last_heartbeat)"),
        ("attempts -> Int4,\n        abort_requested -> Bool,", "abort_requested -> Bool,\n        attempts -> Int4,"),
    ] {
        let changed = SCHEMA_RS.replace(from, to);
        assert_ne!(changed, SCHEMA_RS, "{from}");
        assert_ne!(differences(&described(&changed), &found), [""; 0], "{from}");
    }
}

#[test]
fn a_change_in_the_database_is_noticed() {
    let database = database();
    let mut connection = connect(&database);
    for change in [
        "ALTER TABLE procrastinate_jobs ALTER priority TYPE bigint",
        "ALTER TABLE procrastinate_jobs ALTER queue_name TYPE text",
        "ALTER TABLE procrastinate_jobs ALTER task_name TYPE varchar(200)",
        "ALTER TABLE procrastinate_jobs ALTER args DROP NOT NULL",
        "ALTER TABLE procrastinate_jobs ALTER lock SET NOT NULL",
        "ALTER TABLE procrastinate_jobs ADD COLUMN extra text",
        "ALTER TABLE procrastinate_jobs DROP COLUMN queueing_lock",
        "ALTER TABLE procrastinate_jobs DROP COLUMN attempts, ADD COLUMN attempts integer NOT NULL",
        "ALTER TABLE procrastinate_workers RENAME last_heartbeat TO heartbeat",
        "ALTER TABLE procrastinate_events ALTER at TYPE timestamp",
        "ALTER TYPE procrastinate_job_status RENAME TO status",
        "ALTER TABLE procrastinate_events DROP CONSTRAINT procrastinate_events_pkey",
        "CREATE TABLE procrastinate_extra (id bigint PRIMARY KEY)",
        "DROP TABLE procrastinate_events",
    ] {
        sql(&mut connection, &format!("BEGIN; {change}"));
        assert_ne!(differences(&described(SCHEMA_RS), &found(&mut connection)), [""; 0], "{change}");
        sql(&mut connection, "ROLLBACK");
    }
}

#[test]
fn the_order_of_columns_counts() {
    let lines = ["a", "b"].map(str::to_owned);
    let other_order = ["b", "a"].map(str::to_owned);
    assert_eq!(differences(&lines, &other_order), ["order"]);
    assert_eq!(differences(&lines, &lines[..1]), ["only in schema.rs: b"]);
}
