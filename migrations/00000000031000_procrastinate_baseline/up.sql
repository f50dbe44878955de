-- The database contract of Procrastinate 3.10: types, tables, indexes, functions and triggers.
--
-- Three cases, decided by what the first schema of search_path holds:
--
--   nothing of Procrastinate     everything is created
--   its current form, complete   nothing is done: the database is adopted as it is
--   anything else                an error names every difference, and nothing is changed
--
-- Every name is unqualified, so that objects land in the first schema of search_path and functions work on the
-- tables that their caller's search_path finds. The comment on procrastinate_jobs tells the down migration
-- whether this migration created the tables or found them.

DO $baseline$
DECLARE
    differences text;
    number_of_differences bigint;
    looks_like text;
BEGIN

IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_class
        WHERE relname IN ('procrastinate_jobs', 'procrastinate_events', 'procrastinate_periodic_defers', 'procrastinate_workers')
          AND relnamespace = quote_ident(current_schema())::regnamespace)
   AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_type
        WHERE typname IN ('procrastinate_job_status', 'procrastinate_job_event_type', 'procrastinate_job_to_defer_v1')
          AND typnamespace = quote_ident(current_schema())::regnamespace)
THEN

EXECUTE $contract$

------------------------------------------------------------------------------------------------------ types

CREATE TYPE procrastinate_job_status AS ENUM (
    'todo', 'doing', 'succeeded', 'failed', 'cancelled', 'aborting', 'aborted');
COMMENT ON TYPE procrastinate_job_status IS
    'Where a job stands. aborting is never written any more; old rows may hold it.';

CREATE TYPE procrastinate_job_event_type AS ENUM (
    'deferred', 'started', 'deferred_for_retry', 'failed', 'succeeded', 'cancelled', 'abort_requested', 'aborted',
    'scheduled', 'retried');
COMMENT ON TYPE procrastinate_job_event_type IS 'What happened to a job.';

CREATE TYPE procrastinate_job_to_defer_v1 AS (
    queue_name varchar,
    task_name varchar,
    priority integer,
    lock text,
    queueing_lock text,
    args jsonb,
    scheduled_at timestamptz);
COMMENT ON TYPE procrastinate_job_to_defer_v1 IS 'One job, as procrastinate_defer_jobs_v1 takes it.';

----------------------------------------------------------------------------------------------------- tables

