-- The heartbeat waits for nothing but the workers' table: while another transaction locks the jobs,
-- a worker still shows that it is alive. Its jobs are listed by a statement of their own.

CREATE FUNCTION procrastinate_diesel_update_heartbeat_v1(p_worker_id bigint)
    RETURNS integer
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
    -- A client that stops waiting does not end the statement. Each of its tries would occupy one
    -- more connection.
    SET lock_timeout = '5s'
AS $function$
BEGIN
    -- A released worker is about to be deleted.
    UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = p_worker_id AND last_heartbeat > 'epoch';
    RETURN CASE WHEN FOUND THEN (
        SELECT count(*) FROM (SELECT FROM procrastinate_workers LIMIT 1000) AS registered) ELSE 0 END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_update_heartbeat_v1(bigint) IS
    'Stores the heartbeat of a worker. Returns how many workers are registered, at most 1,000, or '
    '0 if this one is not.';

CREATE FUNCTION procrastinate_diesel_held_jobs_v1(p_worker_id bigint)
    RETURNS TABLE (job_id bigint, attempts integer, abort_requested boolean)
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
    -- Short, because the next heartbeat comes after it.
    SET lock_timeout = '200ms'
AS $function$
BEGIN
    RETURN QUERY
        SELECT job.id, job.attempts, job.abort_requested
        FROM procrastinate_jobs AS job
        WHERE job.worker_id = p_worker_id AND job.status = 'doing';
    -- Not earlier: a worker whose jobs are released between the two would seem to have none.
    PERFORM procrastinate_diesel_check_worker_v1(p_worker_id);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_held_jobs_v1(bigint) IS
    'The jobs that a worker is doing, each with the attempts before this one, and whether its '
    'abort was requested. Raises a violation of the foreign key of the jobs if the worker is not '
    'registered.';

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

CREATE FUNCTION procrastinate_diesel_draw_worker_id_v1()
    RETURNS bigint
    LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN nextval(coalesce(
        pg_get_serial_sequence('procrastinate_workers', 'id'), 'procrastinate_workers_id_seq')::regclass);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_draw_worker_id_v1() IS
    'Returns an ID for procrastinate_diesel_reregister_worker_v1 that no worker has had.';

CREATE FUNCTION procrastinate_diesel_reregister_worker_v1(
        former_worker_id bigint, new_worker_id bigint, job_ids bigint[], job_attempts integer[])
    RETURNS TABLE (job_id bigint, attempts integer)
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET lock_timeout = '5s'
AS $function$
#variable_conflict use_column
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    held_ids bigint[];
BEGIN
    -- Jobs before workers, as in all functions.
    LOCK TABLE procrastinate_jobs IN ROW EXCLUSIVE MODE;
    INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (new_worker_id) ON CONFLICT DO NOTHING;
    -- Twice: a statement under the former ID that still runs locks the worker's row when it fetches
    -- jobs. After that lock is ours, it has either committed or will fail.
    FOR turn IN 1..2 LOOP
        held_ids := ARRAY(
            SELECT job.id
            FROM procrastinate_jobs AS job
            WHERE job.worker_id = former_worker_id AND job.status = 'doing'
            ORDER BY job.id
            FOR UPDATE);
        UPDATE procrastinate_jobs AS job SET worker_id = new_worker_id WHERE job.id = ANY (held_ids);
        PERFORM FROM procrastinate_workers AS worker WHERE worker.id = former_worker_id FOR UPDATE;
    END LOOP;
    DELETE FROM procrastinate_workers AS worker WHERE worker.id = former_worker_id;
    -- If the worker was pruned as stalled, nobody may have taken its jobs.
    UPDATE procrastinate_jobs AS job
    SET worker_id = new_worker_id
    WHERE job.id = ANY (job_ids) AND job.attempts = job_attempts[array_position(job_ids, job.id)]
      AND job.status = doing AND job.worker_id IS NULL;
    -- The locks above can take long. Heartbeats of the former row meanwhile must count.
    UPDATE procrastinate_workers AS worker
    SET last_heartbeat = clock_timestamp()
    WHERE worker.id = new_worker_id AND worker.last_heartbeat > 'epoch';
    RETURN QUERY
        SELECT job.id, job.attempts
        FROM procrastinate_jobs AS job
        WHERE job.worker_id = new_worker_id AND job.status = 'doing';
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_reregister_worker_v1(bigint, bigint, bigint[], integer[]) IS
    'Replaces the registration of a worker by one with a new ID, so that statements under the '
    'former ID can no longer do anything, even if they arrive late. The worker keeps its jobs. If '
    'it was pruned as stalled, it gets back those of the given jobs that nobody has taken since. '
    'Returns all jobs that the worker is doing, each with the attempts before this one. Repeating '
    'the call does no harm.';
