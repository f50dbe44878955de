-- Storing how jobs ended. A job's outcome is stored only if the job is still doing, still belongs
-- to the worker, and is still in the same attempt. The functions rely on the settings that
-- procrastinate_diesel_finish_and_fetch_jobs_v1 makes, and, but for requeue_job, write the events
-- themselves.
--
-- A status that is compared in a condition on an ID is a variable, not a literal: the planner would
-- otherwise search an index of running jobs for the ID. For the same reason workers are compared
-- with IS NOT DISTINCT FROM.

CREATE FUNCTION procrastinate_diesel_record_errors_v1(p_worker_id bigint, errors jsonb)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    held_ids bigint[];
    held_attempts integer[];
BEGIN
    -- The jobs are locked, so that they still belong to the worker when their outcomes are stored.
    SELECT array_agg(held.id), array_agg(held.attempts) INTO held_ids, held_attempts
    FROM jsonb_to_recordset(errors) AS failure (job_id bigint, attempts integer)
    CROSS JOIN LATERAL (
        SELECT job.id, job.attempts
        FROM procrastinate_jobs AS job
        WHERE job.id = failure.job_id AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id
          AND (failure.attempts IS NULL OR job.attempts = failure.attempts)
        FOR UPDATE) AS held;
    -- If there is a row for the attempt, an earlier call stored it and its response was lost.
    INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, worker_id, worker_name, duration_seconds)
    SELECT held.id, least(held.attempts, 2147483646) + 1, failure.error, p_worker_id, failure.worker_name,
        failure.duration_seconds
    FROM jsonb_to_recordset(errors)
        AS failure (job_id bigint, error text, worker_name text, duration_seconds double precision)
    JOIN unnest(held_ids, held_attempts) AS held (id, attempts) ON held.id = failure.job_id
    ON CONFLICT DO NOTHING;
    -- Only the last hundred errors of a job are kept.
    DELETE FROM procrastinate_diesel_job_errors AS old
    USING jsonb_to_recordset(errors) AS failure (job_id bigint, attempts integer)
    WHERE failure.attempts >= 100 AND old.job_id = failure.job_id AND old.attempt <= failure.attempts - 99;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_record_errors_v1(bigint, jsonb) IS
    'Stores the errors of failed attempts: an array of objects with job_id, error, worker_name, '
    'duration_seconds, and optionally attempts, the number of attempts before.';

