-- Keys that refuse further jobs while a job holds them: from when it is deferred until a period
-- after its end. Functions that claim several keys do so in the order of the keys, before anything
-- else, so that they never wait for each other in a circle.

-- Volatile, so that it sees what was committed while the caller waited for the row of a key.
CREATE FUNCTION procrastinate_diesel_key_free_at_v1(
        p_job_id bigint, period_seconds double precision, known_free_at timestamptz)
    RETURNS timestamptz
    LANGUAGE plpgsql
AS $function$
DECLARE
    found_status procrastinate_job_status;
    ended_at timestamptz;
BEGIN
    SELECT job.status INTO found_status FROM procrastinate_jobs AS job WHERE job.id = p_job_id;
    IF found_status IN ('todo', 'doing', 'aborting') THEN
        RETURN 'infinity';
    ELSIF found_status IS NOT NULL THEN
        SELECT max(event.at) INTO ended_at FROM procrastinate_events AS event
        WHERE event.job_id = p_job_id AND event.type IN ('failed', 'succeeded', 'cancelled', 'aborted');
    END IF;
    RETURN coalesce(ended_at + make_interval(secs => period_seconds), known_free_at, '-infinity');
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_key_free_at_v1(bigint, double precision, timestamptz) IS
    'When a job ceases to hold its unique key: infinity if it has not ended.';

CREATE FUNCTION procrastinate_diesel_claim_key_v1(p_key text, p_period_seconds double precision)
    RETURNS bigint
    LANGUAGE plpgsql
AS $function$
DECLARE
    holder bigint;
BEGIN
    -- Usually a key that is taken needs no lock.
    SELECT known.job_id INTO holder FROM procrastinate_diesel_unique_keys AS known
    WHERE known.key = p_key
      AND procrastinate_diesel_key_free_at_v1(known.job_id, known.period_seconds, known.free_at) > clock_timestamp();
    IF FOUND AND NOT procrastinate_diesel_expire_job_v1(holder) THEN
        RETURN holder;
    END IF;
    BEGIN
        INSERT INTO procrastinate_diesel_unique_keys AS known (key, job_id, period_seconds)
        VALUES (p_key, 0, p_period_seconds)
        ON CONFLICT (key) DO UPDATE SET job_id = 0, period_seconds = p_period_seconds, free_at = NULL
        WHERE procrastinate_diesel_key_free_at_v1(known.job_id, known.period_seconds, known.free_at)
            <= clock_timestamp();
        IF NOT FOUND THEN
            -- It has waited for the transaction that claimed the key. The row must not stay locked:
            -- nobody could record there when the other job ends.
            RAISE SQLSTATE 'PD001';
        END IF;
        RETURN NULL;
    EXCEPTION WHEN SQLSTATE 'PD001' THEN
        SELECT known.job_id INTO holder FROM procrastinate_diesel_unique_keys AS known WHERE known.key = p_key;
        RETURN holder;
    END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_claim_key_v1(text, double precision) IS
    'Claims a unique key for a job that is about to be inserted. Returns the job that holds it, or '
    'NULL if it was free.';

CREATE FUNCTION procrastinate_diesel_claim_keys_v1(
        unique_keys text[], unique_seconds double precision[], if_enqueued text[])
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    holders bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(unique_keys)]);
    job record;
    holder bigint;
    last_key text;
    last_holder bigint;
BEGIN
    FOR job IN
        SELECT each.*
        FROM unnest(unique_keys, unique_seconds, if_enqueued) WITH ORDINALITY
            AS each (key, seconds, if_enqueued, ordinal)
        WHERE each.key IS NOT NULL
        ORDER BY each.key COLLATE "C", each.ordinal
    LOOP
        IF job.key = last_key THEN
            holder := last_holder;
        ELSE
            holder := procrastinate_diesel_claim_key_v1(job.key, job.seconds);
            last_holder := coalesce(holder, -job.ordinal);
            last_key := job.key;
        END IF;
        IF holder IS NOT NULL AND job.if_enqueued <> 'keep' THEN
            RAISE unique_violation USING
                MESSAGE = format('a job holds the unique key "%s"', job.key), DETAIL = job.key,
                HINT = CASE WHEN holder > 0 THEN holder::text ELSE '' END,
                CONSTRAINT = 'procrastinate_diesel_unique_keys_pkey';
        END IF;
        holders[job.ordinal] := holder;
    END LOOP;
    RETURN holders;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_claim_keys_v1(text[], double precision[], text[]) IS
    'Claims the unique keys of jobs. Returns for each job NULL if its key was free or it has none. '
    'Otherwise it returns the ID of the job that holds the key, or, negative, the place of an '
    'earlier job with the same key. Raises unique_violation for a job that does not keep the other '
    'one.';