CREATE TABLE procrastinate_workers (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    last_heartbeat timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE procrastinate_workers IS 'The running workers. A worker''s row goes when it stops or is declared dead.';
COMMENT ON COLUMN procrastinate_workers.last_heartbeat IS 'When the worker last said that it is alive.';

CREATE TABLE procrastinate_jobs (
    id bigserial PRIMARY KEY,
    queue_name varchar(128) NOT NULL,
    task_name varchar(128) NOT NULL,
    priority integer NOT NULL DEFAULT 0,
    lock text,
    queueing_lock text,
    args jsonb NOT NULL DEFAULT '{}',
    status procrastinate_job_status NOT NULL DEFAULT 'todo',
    scheduled_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    abort_requested boolean NOT NULL DEFAULT false,
    worker_id bigint REFERENCES procrastinate_workers (id) ON DELETE SET NULL,
    CONSTRAINT check_not_todo_abort_requested CHECK (NOT (status = 'todo' AND abort_requested = true)));
COMMENT ON TABLE procrastinate_jobs IS 'The jobs. Created by the migrations of the procrastinate crate.';
COMMENT ON COLUMN procrastinate_jobs.queue_name IS 'The queue: workers choose the queues they serve.';
COMMENT ON COLUMN procrastinate_jobs.task_name IS 'The name under which a worker finds the code to run.';
COMMENT ON COLUMN procrastinate_jobs.priority IS 'Higher ones first; among equals the lower id first.';
COMMENT ON COLUMN procrastinate_jobs.lock IS 'Of the jobs with one lock, one runs at a time, in order.';
COMMENT ON COLUMN procrastinate_jobs.queueing_lock IS 'Of the jobs with one queueing lock, one may wait at a time.';
COMMENT ON COLUMN procrastinate_jobs.args IS 'The arguments of the task by name: always an object.';
COMMENT ON COLUMN procrastinate_jobs.scheduled_at IS 'Not to be started before; NULL: at once.';
COMMENT ON COLUMN procrastinate_jobs.attempts IS 'How often the job was started and ended.';
COMMENT ON COLUMN procrastinate_jobs.abort_requested IS 'Somebody asked that the job, while running, be aborted.';
COMMENT ON COLUMN procrastinate_jobs.worker_id IS 'The worker that took the job; NULL when that worker is gone.';

CREATE TABLE procrastinate_periodic_defers (
    id bigserial PRIMARY KEY,
    task_name varchar(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint REFERENCES procrastinate_jobs (id),
    periodic_id varchar(128) NOT NULL DEFAULT '',
    CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp));
COMMENT ON TABLE procrastinate_periodic_defers IS 'Which tick of which periodic task has been deferred, so that it is deferred once.';
COMMENT ON COLUMN procrastinate_periodic_defers.defer_timestamp IS 'The tick, in Unix seconds.';
COMMENT ON COLUMN procrastinate_periodic_defers.periodic_id IS 'Tells several schedules of one task apart.';

CREATE TABLE procrastinate_events (
    id bigserial PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES procrastinate_jobs (id) ON DELETE CASCADE,
    type procrastinate_job_event_type,
    at timestamptz DEFAULT now());
COMMENT ON TABLE procrastinate_events IS 'What happened to the jobs and when, written by triggers.';

---------------------------------------------------------------------------------------------------- indexes

-- These two carry meaning: clients recognise a violation by the index's name.
CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON procrastinate_jobs (queueing_lock) WHERE status = 'todo';
CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (lock) WHERE status = 'doing';

CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON procrastinate_jobs (queue_name);
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON procrastinate_jobs (id, lock) WHERE status IN ('todo', 'doing');
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON procrastinate_jobs (priority DESC, id) WHERE status = 'todo';
CREATE INDEX idx_procrastinate_jobs_worker_not_null ON procrastinate_jobs (worker_id)
    WHERE worker_id IS NOT NULL AND status = 'doing';
CREATE INDEX procrastinate_events_job_id_fkey_v1 ON procrastinate_events (job_id);
CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON procrastinate_periodic_defers (job_id);
CREATE INDEX idx_procrastinate_workers_last_heartbeat ON procrastinate_workers (last_heartbeat);

-------------------------------------------------------------------------------------------- functions: defer

CREATE FUNCTION procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[])
    RETURNS bigint[]
    LANGUAGE sql
AS $function$
    WITH inserted AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args, job.scheduled_at
        FROM unnest(jobs) WITH ORDINALITY
            AS job (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, position)
        ORDER BY job.position
        RETURNING id)
    -- Numbers are drawn in the order of insertion, so their order is the order of the input.
    SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM inserted;
$function$;
COMMENT ON FUNCTION procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[]) IS
    'Inserts the jobs in the order of the array and returns their ids in that order; all or none.';

CREATE FUNCTION procrastinate_defer_periodic_job_v2(
        _queue_name varchar, _lock varchar, _queueing_lock varchar, _task_name varchar, _priority integer,
        _periodic_id varchar, _defer_timestamp bigint, _args jsonb)
    RETURNS bigint
    LANGUAGE plpgsql
AS $function$
DECLARE
    claim_id bigint;
    new_job_id bigint;
BEGIN
    INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
    VALUES (_task_name, _periodic_id, _defer_timestamp)
    ON CONFLICT DO NOTHING
    RETURNING id INTO claim_id;
    IF claim_id IS NULL THEN
        RETURN NULL;
    END IF;

    -- A taken queueing lock raises here and takes the claim back with it.
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
    VALUES (_queue_name, _task_name, _priority, _lock, _queueing_lock, _args)
    RETURNING id INTO new_job_id;

    UPDATE procrastinate_periodic_defers SET job_id = new_job_id WHERE id = claim_id;

    -- Rows that another worker is deleting at this moment are left to it.
    DELETE FROM procrastinate_periodic_defers
    WHERE id IN (
        SELECT older.id FROM procrastinate_periodic_defers AS older
        WHERE older.task_name = _task_name
          AND older.periodic_id = _periodic_id
          AND older.defer_timestamp < _defer_timestamp
        FOR UPDATE SKIP LOCKED);

    RETURN new_job_id;