CREATE FUNCTION procrastinate_diesel_check_unchanged_v1(
        p_worker_id bigint, unchanged_job_ids bigint[], unchanged_attempts integer[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    held_id bigint;
BEGIN
    SELECT job.id INTO held_id
    FROM unnest(unchanged_job_ids, unchanged_attempts) AS outcome (id, attempts)
    JOIN procrastinate_jobs AS job ON job.id = outcome.id AND job.status = doing
        AND job.worker_id IS NOT DISTINCT FROM p_worker_id
        AND job.attempts = coalesce(outcome.attempts, job.attempts);
    IF FOUND THEN
        RAISE triggered_action_exception USING
            MESSAGE = format('Job %s could not be changed, because a trigger keeps its row as it is', held_id);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_check_unchanged_v1(bigint, bigint[], integer[]) IS
    'Raises an error if one of these jobs still belongs to the worker, in the attempt that began '
    'with the given number of attempts, although a statement has just changed or deleted it.';

CREATE FUNCTION procrastinate_diesel_finish_jobs_v1(
        p_worker_id bigint, finished_job_ids bigint[], end_statuses procrastinate_job_status[],
        finished_attempts integer[])
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    -- Searching the arrays for each job takes longer the more there are.
    have_all_succeeded CONSTANT boolean :=
        'succeeded' = ALL (end_statuses) AND cardinality(end_statuses) = cardinality(finished_job_ids);
    common_attempts CONSTANT integer :=
        CASE WHEN finished_attempts[1] = ALL (finished_attempts) THEN finished_attempts[1] END;
    finished_count bigint;
    have_keys boolean;
    nothing text;
BEGIN
    IF NOT end_statuses <@ ARRAY['succeeded', 'failed', 'aborted']::procrastinate_job_status[] THEN
        RAISE EXCEPTION 'End status should be either "succeeded", "failed" or "aborted" (job ids: %)',
            finished_job_ids;
    END IF;
    WITH finished AS (
        UPDATE procrastinate_jobs AS job
        SET status = CASE
                WHEN have_all_succeeded THEN 'succeeded'
                ELSE end_statuses[array_position(finished_job_ids, job.id)]
            END,
            abort_requested = false,
            -- A row can have the largest number of attempts.
            attempts = least(job.attempts, 2147483646) + 1,
            -- Deleting a worker updates all jobs that refer to it.
            worker_id = NULL
        WHERE job.id = ANY (finished_job_ids) AND job.status = doing
          AND job.worker_id IS NOT DISTINCT FROM p_worker_id
          AND job.attempts = coalesce(
              common_attempts, finished_attempts[array_position(finished_job_ids, job.id)], job.attempts)
        RETURNING job.id, job.status),
    events AS (
        INSERT INTO procrastinate_events (job_id, type)
        SELECT finished.id, finished.status::text::procrastinate_job_event_type FROM finished)
    SELECT count(*), EXISTS (
            SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL)
    INTO finished_count, have_keys
    FROM finished;
    IF have_keys THEN
        nothing := procrastinate_diesel_end_keyed_jobs_v1(finished_job_ids);
    END IF;
    IF finished_count = cardinality(finished_job_ids) THEN
        RETURN '{}';
    END IF;
    PERFORM procrastinate_diesel_check_unchanged_v1(p_worker_id, finished_job_ids, finished_attempts);
    -- A job that has the status already was finished by an earlier call whose response was lost.
    RETURN ARRAY(
        SELECT outcome.id
        FROM unnest(finished_job_ids, end_statuses, finished_attempts) AS outcome (id, status, attempts)
        WHERE NOT EXISTS (
            SELECT FROM procrastinate_jobs AS job
            WHERE job.id = outcome.id AND job.status = outcome.status
              AND (job.worker_id IS NULL OR job.worker_id = p_worker_id)
              AND (outcome.attempts IS NULL OR job.attempts = least(outcome.attempts, 2147483646) + 1)));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_finish_jobs_v1(bigint, bigint[], procrastinate_job_status[], integer[]) IS
    'Finishes running jobs of a worker with the given statuses, each in the attempt that began '
    'with the given number of attempts (NULL: in any). Returns the IDs of the jobs that no '
    'longer belong to the worker, or are in another attempt. These stay as they are.';

CREATE FUNCTION procrastinate_diesel_end_keys_v1(deleted_job_ids bigint[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM procrastinate_diesel_unique_keys)
            OR NOT has_table_privilege('procrastinate_diesel_unique_keys', 'UPDATE') THEN
        RETURN;
    END IF;
    -- A worker does not wait for a transaction that has locked a key.
    UPDATE procrastinate_diesel_unique_keys AS known
    SET free_at = now() + make_interval(secs => known.period_seconds)
    WHERE known.key = ANY (ARRAY(
        SELECT held.key FROM procrastinate_diesel_unique_keys AS held
        WHERE held.job_id = ANY (deleted_job_ids)
          AND (SELECT job.id FROM procrastinate_jobs AS job WHERE job.id = held.job_id) IS NULL
        FOR UPDATE SKIP LOCKED));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_end_keys_v1(bigint[]) IS
    'Records when the unique keys of jobs that have just ended, and were deleted, are free.';

CREATE FUNCTION procrastinate_diesel_delete_finished_jobs_v1(
        p_worker_id bigint, deleted_job_ids bigint[], deleted_attempts integer[])
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    -- As in procrastinate_diesel_finish_jobs_v1.
    common_attempts CONSTANT integer :=
        CASE WHEN deleted_attempts[1] = ALL (deleted_attempts) THEN deleted_attempts[1] END;
    has_keys CONSTANT boolean := EXISTS (
        SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL);
    deleted_count bigint;
    nothing text;
BEGIN
    IF has_keys THEN
        -- While their locks are known.
        nothing := procrastinate_diesel_note_next_of_locks_v1(deleted_job_ids);
    END IF;
    DELETE FROM procrastinate_jobs AS job
    WHERE job.id = ANY (deleted_job_ids) AND job.status = doing
      AND job.worker_id IS NOT DISTINCT FROM p_worker_id
      AND job.attempts = coalesce(
          common_attempts, deleted_attempts[array_position(deleted_job_ids, job.id)], job.attempts);
    GET DIAGNOSTICS deleted_count = ROW_COUNT;
    IF has_keys THEN
        nothing := procrastinate_diesel_note_ended_jobs_v1(deleted_job_ids, false);
    END IF;
    nothing := procrastinate_diesel_end_keys_v1(deleted_job_ids);
    IF deleted_count = cardinality(deleted_job_ids) THEN
        RETURN '{}';
    END IF;
    PERFORM procrastinate_diesel_check_unchanged_v1(p_worker_id, deleted_job_ids, deleted_attempts);
    -- A job that is gone was deleted by an earlier call, or manually.
    RETURN ARRAY(SELECT job.id FROM procrastinate_jobs AS job WHERE job.id = ANY (deleted_job_ids));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_delete_finished_jobs_v1(bigint, bigint[], integer[]) IS
    'Deletes running jobs of a worker, each in the attempt that began with the given number of '
    'attempts (NULL: in any). Returns the IDs of the jobs that no longer belong to the worker, or '
    'are in another attempt. These stay as they are.';

CREATE FUNCTION procrastinate_diesel_requeue_job_v1(
        p_job_id bigint, p_worker_id bigint, p_attempts integer, retry_at timestamptz, new_priority integer,
        new_queue_name varchar, new_lock text, counts_as_attempt boolean)
    RETURNS procrastinate_job_status
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    new_status procrastinate_job_status;
    violated_constraint text;
BEGIN
    -- Like procrastinate_retry_job_v2, where an abort that was requested comes first.
    UPDATE procrastinate_jobs AS job
    SET status = CASE WHEN job.abort_requested THEN 'failed' ELSE 'todo' END::procrastinate_job_status,
        attempts = CASE
            WHEN job.abort_requested OR NOT counts_as_attempt THEN job.attempts
            ELSE least(job.attempts, 2147483646) + 1 END,
        scheduled_at = CASE WHEN job.abort_requested THEN job.scheduled_at ELSE coalesce(retry_at, now()) END,
        priority = CASE WHEN job.abort_requested THEN job.priority ELSE coalesce(new_priority, job.priority) END,
        queue_name = CASE
            WHEN job.abort_requested THEN job.queue_name ELSE coalesce(new_queue_name, job.queue_name) END,
        lock = CASE WHEN job.abort_requested THEN job.lock ELSE coalesce(new_lock, job.lock) END,
        -- Deleting a worker updates all jobs that refer to it.
        worker_id = NULL
    WHERE job.id = p_job_id AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id
      AND (p_attempts IS NULL OR job.attempts = p_attempts)
    RETURNING job.status INTO new_status;
    IF new_status = 'todo' AND pg_trigger_depth()::text = current_setting('procrastinate_diesel.batched_at_depth', true)
        AND EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL)
    THEN
        -- Without its event, no trigger does it.
        PERFORM procrastinate_diesel_note_keyed_jobs_v1(ARRAY[job.id], ARRAY[job.queue_name], ARRAY[job.task_name])
        FROM procrastinate_jobs AS job
        WHERE job.id = p_job_id;
    END IF;
    RETURN new_status;
EXCEPTION WHEN unique_violation THEN
    GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
    IF violated_constraint <> 'procrastinate_jobs_queueing_lock_idx_v1' THEN
        RAISE;
    END IF;
    -- A pending job holds the queueing lock.
    UPDATE procrastinate_jobs AS job
    SET status = 'failed', abort_requested = false, attempts = least(job.attempts, 2147483646) + 1,
        worker_id = NULL
    WHERE job.id = p_job_id AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id
      AND (p_attempts IS NULL OR job.attempts = p_attempts)
    RETURNING job.status INTO new_status;
    RETURN new_status;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_requeue_job_v1(
    bigint, bigint, integer, timestamptz, integer, varchar, text, boolean) IS
    'Requeues a running job of a worker (NULL: a job that lost its worker) in the given attempt '
    '(NULL: in any). Returns its new status: todo, or failed if its abort was requested or its '
    'queueing lock is taken. Returns NULL if the job does not belong to the worker. Its events '
    'are written by the triggers.';

CREATE FUNCTION procrastinate_diesel_requeue_jobs_v1(
        p_worker_id bigint, retries jsonb, OUT lost_ids bigint[], OUT failed_ids bigint[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    retry record;
    new_status procrastinate_job_status;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    -- The events of jobs that are requeued one at a time are written by the triggers.
    depth text := set_config(
        'procrastinate_diesel.batched_at_depth',
        CASE WHEN retries -> 0 ->> 'without_event' IS NULL THEN '' ELSE former_depth END, true);
BEGIN
    lost_ids := '{}';
    failed_ids := '{}';
    FOR retry IN
        SELECT * FROM jsonb_to_recordset(retries)
            AS retry (job_id bigint, attempts integer, retry_at timestamptz, retry_in double precision,
                priority integer, queue_name varchar, lock text, counts_as_attempt boolean,
                is_deleted_if_failed boolean)
        ORDER BY job_id
    LOOP
        new_status := procrastinate_diesel_requeue_job_v1(
            retry.job_id, p_worker_id, retry.attempts,
            coalesce(retry.retry_at, now() + make_interval(secs => retry.retry_in)), retry.priority,
            retry.queue_name, retry.lock,
            coalesce(retry.counts_as_attempt, true));
        IF new_status = 'failed' THEN
            failed_ids := failed_ids || retry.job_id;
            IF retry.is_deleted_if_failed THEN
                DELETE FROM procrastinate_jobs AS job WHERE job.id = retry.job_id;
                PERFORM procrastinate_diesel_end_keys_v1(ARRAY[retry.job_id]);
            END IF;
        -- A job that is not doing, or that the worker is doing in a later attempt, was requeued by
        -- an earlier call whose response was lost, or finished manually.
        ELSIF new_status IS NULL AND EXISTS (
                SELECT FROM procrastinate_jobs AS job
                WHERE job.id = retry.job_id AND job.status = doing
                  AND (job.worker_id IS DISTINCT FROM p_worker_id OR job.attempts <= retry.attempts)) THEN
            PERFORM procrastinate_diesel_check_unchanged_v1(
                p_worker_id, ARRAY[retry.job_id], ARRAY[retry.attempts]);
            lost_ids := lost_ids || retry.job_id;
        END IF;
    END LOOP;
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_requeue_jobs_v1(bigint, jsonb) IS
    'Requeues running jobs of a worker: an array of objects with job_id, and optionally attempts, '
    'the number of attempts before, retry_at or retry_in (seconds), priority, queue_name, lock, '
    'counts_as_attempt and is_deleted_if_failed. If the first has without_event, no events are '
    'written. Returns the IDs of jobs that no longer belong to the worker, and of those that '
    'failed instead.';

CREATE FUNCTION procrastinate_diesel_store_outcome_v1(
        p_worker_id bigint, p_job_id bigint, p_attempts integer, end_status procrastinate_job_status, retry jsonb,
        is_deleted boolean, errors jsonb, has_event boolean, OUT lost_ids bigint[], OUT failed_ids bigint[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
BEGIN
    failed_ids := '{}';
    IF errors IS NOT NULL THEN
        PERFORM procrastinate_diesel_record_errors_v1(p_worker_id, errors);
    END IF;
    IF retry IS NOT NULL THEN
        SELECT requeued.* INTO lost_ids, failed_ids
        FROM procrastinate_diesel_requeue_jobs_v1(
            p_worker_id, jsonb_build_array(
                retry || CASE WHEN is_deleted THEN '{}' ELSE '{"is_deleted_if_failed": false}'::jsonb END
                || CASE WHEN has_event THEN '{}' ELSE '{"without_event": true}'::jsonb END)) AS requeued;
    ELSIF is_deleted THEN
        lost_ids := procrastinate_diesel_delete_finished_jobs_v1(p_worker_id, ARRAY[p_job_id], ARRAY[p_attempts]);
    ELSIF has_event THEN
        lost_ids := procrastinate_diesel_finish_jobs_v1(
            p_worker_id, ARRAY[p_job_id], ARRAY[end_status], ARRAY[p_attempts]);
    ELSE
        UPDATE procrastinate_jobs AS job
        SET status = end_status, abort_requested = false, attempts = least(job.attempts, 2147483646) + 1,
            worker_id = NULL
        WHERE job.id = p_job_id AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id
          AND job.attempts = coalesce(p_attempts, job.attempts);
        lost_ids := CASE WHEN FOUND THEN '{}' ELSE ARRAY[p_job_id] END;
        PERFORM procrastinate_diesel_check_unchanged_v1(p_worker_id, lost_ids, ARRAY[p_attempts]);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_store_outcome_v1(
    bigint, bigint, integer, procrastinate_job_status, jsonb, boolean, jsonb, boolean) IS
    'Stores the outcome of one job, which was finished or is retried, with its error, its event '
    'and its deletion, if there are any.';

CREATE FUNCTION procrastinate_diesel_finish_one_by_one_v1(
        p_worker_id bigint, finished_job_ids bigint[], end_statuses procrastinate_job_status[], retries jsonb,
        deleted_job_ids bigint[], errors jsonb, finished_attempts integer[], deleted_attempts integer[],
        OUT lost_ids bigint[], OUT failed_ids bigint[],
        OUT problem_kinds text[], OUT problem_ids bigint[], OUT problems text[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    outcome record;
    stored record;
    is_stored boolean;
    kind text;
    problem text;
    new_problem text;
BEGIN
    lost_ids := '{}';
    failed_ids := '{}';
    FOR outcome IN
        SELECT each.*, (
            SELECT jsonb_agg(failure) FROM jsonb_array_elements(errors) AS failure
            WHERE (failure ->> 'job_id')::bigint = each.id) AS errors
        FROM (
            SELECT finished.id, finished.attempts, finished.status, NULL::jsonb AS retry,
                coalesce(finished.id = ANY (deleted_job_ids), false) AS is_deleted
            FROM unnest(finished_job_ids, end_statuses, finished_attempts) AS finished (id, status, attempts)
          UNION ALL
            SELECT (retry ->> 'job_id')::bigint, NULL, NULL, retry,
                coalesce((retry ->> 'is_deleted_if_failed')::boolean, false)
            FROM jsonb_array_elements(retries) AS retry
          UNION ALL
            SELECT deleted.id, deleted.attempts, NULL, NULL, true
            FROM unnest(deleted_job_ids, deleted_attempts) AS deleted (id, attempts)
            WHERE (deleted.id = ANY (finished_job_ids)) IS NOT TRUE) AS each
        ORDER BY each.id
    LOOP
        is_stored := false;
        problem := NULL;
        -- The outcome is stored without those parts that the database refuses.
        FOREACH kind IN ARRAY ARRAY['complete', 'not_deleted', 'without_error', 'without_event'] LOOP
            CONTINUE WHEN kind = 'not_deleted' AND NOT outcome.is_deleted;
            CONTINUE WHEN kind = 'without_error' AND outcome.errors IS NULL;
            BEGIN
                SELECT * INTO stored FROM procrastinate_diesel_store_outcome_v1(
                    p_worker_id, outcome.id, outcome.attempts, outcome.status, outcome.retry,
                    outcome.is_deleted AND kind = 'complete',
                    -- The error of a job that is deleted is not needed.
                    CASE WHEN kind = 'not_deleted' OR kind = 'complete'
                        AND (outcome.retry IS NOT NULL OR NOT outcome.is_deleted) THEN outcome.errors END,
                    kind <> 'without_event');
                is_stored := true;
                EXIT;
            EXCEPTION WHEN OTHERS THEN
                IF procrastinate_diesel_ends_statement_v1(SQLSTATE) THEN
                    RAISE;
                END IF;
                new_problem := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
                problem := CASE
                    WHEN strpos(problem, new_problem) > 0 THEN problem ELSE concat_ws('; ', problem, new_problem) END;
            END;
        END LOOP;
        IF is_stored THEN
            lost_ids := lost_ids || stored.lost_ids;
            failed_ids := failed_ids || stored.failed_ids;
        END IF;
        IF problem IS NOT NULL THEN
            problem_ids := problem_ids || outcome.id;
            problem_kinds := problem_kinds || CASE WHEN is_stored THEN kind ELSE 'refused' END;
            problems := problems || problem;
        END IF;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_finish_one_by_one_v1(
    bigint, bigint[], procrastinate_job_status[], jsonb, bigint[], jsonb, integer[], integer[]) IS
    'Stores the outcomes of jobs like procrastinate_diesel_finish_and_fetch_jobs_v1, but each in '
    'a subtransaction, so that one that the database refuses does not keep the others from being '
    'stored. If the database refuses a part of an outcome, the rest is stored: without deleting '
    'the job (not_deleted), without its error as well (without_error), or without its event as '
    'well (without_event). For that, a job to delete must be among the finished ones, too. '
    'Returns the IDs of jobs that no longer belong to the worker, and of jobs that failed instead '
    'of being requeued. Also returns, with the errors, the IDs of jobs whose outcome was refused '
    'as a whole (refused) or in part.';
