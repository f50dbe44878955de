CREATE FUNCTION procrastinate_diesel_notify_queue_v1(queue_name varchar, job_id bigint)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_channel CONSTANT text := 'procrastinate_queue_v1#' || queue_name;
    -- As in procrastinate_notify_queue_job_inserted_v1.
    message CONSTANT text := '{"type" : "job_inserted", "job_id" : ' || job_id || '}';
    nothing text;
BEGIN
    IF octet_length(queue_channel) <= 63 THEN
        nothing := pg_notify(queue_channel, message);
    END IF;
    nothing := pg_notify('procrastinate_any_queue_v1', message);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_notify_queue_v1(varchar, bigint) IS
    'Notifies listeners of a new job of a queue.';

CREATE FUNCTION procrastinate_diesel_notify_jobs_v1(job_ids bigint[], queue_names varchar[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    nothing text;
BEGIN
    IF cardinality(job_ids) = 1 THEN
        nothing := procrastinate_diesel_notify_queue_v1(queue_names[1], job_ids[1]);
        RETURN;
    END IF;
    -- A listener searches the table for jobs, so one message for each queue is enough.
    PERFORM procrastinate_diesel_notify_queue_v1(first.queue_name, first.job_id)
    FROM (
        SELECT job.queue_name, min(job.id) AS job_id
        FROM unnest(job_ids, queue_names) AS job (id, queue_name)
        GROUP BY job.queue_name
        ORDER BY min(job.id)) AS first;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_notify_jobs_v1(bigint[], varchar[]) IS
    'Notifies listeners of new jobs, given with their queues as parallel arrays: one message for '
    'each queue.';

CREATE FUNCTION procrastinate_diesel_defer_jobs_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[])
    RETURNS TABLE (job_id bigint, taken_queueing_lock text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    job_ids_sequence CONSTANT regclass := coalesce(
        pg_get_serial_sequence('procrastinate_jobs', 'id'), 'procrastinate_jobs_id_seq');
    new_ids bigint[];
    new_queues varchar[];
    have_keys boolean;
    violated_constraint text;
    violation text;
    nothing text;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
BEGIN
    -- The block with a handler is a subtransaction, so a violation does not abort the caller's
    -- transaction.
    BEGIN
        -- IDs are assigned in the order of the input. Jobs are inserted in the order of their
        -- queueing locks, so that two programs that insert the same ones never wait for each other
        -- in a circle.
        WITH inserted AS (
            INSERT INTO procrastinate_jobs
                (id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
            SELECT input.*
            FROM (
                SELECT nextval(job_ids_sequence) AS id, job.*
                FROM unnest(
                        queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats)
                    AS job (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)) AS input
            ORDER BY input.queueing_lock COLLATE "C"
            RETURNING id, queue_name, scheduled_at),
        events AS (
            INSERT INTO procrastinate_events (job_id, type, at)
            SELECT inserted.id, event.type, event.at
            FROM inserted CROSS JOIN LATERAL (VALUES
                ('scheduled'::procrastinate_job_event_type, inserted.scheduled_at),
                ('deferred'::procrastinate_job_event_type, now())) AS event (type, at)
            WHERE event.at IS NOT NULL)
        SELECT array_agg(job.id), array_agg(job.queue_name), EXISTS (
                SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL)
        INTO new_ids, new_queues, have_keys
        FROM (SELECT inserted.id, inserted.queue_name FROM inserted ORDER BY inserted.id) AS job;
        depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
    EXCEPTION WHEN unique_violation THEN
        depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
        GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME, violation = PG_EXCEPTION_DETAIL;
        IF violated_constraint <> 'procrastinate_jobs_queueing_lock_idx_v1' THEN
            RAISE;
        END IF;
        IF procrastinate_diesel_expire_holders_v1(queueing_locks) > 0 THEN
            RETURN QUERY
                SELECT deferred.job_id, deferred.taken_queueing_lock
                FROM procrastinate_diesel_defer_jobs_v1(
                    queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats) AS deferred;
            RETURN;
        END IF;
        -- This part of the detail is the same in every language of the server. No backslashes:
        -- their meaning depends on a setting of the session.
        RETURN QUERY SELECT NULL::bigint,
            coalesce(substring(violation FROM '[(]queueing_lock[)]=[(](.*)[)]'), '');
        RETURN;
    END;

    IF have_keys THEN
        nothing := procrastinate_diesel_note_keyed_jobs_v1(new_ids, queue_names, task_names);
    END IF;
    nothing := procrastinate_diesel_notify_jobs_v1(new_ids, new_queues);
    RETURN QUERY SELECT job.id, NULL::text FROM unnest(new_ids) AS job (id);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[]) IS
    'Inserts jobs given as parallel arrays, all or none, and returns their IDs in the order of the '
    'input. If a queueing lock is taken, by a pending job or twice in the input, it inserts '
    'nothing and returns one row that names the lock. The caller''s transaction stays usable.';

-- Other callers wait for this statement, so it must not wait long for a transaction that has taken
-- a queueing lock: the owner of that transaction may be one of them.
CREATE FUNCTION procrastinate_diesel_defer_each_job_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[])
    RETURNS TABLE (job_id bigint)
    LANGUAGE plpgsql
    SET lock_timeout TO '50ms'
AS $function$
DECLARE
    job_ids_sequence CONSTANT regclass := coalesce(
        pg_get_serial_sequence('procrastinate_jobs', 'id'), 'procrastinate_jobs_id_seq');
    drawn_ids CONSTANT bigint[] := ARRAY(SELECT nextval(job_ids_sequence) FROM unnest(queue_names));
    new_ids bigint[];
    new_queues varchar[];
    have_keys boolean;
    nothing text;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
BEGIN
    IF num_nonnulls(VARIADIC queueing_locks) > 0 THEN
        PERFORM procrastinate_diesel_expire_holders_v1(queueing_locks);
    END IF;
    -- In the order of the queueing locks, as in procrastinate_diesel_defer_jobs_v1. Of two jobs
    -- with the same one, the first is inserted.
    WITH inserted AS (
        INSERT INTO procrastinate_jobs
            (id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT input.*
        FROM unnest(
                drawn_ids, queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats)
            AS input (id, queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        ORDER BY input.queueing_lock COLLATE "C", input.id
        ON CONFLICT (queueing_lock) WHERE status = 'todo' AND queueing_lock IS NOT NULL DO NOTHING
        RETURNING id, queue_name, scheduled_at),
    events AS (
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT inserted.id, event.type, event.at
        FROM inserted CROSS JOIN LATERAL (VALUES
            ('scheduled'::procrastinate_job_event_type, inserted.scheduled_at),
            ('deferred'::procrastinate_job_event_type, now())) AS event (type, at)
        WHERE event.at IS NOT NULL)
    SELECT array_agg(inserted.id), array_agg(inserted.queue_name), EXISTS (
            SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL)
    INTO new_ids, new_queues, have_keys
    FROM inserted;
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);

    IF have_keys THEN
        nothing := procrastinate_diesel_note_keyed_jobs_v1(drawn_ids, queue_names, task_names);
    END IF;
    nothing := procrastinate_diesel_notify_jobs_v1(new_ids, new_queues);
    RETURN QUERY
        SELECT inserted.id
        FROM unnest(drawn_ids) WITH ORDINALITY AS drawn (id, ordinal)
        LEFT JOIN unnest(new_ids) AS inserted (id) ON inserted.id = drawn.id
        ORDER BY drawn.ordinal;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_each_job_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[]) IS
    'Inserts jobs of several callers, given as parallel arrays, each unless its queueing lock is '
    'taken, by a pending job or by an earlier one of the input. Returns a row for each job, in the '
    'order of the input: its ID, or NULL if its queueing lock is taken. Fails if it has to wait 50 '
    'ms for a lock.';