END;
$function$;
COMMENT ON FUNCTION procrastinate_defer_periodic_job_v2(varchar, varchar, varchar, varchar, integer, varchar, bigint, jsonb) IS
    'Defers one tick of a periodic task and returns the job''s id, or NULL when somebody already deferred that tick.';

-------------------------------------------------------------------------------- functions: fetch and finish

CREATE FUNCTION procrastinate_fetch_job_v2(target_queue_names varchar[], p_worker_id bigint)
    RETURNS procrastinate_jobs
    LANGUAGE plpgsql
AS $function$
DECLARE
    candidate procrastinate_jobs;
    taken procrastinate_jobs;
    violated_constraint text;
BEGIN
    LOOP
        SELECT job.* INTO candidate
        FROM procrastinate_jobs AS job
        WHERE job.status = 'todo'
          AND (target_queue_names IS NULL OR job.queue_name = ANY (target_queue_names))
          AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
          AND (job.lock IS NULL
               OR NOT EXISTS (
                    SELECT FROM procrastinate_jobs AS holder
                    WHERE holder.lock = job.lock AND holder.status = 'doing')
              AND NOT EXISTS (
                    SELECT FROM procrastinate_jobs AS earlier
                    WHERE earlier.lock = job.lock
                      AND earlier.status = 'todo'
                      AND (earlier.priority > job.priority OR (earlier.priority = job.priority AND earlier.id < job.id))))
        ORDER BY job.priority DESC, job.id
        LIMIT 1
        FOR UPDATE OF job SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;

        IF candidate.lock IS NULL THEN
            UPDATE procrastinate_jobs SET status = 'doing', worker_id = p_worker_id
            WHERE id = candidate.id
            RETURNING * INTO taken;
            RETURN taken;
        END IF;

        -- Since the look above, another worker may have started a job that came in before this one under the same
        -- lock. The unique index on running locks tells; then look again, which now sees that job.
        BEGIN
            UPDATE procrastinate_jobs SET status = 'doing', worker_id = p_worker_id
            WHERE id = candidate.id
            RETURNING * INTO taken;
            RETURN taken;
        EXCEPTION WHEN unique_violation THEN
            GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
            IF violated_constraint <> 'procrastinate_jobs_lock_idx_v1' THEN
                RAISE;
            END IF;
            -- A transaction of these levels would never see that job, and look for ever.
            IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
                RAISE EXCEPTION 'could not serialize access: a job with the same lock was started meanwhile (job id: %)', candidate.id
                    USING ERRCODE = 'serialization_failure';
            END IF;
        END;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) IS
    'Takes the next job of the queues (NULL: of all queues) for a worker; a row of NULLs when there is none.';

CREATE FUNCTION procrastinate_finish_job_v1(job_id bigint, end_status procrastinate_job_status, delete_job boolean)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF end_status IS NULL OR end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE EXCEPTION 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;
    END IF;
    IF delete_job THEN
        DELETE FROM procrastinate_jobs WHERE id = job_id AND status IN ('todo', 'doing');
    ELSE
        UPDATE procrastinate_jobs
        SET status = end_status,
            abort_requested = false,
            attempts = CASE status WHEN 'doing' THEN attempts + 1 ELSE attempts END
        WHERE id = job_id AND status IN ('todo', 'doing');
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_finish_job_v1(bigint, procrastinate_job_status, boolean) IS
    'Ends a job as succeeded, failed or aborted, or deletes it.';

CREATE FUNCTION procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean)
    RETURNS bigint
    LANGUAGE plpgsql
AS $function$
DECLARE
    cancelled_id bigint;
BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_jobs WHERE id = job_id AND status = 'todo' RETURNING id INTO cancelled_id;
    END IF;
    IF cancelled_id IS NULL AND abort THEN
        UPDATE procrastinate_jobs
        SET abort_requested = true,
            status = CASE status WHEN 'todo' THEN 'cancelled'::procrastinate_job_status ELSE status END
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO cancelled_id;
    ELSIF cancelled_id IS NULL THEN
        UPDATE procrastinate_jobs SET status = 'cancelled'
        WHERE id = job_id AND status = 'todo'
        RETURNING id INTO cancelled_id;
    END IF;
    RETURN cancelled_id;
END;
$function$;
COMMENT ON FUNCTION procrastinate_cancel_job_v1(bigint, boolean, boolean) IS
    'Cancels or deletes a waiting job; with abort also asks a running one to stop. NULL when nothing matched.';

