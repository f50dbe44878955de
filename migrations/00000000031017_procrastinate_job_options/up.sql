-- Jobs that must start before some time, and other options that few jobs have. Jobs without them
-- are deferred by the functions of the migrations before this one, and have no row.
--
-- A fetch compares these times only while a row of the kind deadline is in the table of pauses and
-- limits, where each fetch looks anyway. Such a row is there whenever a committed job has a time
-- that was not compared yet: a transaction that adds such a job locks a committed row, so that it
-- stays, or adds its own. So these transactions never wait for each other.

CREATE FUNCTION procrastinate_diesel_mark_deadlines_v1()
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- A transaction of a higher isolation level cannot lock a row that was deleted since it began.
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        PERFORM FROM procrastinate_diesel_flow_controls AS control
        WHERE control.kind = 'deadline'
        LIMIT 1
        FOR KEY SHARE SKIP LOCKED;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    -- The numbers of transactions begin again in a restored database.
    INSERT INTO procrastinate_diesel_flow_controls (kind, name)
    VALUES ('deadline', format('%s at %s', pg_current_xact_id(), extract(epoch FROM now())))
    ON CONFLICT DO NOTHING;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_mark_deadlines_v1() IS
    'Makes each fetch compare the times by which jobs must start, once the transaction is '
    'committed.';

