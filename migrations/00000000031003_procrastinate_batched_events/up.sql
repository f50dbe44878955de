-- Functions that change many jobs at once write the events of all of them in one statement, and
-- send one notification for each queue. For that they put pg_trigger_depth() into the setting
-- procrastinate_diesel.batched_at_depth. The triggers on single rows do nothing at that depth.
-- Functions that delete many jobs do the same.
--
-- A trigger of the application runs one level deeper. The jobs that it changes get their events
-- from the triggers.
--
-- The setting is made with set_config and reset at the end of each function. A SET clause would
-- need a superuser, because the server does not know the setting.

-- Functions and triggers that make a job pending, or end it, look here whether there is a limit for
-- each key. If there is one, they call a function of a later migration.
CREATE TABLE procrastinate_diesel_flow_controls (
    kind text NOT NULL CHECK (kind IN ('queue', 'task', 'deadline')),
    name varchar(128) NOT NULL,
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    skips_ticks boolean NOT NULL DEFAULT false,
    max_running integer CHECK (max_running > 0),
    max_starts integer CHECK (max_starts > 0),
    start_period_seconds double precision CHECK (start_period_seconds BETWEEN 1e-3 AND 1e11),
    -- It is part of an index, with a name and a key.
    key_path text[] CHECK (octet_length(key_path::text) <= 1024),
    key_max_running integer CHECK (key_max_running > 0),
    key_max_starts integer CHECK (key_max_starts > 0),
    key_start_period_seconds double precision CHECK (key_start_period_seconds BETWEEN 1e-3 AND 1e11),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    keys_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, name),
    CHECK ((max_starts IS NULL) = (start_period_seconds IS NULL)),
    CHECK ((key_max_starts IS NULL) = (key_start_period_seconds IS NULL)),
    CHECK ((key_path IS NULL) = (key_max_running IS NULL AND key_max_starts IS NULL)),
    CHECK ((kind <> 'deadline') = (
        paused_at IS NOT NULL OR max_running IS NOT NULL OR max_starts IS NOT NULL OR key_path IS NOT NULL)),
    CHECK (paused_at IS NOT NULL OR (paused_by IS NULL AND pause_reason IS NULL AND NOT skips_ticks)));
COMMENT ON TABLE procrastinate_diesel_flow_controls IS
    'Pauses and limits of queues and tasks. A queue or task without a row has none. While the '
    'table is empty, a fetch does not search for any. While jobs have a time by which they must '
    'start, a row of the kind deadline makes each fetch compare it.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.kind IS 'queue, task or deadline.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.name IS
    'The name of the queue or task, or of the transaction that has added the deadline.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.paused_at IS
    'Since when no job of it starts. NULL if it is not paused.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.skips_ticks IS
    'Whether periodic tasks defer no jobs during the pause.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.max_running IS
    'How many of its jobs may run at the same time. NULL if there is no such limit.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.max_starts IS
    'How many of its jobs may start within any period of start_period_seconds.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.key_path IS
    'Where the key of a job is in its arguments. If it is empty, the key is given with the job. '
    'The other columns of this name limit the jobs of each key. NULL if there is no such limit.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.keys_changed_at IS
    'When the limit for each key was set, or its path changed. Then jobs can have other keys.';
CREATE INDEX procrastinate_diesel_flow_controls_key_path_idx ON procrastinate_diesel_flow_controls (kind)
    WHERE key_path IS NOT NULL;
-- Whoever changes jobs must be able to do so as before.
GRANT SELECT ON procrastinate_diesel_flow_controls TO PUBLIC;

SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');
SELECT procrastinate_diesel_lock_table_v1('procrastinate_periodic_defers', 'ACCESS EXCLUSIVE');