CREATE FUNCTION procrastinate_retry_job_v2(
        job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    current_status procrastinate_job_status;
    current_abort_requested boolean;
BEGIN
    -- Locked before it is read: an abort that arrives at this moment waits, and then finds the job retried or failed.
    SELECT status, abort_requested INTO current_status, current_abort_requested
    FROM procrastinate_jobs WHERE id = job_id FOR UPDATE;

    IF current_status = 'doing' AND current_abort_requested THEN
        UPDATE procrastinate_jobs SET status = 'failed' WHERE id = job_id;
    ELSIF current_status IN ('doing', 'failed') THEN
        UPDATE procrastinate_jobs
        SET status = 'todo',
            abort_requested = false,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = coalesce(new_priority, priority),
            queue_name = coalesce(new_queue_name, queue_name),
            lock = coalesce(new_lock, lock)
        WHERE id = job_id;
    ELSE
        RAISE EXCEPTION 'Job was not found or has an invalid status to retry (job id: %)', job_id;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_retry_job_v2(bigint, timestamptz, integer, varchar, varchar) IS
    'Puts a running or failed job back to wait; a running one that is to be aborted fails instead.';

CREATE FUNCTION procrastinate_retry_job_v1(
        job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM FROM procrastinate_jobs WHERE id = job_id AND status = 'doing' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Job was not found or not in "doing" status (job id: %)', job_id;
    END IF;
    PERFORM procrastinate_retry_job_v2(job_id, retry_at, new_priority, new_queue_name, new_lock);
END;
$function$;
COMMENT ON FUNCTION procrastinate_retry_job_v1(bigint, timestamptz, integer, varchar, varchar) IS
    'As procrastinate_retry_job_v2, for running jobs only.';

------------------------------------------------------------------------------------------ functions: workers

CREATE FUNCTION procrastinate_register_worker_v1()
    RETURNS TABLE (worker_id bigint)
    LANGUAGE sql
AS $function$
    INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id;
$function$;
COMMENT ON FUNCTION procrastinate_register_worker_v1() IS 'Enters a worker and returns its id.';

CREATE FUNCTION procrastinate_unregister_worker_v1(worker_id bigint)
    RETURNS void
    LANGUAGE sql
AS $function$
    DELETE FROM procrastinate_workers WHERE id = procrastinate_unregister_worker_v1.worker_id;
$function$;
COMMENT ON FUNCTION procrastinate_unregister_worker_v1(bigint) IS 'Removes a worker.';

CREATE FUNCTION procrastinate_update_heartbeat_v1(worker_id bigint)
    RETURNS void
    LANGUAGE sql
AS $function$
    UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = procrastinate_update_heartbeat_v1.worker_id;
$function$;
COMMENT ON FUNCTION procrastinate_update_heartbeat_v1(bigint) IS 'Says that a worker is alive.';

CREATE FUNCTION procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat float)
    RETURNS TABLE (worker_id bigint)
    LANGUAGE sql
AS $function$
    DELETE FROM procrastinate_workers
    WHERE id IN (
        SELECT stalled.id FROM procrastinate_workers AS stalled
        WHERE stalled.last_heartbeat < now() - make_interval(secs => seconds_since_heartbeat)
        FOR UPDATE SKIP LOCKED)
    RETURNING id;
$function$;
COMMENT ON FUNCTION procrastinate_prune_stalled_workers_v1(float) IS
    'Removes, and returns, the workers that have not been heard of for so many seconds.';

------------------------------------------------------------------------------------- triggers: notifications

-- Both channels get each message. PostgreSQL refuses a channel name over 63 bytes: the workers of a queue with so
-- long a name hear of it on the channel of all queues.

CREATE FUNCTION procrastinate_notify_queue_job_inserted_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_channel text := 'procrastinate_queue_v1#' || NEW.queue_name;
    message text := json_build_object('type', 'job_inserted', 'job_id', NEW.id)::text;
BEGIN
    IF octet_length(queue_channel) <= 63 THEN
        PERFORM pg_notify(queue_channel, message);
    END IF;
    PERFORM pg_notify('procrastinate_any_queue_v1', message);
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_notify_queue_job_inserted_v1() IS 'Wakes the workers that listen for new jobs.';

CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.status = 'todo')
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();