CREATE FUNCTION procrastinate_diesel_store_options_v1(
        job_ids bigint[], effects text[], if_enqueued text[], start_befores timestamptz[], limit_keys text[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    job record;
BEGIN
    IF num_nonnulls(VARIADIC start_befores) > 0 THEN
        PERFORM procrastinate_diesel_mark_deadlines_v1();
    END IF;
    IF 'new' = ALL (effects) THEN
        INSERT INTO procrastinate_diesel_job_options (job_id, start_before, limit_key)
        SELECT each.id, each.start_before, each.limit_key
        FROM unnest(job_ids, start_befores, limit_keys) AS each (id, start_before, limit_key)
        WHERE num_nonnulls(each.start_before, each.limit_key) > 0;
        RETURN;
    END IF;
    -- A job can replace an earlier one of the same call.
    FOR job IN
        SELECT each.*
        FROM unnest(job_ids, effects, if_enqueued, start_befores, limit_keys) WITH ORDINALITY
            AS each (id, effect, if_enqueued, start_before, limit_key, ordinal)
        WHERE each.effect <> 'kept'
        ORDER BY each.ordinal
    LOOP
        IF job.effect = 'replaced' THEN
            UPDATE procrastinate_diesel_job_options AS option
            SET start_before = CASE job.if_enqueued WHEN 'replace' THEN job.start_before ELSE option.start_before END,
                checked_at = CASE job.if_enqueued WHEN 'replace' THEN NULL ELSE option.checked_at END,
                limit_key = job.limit_key
            WHERE option.job_id = job.id;
            CONTINUE WHEN FOUND;
            IF job.if_enqueued <> 'replace' THEN
                -- Its time is a part of the schedule, which stays.
                job.start_before := NULL;
            END IF;
        END IF;
        INSERT INTO procrastinate_diesel_job_options (job_id, start_before, limit_key)
        SELECT job.id, job.start_before, job.limit_key
        WHERE num_nonnulls(job.start_before, job.limit_key) > 0;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_store_options_v1(bigint[], text[], text[], timestamptz[], text[]) IS
    'Stores the options of jobs that were deferred, given as parallel arrays. A job that has '
    'replaced a pending one replaces its options. With replace_except_schedule, the pending job '
    'keeps the time by which it must start.';

CREATE FUNCTION procrastinate_diesel_defer_with_options_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[], if_enqueued text[], start_befores timestamptz[],
        limit_keys text[])
    RETURNS TABLE (job_id bigint, effect text, taken_queueing_lock text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    job_ids bigint[];
    effects text[];
    taken text;
BEGIN
    IF 'fail' = ALL (if_enqueued) THEN
        SELECT array_agg(deferred.job_id), array_agg('new'::text), min(deferred.taken_queueing_lock)
        INTO job_ids, effects, taken
        FROM procrastinate_diesel_defer_jobs_v1(
            queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats) AS deferred;
    ELSE
        SELECT array_agg(deferred.job_id), array_agg(deferred.effect), min(deferred.taken_queueing_lock)
        INTO job_ids, effects, taken
        FROM procrastinate_diesel_defer_or_replace_jobs_v1(
            queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats, if_enqueued)
            AS deferred;
    END IF;
    IF taken IS NOT NULL THEN
        RETURN QUERY SELECT NULL::bigint, NULL::text, taken;
        RETURN;
    END IF;
    PERFORM procrastinate_diesel_store_options_v1(job_ids, effects, if_enqueued, start_befores, limit_keys);
    RETURN QUERY SELECT deferred.id, deferred.effect, NULL::text FROM unnest(job_ids, effects) AS deferred (id, effect);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_with_options_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[], timestamptz[], text[]) IS
    'Defers jobs like procrastinate_diesel_defer_or_replace_jobs_v1, with options: the times by '
    'which they must start, and their keys for limits. NULL if a job has none.';

CREATE FUNCTION procrastinate_diesel_expire_pending_v1(
        pending_ids bigint[], OUT checked integer, OUT expired integer)
    LANGUAGE plpgsql
AS $function$
DECLARE
    todo CONSTANT procrastinate_job_status := 'todo';
    locked_ids bigint[];
    expired_ids bigint[];
BEGIN
    locked_ids := ARRAY(
        SELECT job.id FROM procrastinate_jobs AS job
        WHERE job.id = ANY (pending_ids) AND job.status = todo AND job.attempts = 0
        FOR UPDATE SKIP LOCKED);
    -- A statement of its own sees the events of whoever held a lock until just before. A job that
    -- was started and put back keeps its attempts in some cases.
    WITH cancelled AS (
        UPDATE procrastinate_jobs AS job SET status = 'cancelled'
        WHERE job.id = ANY (locked_ids)
          AND (SELECT event.id FROM procrastinate_events AS event
               WHERE event.job_id = job.id AND event.type = 'started'
               LIMIT 1) IS NULL
        RETURNING job.id),
    events AS (
        INSERT INTO procrastinate_events (job_id, type) SELECT cancelled.id, 'cancelled' FROM cancelled)
    SELECT coalesce(array_agg(cancelled.id), '{}') INTO expired_ids FROM cancelled;
    UPDATE procrastinate_diesel_job_options AS option
    SET checked_at = now(), is_expired = option.job_id = ANY (expired_ids)
    WHERE option.job_id = ANY (locked_ids);
    IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
        PERFORM procrastinate_diesel_note_ended_jobs_v1(expired_ids, false);
    END IF;
    checked := cardinality(locked_ids);
    expired := cardinality(expired_ids);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_expire_pending_v1(bigint[]) IS
    'Cancels those of these jobs that are pending and were never started. Returns how many it has '
    'dealt with, which are all but those that others have locked, and how many it has cancelled.';

CREATE FUNCTION procrastinate_diesel_expire_job_v1(p_job_id bigint)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    step record;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text;
BEGIN
    IF NOT procrastinate_diesel_is_expired_v1(p_job_id, clock_timestamp())
            OR NOT has_table_privilege('procrastinate_diesel_job_options', 'UPDATE')
            OR NOT has_column_privilege('procrastinate_jobs', 'status', 'UPDATE') THEN
        RETURN false;
    END IF;
    depth := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
    BEGIN
        step := procrastinate_diesel_expire_pending_v1(ARRAY[p_job_id]);
    EXCEPTION WHEN OTHERS THEN
        IF procrastinate_diesel_ends_statement_v1(SQLSTATE) THEN
            RAISE;
        END IF;
    END;
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
    RETURN coalesce(step.expired > 0, false);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_expire_job_v1(bigint) IS
    'Cancels a pending job that had to start before now and was never started, unless another '
    'transaction has locked it. Returns whether it did so.';

CREATE FUNCTION procrastinate_diesel_expire_holders_v1(queueing_locks text[])
    RETURNS integer
    LANGUAGE plpgsql
AS $function$
DECLARE
    each_lock text;
    holder bigint;
    expired integer := 0;
BEGIN
    IF num_nonnulls(VARIADIC queueing_locks) = 0
            OR NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS each WHERE each.kind = 'deadline') THEN
        RETURN 0;
    END IF;
    FOR each_lock IN
        SELECT DISTINCT input.lock COLLATE "C" FROM unnest(queueing_locks) AS input (lock)
        WHERE input.lock IS NOT NULL
        ORDER BY 1
    LOOP
        SELECT job.id INTO holder
        FROM procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.queueing_lock >= each_lock
          AND job.queueing_lock <= each_lock
        ORDER BY job.queueing_lock
        LIMIT 1;
        IF procrastinate_diesel_expire_job_v1(holder) THEN
            expired := expired + 1;
        END IF;
    END LOOP;
    RETURN expired;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_expire_holders_v1(text[]) IS
    'Cancels those pending jobs with these queueing locks that had to start before now and were '
    'never started. Otherwise they would take the place of jobs that can still start. Returns how '
    'many.';

