-- Checks what the first schema of search_path holds of Procrastinate. It changes nothing.
--
--   nothing                      nothing is done, and the next migration creates the contract
--   the form of version 3.10     nothing is done: the database is adopted as it is
--   anything else                an error lists every difference
--
-- The program runs this text again whenever it is asked to check the contract.

DO $check$
DECLARE
    differences text;
    number_of_differences bigint;
    looks_like text;
BEGIN

IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_class
        WHERE relname IN ('procrastinate_jobs', 'procrastinate_events', 'procrastinate_periodic_defers',
                          'procrastinate_workers')
          AND relnamespace = quote_ident(current_schema())::regnamespace)
   AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_type
        WHERE typname IN ('procrastinate_job_status', 'procrastinate_job_event_type',
                          'procrastinate_job_to_defer_v1')
          AND typnamespace = quote_ident(current_schema())::regnamespace)
THEN
    RETURN;
END IF;

-- Describe what is there, one line for each object, and compare with the lines of version 3.10.
WITH here AS (
    SELECT quote_ident(current_schema())::regnamespace AS schema),
expected (line) AS (VALUES
    ('type procrastinate_job_status: todo, doing, succeeded, failed, cancelled, aborting, aborted'),
    ('type procrastinate_job_event_type: deferred, started, deferred_for_retry, failed, '
     'succeeded, cancelled, abort_requested, aborted, scheduled, retried'),
    ('type procrastinate_job_to_defer_v1: queue_name character varying, task_name character '
     'varying, priority integer, lock text, queueing_lock text, args jsonb, scheduled_at '
     'timestamp with time zone'),
    ('column procrastinate_workers.id bigint not null default'),
    ('column procrastinate_workers.last_heartbeat timestamp with time zone not null default'),
    ('column procrastinate_jobs.id bigint not null default'),
    ('column procrastinate_jobs.queue_name character varying(128) not null'),
    ('column procrastinate_jobs.task_name character varying(128) not null'),
    ('column procrastinate_jobs.priority integer not null default'),
    ('column procrastinate_jobs.lock text'),
    ('column procrastinate_jobs.queueing_lock text'),
    ('column procrastinate_jobs.args jsonb not null default'),
    ('column procrastinate_jobs.status procrastinate_job_status not null default'),
    ('column procrastinate_jobs.scheduled_at timestamp with time zone'),
    ('column procrastinate_jobs.attempts integer not null default'),
    ('column procrastinate_jobs.abort_requested boolean not null default'),
    ('column procrastinate_jobs.worker_id bigint'),
    ('column procrastinate_periodic_defers.id bigint not null default'),
    ('column procrastinate_periodic_defers.task_name character varying(128) not null'),
    ('column procrastinate_periodic_defers.defer_timestamp bigint'),
    ('column procrastinate_periodic_defers.job_id bigint'),
    ('column procrastinate_periodic_defers.periodic_id character varying(128) not null default'),
    ('column procrastinate_events.id bigint not null default'),
    ('column procrastinate_events.job_id bigint not null'),
    ('column procrastinate_events.type procrastinate_job_event_type'),
    ('column procrastinate_events.at timestamp with time zone default'),
    ('constraint on procrastinate_workers: PRIMARY KEY (id)'),
    ('constraint on procrastinate_jobs: PRIMARY KEY (id)'),
    ('constraint on procrastinate_jobs: FOREIGN KEY (worker_id) REFERENCES '
     'procrastinate_workers(id) ON DELETE SET NULL'),
    ('constraint on procrastinate_periodic_defers: PRIMARY KEY (id)'),
    ('constraint on procrastinate_periodic_defers: UNIQUE (task_name, periodic_id, '
     'defer_timestamp)'),
    ('constraint on procrastinate_periodic_defers: FOREIGN KEY (job_id) REFERENCES '
     'procrastinate_jobs(id)'),
    ('constraint on procrastinate_events: PRIMARY KEY (id)'),
    ('constraint on procrastinate_events: FOREIGN KEY (job_id) REFERENCES '
     'procrastinate_jobs(id) ON DELETE CASCADE'),
    ('check on procrastinate_jobs: check_not_todo_abort_requested'),
    ('unique index procrastinate_jobs_queueing_lock_idx_v1 (queueing_lock) where (status = '
     '''todo''::procrastinate_job_status)'),
    ('unique index procrastinate_jobs_lock_idx_v1 (lock) where (status = '
     '''doing''::procrastinate_job_status)'),
    ('unique index procrastinate_periodic_defers_unique (task_name, periodic_id, defer_timestamp)'),
    ('function procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[]) returns bigint[]'),
    ('function procrastinate_defer_periodic_job_v2(_queue_name character varying, _lock '
     'character varying, _queueing_lock character varying, _task_name character varying, '
     '_priority integer, _periodic_id character varying, _defer_timestamp bigint, _args '
     'jsonb) returns bigint'),
    ('function procrastinate_fetch_job_v2(target_queue_names character varying[], '
     'p_worker_id bigint) returns procrastinate_jobs'),
    ('function procrastinate_finish_job_v1(job_id bigint, end_status '
     'procrastinate_job_status, delete_job boolean) returns void'),
    ('function procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job '
     'boolean) returns bigint'),
    ('function procrastinate_retry_job_v1(job_id bigint, retry_at timestamp with time zone, '
     'new_priority integer, new_queue_name character varying, new_lock character varying) '
     'returns void'),
    ('function procrastinate_retry_job_v2(job_id bigint, retry_at timestamp with time zone, '
     'new_priority integer, new_queue_name character varying, new_lock character varying) '
     'returns void'),
    ('function procrastinate_register_worker_v1() returns TABLE(worker_id bigint)'),
    ('function procrastinate_unregister_worker_v1(worker_id bigint) returns void'),
    ('function procrastinate_update_heartbeat_v1(worker_id bigint) returns void'),
    ('function procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double '
     'precision) returns TABLE(worker_id bigint)'),
    ('trigger procrastinate_jobs_notify_queue_job_inserted_v1: '
     'procrastinate_notify_queue_job_inserted_v1()'),
    ('trigger procrastinate_jobs_notify_queue_job_aborted_v1: '
     'procrastinate_notify_queue_abort_job_v1()'),
    ('trigger procrastinate_trigger_status_events_insert_v1: '
     'procrastinate_trigger_function_status_events_insert_v1()'),
    ('trigger procrastinate_trigger_status_events_update_v1: '
     'procrastinate_trigger_function_status_events_update_v1()'),
    ('trigger procrastinate_trigger_scheduled_events_v1: '
     'procrastinate_trigger_function_scheduled_events_v1()'),
    ('trigger procrastinate_trigger_abort_requested_events_v1: '
     'procrastinate_trigger_abort_requested_events_procedure_v1()'),
    ('trigger procrastinate_trigger_delete_jobs_v1: procrastinate_unlink_periodic_defers_v1()')),