-- The server reads the condition of a trigger for every statement that changes jobs, so the
-- conditions are short. The functions check the status.
DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (current_setting('procrastinate_diesel.batched_at_depth', true)
        IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();

CREATE OR REPLACE FUNCTION procrastinate_notify_queue_job_inserted_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_channel CONSTANT text := 'procrastinate_queue_v1#' || NEW.queue_name;
    -- Takes a fraction of the time of json_build_object, and gives the same.
    message CONSTANT text := '{"type" : "job_inserted", "job_id" : ' || NEW.id || '}';
    -- An assignment takes a fraction of the time of PERFORM, which runs a query.
    nothing text;
BEGIN
    IF NEW.status = 'todo' THEN
        IF octet_length(queue_channel) <= 63 THEN
            nothing := pg_notify(queue_channel, message);
        END IF;
        nothing := pg_notify('procrastinate_any_queue_v1', message);
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_notify_queue_job_inserted_v1() IS
    'Notifies the workers that listen for new jobs. Not called for functions that notify them once '
    'for many jobs.';

DROP TRIGGER procrastinate_trigger_status_events_insert_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_trigger_status_events_insert_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (current_setting('procrastinate_diesel.batched_at_depth', true)
        IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_insert_v1();

CREATE OR REPLACE FUNCTION procrastinate_trigger_function_status_events_insert_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    nothing text;
BEGIN
    IF NEW.status = 'todo' THEN
        INSERT INTO procrastinate_events (job_id, type) VALUES (NEW.id, 'deferred');
        IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
            nothing := procrastinate_diesel_note_keyed_jobs_v1(
                ARRAY[NEW.id], ARRAY[NEW.queue_name], ARRAY[NEW.task_name]);
        END IF;
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_status_events_insert_v1() IS
    'Writes the event of a new job. Not called for functions that write the events of many jobs in '
    'one statement.';

DROP TRIGGER procrastinate_trigger_status_events_update_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW
    WHEN (current_setting('procrastinate_diesel.batched_at_depth', true)
        IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_update_v1();

-- As in the contract, for databases that have another one.
CREATE OR REPLACE FUNCTION procrastinate_trigger_function_status_events_update_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    event_type CONSTANT procrastinate_job_event_type := CASE
        WHEN OLD.status = 'todo' AND NEW.status = 'doing' THEN 'started'
        WHEN OLD.status = 'todo' AND NEW.status IN ('cancelled', 'failed', 'succeeded') THEN 'cancelled'
        WHEN OLD.status = 'doing' AND NEW.status = 'todo' THEN 'deferred_for_retry'
        WHEN OLD.status = 'doing' AND NEW.status = 'succeeded' THEN 'succeeded'
        WHEN OLD.status = 'doing' AND NEW.status = 'failed' THEN 'failed'
        WHEN OLD.status = 'doing' AND NEW.status = 'aborted' THEN 'aborted'
        WHEN OLD.status = 'failed' AND NEW.status = 'todo' THEN 'retried'
        END;
    nothing text;
BEGIN
    IF event_type IS NOT NULL THEN
        INSERT INTO procrastinate_events (job_id, type) VALUES (NEW.id, event_type);
    END IF;
    IF NEW.status <> 'doing' AND EXISTS (
            SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
        IF NEW.status = 'todo' THEN
            nothing := procrastinate_diesel_note_keyed_jobs_v1(
                ARRAY[NEW.id], ARRAY[NEW.queue_name], ARRAY[NEW.task_name]);
        ELSE
            nothing := procrastinate_diesel_note_ended_jobs_v1(ARRAY[NEW.id], false);
        END IF;
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_status_events_update_v1() IS
    'Writes the event of a change of status. Not called for functions that write the events of '
    'many jobs in one statement.';

-- A database may have the foreign key under another name.
CREATE FUNCTION procrastinate_diesel_replace_foreign_key_v1(properties text)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    foreign_key text;
BEGIN
    FOR foreign_key IN
        SELECT constraints.conname FROM pg_catalog.pg_constraint AS constraints
        WHERE constraints.conrelid = 'procrastinate_periodic_defers'::regclass
          AND constraints.confrelid = 'procrastinate_jobs'::regclass AND constraints.contype = 'f'
    LOOP
        EXECUTE format(
            'ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT %1$I, '
            'ADD CONSTRAINT %1$I FOREIGN KEY (job_id) REFERENCES procrastinate_jobs (id) %2$s',
            foreign_key, properties);
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_replace_foreign_key_v1(text) IS
    'Replaces the foreign key from the periodic defers to the jobs by one with these properties.';

-- A foreign key without an action searches twice for each deleted job, after this trigger has
-- searched once. One that unlinks the job searches once, and needs no trigger. A later migration
-- checks the existing rows, without a lock on the jobs.
DROP TRIGGER procrastinate_trigger_delete_jobs_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_trigger_delete_jobs_v1
    BEFORE DELETE ON procrastinate_jobs FOR EACH ROW
    WHEN (current_setting('procrastinate_diesel.batched_at_depth', true)
        IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_unlink_periodic_defers_v1();

CREATE OR REPLACE FUNCTION procrastinate_unlink_periodic_defers_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    nothing text;
BEGIN
    UPDATE procrastinate_periodic_defers SET job_id = NULL WHERE job_id = OLD.id;
    IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
        nothing := procrastinate_diesel_note_ended_jobs_v1(ARRAY[OLD.id], true);
    END IF;
    RETURN OLD;
END;
$function$;
COMMENT ON FUNCTION procrastinate_unlink_periodic_defers_v1() IS
    'Unlinks a deleted job from the tick that deferred it. The tick stays on record. Not called '
    'for functions that delete many jobs.';

SELECT procrastinate_diesel_replace_foreign_key_v1('ON DELETE SET NULL NOT VALID');

-- Here the function checks the setting, not the trigger, because it is rarely called.
CREATE OR REPLACE FUNCTION procrastinate_trigger_function_scheduled_events_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    nothing text;
BEGIN
    -- One level less: this is a trigger itself.
    IF current_setting('procrastinate_diesel.batched_at_depth', true)
            IS DISTINCT FROM (pg_trigger_depth() - 1)::text THEN
        INSERT INTO procrastinate_events (job_id, type, at) VALUES (NEW.id, 'scheduled', NEW.scheduled_at);
        -- The other triggers do this for a job that has become pending.
        IF TG_OP = 'UPDATE' AND OLD.status = NEW.status AND EXISTS (
                SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
            nothing := procrastinate_diesel_note_keyed_jobs_v1(
                ARRAY[NEW.id], ARRAY[NEW.queue_name], ARRAY[NEW.task_name]);
        END IF;
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_scheduled_events_v1() IS
    'Writes the event of a pending job that is scheduled, dated with the time it is scheduled for. '
    'Does nothing for functions that write the events of many jobs in one statement.';
