-- Final events by age. Finishing a job writes one entry at the right end of its type.
--
-- Building it on a large table takes time, during which nobody can write to the table. To avoid
-- that, run the CREATE INDEX beforehand, outside of a transaction and with CONCURRENTLY behind
-- INDEX.
SELECT procrastinate_diesel_lock_table_v1('procrastinate_events', 'SHARE');

DO $invalid$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_index AS index
        WHERE index.indexrelid = to_regclass('procrastinate_diesel_events_final_idx_v1') AND NOT index.indisvalid)
    THEN
        DROP INDEX procrastinate_diesel_events_final_idx_v1;
    END IF;
END;
$invalid$;

CREATE INDEX IF NOT EXISTS procrastinate_diesel_events_final_idx_v1
    ON procrastinate_events (type, at, id)
    WHERE type IN ('failed', 'succeeded', 'cancelled', 'aborted');

CREATE FUNCTION procrastinate_diesel_delete_aborted_jobs_v1(
        youngest timestamptz, target_queue_name varchar, most integer)
    RETURNS bigint
    LANGUAGE plpgsql
AS $function$
DECLARE
    candidates bigint[];
    deleted bigint;
BEGIN
    candidates := ARRAY(
        SELECT job.id FROM procrastinate_jobs AS job
        WHERE job.status = 'aborted'
          AND (target_queue_name IS NULL OR job.queue_name = target_queue_name)
          AND EXISTS (SELECT FROM procrastinate_events AS event WHERE event.job_id = job.id)
          AND NOT EXISTS (
                SELECT FROM procrastinate_events AS event
                WHERE event.job_id = job.id
                  AND (event.type = 'aborted' OR event.at IS NULL OR event.at >= youngest))
        LIMIT most
        FOR UPDATE OF job SKIP LOCKED);
    DELETE FROM procrastinate_jobs AS job WHERE job.id = ANY (candidates);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_delete_aborted_jobs_v1(timestamptz, varchar, integer) IS
    'Deletes old aborted jobs that have no final event, and returns how many: a pending job that '
    'is finished as aborted gets none.';

CREATE FUNCTION procrastinate_diesel_delete_jobs_if_old_v1(
        job_ids bigint[], statuses procrastinate_job_status[], youngest timestamptz, target_queue_name varchar)
    RETURNS bigint
    LANGUAGE plpgsql
AS $function$
DECLARE
    candidates bigint[];
    deleted bigint;
BEGIN
    -- A job that another transaction has locked is in use, so it is not old.
    candidates := ARRAY(
        SELECT job.id FROM procrastinate_jobs AS job
        WHERE job.id = ANY (job_ids)
          AND job.status = ANY (statuses)
          AND job.status IN ('failed', 'succeeded', 'cancelled', 'aborted')
          AND (target_queue_name IS NULL OR job.queue_name = target_queue_name)
        FOR UPDATE OF job SKIP LOCKED);
    -- A statement of its own sees the events of transactions that held a lock until just before.
    DELETE FROM procrastinate_jobs AS job
    WHERE job.id = ANY (candidates)
      AND NOT EXISTS (
            SELECT FROM procrastinate_events AS event
            WHERE event.job_id = job.id AND (event.at IS NULL OR event.at >= youngest));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_delete_jobs_if_old_v1(
    bigint[], procrastinate_job_status[], timestamptz, varchar) IS
    'Deletes those of the jobs that have one of these statuses, belong to the queue unless it is '
    'NULL, and have no event since that time, and returns how many.';

CREATE FUNCTION procrastinate_diesel_delete_old_jobs_v1(
        statuses procrastinate_job_status[], older_than interval, target_queue_name varchar, max_events integer,
        start_after jsonb)
    RETURNS TABLE (deleted bigint, has_more boolean, stopped_at jsonb)
    LANGUAGE plpgsql
    -- As in procrastinate_diesel_finish_and_fetch_jobs_v1.
    SET jit = off SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
    SET enable_sort = off SET enable_incremental_sort = off
AS $function$
DECLARE
    youngest timestamptz := now() - older_than;
    missing integer := max_events;
    walked_type procrastinate_job_event_type;
    last_at timestamptz;
    last_id bigint;
    looked_at integer;
    candidates bigint[];
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
BEGIN
    -- Jobs before events, as in all functions.
    LOCK TABLE procrastinate_jobs IN ROW EXCLUSIVE MODE;
    deleted := 0;
    stopped_at := coalesce(start_after, '{}');

    -- Searched once, at the beginning.
    IF start_after IS NULL AND 'aborted' = ANY (statuses) THEN
        deleted := procrastinate_diesel_delete_aborted_jobs_v1(youngest, target_queue_name, max_events);
    END IF;

    FOREACH walked_type IN ARRAY '{succeeded, failed, aborted, cancelled}'::procrastinate_job_event_type[] LOOP
        -- A pending job that is finished as failed or succeeded gets the event of a cancelled job.
        CONTINUE WHEN walked_type::text <> ALL (statuses::text[])
            AND NOT (walked_type = 'cancelled' AND statuses && '{succeeded, failed}');
        last_at := coalesce((stopped_at #>> ARRAY[walked_type::text, 'at'])::timestamptz, '-infinity');
        last_id := coalesce((stopped_at #>> ARRAY[walked_type::text, 'id'])::bigint, 0);

        LOOP
            -- The planner needs the list of types to see that the index serves.
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
            SELECT count(*), coalesce((SELECT last.at FROM last), last_at),
                   coalesce((SELECT last.id FROM last), last_id), array_agg(walked.job_id)
            INTO looked_at, last_at, last_id, candidates
            FROM walked;
            EXIT WHEN looked_at = 0;
            missing := missing - looked_at;

            deleted := deleted + procrastinate_diesel_delete_jobs_if_old_v1(
                candidates, statuses, youngest, target_queue_name);
        END LOOP;
        stopped_at := stopped_at || jsonb_build_object(walked_type, jsonb_build_object('at', last_at, 'id', last_id));
    END LOOP;
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
    has_more := coalesce(missing = 0, false);
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_delete_old_jobs_v1(
    procrastinate_job_status[], interval, varchar, integer, jsonb) IS
    'Deletes the jobs of these statuses, and of a queue unless it is NULL, whose newest event is '
    'older than the interval, and returns how many. It reads final events, oldest first, at most '
    'max_events (NULL: all), and skips jobs that others have locked. stopped_at is where it '
    'stopped: pass it to the next call as start_after. has_more is whether it stopped because of '
    'max_events.';