contract_tables AS (
    SELECT class.oid, class.relname
    FROM here JOIN pg_catalog.pg_class AS class ON class.relnamespace = here.schema
    WHERE class.relkind = 'r'
      AND class.relname IN ('procrastinate_workers', 'procrastinate_jobs',
                            'procrastinate_periodic_defers', 'procrastinate_events')),
found (line) AS (
    SELECT format('type %s: %s', type.typname,
                  string_agg(label.enumlabel, ', ' ORDER BY label.enumsortorder))
    FROM here
        JOIN pg_catalog.pg_type AS type ON type.typnamespace = here.schema
        JOIN pg_catalog.pg_enum AS label ON label.enumtypid = type.oid
    GROUP BY type.typname
  UNION ALL
    SELECT format('type %s: %s', class.relname,
                  string_agg(format('%s %s', field.attname, format_type(field.atttypid, field.atttypmod)),
                             ', ' ORDER BY field.attnum))
    FROM here
        JOIN pg_catalog.pg_class AS class ON class.relnamespace = here.schema
        JOIN pg_catalog.pg_attribute AS field ON field.attrelid = class.oid
    WHERE class.relkind = 'c' AND field.attnum > 0 AND NOT field.attisdropped
    GROUP BY class.relname
  UNION ALL
    SELECT format('column %s.%s %s%s%s', contract_tables.relname, field.attname,
                  format_type(field.atttypid, field.atttypmod),
                  CASE WHEN field.attnotnull THEN ' not null' END,
                  CASE WHEN field.atthasdef OR field.attidentity <> '' THEN ' default' END)
    FROM contract_tables JOIN pg_catalog.pg_attribute AS field ON field.attrelid = contract_tables.oid
    WHERE field.attnum > 0 AND NOT field.attisdropped
  UNION ALL
    SELECT format('constraint on %s: %s', contract_tables.relname, CASE
            -- It may unlink a deleted job. A trigger does that anyway.
            WHEN contract_tables.relname = 'procrastinate_periodic_defers'
            THEN regexp_replace(pg_get_constraintdef(constraints.oid), ' ON DELETE SET NULL$', '')
            ELSE pg_get_constraintdef(constraints.oid) END)
    FROM contract_tables
        JOIN pg_catalog.pg_constraint AS constraints ON constraints.conrelid = contract_tables.oid
    WHERE constraints.contype IN ('p', 'u', 'f') AND constraints.convalidated
  UNION ALL
    SELECT format('check on %s: %s', contract_tables.relname, constraints.conname)
    FROM contract_tables
        JOIN pg_catalog.pg_constraint AS constraints ON constraints.conrelid = contract_tables.oid
    WHERE constraints.contype = 'c' AND constraints.convalidated
  UNION ALL
    SELECT format('unique index %s (%s)%s', class.relname,
                  (SELECT string_agg(field.attname, ', ' ORDER BY field.attnum)
                   FROM pg_catalog.pg_attribute AS field WHERE field.attrelid = class.oid),
                  -- The two on locks may leave out the jobs without one.
                  ' where ' || replace(replace(replace(
                      pg_get_expr(index.indpred, index.indrelid), ' AND (queueing_lock IS NOT NULL))', ''),
                      ' AND (lock IS NOT NULL))', ''), '((', '('))
    FROM contract_tables
        JOIN pg_catalog.pg_index AS index ON index.indrelid = contract_tables.oid
        JOIN pg_catalog.pg_class AS class ON class.oid = index.indexrelid
    WHERE index.indisunique AND index.indisvalid
  UNION ALL
    SELECT format('function %s(%s) returns %s', proc.proname, pg_get_function_arguments(proc.oid),
                  pg_get_function_result(proc.oid))
    FROM here JOIN pg_catalog.pg_proc AS proc ON proc.pronamespace = here.schema
    WHERE starts_with(proc.proname::text, 'procrastinate_')
  UNION ALL
    SELECT format('trigger %s: %s()', trigger.tgname, proc.proname)
    FROM contract_tables
        JOIN pg_catalog.pg_trigger AS trigger ON trigger.tgrelid = contract_tables.oid
        JOIN pg_catalog.pg_proc AS proc ON proc.oid = trigger.tgfoid
    WHERE contract_tables.relname = 'procrastinate_jobs'
      AND NOT trigger.tgisinternal AND trigger.tgenabled IN ('O', 'A')),
