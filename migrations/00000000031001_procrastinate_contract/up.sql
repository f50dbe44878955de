-- The database contract of Procrastinate 3.10: types, tables, indexes, functions and triggers.
-- Nothing is done where the tables exist: the migration before this one has checked them.
--
-- Every name is unqualified, so that objects land in the first schema of search_path and functions
-- work on the tables that their caller's search_path finds. The comment on procrastinate_jobs tells
-- the down migration whether this migration created the tables or found them.

DO $create$
BEGIN

IF to_regclass(quote_ident(current_schema()) || '.procrastinate_jobs') IS NOT NULL THEN
    RETURN;
END IF;

EXECUTE $contract$

CREATE TYPE procrastinate_job_status AS ENUM (
    'todo', 'doing', 'succeeded', 'failed', 'cancelled', 'aborting', 'aborted');
COMMENT ON TYPE procrastinate_job_status IS
    'The status of a job. aborting is no longer written; old rows may have it.';

CREATE TYPE procrastinate_job_event_type AS ENUM (
    'deferred', 'started', 'deferred_for_retry', 'failed', 'succeeded', 'cancelled',
    'abort_requested', 'aborted', 'scheduled', 'retried');
COMMENT ON TYPE procrastinate_job_event_type IS 'A change in the life of a job.';

CREATE TYPE procrastinate_job_to_defer_v1 AS (
    queue_name varchar,
    task_name varchar,
    priority integer,
    lock text,
    queueing_lock text,
    args jsonb,
    scheduled_at timestamptz);
COMMENT ON TYPE procrastinate_job_to_defer_v1 IS
    'One job, as procrastinate_defer_jobs_v1 takes it.';

CREATE TABLE procrastinate_workers (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    last_heartbeat timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE procrastinate_workers IS
    'The running workers. The row of a worker is deleted when it stops or is considered stalled.';
COMMENT ON COLUMN procrastinate_workers.last_heartbeat IS
    'The time of the worker''s last heartbeat.';

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
COMMENT ON TABLE procrastinate_jobs IS
    'The jobs. Created by the migrations of the procrastinate crate.';
COMMENT ON COLUMN procrastinate_jobs.queue_name IS
    'The queue. Workers choose the queues they serve.';
COMMENT ON COLUMN procrastinate_jobs.task_name IS
    'The name by which a worker finds the code to run.';
COMMENT ON COLUMN procrastinate_jobs.priority IS
    'Higher priorities are fetched first; among equal ones the lower ID.';
COMMENT ON COLUMN procrastinate_jobs.lock IS 'Jobs that share a lock run one at a time, in order.';
COMMENT ON COLUMN procrastinate_jobs.queueing_lock IS
    'At most one job with a given queueing lock is pending.';
COMMENT ON COLUMN procrastinate_jobs.args IS 'The arguments of the task by name. Always an object.';
COMMENT ON COLUMN procrastinate_jobs.scheduled_at IS 'The earliest start. NULL means immediately.';
COMMENT ON COLUMN procrastinate_jobs.attempts IS 'How many attempts have ended.';
COMMENT ON COLUMN procrastinate_jobs.abort_requested IS
    'Whether an abort of the running job was requested.';
COMMENT ON COLUMN procrastinate_jobs.worker_id IS
    'The worker that fetched the job. NULL when that worker is gone.';

CREATE TABLE procrastinate_periodic_defers (
    id bigserial PRIMARY KEY,
    task_name varchar(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint REFERENCES procrastinate_jobs (id),
    periodic_id varchar(128) NOT NULL DEFAULT '',
    CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp));
COMMENT ON TABLE procrastinate_periodic_defers IS
    'The ticks of periodic tasks that were deferred, so that each is deferred once.';
COMMENT ON COLUMN procrastinate_periodic_defers.defer_timestamp IS 'The tick, in Unix seconds.';
COMMENT ON COLUMN procrastinate_periodic_defers.periodic_id IS
    'Distinguishes several schedules of one task.';

CREATE TABLE procrastinate_events (
    id bigserial PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES procrastinate_jobs (id) ON DELETE CASCADE,
    type procrastinate_job_event_type,
    at timestamptz DEFAULT now());
COMMENT ON TABLE procrastinate_events IS 'The history of the jobs, written by triggers.';

-- Clients recognize a violation by the name of these two.
CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON procrastinate_jobs (queueing_lock)
    WHERE status = 'todo';
CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (lock) WHERE status = 'doing';

CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON procrastinate_jobs (queue_name);
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON procrastinate_jobs (id, lock)
    WHERE status IN ('todo', 'doing');
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON procrastinate_jobs (priority DESC, id)
    WHERE status = 'todo';
CREATE INDEX idx_procrastinate_jobs_worker_not_null ON procrastinate_jobs (worker_id)
    WHERE worker_id IS NOT NULL AND status = 'doing';
CREATE INDEX procrastinate_events_job_id_fkey_v1 ON procrastinate_events (job_id);
CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON procrastinate_periodic_defers (job_id);
CREATE INDEX idx_procrastinate_workers_last_heartbeat ON procrastinate_workers (last_heartbeat);

CREATE FUNCTION procrastinate_defer_jobs_v1(jobs procrastinate_job_to_defer_v1[])
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    new_ids bigint[];
BEGIN
    WITH inserted AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args, job.scheduled_at
        FROM unnest(jobs) WITH ORDINALITY
            AS job (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, position)
        ORDER BY job.position
        RETURNING id)
    -- IDs are assigned in the order of insertion, which is the order of the input.
    SELECT array_agg(id ORDER BY id) INTO new_ids FROM inserted;
    RETURN coalesce(new_ids, '{}');