CREATE FUNCTION procrastinate_notify_queue_abort_job_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_channel text := 'procrastinate_queue_v1#' || NEW.queue_name;
    message text := json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text;
BEGIN
    IF octet_length(queue_channel) <= 63 THEN
        PERFORM pg_notify(queue_channel, message);
    END IF;
    PERFORM pg_notify('procrastinate_any_queue_v1', message);
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_notify_queue_abort_job_v1() IS 'Tells the worker that runs a job to abort it.';

CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1
    AFTER UPDATE OF abort_requested ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.abort_requested = false AND NEW.abort_requested = true AND NEW.status = 'doing')
    EXECUTE FUNCTION procrastinate_notify_queue_abort_job_v1();

-------------------------------------------------------------------------------------------- triggers: events

CREATE FUNCTION procrastinate_trigger_function_status_events_insert_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO procrastinate_events (job_id, type) VALUES (NEW.id, 'deferred');
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_status_events_insert_v1() IS 'Writes the event of a new job.';

CREATE TRIGGER procrastinate_trigger_status_events_insert_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.status = 'todo')
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_insert_v1();

CREATE FUNCTION procrastinate_trigger_function_status_events_update_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    event_type procrastinate_job_event_type := CASE
        WHEN OLD.status = 'todo' AND NEW.status = 'doing' THEN 'started'
        WHEN OLD.status = 'todo' AND NEW.status IN ('cancelled', 'failed', 'succeeded') THEN 'cancelled'
        WHEN OLD.status = 'doing' AND NEW.status = 'todo' THEN 'deferred_for_retry'
        WHEN OLD.status = 'doing' AND NEW.status = 'succeeded' THEN 'succeeded'
        WHEN OLD.status = 'doing' AND NEW.status = 'failed' THEN 'failed'
        WHEN OLD.status = 'doing' AND NEW.status = 'aborted' THEN 'aborted'
        WHEN OLD.status = 'failed' AND NEW.status = 'todo' THEN 'retried'
        END;
BEGIN
    IF event_type IS NOT NULL THEN
        INSERT INTO procrastinate_events (job_id, type) VALUES (NEW.id, event_type);
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_status_events_update_v1() IS 'Writes the event of a change of status.';

CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_update_v1();

CREATE FUNCTION procrastinate_trigger_function_scheduled_events_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO procrastinate_events (job_id, type, at) VALUES (NEW.id, 'scheduled', NEW.scheduled_at);
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_scheduled_events_v1() IS
    'Writes the event of a waiting job that is scheduled, dated with the time it is scheduled for.';

CREATE TRIGGER procrastinate_trigger_scheduled_events_v1
    AFTER INSERT OR UPDATE ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.scheduled_at IS NOT NULL AND NEW.status = 'todo')
    EXECUTE FUNCTION procrastinate_trigger_function_scheduled_events_v1();

CREATE FUNCTION procrastinate_trigger_abort_requested_events_procedure_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO procrastinate_events (job_id, type) VALUES (NEW.id, 'abort_requested');
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_abort_requested_events_procedure_v1() IS 'Writes the event of a request to abort.';

CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1
    AFTER UPDATE OF abort_requested ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.abort_requested = true)
    EXECUTE FUNCTION procrastinate_trigger_abort_requested_events_procedure_v1();

CREATE FUNCTION procrastinate_unlink_periodic_defers_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    UPDATE procrastinate_periodic_defers SET job_id = NULL WHERE job_id = OLD.id;
    RETURN OLD;
END;
$function$;
COMMENT ON FUNCTION procrastinate_unlink_periodic_defers_v1() IS
    'Lets a job go that a periodic defer points to: the tick stays on record.';

CREATE TRIGGER procrastinate_trigger_delete_jobs_v1
    BEFORE DELETE ON procrastinate_jobs FOR EACH ROW
    EXECUTE FUNCTION procrastinate_unlink_periodic_defers_v1();

$contract$;

RETURN;
END IF;

-- Something of Procrastinate is here. Describe it line by line, and compare with the lines of its current form.
WITH here AS (
    SELECT quote_ident(current_schema())::regnamespace AS schema),