unexpected (line) AS (
    -- A second signature would make the calls of clients ambiguous.
    SELECT found.line FROM found
    WHERE found.line LIKE 'function %'
      AND found.line NOT IN (SELECT expected.line FROM expected)
      AND EXISTS (
            SELECT FROM expected
            WHERE split_part(expected.line, '(', 1) = split_part(found.line, '(', 1))
  UNION ALL
    SELECT found.line FROM found
    WHERE starts_with(found.line, 'function procrastinate_diesel_')
      AND (SELECT count(*) FROM found AS other
           WHERE split_part(other.line, '(', 1) = split_part(found.line, '(', 1)) > 1
  UNION ALL
    -- A second trigger would do the work of the first one twice. One that is disabled counts as
    -- well: pg_dump --disable-triggers enables it.
    SELECT format('trigger %s on %s: %s()', trigger.tgname, contract_tables.relname, proc.proname)
    FROM contract_tables
        JOIN pg_catalog.pg_trigger AS trigger ON trigger.tgrelid = contract_tables.oid
        JOIN pg_catalog.pg_proc AS proc ON proc.oid = trigger.tgfoid
    WHERE NOT trigger.tgisinternal AND trigger.tgname <> 'procrastinate_diesel_note_unscheduled_job_v1'
      AND (starts_with(proc.proname::text, 'procrastinate_diesel_')
           OR EXISTS (SELECT FROM expected WHERE expected.line LIKE 'trigger %: ' || proc.proname || '()'))
      AND NOT (contract_tables.relname = 'procrastinate_jobs' AND EXISTS (
                SELECT FROM expected WHERE starts_with(expected.line, format('trigger %s:', trigger.tgname))))),
difference (line) AS (
    SELECT 'missing or different: ' || expected.line
    FROM expected WHERE expected.line NOT IN (SELECT found.line FROM found)
  UNION ALL
    SELECT 'not expected: ' || unexpected.line FROM unexpected)
SELECT string_agg('  ' || difference.line, E'\n' ORDER BY difference.line), count(*)
INTO differences, number_of_differences
FROM difference;

IF number_of_differences > 0 THEN
    -- Each of these functions came with a version, and stayed.
    SELECT CASE
        WHEN 'procrastinate_retry_job_v2' = ANY (functions.names) THEN '3.4 or newer'
        WHEN 'procrastinate_defer_jobs_v1' = ANY (functions.names) THEN '3.2 or 3.3'
        WHEN 'procrastinate_register_worker_v1' = ANY (functions.names) THEN '3.1'
        WHEN 'procrastinate_cancel_job_v1' = ANY (functions.names) THEN '3.0'
        ELSE '2 or older'
    END
    INTO looks_like
    FROM (
        SELECT array_agg(proc.proname::text) AS names
        FROM pg_catalog.pg_proc AS proc
        WHERE proc.pronamespace = quote_ident(current_schema())::regnamespace
          AND starts_with(proc.proname::text, 'procrastinate_')) AS functions;
    RAISE EXCEPTION USING
        ERRCODE = 'object_not_in_prerequisite_state',
        -- Programs recognize this error by the name, in every language of the server.
        CONSTRAINT = 'procrastinate_diesel_contract',
        MESSAGE = format(
            E'the schema "%s" holds tables of Procrastinate in another form than that of version 3.10; '
            'nothing was changed. %s difference(s):\n%s\n'
            'By their names its functions are those of Procrastinate %s. '
            'An older database is brought up by Procrastinate 3.10''s own migrations: with Django run '
            'manage.py migrate procrastinate; otherwise run the SQL files in the directory that '
            '"procrastinate schema --migrations-path" prints, in the order of their names, from the '
            'version after the installed one. Revert manual changes. Then run this migration again.',
            current_schema(), number_of_differences, differences, looks_like);
END IF;

END;
$check$;