CREATE FUNCTION procrastinate_diesel_living_holders_v1(queueing_locks text[])
    RETURNS TABLE (queueing_lock text, job_id bigint)
    LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM procrastinate_diesel_expire_holders_v1(queueing_locks);
    RETURN QUERY
        SELECT job.queueing_lock, job.id
        FROM procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.queueing_lock = ANY (queueing_locks);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_living_holders_v1(text[]) IS
    'The pending jobs that hold these queueing locks, after '
    'procrastinate_diesel_expire_holders_v1.';

CREATE FUNCTION procrastinate_diesel_expire_some_jobs_v1(
        due_at timestamptz, most integer, OUT due integer, OUT checked integer, OUT expired integer)
    LANGUAGE plpgsql
AS $function$
DECLARE
    todo CONSTANT procrastinate_job_status := 'todo';
    due_ids bigint[];
    pending_ids bigint[];
    pending_id bigint;
    step record;
BEGIN
    -- It waits for nobody, so the rows may be locked before the jobs.
    due_ids := ARRAY(
        SELECT option.job_id FROM procrastinate_diesel_job_options AS option
        WHERE option.start_before <= due_at AND option.checked_at IS NULL
        ORDER BY option.start_before
        LIMIT most
        FOR UPDATE SKIP LOCKED);
    due := cardinality(due_ids);
    checked := 0;
    expired := 0;
    IF due = 0 THEN
        RETURN;
    END IF;
    pending_ids := ARRAY(
        SELECT job.id FROM procrastinate_jobs AS job
        WHERE job.id = ANY (due_ids) AND job.status = todo AND job.attempts = 0);
    -- The others have been started, have ended, or are gone.
    UPDATE procrastinate_diesel_job_options AS option SET checked_at = now()
    WHERE option.job_id = ANY (ARRAY(SELECT unnest(due_ids) EXCEPT SELECT unnest(pending_ids)));
    GET DIAGNOSTICS checked = ROW_COUNT;
    IF cardinality(pending_ids) = 0 THEN
        RETURN;
    END IF;
    BEGIN
        step := procrastinate_diesel_expire_pending_v1(pending_ids);
        checked := checked + step.checked;
        expired := step.expired;
    EXCEPTION WHEN OTHERS THEN
        IF procrastinate_diesel_ends_statement_v1(SQLSTATE) THEN
            RAISE;
        END IF;
        -- The database refuses to cancel one of the jobs.
        FOREACH pending_id IN ARRAY pending_ids LOOP
            BEGIN
                step := procrastinate_diesel_expire_pending_v1(ARRAY[pending_id]);
                checked := checked + step.checked;
                expired := expired + step.expired;
            EXCEPTION WHEN OTHERS THEN
                IF procrastinate_diesel_ends_statement_v1(SQLSTATE) THEN
                    RAISE;
                END IF;
            END;
        END LOOP;
    END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_expire_some_jobs_v1(timestamptz, integer) IS
    'Compares the jobs that had to start by this time, at most so many, and cancels those that '
    'were never started. Returns how many it has found, how many it has dealt with, and how many '
    'it has cancelled. It does not deal with those that others have locked, and those that the '
    'database refuses to cancel.';

CREATE FUNCTION procrastinate_diesel_expire_jobs_v1(due_at timestamptz)
    RETURNS text
    LANGUAGE plpgsql
