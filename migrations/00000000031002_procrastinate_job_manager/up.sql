-- What the job manager needs beyond the contract: changes of status that answer instead of raising, and the deletion of
-- old jobs in steps. Only added, and named with "diesel", as in the migration before.

-- Final events by age. Finishing a job writes one entry at the right end of its type.
CREATE INDEX procrastinate_diesel_events_final_idx_v1 ON procrastinate_events (type, at, id)
    WHERE type IN ('failed', 'succeeded', 'cancelled', 'aborted');

-- Jobs that did not end well: few, so the index costs next to nothing, and listings of them need not read the rest.
CREATE INDEX procrastinate_diesel_jobs_unsuccessful_idx_v1 ON procrastinate_jobs (status, id)
    WHERE status IN ('failed', 'cancelled', 'aborted');

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
    'As procrastinate_finish_job_v1, but a job that cannot be finished raises nothing: the answer is whether it was finished, and the status it had before, NULL when there is no such job.';

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
    -- Locked before it is read: an abort that arrives at this moment waits, and then finds the job retried or failed.
    SELECT job.status, job.abort_requested, job.queueing_lock, job.task_name
    INTO found_status, found_abort_requested, found_queueing_lock, found_task_name
    FROM procrastinate_jobs AS job WHERE job.id = p_job_id FOR UPDATE;

    IF found_status = 'doing' AND found_abort_requested THEN
        UPDATE procrastinate_jobs AS job SET status = 'failed' WHERE job.id = p_job_id
        RETURNING job.status INTO new_status;
    ELSIF found_status IN ('doing', 'failed') THEN
        -- The block with a handler is a subtransaction: it is what lets the caller's transaction live on.
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
    'As procrastinate_retry_job_v2, but a job that cannot be retried raises nothing: the answer is the status it had (NULL: there is no such job), the one it has now (NULL: nothing was changed), the queueing lock if another job that waits holds it, and its task.';

CREATE FUNCTION procrastinate_diesel_delete_old_jobs_v1(
        statuses procrastinate_job_status[], older_than interval, target_queue_name varchar, max_events integer,
        start_after jsonb)
    RETURNS TABLE (deleted bigint, has_more boolean, stopped_at jsonb)
    LANGUAGE plpgsql
    -- Walks along indexes whatever the statistics say, planned once, as in the function that fetches.
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_sort = off
    SET enable_incremental_sort = off
AS $function$
DECLARE
    youngest timestamptz := now() - older_than;
    missing integer := max_events;
    walked_type procrastinate_job_event_type;
    last_at timestamptz;
    last_id bigint;
    looked_at integer;
    candidates bigint[];
    deleted_now bigint;
BEGIN
    deleted := 0;
    stopped_at := coalesce(start_after, '{}');

    -- A waiting job that is ended by hand as aborted has no final event at all. Looked for once, at the beginning.
    IF start_after IS NULL AND 'aborted' = ANY (statuses) THEN
        candidates := ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'aborted'
              AND (target_queue_name IS NULL OR job.queue_name = target_queue_name)
              AND EXISTS (SELECT FROM procrastinate_events AS event WHERE event.job_id = job.id)
              AND NOT EXISTS (
                    SELECT FROM procrastinate_events AS event
                    WHERE event.job_id = job.id
                      AND (event.type = 'aborted' OR event.at IS NULL OR event.at >= youngest))
            LIMIT max_events
            FOR UPDATE OF job SKIP LOCKED);
        DELETE FROM procrastinate_jobs AS job WHERE job.id = ANY (candidates);
        GET DIAGNOSTICS deleted = ROW_COUNT;
    END IF;

    FOREACH walked_type IN ARRAY '{succeeded, failed, aborted, cancelled}'::procrastinate_job_event_type[] LOOP
        -- A waiting job that is ended by hand as failed or succeeded gets the event of a cancelled one.
        CONTINUE WHEN walked_type::text <> ALL (statuses::text[])
            AND NOT (walked_type = 'cancelled' AND statuses && '{succeeded, failed}');
        last_at := coalesce((stopped_at #>> ARRAY[walked_type::text, 'at'])::timestamptz, '-infinity');
        last_id := coalesce((stopped_at #>> ARRAY[walked_type::text, 'id'])::bigint, 0);

        LOOP
            -- The list of types is what tells the planner that the index will do.
            WITH walked AS MATERIALIZED (
                SELECT event.id, event.at, event.job_id
                FROM procrastinate_events AS event
                WHERE event.type = walked_type
                  AND event.type IN ('failed', 'succeeded', 'cancelled', 'aborted')
                  AND event.at < youngest
                  AND (event.at, event.id) > (last_at, last_id)
                ORDER BY event.at, event.id
                LIMIT least(missing, 1000)),
            last AS (
                SELECT walked.at, walked.id FROM walked ORDER BY walked.at DESC, walked.id DESC LIMIT 1)
            SELECT count(*), coalesce((SELECT last.at FROM last), last_at), coalesce((SELECT last.id FROM last), last_id),
                   array_agg(walked.job_id)
            INTO looked_at, last_at, last_id, candidates
            FROM walked;
            EXIT WHEN looked_at = 0;
            missing := missing - looked_at;

            -- Whoever has such a job locked is doing something with it, so it is not that old.
            candidates := ARRAY(
                SELECT job.id FROM procrastinate_jobs AS job
                WHERE job.id = ANY (candidates)
                  AND job.status = ANY (statuses)
                  AND job.status IN ('failed', 'succeeded', 'cancelled', 'aborted')
                  AND (target_queue_name IS NULL OR job.queue_name = target_queue_name)
                FOR UPDATE OF job SKIP LOCKED);
            -- Only now: this statement sees the events of whoever had a lock until just before.
            DELETE FROM procrastinate_jobs AS job
            WHERE job.id = ANY (candidates)
              AND NOT EXISTS (
                    SELECT FROM procrastinate_events AS event
                    WHERE event.job_id = job.id AND (event.at IS NULL OR event.at >= youngest));
            GET DIAGNOSTICS deleted_now = ROW_COUNT;
            deleted := deleted + deleted_now;
        END LOOP;
        stopped_at := stopped_at || jsonb_build_object(walked_type, jsonb_build_object('at', last_at, 'id', last_id));
    END LOOP;
    has_more := coalesce(missing = 0, false);
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_delete_old_jobs_v1(procrastinate_job_status[], interval, varchar, integer, jsonb) IS
    'Deletes the jobs of these statuses, and of a queue unless it is NULL, whose newest event is older than the interval, and returns how many. It walks along final events, oldest first, at most max_events of them (NULL: to the end), and skips jobs that others have locked. stopped_at says where it stopped, to be passed as start_after to the next call; has_more, whether it stopped because of max_events.';