CREATE FUNCTION procrastinate_diesel_defer_claimed_jobs_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[], if_enqueued text[], start_befores timestamptz[],
        limit_keys text[], holders bigint[], OUT job_ids bigint[], OUT effects text[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    claimed record;
    taken text;
BEGIN
    SELECT array_agg(job.queue_name) AS queue_names, array_agg(job.task_name) AS task_names,
        array_agg(job.priority) AS priorities, array_agg(job.lock) AS locks,
        array_agg(job.queueing_lock) AS queueing_locks, array_agg(job.args) AS arguments,
        array_agg(job.scheduled_at) AS scheduled_ats, array_agg(job.if_enqueued) AS if_enqueued,
        array_agg(job.start_before) AS start_befores, array_agg(job.limit_key) AS limit_keys
    INTO claimed
    FROM (
        SELECT each.*
        FROM unnest(
                queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats, if_enqueued,
                start_befores, limit_keys, holders) WITH ORDINALITY
            AS each (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, if_enqueued,
                start_before, limit_key, holder, ordinal)
        WHERE each.holder IS NULL
        ORDER BY each.ordinal) AS job;
    IF claimed.queue_names IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(deferred.job_id), array_agg(deferred.effect), min(deferred.taken_queueing_lock)
    INTO job_ids, effects, taken
    FROM procrastinate_diesel_defer_with_options_v1(
        claimed.queue_names, claimed.task_names, claimed.priorities, claimed.locks, claimed.queueing_locks,
        claimed.arguments, claimed.scheduled_ats, claimed.if_enqueued, claimed.start_befores, claimed.limit_keys)
        AS deferred;
    IF taken IS NOT NULL THEN
        RAISE unique_violation USING
            MESSAGE = format('a pending job holds the queueing lock "%s"', taken), DETAIL = taken,
            CONSTRAINT = 'procrastinate_jobs_queueing_lock_idx_v1';
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_claimed_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[], timestamptz[], text[], bigint[]) IS
    'Defers those jobs that have no holder. Raises unique_violation if a queueing lock is taken.';

CREATE FUNCTION procrastinate_diesel_settle_keys_v1(
        unique_keys text[], holders bigint[], deferred_ids bigint[], deferred_effects text[],
        OUT job_ids bigint[], OUT effects text[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    place integer := 0;
BEGIN
    -- All keys of the statement have the job 0, so they must not be searched for by their job.
    FOR n IN 1..cardinality(unique_keys) LOOP
        IF holders[n] IS NULL THEN
            place := place + 1;
            job_ids[n] := deferred_ids[place];
            effects[n] := deferred_effects[place];
            IF effects[n] = 'kept' THEN
                -- Another job holds its queueing lock, so it was not inserted.
                DELETE FROM procrastinate_diesel_unique_keys AS known
                WHERE known.key = unique_keys[n] AND (known.job_id = 0) IS TRUE;
            ELSE
                UPDATE procrastinate_diesel_unique_keys AS known SET job_id = job_ids[n]
                WHERE known.key = unique_keys[n] AND (known.job_id = 0) IS TRUE;
            END IF;
        ELSE
            job_ids[n] := CASE WHEN holders[n] > 0 THEN holders[n] ELSE job_ids[-holders[n]] END;
            effects[n] := 'kept';
        END IF;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_settle_keys_v1(text[], bigint[], bigint[], text[]) IS
    'Gives claimed keys to the jobs that were inserted, and returns the ID and effect of each job.';

CREATE FUNCTION procrastinate_diesel_defer_unique_jobs_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[], if_enqueued text[], start_befores timestamptz[],
        limit_keys text[], unique_keys text[], unique_seconds double precision[])
    RETURNS TABLE (job_id bigint, effect text, taken_queueing_lock text, taken_unique_key text)
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
AS $function$
DECLARE
    holders bigint[];
    deferred record;
    settled record;
    violated_constraint text;
    violation text;
    hint text;
BEGIN
    -- The block with a handler is a subtransaction, so a violation does not abort the caller's
    -- transaction, and releases the keys that were claimed.
    BEGIN
        holders := procrastinate_diesel_claim_keys_v1(unique_keys, unique_seconds, if_enqueued);
        deferred := procrastinate_diesel_defer_claimed_jobs_v1(
            queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats, if_enqueued,
            start_befores, limit_keys, holders);
        settled := procrastinate_diesel_settle_keys_v1(unique_keys, holders, deferred.job_ids, deferred.effects);
    EXCEPTION WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME, violation = PG_EXCEPTION_DETAIL,
            hint = PG_EXCEPTION_HINT;
        IF violated_constraint = 'procrastinate_diesel_unique_keys_pkey' THEN
            RETURN QUERY SELECT nullif(hint, '')::bigint, NULL::text, NULL::text, violation;
        ELSIF violated_constraint = 'procrastinate_jobs_queueing_lock_idx_v1' THEN
            RETURN QUERY SELECT NULL::bigint, NULL::text, violation, NULL::text;
        ELSE
            RAISE;
        END IF;
        RETURN;
    END;
    RETURN QUERY SELECT each.id, each.effect, NULL::text, NULL::text
        FROM unnest(settled.job_ids, settled.effects) AS each (id, effect);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_unique_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[], timestamptz[], text[], text[],
    double precision[]) IS
    'Defers jobs like procrastinate_diesel_defer_with_options_v1, all or none, with unique keys '
    '(NULL: none), and for how many seconds each job holds its key after its end. If another job '
    'holds a key, a job with keep is not inserted and gets the ID of that job. With fail, nothing '
    'is stored, and one row names the key and the job. The caller''s transaction stays usable.';

