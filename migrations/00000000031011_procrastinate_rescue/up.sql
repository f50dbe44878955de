-- Removing workers. Their running jobs are released first, so that other workers can rescue them.
-- Deleting a worker updates all its jobs, also finished ones. These are unlinked in steps before.
-- Meanwhile the last heartbeat of the worker is the epoch: it is not registered any more.

CREATE FUNCTION procrastinate_diesel_release_worker_v1(p_worker_id bigint, silent_since timestamptz)
    RETURNS boolean
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
BEGIN
    -- Jobs before workers, as in all functions.
    UPDATE procrastinate_jobs AS job
    SET worker_id = NULL
    WHERE job.id = ANY (ARRAY(
        SELECT held.id FROM procrastinate_jobs AS held
        WHERE held.worker_id = p_worker_id AND held.status = 'doing'
        ORDER BY held.id
        FOR NO KEY UPDATE SKIP LOCKED));
    -- A worker that is fetching holds its row. It is not stalled.
    UPDATE procrastinate_workers AS worker
    SET last_heartbeat = 'epoch'
    WHERE worker.id = (
        SELECT silent.id FROM procrastinate_workers AS silent
        WHERE silent.id = p_worker_id AND silent.last_heartbeat < silent_since
        FOR UPDATE SKIP LOCKED);
    RETURN FOUND;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_release_worker_v1(bigint, timestamptz) IS
    'Releases the running jobs of a worker that has sent no heartbeat since that time, and sets '
    'its last heartbeat to the epoch. Returns whether there is such a worker. If not, the caller '
    'must roll back.';

CREATE FUNCTION procrastinate_diesel_release_stalled_workers_v1(seconds_since_heartbeat double precision)
    RETURNS TABLE (worker_id bigint, is_new boolean, problem text)
    LANGUAGE plpgsql
    SET enable_seqscan = off
AS $function$
DECLARE
    silent_since CONSTANT timestamptz := now() - make_interval(secs => seconds_since_heartbeat);
BEGIN
    FOR worker_id, is_new IN
        SELECT silent.id, silent.last_heartbeat > 'epoch'
        FROM procrastinate_workers AS silent
        WHERE silent.last_heartbeat < silent_since
        ORDER BY silent.id
    LOOP
        problem := NULL;
        BEGIN
            IF NOT procrastinate_diesel_release_worker_v1(worker_id, silent_since) THEN
                RAISE no_data_found;
            END IF;
        EXCEPTION
            WHEN no_data_found THEN
                -- It has sent a heartbeat, or another worker is releasing it.
                CONTINUE;
            WHEN OTHERS THEN
                IF procrastinate_diesel_ends_statement_v1(SQLSTATE) THEN
                    RAISE;
                END IF;
                problem := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
        END;
        RETURN NEXT;
    END LOOP;
    -- A chore of the same kind.
    IF EXISTS (SELECT FROM procrastinate_diesel_limit_keys) THEN
        PERFORM procrastinate_diesel_clean_keys_v1(10000);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_release_stalled_workers_v1(double precision) IS
    'Releases the running jobs of the workers whose last heartbeat is older than so many seconds, '
    'and returns the IDs of these workers. is_new is false for those that were released before. '
    'problem is the error of a worker whose jobs the database refuses to release. To delete the '
    'workers, call procrastinate_diesel_remove_worker_v1.';

CREATE FUNCTION procrastinate_diesel_remove_worker_v1(
        p_worker_id bigint, most integer, OUT is_removed boolean, OUT unlinked integer)
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
BEGIN
    IF EXISTS (
        SELECT FROM procrastinate_workers AS worker
        WHERE worker.id = p_worker_id AND worker.last_heartbeat <= 'epoch')
    THEN
        UPDATE procrastinate_jobs AS job
        SET worker_id = NULL
        WHERE job.id = ANY (ARRAY(
            SELECT linked.id FROM procrastinate_jobs AS linked
            WHERE linked.worker_id = p_worker_id
            LIMIT most
            FOR NO KEY UPDATE SKIP LOCKED));
        GET DIAGNOSTICS unlinked = ROW_COUNT;
        DELETE FROM procrastinate_workers AS worker
        WHERE worker.id = p_worker_id AND worker.last_heartbeat <= 'epoch'
          AND NOT EXISTS (SELECT FROM procrastinate_jobs AS job WHERE job.worker_id = p_worker_id);
        is_removed := FOUND;
    ELSE
        unlinked := 0;
        is_removed := true;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_remove_worker_v1(bigint, integer) IS
    'Unlinks at most so many jobs from a released worker, and deletes the worker if no job is '
    'linked to it. is_removed is whether there is nothing left to do. unlinked is the number of '
    'jobs. Jobs that others have locked are left to a later call.';

CREATE FUNCTION procrastinate_diesel_unregister_worker_v1(
        p_worker_id bigint, most integer, OUT is_removed boolean, OUT unlinked integer)
    LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM procrastinate_diesel_release_worker_v1(p_worker_id, 'infinity');
    SELECT removed.* INTO is_removed, unlinked
    FROM procrastinate_diesel_remove_worker_v1(p_worker_id, most) AS removed;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_unregister_worker_v1(bigint, integer) IS
    'Releases a worker, and does the first step of removing it, like '
    'procrastinate_diesel_remove_worker_v1.';

CREATE FUNCTION procrastinate_diesel_jobs_without_worker_v1(task_names varchar[], after_id bigint DEFAULT 0)
    RETURNS SETOF procrastinate_diesel_fetched_v1
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_sort = off
    SET enable_incremental_sort = off
