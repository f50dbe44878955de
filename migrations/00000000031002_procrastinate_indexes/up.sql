-- The indexes on jobs. Every pending job is in exactly one of three sets of partial indexes:
--
--   unlocked     no lock, not scheduled      priority_idx, queue_name_idx
--   scheduled    no lock, scheduled          scheduled_idx, due_idx, scheduled_order_idx
--   locked       with a lock                 lock_order_idx, locked_idx
--
-- So a fetch never reads jobs scheduled for tomorrow, or queued behind a lock, on the way to a job
-- that can start. One more index has all pending jobs, by task. Only the indexes that the contract
-- demands have entries of finished jobs.
--
-- Building indexes on a large table takes time, during which nobody can use the table. To avoid
-- that, run each CREATE INDEX of this file beforehand, outside of a transaction and with
-- CONCURRENTLY behind INDEX. This migration then finds the indexes, and locks the table only for a
-- moment.

CREATE FUNCTION procrastinate_diesel_lock_table_v1(table_name text, lock_mode text)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    former_timeout CONSTANT text := current_setting('lock_timeout');
BEGIN
    -- All other statements on the table queue up behind this one, so it must not wait for long.
    PERFORM set_config('lock_timeout', '2s', true);
    EXECUTE format('LOCK TABLE %I IN %s MODE', table_name, lock_mode);
    PERFORM set_config('lock_timeout', former_timeout, true);
EXCEPTION WHEN lock_not_available THEN
    -- Programs recognize this error by the name of the constraint, in every language of the server.
    RAISE lock_not_available USING
        MESSAGE = format('could not lock the table %s within two seconds: it is in use', table_name),
        HINT = 'Nothing was changed. Run the migration again, when no long transaction uses the table.',
        CONSTRAINT = 'procrastinate_diesel_lock_timeout';
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_lock_table_v1(text, text) IS
    'Locks a table for a migration. Raises lock_not_available if the lock is not free within two '
    'seconds. Migrations lock tables in the order jobs, periodic_defers, events, workers, as all '
    'statements do.';

SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');

-- The definitions of everything that this migration and later ones replace. Kept as a function: a
-- dump of the schema alone has it, and nothing can enable it by accident.
DO $keep$
DECLARE
    originals text;
BEGIN
    WITH replaced (kind, name) AS (VALUES
        ('index', 'procrastinate_jobs_queueing_lock_idx_v1'),
        ('index', 'procrastinate_jobs_priority_idx_v1'),
        ('index', 'procrastinate_jobs_queue_name_idx_v1'),
        ('index', 'procrastinate_jobs_id_lock_idx_v1'),
        ('index', 'idx_procrastinate_jobs_worker_not_null'),
        ('trigger', 'procrastinate_jobs_notify_queue_job_inserted_v1'),
        ('trigger', 'procrastinate_trigger_status_events_insert_v1'),
        ('trigger', 'procrastinate_trigger_status_events_update_v1'),
        ('trigger', 'procrastinate_trigger_delete_jobs_v1'),
        ('function', 'procrastinate_notify_queue_job_inserted_v1'),
        ('function', 'procrastinate_trigger_function_status_events_insert_v1'),
        ('function', 'procrastinate_trigger_function_status_events_update_v1'),
        ('function', 'procrastinate_trigger_function_scheduled_events_v1'),
        ('function', 'procrastinate_unlink_periodic_defers_v1'),
        ('function', 'procrastinate_defer_periodic_job_v2'),
        ('function', 'procrastinate_fetch_job_v2'),
        ('function', 'procrastinate_finish_job_v1')),
    found (kind, name, identity, definition, description) AS (
        SELECT 'index', class.relname::text, quote_ident(class.relname),
               pg_get_indexdef(class.oid, 0, true), obj_description(class.oid, 'pg_class')
        FROM pg_catalog.pg_class AS class
            JOIN pg_catalog.pg_index AS index ON index.indexrelid = class.oid
        WHERE index.indrelid = 'procrastinate_jobs'::regclass
      UNION ALL
        SELECT 'trigger', trigger.tgname::text, format('%I ON procrastinate_jobs', trigger.tgname),
               pg_get_triggerdef(trigger.oid, true), obj_description(trigger.oid, 'pg_trigger')
        FROM pg_catalog.pg_trigger AS trigger
        WHERE trigger.tgrelid = 'procrastinate_jobs'::regclass
      UNION ALL
        SELECT 'function', proc.proname::text,
               format('%I(%s)', proc.proname, pg_get_function_identity_arguments(proc.oid)),
               -- Without the name of the schema, which may have another one when it is restored.
               regexp_replace(pg_get_functiondef(proc.oid), '^CREATE OR REPLACE FUNCTION [^(]*',
                              format('CREATE OR REPLACE FUNCTION %I', proc.proname)),
               obj_description(proc.oid, 'pg_proc')
        FROM pg_catalog.pg_proc AS proc
        WHERE proc.pronamespace = quote_ident(current_schema())::regnamespace)
    SELECT string_agg(format('(%L, %L, %L, %L, %L)', kind, name, identity, definition, description),
                      E',\n')
    INTO originals
    FROM replaced JOIN found USING (kind, name);

    EXECUTE format(
        'CREATE FUNCTION procrastinate_diesel_originals_v1() '
        'RETURNS TABLE (kind text, name text, identity text, definition text, description text) '
        'LANGUAGE sql IMMUTABLE AS %L',
        format(E'SELECT * FROM (VALUES\n%s) AS original', originals));