AS $function$
DECLARE
    step record;
BEGIN
    -- A role without these rights leaves them to others. They do not start.
    IF NOT has_table_privilege('procrastinate_diesel_job_options', 'UPDATE') THEN
        RETURN NULL;
    END IF;
    FOR pass IN 1..5 LOOP
        step := procrastinate_diesel_expire_some_jobs_v1(due_at, 1000);
        EXIT WHEN step.due < 1000 OR step.checked = 0;
        IF pass = 5 THEN
            RETURN 'many';
        END IF;
    END LOOP;
    RETURN (
        SELECT 'locked' FROM procrastinate_diesel_job_options AS option
        WHERE option.start_before <= due_at AND option.checked_at IS NULL
        ORDER BY option.start_before
        LIMIT 1);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_expire_jobs_v1(timestamptz) IS
    'Cancels the jobs that had to start by this time and were never started. Returns many if there '
    'may be thousands more, locked if others have locked the rest, and NULL if there are no more. '
    'Relies on the settings of functions that fetch jobs, as they write the events.';

CREATE FUNCTION procrastinate_diesel_remove_deadlines_v1()
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    names varchar[];
    is_needed boolean;
BEGIN
    -- A transaction of a higher isolation level does not see what others have added meanwhile.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
            OR NOT has_table_privilege('procrastinate_diesel_flow_controls', 'DELETE')
            OR NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.kind = 'deadline')
    THEN
        RETURN;
    END IF;
    -- Those that a transaction relies on are locked.
    names := ARRAY(
        SELECT control.name FROM procrastinate_diesel_flow_controls AS control
        WHERE control.kind = 'deadline'
        FOR UPDATE SKIP LOCKED);
    -- These statements see all that was committed before the locks were granted.
    is_needed := EXISTS (
        SELECT FROM procrastinate_diesel_job_options AS option
        WHERE option.start_before IS NOT NULL AND option.checked_at IS NULL);
    DELETE FROM procrastinate_diesel_flow_controls AS control
    WHERE control.kind = 'deadline' AND control.name = ANY (names[CASE WHEN is_needed THEN 2 ELSE 1 END:]);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_remove_deadlines_v1() IS
    'Ends the comparison in each fetch, if all times by which jobs must start have been compared.';

CREATE FUNCTION procrastinate_diesel_tend_job_options_v1(start_after bigint, due_at timestamptz DEFAULT NULL)
    RETURNS TABLE (expired integer, has_more boolean, stopped_at bigint)
    LANGUAGE plpgsql
    -- As in procrastinate_diesel_finish_and_fetch_jobs_v1.
    SET jit = off SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
    SET enable_sort = off SET enable_incremental_sort = off
AS $function$
DECLARE
    step record;
    read_ids bigint[];
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
BEGIN
    step := procrastinate_diesel_expire_some_jobs_v1(coalesce(due_at, now()), 1000);
    expired := step.expired;
    has_more := step.due = 1000 AND step.checked > 0;
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
    read_ids := ARRAY(
        SELECT option.job_id FROM procrastinate_diesel_job_options AS option
        WHERE option.job_id > start_after
        ORDER BY option.job_id
        LIMIT 1000);
    DELETE FROM procrastinate_diesel_job_options AS option
    WHERE option.job_id = ANY (ARRAY(
        SELECT gone.job_id FROM procrastinate_diesel_job_options AS gone
        WHERE gone.job_id = ANY (read_ids)
          AND (SELECT job.id FROM procrastinate_jobs AS job WHERE job.id = gone.job_id) IS NULL
        FOR UPDATE SKIP LOCKED));
    stopped_at := CASE WHEN cardinality(read_ids) = 1000 THEN read_ids[1000] ELSE 0 END;
    PERFORM procrastinate_diesel_remove_deadlines_v1();
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_tend_job_options_v1(bigint, timestamptz) IS
    'Does a step of the work on the options of jobs. Cancels up to a thousand jobs that had to '
    'start by this time (NULL: now) and were never started. Deletes the options of jobs that are '
    'gone. Returns how many jobs it has cancelled, whether there may be more of them, and after '
    'which job the next step continues to search for those that are gone.';
