CREATE FUNCTION procrastinate_diesel_jobs_without_worker_v1(task_names varchar[])
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
        WHERE job.status = 'doing' AND job.worker_id IS NULL AND job.task_name = ANY (task_names)
        ORDER BY job.id
        LIMIT 1000;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_jobs_without_worker_v1(varchar[]) IS
    'Running jobs of these tasks whose worker is gone: the first thousand.';

CREATE FUNCTION procrastinate_diesel_rescue_jobs_v1(rescues jsonb)
    RETURNS TABLE (job_id bigint, new_status procrastinate_job_status)
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    rescue record;
    is_abort_requested boolean;
BEGIN
    FOR rescue IN
        SELECT * FROM jsonb_to_recordset(rescues)
            AS rescue (job_id bigint, attempts integer, is_retried boolean, retry_at timestamptz, priority integer,
                queue_name varchar, lock text, error text)
        ORDER BY job_id
    LOOP
        -- A job that another worker is rescuing, or that its own worker has taken back, is left to
        -- them.
        SELECT job.abort_requested INTO is_abort_requested
        FROM procrastinate_jobs AS job
        WHERE job.id = rescue.job_id AND job.status = doing AND job.worker_id IS NULL
          AND job.attempts = rescue.attempts
        FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;

        INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error)
        VALUES (rescue.job_id, rescue.attempts + 1, rescue.error)
        ON CONFLICT DO NOTHING;

        job_id := rescue.job_id;
        IF is_abort_requested OR NOT rescue.is_retried THEN
            UPDATE procrastinate_jobs AS job
            SET status = CASE WHEN is_abort_requested THEN 'aborted' ELSE 'failed' END::procrastinate_job_status,
                abort_requested = false,
                attempts = job.attempts + 1
            WHERE job.id = rescue.job_id
            RETURNING job.status INTO new_status;
        ELSE
            new_status := procrastinate_diesel_requeue_job_v1(
                rescue.job_id, NULL, rescue.attempts, rescue.retry_at, rescue.priority, rescue.queue_name,
                rescue.lock, true);
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_rescue_jobs_v1(jsonb) IS
    'Ends the attempts of jobs whose worker died: an array of objects with job_id, attempts, '
    'is_retried and error, and optionally retry_at, priority, queue_name and lock. A job is '
    'requeued if is_retried, and fails otherwise. A job whose abort was requested is aborted. The '
    'attempt counts. Returns the new status of each job that had no worker.';