END;
$function$;
COMMENT ON FUNCTION procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[]) IS
    'Inserts the jobs in the order of the array and returns their IDs in that order. All or '
    'nothing.';

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
    -- Tables are always locked in the order jobs, periodic_defers, events, workers.
    LOCK TABLE procrastinate_jobs IN ROW EXCLUSIVE MODE;
    INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
    VALUES (_task_name, _periodic_id, _defer_timestamp)
    ON CONFLICT DO NOTHING
    RETURNING id INTO claim_id;
    IF claim_id IS NULL THEN
        RETURN NULL;
    END IF;

    -- A taken queueing lock raises here, which also undoes the claim.
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
    VALUES (_queue_name, _task_name, _priority, _lock, _queueing_lock, _args)
    RETURNING id INTO new_job_id;

    UPDATE procrastinate_periodic_defers SET job_id = new_job_id WHERE id = claim_id;

    -- Skip rows that another worker is deleting.
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
COMMENT ON FUNCTION procrastinate_defer_periodic_job_v2(
    varchar, varchar, varchar, varchar, integer, varchar, bigint, jsonb) IS
    'Defers one tick of a periodic task and returns the ID of the job, or NULL if that tick was '
    'deferred before.';

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
                      AND (earlier.priority > job.priority
                           OR (earlier.priority = job.priority AND earlier.id < job.id))))
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

        -- Meanwhile another worker may have started a job with the same lock that was deferred
        -- before this one. The unique index on the locks of running jobs detects it. Then search
        -- again.
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
            -- A transaction of these levels would never see that job, and search forever.
            IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
                RAISE EXCEPTION
                    'could not serialize access: a job with the same lock was started meanwhile (job id: %)',
                    candidate.id
                    USING ERRCODE = 'serialization_failure';
            END IF;
        END;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) IS
    'Fetches the next job of the queues for a worker, of all queues if NULL. Returns a row of '
    'NULLs if there is none.';

CREATE FUNCTION procrastinate_finish_job_v1(job_id bigint, end_status procrastinate_job_status, delete_job boolean)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF end_status IS NULL OR end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE EXCEPTION 'End status should be either "succeeded", "failed" or "aborted" (job id: %)',
            job_id;
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
    'Finishes a job as succeeded, failed or aborted, or deletes it.';

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
    'Cancels or deletes a pending job; with abort, also requests that a running job abort. Returns '
    'NULL if nothing matched.';

CREATE FUNCTION procrastinate_retry_job_v2(
        job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock varchar)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    current_status procrastinate_job_status;
    current_abort_requested boolean;
BEGIN
    -- Lock the row before reading it: a concurrent abort waits, and then finds the job retried or
    -- failed.
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
    'Requeues a running or failed job; a running job whose abort was requested fails instead.';

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
    'Like procrastinate_retry_job_v2, for running jobs only.';