expected (line) AS (VALUES
    ('type procrastinate_job_status: todo, doing, succeeded, failed, cancelled, aborting, aborted'),
    ('type procrastinate_job_event_type: deferred, started, deferred_for_retry, failed, succeeded, cancelled, abort_requested, aborted, scheduled, retried'),
    ('type procrastinate_job_to_defer_v1: queue_name character varying, task_name character varying, priority integer, lock text, queueing_lock text, args jsonb, scheduled_at timestamp with time zone'),
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
    ('constraint on procrastinate_jobs: FOREIGN KEY (worker_id) REFERENCES procrastinate_workers(id) ON DELETE SET NULL'),
    ('constraint on procrastinate_periodic_defers: PRIMARY KEY (id)'),
    ('constraint on procrastinate_periodic_defers: UNIQUE (task_name, periodic_id, defer_timestamp)'),
    ('constraint on procrastinate_periodic_defers: FOREIGN KEY (job_id) REFERENCES procrastinate_jobs(id)'),
    ('constraint on procrastinate_events: PRIMARY KEY (id)'),
    ('constraint on procrastinate_events: FOREIGN KEY (job_id) REFERENCES procrastinate_jobs(id) ON DELETE CASCADE'),
    ('check on procrastinate_jobs: check_not_todo_abort_requested'),
    ('unique index procrastinate_jobs_queueing_lock_idx_v1 (queueing_lock) where (status = ''todo''::procrastinate_job_status)'),
    ('unique index procrastinate_jobs_lock_idx_v1 (lock) where (status = ''doing''::procrastinate_job_status)'),
    ('unique index procrastinate_periodic_defers_unique (task_name, periodic_id, defer_timestamp)'),
    ('function procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[]) returns bigint[]'),
    ('function procrastinate_defer_periodic_job_v2(_queue_name character varying, _lock character varying, _queueing_lock character varying, _task_name character varying, _priority integer, _periodic_id character varying, _defer_timestamp bigint, _args jsonb) returns bigint'),
    ('function procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint) returns procrastinate_jobs'),
    ('function procrastinate_finish_job_v1(job_id bigint, end_status procrastinate_job_status, delete_job boolean) returns void'),
    ('function procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean) returns bigint'),
    ('function procrastinate_retry_job_v1(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) returns void'),
    ('function procrastinate_retry_job_v2(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) returns void'),
    ('function procrastinate_register_worker_v1() returns TABLE(worker_id bigint)'),
    ('function procrastinate_unregister_worker_v1(worker_id bigint) returns void'),
    ('function procrastinate_update_heartbeat_v1(worker_id bigint) returns void'),
    ('function procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision) returns TABLE(worker_id bigint)'),
    ('trigger procrastinate_jobs_notify_queue_job_inserted_v1: procrastinate_notify_queue_job_inserted_v1()'),
    ('trigger procrastinate_jobs_notify_queue_job_aborted_v1: procrastinate_notify_queue_abort_job_v1()'),
    ('trigger procrastinate_trigger_status_events_insert_v1: procrastinate_trigger_function_status_events_insert_v1()'),
    ('trigger procrastinate_trigger_status_events_update_v1: procrastinate_trigger_function_status_events_update_v1()'),
    ('trigger procrastinate_trigger_scheduled_events_v1: procrastinate_trigger_function_scheduled_events_v1()'),
    ('trigger procrastinate_trigger_abort_requested_events_v1: procrastinate_trigger_abort_requested_events_procedure_v1()'),
    ('trigger procrastinate_trigger_delete_jobs_v1: procrastinate_unlink_periodic_defers_v1()')),
contract_tables AS (
    SELECT class.oid, class.relname
    FROM pg_catalog.pg_class AS class, here
    WHERE class.relnamespace = here.schema
      AND class.relkind = 'r'
      AND class.relname IN ('procrastinate_workers', 'procrastinate_jobs', 'procrastinate_periodic_defers', 'procrastinate_events')),
