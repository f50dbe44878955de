CREATE FUNCTION procrastinate_diesel_finish_job_v1(
        p_job_id bigint, end_status procrastinate_job_status, delete_job boolean)
    RETURNS TABLE (is_finished boolean, found_status procrastinate_job_status)
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
AS $function$
BEGIN
    SELECT job.status INTO found_status FROM procrastinate_jobs AS job WHERE job.id = p_job_id FOR UPDATE;
    is_finished := coalesce(found_status IN ('todo', 'doing'), false);
    IF is_finished THEN
        PERFORM procrastinate_finish_job_v1(p_job_id, end_status, delete_job);
    END IF;
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_finish_job_v1(bigint, procrastinate_job_status, boolean) IS
    'Like procrastinate_finish_job_v1, but raises nothing if the job cannot be finished. Returns '
    'whether it was finished, and the status before, NULL if there is no such job.';

CREATE FUNCTION procrastinate_diesel_retry_job_v1(
        p_job_id bigint, retry_at timestamptz, new_priority integer, new_queue_name varchar, new_lock text)
    RETURNS TABLE (
        found_status procrastinate_job_status, new_status procrastinate_job_status, taken_queueing_lock text,
        found_task_name varchar)
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
AS $function$
DECLARE
    found_abort_requested boolean;
    found_queueing_lock text;
    violated_constraint text;
BEGIN
    -- Lock the row before reading it: a concurrent abort waits, and then finds the job retried or
    -- failed.
    SELECT job.status, job.abort_requested, job.queueing_lock, job.task_name
    INTO found_status, found_abort_requested, found_queueing_lock, found_task_name
    FROM procrastinate_jobs AS job WHERE job.id = p_job_id FOR UPDATE;

    IF found_status = 'doing' AND found_abort_requested THEN
        UPDATE procrastinate_jobs AS job SET status = 'failed' WHERE job.id = p_job_id
        RETURNING job.status INTO new_status;
    ELSIF found_status IN ('doing', 'failed') THEN
        -- The block with a handler is a subtransaction, so a violation does not abort the caller's
        -- transaction.
        BEGIN
            UPDATE procrastinate_jobs AS job
            SET status = 'todo',
                abort_requested = false,
                attempts = job.attempts + 1,
                scheduled_at = coalesce(retry_at, now()),
                priority = coalesce(new_priority, job.priority),
                queue_name = coalesce(new_queue_name, job.queue_name),
                lock = coalesce(new_lock, job.lock)
            WHERE job.id = p_job_id
            RETURNING job.status INTO new_status;
        EXCEPTION WHEN unique_violation THEN
            GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
            IF violated_constraint <> 'procrastinate_jobs_queueing_lock_idx_v1' THEN
                RAISE;
            END IF;
            taken_queueing_lock := found_queueing_lock;
        END;
    END IF;
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_retry_job_v1(bigint, timestamptz, integer, varchar, text) IS
    'Like procrastinate_retry_job_v2, but raises nothing if the job cannot be retried. Returns the '
    'status before (NULL: there is no such job), the status now (NULL: nothing was changed), the '
    'queueing lock if another pending job holds it, and the task.';