AS $function$
BEGIN
    RETURN QUERY
        SELECT fetched.*
        FROM procrastinate_jobs AS job CROSS JOIN LATERAL procrastinate_diesel_fetched_v1(job) AS fetched
        WHERE job.status = 'doing' AND job.worker_id IS NULL AND job.id > after_id
          AND job.task_name = ANY (task_names)
        ORDER BY job.id
        LIMIT 1000;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_jobs_without_worker_v1(varchar[], bigint) IS
    'Running jobs of these tasks whose worker is gone: the first thousand after the job with this '
    'ID.';

CREATE FUNCTION procrastinate_diesel_rescue_job_v1(
        p_job_id bigint, p_attempts integer, is_retried boolean, retry_at timestamptz, new_priority integer,
        new_queue_name varchar, new_lock text, error text)
    RETURNS procrastinate_job_status
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    is_abort_requested boolean;
    new_status procrastinate_job_status;
BEGIN
    -- A job that another worker is rescuing, or that its own worker has taken back, is left to
    -- them.
    SELECT job.abort_requested INTO is_abort_requested
    FROM procrastinate_jobs AS job
    WHERE job.id = p_job_id AND job.status = doing AND job.worker_id IS NULL AND job.attempts = p_attempts
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    IF error IS NOT NULL THEN
        INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error)
        VALUES (p_job_id, least(p_attempts, 2147483646) + 1, procrastinate_diesel_rescue_job_v1.error)
        ON CONFLICT DO NOTHING;
    END IF;

    IF NOT is_abort_requested AND is_retried THEN
        RETURN procrastinate_diesel_requeue_job_v1(
            p_job_id, NULL, p_attempts, retry_at, new_priority, new_queue_name, new_lock, true);
    END IF;
    UPDATE procrastinate_jobs AS job
    SET status = CASE WHEN is_abort_requested THEN 'aborted' ELSE 'failed' END::procrastinate_job_status,
        abort_requested = false,
        attempts = least(job.attempts, 2147483646) + 1
    WHERE job.id = p_job_id
    RETURNING job.status INTO new_status;
    RETURN new_status;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_rescue_job_v1(
    bigint, integer, boolean, timestamptz, integer, varchar, text, text) IS
    'Ends the attempt of a job whose worker died, as procrastinate_diesel_rescue_jobs_v1 does. '
    'Returns its new status, or NULL if it has a worker or is locked.';

CREATE FUNCTION procrastinate_diesel_rescue_jobs_v1(rescues jsonb)
    RETURNS TABLE (job_id bigint, new_status procrastinate_job_status, problem text)
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
DECLARE
    rescue record;
    kind text;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text;
BEGIN
    FOR rescue IN
        SELECT * FROM jsonb_to_recordset(rescues)
            AS each (job_id bigint, attempts integer, is_retried boolean, retry_at timestamptz,
                retry_in double precision, priority integer, queue_name varchar, lock text, error text,
                is_deleted_if_failed boolean)
        ORDER BY each.job_id
    LOOP
        job_id := rescue.job_id;
        problem := NULL;
        -- The job is rescued without those parts that the database refuses.
        FOREACH kind IN ARRAY ARRAY['complete', 'not_deleted', 'without_error', 'without_event'] LOOP
            CONTINUE WHEN kind = 'not_deleted' AND rescue.is_deleted_if_failed IS NOT TRUE;
            BEGIN
                -- At its depth, the triggers write no events.
                depth := set_config(
                    'procrastinate_diesel.batched_at_depth',
                    CASE WHEN kind = 'without_event' THEN pg_trigger_depth()::text ELSE former_depth END, true);
                new_status := procrastinate_diesel_rescue_job_v1(
                    rescue.job_id, rescue.attempts, rescue.is_retried,
                    coalesce(rescue.retry_at, now() + make_interval(secs => rescue.retry_in)), rescue.priority,
                    rescue.queue_name, rescue.lock,
                    CASE WHEN kind IN ('complete', 'not_deleted') THEN rescue.error END);
                IF rescue.is_deleted_if_failed AND kind = 'complete' THEN
                    DELETE FROM procrastinate_jobs AS job WHERE job.id = rescue.job_id AND new_status <> 'todo';
                    PERFORM procrastinate_diesel_end_keys_v1(ARRAY[rescue.job_id]);
                END IF;
                EXIT;
            EXCEPTION WHEN OTHERS THEN
                IF procrastinate_diesel_ends_statement_v1(SQLSTATE) THEN
                    RAISE;
                END IF;
                new_status := NULL;
                problem := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
            END;
        END LOOP;
        depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
        CONTINUE WHEN new_status IS NULL AND problem IS NULL;
        RETURN NEXT;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_rescue_jobs_v1(jsonb) IS
    'Ends the attempts of jobs whose worker died: an array of objects with job_id, attempts, '
    'is_retried and error, and optionally retry_at, retry_in, priority, queue_name, lock and '
    'is_deleted_if_failed. A job is requeued if is_retried, and fails otherwise. A job whose '
    'abort was requested is aborted. The attempt counts. With is_deleted_if_failed, a job that is '
    'not requeued is deleted. Returns the new status of each job that had no worker. problem is '
    'the error if the database refuses to change a job. If there is a new status as well, the job '
    'is rescued, but a part of it was refused: its deletion, its error or its event.';