found (line) AS (
    SELECT format('type %s: %s', type.typname, string_agg(label.enumlabel, ', ' ORDER BY label.enumsortorder))
    FROM here, pg_catalog.pg_type AS type JOIN pg_catalog.pg_enum AS label ON label.enumtypid = type.oid
    WHERE type.typnamespace = here.schema
    GROUP BY type.typname
  UNION ALL
    SELECT format('type %s: %s', class.relname,
                  string_agg(format('%s %s', field.attname, format_type(field.atttypid, field.atttypmod)), ', ' ORDER BY field.attnum))
    FROM here, pg_catalog.pg_class AS class JOIN pg_catalog.pg_attribute AS field ON field.attrelid = class.oid
    WHERE class.relnamespace = here.schema AND class.relkind = 'c' AND field.attnum > 0 AND NOT field.attisdropped
    GROUP BY class.relname
  UNION ALL
    SELECT format('column %s.%s %s%s%s', contract_tables.relname, field.attname, format_type(field.atttypid, field.atttypmod),
                  CASE WHEN field.attnotnull THEN ' not null' END,
                  CASE WHEN field.atthasdef OR field.attidentity <> '' THEN ' default' END)
    FROM contract_tables JOIN pg_catalog.pg_attribute AS field ON field.attrelid = contract_tables.oid
    WHERE field.attnum > 0 AND NOT field.attisdropped
  UNION ALL
    SELECT format('constraint on %s: %s', contract_tables.relname, pg_get_constraintdef(constraints.oid))
    FROM contract_tables JOIN pg_catalog.pg_constraint AS constraints ON constraints.conrelid = contract_tables.oid
    WHERE constraints.contype IN ('p', 'u', 'f') AND constraints.convalidated
  UNION ALL
    SELECT format('check on %s: %s', contract_tables.relname, constraints.conname)
    FROM contract_tables JOIN pg_catalog.pg_constraint AS constraints ON constraints.conrelid = contract_tables.oid
    WHERE constraints.contype = 'c' AND constraints.convalidated
  UNION ALL
    SELECT format('unique index %s (%s)%s', class.relname,
                  (SELECT string_agg(field.attname, ', ' ORDER BY field.attnum)
                   FROM pg_catalog.pg_attribute AS field WHERE field.attrelid = class.oid),
                  ' where ' || pg_get_expr(index.indpred, index.indrelid))
    FROM contract_tables
        JOIN pg_catalog.pg_index AS index ON index.indrelid = contract_tables.oid
        JOIN pg_catalog.pg_class AS class ON class.oid = index.indexrelid
    WHERE index.indisunique AND index.indisvalid
  UNION ALL
    SELECT format('function %s(%s) returns %s', proc.proname, pg_get_function_arguments(proc.oid), pg_get_function_result(proc.oid))
    FROM here, pg_catalog.pg_proc AS proc
    WHERE proc.pronamespace = here.schema AND proc.proname LIKE 'procrastinate\_%'
  UNION ALL
    SELECT format('trigger %s: %s()', trigger.tgname, proc.proname)
    FROM contract_tables
        JOIN pg_catalog.pg_trigger AS trigger ON trigger.tgrelid = contract_tables.oid
        JOIN pg_catalog.pg_proc AS proc ON proc.oid = trigger.tgfoid
    WHERE contract_tables.relname = 'procrastinate_jobs' AND NOT trigger.tgisinternal AND trigger.tgenabled IN ('O', 'A')),
difference (line) AS (
    SELECT 'missing or different: ' || expected.line FROM expected WHERE expected.line NOT IN (SELECT found.line FROM found)
  UNION ALL
    -- A second signature would make the calls of clients ambiguous.
    SELECT 'not expected: ' || found.line FROM found
    WHERE found.line NOT IN (SELECT expected.line FROM expected)
      AND found.line LIKE 'function %'
      AND EXISTS (SELECT FROM expected WHERE split_part(expected.line, '(', 1) = split_part(found.line, '(', 1)))
SELECT string_agg('  ' || difference.line, E'\n' ORDER BY difference.line), count(*)
INTO differences, number_of_differences
FROM difference;

IF number_of_differences > 0 THEN
    -- Each of these came with a version, and stayed.
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
        WHERE proc.pronamespace = quote_ident(current_schema())::regnamespace AND proc.proname LIKE 'procrastinate\_%') AS functions;
    RAISE EXCEPTION USING
        ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format(
            E'the schema "%s" holds tables of Procrastinate in another form than that of version 3.10; nothing was changed. %s difference(s):\n%s\n'
            'By their names its functions are those of Procrastinate %s. '
            'An older database is brought up by Procrastinate 3.10''s own migrations (with Django: manage.py migrate procrastinate; '
            'otherwise the SQL files in the directory that "procrastinate schema --migrations-path" prints, from the version after the installed one, in the order of their names). '
            'An altered one has to be put back by hand. Then run this migration again.',
            current_schema(), number_of_differences, differences, looks_like);
END IF;

END;
$baseline$;