-- The contract's function, which also records when the key of a deleted job is free.
CREATE OR REPLACE FUNCTION procrastinate_finish_job_v1(
        job_id bigint, end_status procrastinate_job_status, delete_job boolean)
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
    IF delete_job THEN
        PERFORM procrastinate_diesel_end_keys_v1(ARRAY[job_id]);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_finish_job_v1(bigint, procrastinate_job_status, boolean) IS
    'Finishes a job as succeeded, failed or aborted, or deletes it.';

CREATE FUNCTION procrastinate_diesel_tend_unique_keys_v1(start_after bigint)
    RETURNS TABLE (has_more boolean, stopped_at bigint)
    LANGUAGE plpgsql
    -- As in procrastinate_diesel_finish_and_fetch_jobs_v1.
    SET jit = off SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
    SET enable_sort = off SET enable_incremental_sort = off
AS $function$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    read_ids bigint[];
    over_keys text[];
BEGIN
    read_ids := ARRAY(
        SELECT known.job_id FROM procrastinate_diesel_unique_keys AS known
        WHERE known.job_id > start_after
        ORDER BY known.job_id
        LIMIT 1000);
    stopped_at := CASE WHEN cardinality(read_ids) = 1000 THEN read_ids[1000] ELSE 0 END;
    -- Before the jobs are deleted.
    UPDATE procrastinate_diesel_unique_keys AS known
    SET free_at = procrastinate_diesel_key_free_at_v1(known.job_id, known.period_seconds, known.free_at)
    WHERE known.key = ANY (ARRAY(
        SELECT held.key FROM procrastinate_diesel_unique_keys AS held
        WHERE held.job_id = ANY (read_ids) AND held.free_at IS NULL
          AND procrastinate_diesel_key_free_at_v1(held.job_id, held.period_seconds, NULL) < 'infinity'
        FOR UPDATE SKIP LOCKED));
    over_keys := ARRAY(
        SELECT known.key FROM procrastinate_diesel_unique_keys AS known
        WHERE known.free_at <= moment
        ORDER BY known.free_at
        LIMIT 1000
        FOR UPDATE SKIP LOCKED);
    -- A job that was retried holds its key again.
    UPDATE procrastinate_diesel_unique_keys AS known
    SET free_at = nullif(
            procrastinate_diesel_key_free_at_v1(known.job_id, known.period_seconds, known.free_at), 'infinity')
    WHERE known.key = ANY (over_keys)
      AND procrastinate_diesel_key_free_at_v1(known.job_id, known.period_seconds, known.free_at) > moment;
    DELETE FROM procrastinate_diesel_unique_keys AS known
    WHERE known.key = ANY (over_keys) AND known.free_at <= moment;
    has_more := cardinality(over_keys) = 1000;
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_tend_unique_keys_v1(bigint) IS
    'Does a step of the work on unique keys. Records when the keys of jobs that have ended are '
    'free, and deletes those that are free. Returns whether there may be more of the latter, and '
    'after which job the next step continues.';