CREATE FUNCTION procrastinate_register_worker_v1()
    RETURNS TABLE (worker_id bigint)
    LANGUAGE sql
AS $function$
    INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id;
$function$;
COMMENT ON FUNCTION procrastinate_register_worker_v1() IS 'Registers a worker and returns its ID.';

CREATE FUNCTION procrastinate_unregister_worker_v1(worker_id bigint)
    RETURNS void
    LANGUAGE sql
    SET enable_seqscan = off
AS $function$
    -- Jobs are locked before workers, here as everywhere: the foreign key updates them.
    SELECT FROM procrastinate_jobs AS job
    WHERE job.worker_id = procrastinate_unregister_worker_v1.worker_id AND job.status = 'doing'
    ORDER BY job.id
    FOR NO KEY UPDATE;
    DELETE FROM procrastinate_workers WHERE id = procrastinate_unregister_worker_v1.worker_id;
$function$;
COMMENT ON FUNCTION procrastinate_unregister_worker_v1(bigint) IS 'Deletes a worker.';

CREATE FUNCTION procrastinate_update_heartbeat_v1(worker_id bigint)
    RETURNS void
    LANGUAGE sql
AS $function$
    UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = procrastinate_update_heartbeat_v1.worker_id;
$function$;
COMMENT ON FUNCTION procrastinate_update_heartbeat_v1(bigint) IS
    'Stores the heartbeat of a worker.';

CREATE FUNCTION procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat float)
    RETURNS TABLE (worker_id bigint)
    LANGUAGE sql
    SET enable_seqscan = off
AS $function$
    -- Jobs are locked before workers, here as everywhere: the foreign key updates them.
    SELECT FROM procrastinate_jobs AS job
    WHERE job.status = 'doing' AND job.worker_id = ANY (ARRAY(
        SELECT stalled.id FROM procrastinate_workers AS stalled
        WHERE stalled.last_heartbeat < now() - make_interval(secs => seconds_since_heartbeat)))
    ORDER BY job.id
    FOR NO KEY UPDATE;
    -- A worker that is fetching holds its row. It is not stalled.
    DELETE FROM procrastinate_workers
    WHERE id IN (
        SELECT stalled.id FROM procrastinate_workers AS stalled
        WHERE stalled.last_heartbeat < now() - make_interval(secs => seconds_since_heartbeat)
        FOR UPDATE SKIP LOCKED)
    RETURNING id;
$function$;
COMMENT ON FUNCTION procrastinate_prune_stalled_workers_v1(float) IS
    'Deletes the workers whose last heartbeat is older than so many seconds, and returns their '
    'IDs.';

-- Both channels get each message. PostgreSQL refuses a channel name over 63 bytes: the workers of a
-- queue with such a name are notified on the channel of all queues.

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
COMMENT ON FUNCTION procrastinate_notify_queue_job_inserted_v1() IS
    'Notifies the workers that listen for new jobs.';

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
COMMENT ON FUNCTION procrastinate_notify_queue_abort_job_v1() IS
    'Notifies the worker that runs a job to abort it.';

CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1
    AFTER UPDATE OF abort_requested ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.abort_requested = false AND NEW.abort_requested = true AND NEW.status = 'doing')
    EXECUTE FUNCTION procrastinate_notify_queue_abort_job_v1();

CREATE FUNCTION procrastinate_trigger_function_status_events_insert_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO procrastinate_events (job_id, type) VALUES (NEW.id, 'deferred');
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_status_events_insert_v1() IS 
    'Writes the event of a new job.';

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
COMMENT ON FUNCTION procrastinate_trigger_function_status_events_update_v1() IS 
    'Writes the event of a change of status.';

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
    'Writes the event of a pending job that is scheduled, dated with the time it is scheduled for.';

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
COMMENT ON FUNCTION procrastinate_trigger_abort_requested_events_procedure_v1() IS 
    'Writes the event of a request to abort.';

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
    'Unlinks a deleted job from the tick that deferred it. The tick stays on record.';

CREATE TRIGGER procrastinate_trigger_delete_jobs_v1
    BEFORE DELETE ON procrastinate_jobs FOR EACH ROW
    EXECUTE FUNCTION procrastinate_unlink_periodic_defers_v1();

$contract$;

END;
$create$;
