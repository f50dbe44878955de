-- The contract's function, which also obeys pauses that skip ticks.
CREATE OR REPLACE FUNCTION procrastinate_defer_periodic_job_v2(
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

    IF NOT procrastinate_diesel_skips_tick_v1(_queue_name, _task_name) THEN
        -- A taken queueing lock raises here, which also undoes the claim.
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
        VALUES (_queue_name, _task_name, _priority, _lock, _queueing_lock, _args)
        RETURNING id INTO new_job_id;
        UPDATE procrastinate_periodic_defers SET job_id = new_job_id WHERE id = claim_id;
    END IF;

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
    'Defers one tick of a periodic task and returns the ID of the job. Returns NULL if that tick '
    'was deferred before, or is skipped during a pause.';

CREATE FUNCTION procrastinate_diesel_defer_periodic_job_v1(
        p_queue_name varchar, p_lock text, p_queueing_lock text, p_task_name varchar, p_priority integer,
        p_periodic_id varchar, p_defer_timestamp bigint, arguments jsonb)
    RETURNS TABLE (job_id bigint, is_queueing_lock_taken boolean)
    LANGUAGE plpgsql
AS $function$
DECLARE
    -- Later ticks come from a clock that is wrong.
    latest_timestamp CONSTANT double precision := extract(epoch FROM clock_timestamp()) + 60;
    violated_constraint text;
    new_job_id bigint;
    claim_id bigint;
BEGIN
    -- Jobs before periodic_defers, as in all functions.
    LOCK TABLE procrastinate_jobs IN ROW EXCLUSIVE MODE;
    -- One at a time for each schedule, so that what is read here holds until the end.
    PERFORM pg_advisory_xact_lock(
        hashtext('procrastinate_diesel_defer_periodic_job_v1'), hashtext(p_periodic_id || '@' || p_task_name));
    -- A transaction of a higher isolation level sees what there was when it began. If rows were
    -- deleted since, this is a serialization failure.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        PERFORM FROM procrastinate_periodic_defers AS known
        WHERE known.task_name = p_task_name AND known.periodic_id = p_periodic_id
        FOR KEY SHARE SKIP LOCKED;
    END IF;
    -- Deferring a tick deletes the rows of older ones. So an older one may have been deferred and
    -- have no row.
    IF EXISTS (
        SELECT FROM procrastinate_periodic_defers AS later
        WHERE later.task_name = p_task_name
          AND later.periodic_id = p_periodic_id
          AND later.defer_timestamp > p_defer_timestamp
          AND later.defer_timestamp <= latest_timestamp)
    THEN
        RETURN QUERY SELECT NULL::bigint, false;
        RETURN;
    END IF;
    -- The block with a handler is a subtransaction, so a violation does not abort the caller's
    -- transaction.
    BEGIN
        IF p_defer_timestamp <= latest_timestamp THEN
            new_job_id := procrastinate_defer_periodic_job_v2(
                p_queue_name, p_lock, p_queueing_lock, p_task_name, p_priority, p_periodic_id, p_defer_timestamp,
                arguments);
        ELSE
            -- The same, without deleting the rows of older ticks. When the clock is right again,
            -- these ticks would be deferred once more. The next right tick deletes them.
            INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
            VALUES (p_task_name, p_periodic_id, p_defer_timestamp)
            ON CONFLICT DO NOTHING
            RETURNING id INTO claim_id;
            IF claim_id IS NOT NULL AND NOT procrastinate_diesel_skips_tick_v1(p_queue_name, p_task_name) THEN
                INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
                VALUES (p_queue_name, p_task_name, p_priority, p_lock, p_queueing_lock, arguments)
                RETURNING id INTO new_job_id;
                UPDATE procrastinate_periodic_defers SET job_id = new_job_id WHERE id = claim_id;
            END IF;
        END IF;
    EXCEPTION WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
        IF violated_constraint <> 'procrastinate_jobs_queueing_lock_idx_v1' THEN
            RAISE;
        END IF;
        RETURN QUERY SELECT NULL::bigint, true;
        RETURN;
    END;
    RETURN QUERY SELECT new_job_id, false;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_periodic_job_v1(
    varchar, text, text, varchar, integer, varchar, bigint, jsonb) IS
    'Defers one tick of a periodic task and returns the ID of the job. Returns NULL if that tick '
    'or a later one was deferred before or is skipped during a pause, or, as the second column '
    'says, if a pending job holds the queueing lock. Then nothing is stored, and the caller''s '
    'transaction stays usable.';

-- The foreign key that a migration before this one has replaced. Nobody waits meanwhile.
DO $foreign_key$
DECLARE
    foreign_key text;
BEGIN
    FOR foreign_key IN
        SELECT constraints.conname FROM pg_catalog.pg_constraint AS constraints
        WHERE constraints.conrelid = 'procrastinate_periodic_defers'::regclass
          AND constraints.confrelid = 'procrastinate_jobs'::regclass
          AND constraints.contype = 'f' AND NOT constraints.convalidated
    LOOP
        EXECUTE format('ALTER TABLE procrastinate_periodic_defers VALIDATE CONSTRAINT %I', foreign_key);
    END LOOP;
END;
$foreign_key$;