END;
$keep$;
COMMENT ON FUNCTION procrastinate_diesel_originals_v1() IS
    'The indexes, triggers and functions of Procrastinate that the migrations of the crate '
    'replace, as they were, so that reverting these migrations can restore them.';

CREATE FUNCTION procrastinate_diesel_restore_original_v1(kind text, name text)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    original record;
BEGIN
    FOR original IN
        SELECT * FROM procrastinate_diesel_originals_v1() AS kept
        WHERE kept.kind = procrastinate_diesel_restore_original_v1.kind
          AND kept.name = procrastinate_diesel_restore_original_v1.name
    LOOP
        IF original.kind <> 'function' THEN
            EXECUTE format('DROP %s IF EXISTS %s', original.kind, original.identity);
        END IF;
        EXECUTE original.definition;
        EXECUTE format('COMMENT ON %s %s IS %L', original.kind, original.identity, original.description);
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_restore_original_v1(text, text) IS
    'Puts an original of procrastinate_diesel_originals_v1 in the place of what replaced it.';

-- CREATE INDEX CONCURRENTLY leaves an invalid index when it fails.
DO $invalid$
DECLARE
    invalid_index regclass;
BEGIN
    FOR invalid_index IN
        SELECT index.indexrelid FROM pg_catalog.pg_index AS index
            JOIN pg_catalog.pg_class AS class ON class.oid = index.indexrelid
        WHERE index.indrelid = 'procrastinate_jobs'::regclass
          AND NOT index.indisvalid
          AND starts_with(class.relname::text, 'procrastinate_diesel_')
    LOOP
        EXECUTE format('DROP INDEX %s', invalid_index);
    END LOOP;
END;
$invalid$;

CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_priority_idx_v1
    ON procrastinate_jobs (priority DESC, id)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL;
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_queue_name_idx_v1
    ON procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL;

-- Only the jobs with a queueing lock. The contract's index has all pending jobs.
CREATE UNIQUE INDEX IF NOT EXISTS procrastinate_diesel_jobs_queueing_lock_idx_v1
    ON procrastinate_jobs (queueing_lock)
    WHERE status = 'todo' AND queueing_lock IS NOT NULL;
-- All pending jobs, by task. Those that are neither locked nor scheduled come first.
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_task_idx_v1
    ON procrastinate_jobs ((num_nonnulls(lock, scheduled_at)), task_name, queue_name, priority DESC, id)
    WHERE status = 'todo';

CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_scheduled_idx_v1
    ON procrastinate_jobs (queue_name, scheduled_at)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL;
-- Whether any job is due, whatever its queue. It is on an expression, because the planner would
-- also use an index on the time alone to find the first job of one queue.
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_due_idx_v1
    ON procrastinate_jobs ((scheduled_at AT TIME ZONE 'UTC'))
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL;
-- For queues with very many due jobs.
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_scheduled_order_idx_v1
    ON procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL;

-- The first pending job of a lock.
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_lock_order_idx_v1
    ON procrastinate_jobs (lock, priority DESC, id)
    WHERE status = 'todo' AND lock IS NOT NULL;
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_locked_idx_v1
    ON procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND lock IS NOT NULL;

-- Also for the foreign key, which otherwise reads the whole table when a worker is deleted.
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_worker_idx_v1
    ON procrastinate_jobs (worker_id, status)
    WHERE worker_id IS NOT NULL;
-- Running jobs whose worker was deleted. No other job is ever in this index. Nothing needs the lock
-- in it, but the index of this name begins with these columns.
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_id_lock_idx_v1
    ON procrastinate_jobs (id, lock)
    WHERE status = 'doing' AND worker_id IS NULL;

-- Unsuccessful jobs, for lists of them. They are few, so the index costs next to nothing.
CREATE INDEX IF NOT EXISTS procrastinate_diesel_jobs_unsuccessful_idx_v1
    ON procrastinate_jobs (status, id)
    WHERE status IN ('failed', 'cancelled', 'aborted');

-- Clients recognize the error of the first one by its name. Later migrations of Procrastinate may
-- refer to the others by their names.
DROP INDEX IF EXISTS procrastinate_jobs_queueing_lock_idx_v1;
ALTER INDEX procrastinate_diesel_jobs_queueing_lock_idx_v1 RENAME TO procrastinate_jobs_queueing_lock_idx_v1;
DROP INDEX IF EXISTS procrastinate_jobs_priority_idx_v1;
ALTER INDEX procrastinate_diesel_jobs_priority_idx_v1 RENAME TO procrastinate_jobs_priority_idx_v1;
DROP INDEX IF EXISTS procrastinate_jobs_queue_name_idx_v1;
ALTER INDEX procrastinate_diesel_jobs_queue_name_idx_v1 RENAME TO procrastinate_jobs_queue_name_idx_v1;
DROP INDEX IF EXISTS procrastinate_jobs_id_lock_idx_v1;
ALTER INDEX procrastinate_diesel_jobs_id_lock_idx_v1 RENAME TO procrastinate_jobs_id_lock_idx_v1;
DROP INDEX IF EXISTS idx_procrastinate_jobs_worker_not_null;
ALTER INDEX procrastinate_diesel_jobs_worker_idx_v1 RENAME TO idx_procrastinate_jobs_worker_not_null;
