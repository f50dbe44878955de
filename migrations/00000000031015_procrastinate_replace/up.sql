-- Debounce and throttle: a job takes the place of the pending job with its queueing lock, or leaves
-- it as it is.

CREATE FUNCTION procrastinate_diesel_report_upserts_v1(
        job_ids bigint[], effects text[], queue_names varchar[], task_names varchar[], scheduled_ats timestamptz[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    nothing text;
    notified_ids bigint[];
    notified_queues varchar[];
BEGIN
    -- As the triggers do.
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT job.id, event.type, event.at
    FROM unnest(job_ids, effects, scheduled_ats) WITH ORDINALITY AS job (id, effect, scheduled_at, ordinal)
    CROSS JOIN LATERAL (VALUES
        ('scheduled'::procrastinate_job_event_type, job.scheduled_at),
        ('deferred'::procrastinate_job_event_type, CASE job.effect WHEN 'new' THEN now() END))
        AS event (type, at)
    WHERE job.effect <> 'kept' AND event.at IS NOT NULL
    ORDER BY job.ordinal;

    IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
        nothing := procrastinate_diesel_note_keyed_jobs_v1(job_ids, queue_names, task_names);
    END IF;
    -- A replaced job that is not due needs no worker yet.
    SELECT array_agg(job.id), array_agg(job.queue_name) INTO notified_ids, notified_queues
    FROM unnest(job_ids, effects, queue_names, scheduled_ats) AS job (id, effect, queue_name, scheduled_at)
    WHERE job.effect = 'new'
       OR job.effect = 'replaced' AND coalesce(job.scheduled_at <= clock_timestamp(), true);
    IF notified_ids IS NOT NULL THEN
        nothing := procrastinate_diesel_notify_jobs_v1(notified_ids, notified_queues);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_report_upserts_v1(
    bigint[], text[], varchar[], varchar[], timestamptz[]) IS
    'Writes the events of the jobs of procrastinate_diesel_upsert_jobs_v1, and notifies listeners '
    'of those that may start.';

CREATE FUNCTION procrastinate_diesel_clear_options_v1(job_ids bigint[], effects text[], if_enqueued text[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF 'replaced' <> ALL (effects) OR NOT EXISTS (SELECT FROM procrastinate_diesel_job_options) THEN
        RETURN;
    END IF;
    UPDATE procrastinate_diesel_job_options AS option
    SET limit_key = NULL
    WHERE option.limit_key IS NOT NULL AND option.job_id = ANY (ARRAY(
        SELECT job.id FROM unnest(job_ids, effects, if_enqueued) AS job (id, effect, if_enqueued)
        WHERE job.effect = 'replaced'));
    UPDATE procrastinate_diesel_job_options AS option
    SET start_before = NULL, checked_at = NULL
    WHERE option.start_before IS NOT NULL AND option.job_id = ANY (ARRAY(
        SELECT job.id FROM unnest(job_ids, effects, if_enqueued) AS job (id, effect, if_enqueued)
        WHERE job.effect = 'replaced' AND job.if_enqueued = 'replace'));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_clear_options_v1(bigint[], text[], text[]) IS
    'Clears the options of replaced jobs: they get those of the new jobs. The time by which a job '
    'must start is a part of its schedule.';

CREATE FUNCTION procrastinate_diesel_upsert_jobs_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[], if_enqueued text[])
    RETURNS TABLE (job_id bigint, effect text)
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
AS $function$
DECLARE
    job_ids_sequence CONSTANT regclass := coalesce(
        pg_get_serial_sequence('procrastinate_jobs', 'id'), 'procrastinate_jobs_id_seq');
    drawn_ids CONSTANT bigint[] := ARRAY(SELECT nextval(job_ids_sequence) FROM unnest(queue_names));
    -- Of each job of the input, after its own step.
    stored_ids bigint[] := drawn_ids;
    stored_times timestamptz[] := scheduled_ats;
    effects text[] := array_fill('new'::text, ARRAY[cardinality(queue_names)]);
    job record;
    stored record;
    nothing text;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
BEGIN
    -- In the order of the queueing locks, as in procrastinate_diesel_defer_jobs_v1. Jobs with the
    -- same one are deferred in the order of the input, each on top of the one before. The values
    -- are not read from "excluded", which would need the right to read the columns.
    FOR job IN
        SELECT input.*
        FROM unnest(
                drawn_ids, queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats,
                if_enqueued)
            WITH ORDINALITY AS input (
                id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, if_enqueued, ordinal)
        ORDER BY input.queueing_lock COLLATE "C", input.ordinal
    LOOP
        PERFORM procrastinate_diesel_expire_holders_v1(ARRAY[job.queueing_lock]);
        -- If the pending job starts or ends before its row is locked here, there is no conflict any
        -- more, and PostgreSQL inserts the new job.
        INSERT INTO procrastinate_jobs AS pending
            (id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        VALUES (job.id, job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args,
                job.scheduled_at)
        ON CONFLICT (queueing_lock) WHERE status = 'todo' AND queueing_lock IS NOT NULL DO UPDATE
            SET queue_name = job.queue_name,
                task_name = job.task_name,
                priority = job.priority,
                lock = job.lock,
                args = job.args,
                scheduled_at = CASE job.if_enqueued
                    WHEN 'replace' THEN job.scheduled_at ELSE pending.scheduled_at END
            WHERE job.if_enqueued IN ('replace', 'replace_except_schedule')
        RETURNING pending.id, pending.scheduled_at INTO stored;
        IF FOUND THEN
            IF stored.id <> job.id THEN
                effects[job.ordinal] := 'replaced';
            END IF;
        ELSIF job.if_enqueued = 'fail' THEN
            RAISE unique_violation USING
                MESSAGE = format('a pending job holds the queueing lock "%s"', job.queueing_lock),
                DETAIL = job.queueing_lock, CONSTRAINT = 'procrastinate_jobs_queueing_lock_idx_v1';
        ELSE
            -- The conflict has locked its row, so it is still pending.
            SELECT kept.id, kept.scheduled_at INTO stored
            FROM procrastinate_jobs AS kept
            WHERE kept.status = 'todo'
              AND kept.queueing_lock >= job.queueing_lock AND kept.queueing_lock <= job.queueing_lock
            ORDER BY kept.queueing_lock
            LIMIT 1;
            effects[job.ordinal] := 'kept';
        END IF;
        stored_ids[job.ordinal] := stored.id;
        stored_times[job.ordinal] := stored.scheduled_at;
    END LOOP;

    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
    nothing := procrastinate_diesel_clear_options_v1(stored_ids, effects, if_enqueued);
    nothing := procrastinate_diesel_report_upserts_v1(stored_ids, effects, queue_names, task_names, stored_times);
    RETURN QUERY SELECT deferred.id, deferred.effect FROM unnest(stored_ids, effects) AS deferred (id, effect);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_upsert_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[]) IS
    'As procrastinate_diesel_defer_or_replace_jobs_v1, but raises unique_violation for a job with '
    'fail if its queueing lock is taken, and does not check if_enqueued.';

CREATE FUNCTION procrastinate_diesel_defer_or_replace_jobs_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[], if_enqueued text[])
    RETURNS TABLE (job_id bigint, effect text, taken_queueing_lock text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    can_fail boolean;
    invalid text;
    violated_constraint text;
    violation text;
BEGIN
    SELECT coalesce(bool_or(job.if_enqueued = 'fail' AND job.queueing_lock IS NOT NULL), false),
           min(coalesce(job.if_enqueued, 'NULL')) FILTER (
               WHERE (job.if_enqueued IN ('fail', 'keep', 'replace', 'replace_except_schedule')) IS NOT TRUE)
    INTO can_fail, invalid
    FROM unnest(task_names, queueing_locks, if_enqueued) AS job (task_name, queueing_lock, if_enqueued);
    IF invalid IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = format(
            'invalid if_enqueued "%s": must be fail, keep, replace or replace_except_schedule', invalid);
    END IF;

    IF NOT can_fail THEN
        RETURN QUERY
            SELECT deferred.job_id, deferred.effect, NULL::text
            FROM procrastinate_diesel_upsert_jobs_v1(
                queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats, if_enqueued)
                AS deferred;
        RETURN;
    END IF;
    -- The block with a handler is a subtransaction, so a violation does not abort the caller's
    -- transaction.
    BEGIN
        RETURN QUERY
            SELECT deferred.job_id, deferred.effect, NULL::text
            FROM procrastinate_diesel_upsert_jobs_v1(
                queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats, if_enqueued)
                AS deferred;
    EXCEPTION WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME, violation = PG_EXCEPTION_DETAIL;
        IF violated_constraint <> 'procrastinate_jobs_queueing_lock_idx_v1' THEN
            RAISE;
        END IF;
        RETURN QUERY SELECT NULL::bigint, NULL::text, violation;
    END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_or_replace_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[]) IS
    'Defers jobs given as parallel arrays, as if one after the other, all or none. if_enqueued '
    'says what happens to a job whose queueing lock a pending job holds. replace: the pending job '
    'gets the queue, task, priority, lock, arguments and schedule of the new one. '
    'replace_except_schedule: all of these but the schedule. keep: the pending job stays as it '
    'is. fail: nothing is stored, and one row names the lock. Otherwise returns a row for each '
    'job, in the order of the input: the ID, and new, replaced or kept. The caller''s transaction '
    'stays usable.';
