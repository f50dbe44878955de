CREATE FUNCTION procrastinate_diesel_update_heartbeat_v1(p_worker_id bigint)
    RETURNS TABLE (job_id bigint, abort_requested boolean)
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
    -- A client that stops waiting does not end the statement. Each of its tries would occupy one
    -- more connection.
    SET lock_timeout = '5s'
AS $function$
DECLARE
    job_ids bigint[];
    abort_requests boolean[];
BEGIN
    -- Jobs before workers, as in all functions.
    SELECT array_agg(job.id), array_agg(job.abort_requested) INTO job_ids, abort_requests
    FROM procrastinate_jobs AS job
    WHERE job.worker_id = p_worker_id AND job.status = 'doing';
    UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = p_worker_id;
    IF FOUND THEN
        RETURN QUERY SELECT job.* FROM unnest(job_ids, abort_requests) AS job;
        RETURN NEXT;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_update_heartbeat_v1(bigint) IS
    'Stores the heartbeat of a worker. Returns the jobs that the worker is doing, and at the end a '
    'row of NULLs. Returns nothing if the worker is not registered.';

CREATE FUNCTION procrastinate_diesel_jobs_of_worker_v1(p_worker_id bigint, job_ids bigint[])
    RETURNS SETOF procrastinate_diesel_fetched_v1
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
BEGIN
    RETURN QUERY
        SELECT fetched.*
        FROM procrastinate_jobs AS job CROSS JOIN LATERAL procrastinate_diesel_fetched_v1(job) AS fetched
        WHERE job.id = ANY (job_ids) AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_jobs_of_worker_v1(bigint, bigint[]) IS
    'Those of the jobs that a worker is doing.';

CREATE FUNCTION procrastinate_diesel_reregister_worker_v1(job_ids bigint[], job_attempts integer[])
    RETURNS TABLE (worker_id bigint, job_id bigint)
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    new_worker_id bigint;
BEGIN
    -- Jobs before workers, as in all functions.
    LOCK TABLE procrastinate_jobs IN ROW EXCLUSIVE MODE;
    INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id INTO new_worker_id;
    RETURN QUERY
        WITH kept AS (
            UPDATE procrastinate_jobs AS job
            SET worker_id = new_worker_id
            WHERE job.id = ANY (job_ids) AND job.attempts = job_attempts[array_position(job_ids, job.id)]
              AND job.status = doing AND job.worker_id IS NULL
            RETURNING job.id)
        SELECT new_worker_id, kept.id FROM kept;
    RETURN QUERY SELECT new_worker_id, NULL::bigint;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_reregister_worker_v1(bigint[], integer[]) IS
    'Registers a worker whose row was deleted while it was running these jobs, and gives it those '
    'that nobody has taken since. Returns its new ID with each of these jobs, and at the end with '
    'a NULL.';
