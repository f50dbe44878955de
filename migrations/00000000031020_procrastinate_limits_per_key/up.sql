-- Limits for each key: a value in the arguments of a job, or one that is given with it.
--
-- Every pending or running job of a queue or task with such a limit has a row in
-- procrastinate_diesel_keyed_jobs. Whatever makes a job pending or ends it only marks this row, so
-- no transaction ever waits for another one there. A fetch assigns marked rows to their keys, and
-- locks the rows of the keys of which it starts jobs. It passes over keys that another fetch has
-- locked, so fetches of different keys do not wait for each other. The row of an ended job is
-- removed immediately if no other job may be able to start now.
--
-- A key is ready if one of its jobs may be able to start. A fetch looks only at ready keys, so it
-- does not matter how many keys are full, and how many jobs wait for them.

CREATE TYPE procrastinate_diesel_keyed_job_v1 AS (
    job_id bigint,
    former_key_id bigint,
    kind text,
    name varchar,
    key_path text[],
    key text,
    key_id bigint,
    status procrastinate_job_status,
    priority integer,
    scheduled_at timestamptz);
COMMENT ON TYPE procrastinate_diesel_keyed_job_v1 IS
    'A job with its limit and key, and its former key. kind is NULL for a job that is neither '
    'pending nor running, or has no such limit. key_id is NULL for a key without a row.';

CREATE TYPE procrastinate_diesel_key_head_v1 AS (
    id bigint,
    lock text,
    priority integer,
    key_id bigint,
    turn timestamptz,
    round bigint);
COMMENT ON TYPE procrastinate_diesel_key_head_v1 IS
    'A job that may start, and its key. turn is that of the key, round the position of the job '
    'among those of its key.';

CREATE FUNCTION procrastinate_diesel_key_of_job_v1(p_job_id bigint, args jsonb, key_path text[])
    RETURNS text
    LANGUAGE plpgsql
    STABLE
AS $function$
DECLARE
    found text := args #>> key_path;
BEGIN
    IF key_path = '{}' THEN
        found := (
            SELECT options.limit_key FROM procrastinate_diesel_job_options AS options
            WHERE options.job_id = p_job_id);
    END IF;
    -- An index has no room for a long value.
    IF length(found) > 128 THEN
        RETURN left(found, 95) || '#' || md5(found);
    END IF;
    RETURN coalesce(found, '');
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_key_of_job_v1(bigint, jsonb, text[]) IS
    'The key of a job: the value at this path in its arguments, as text, or with an empty path the '
    'one that was given with the job. Empty if there is none.';

-- A role that may only defer jobs cannot read their tasks, so these are parameters.
CREATE FUNCTION procrastinate_diesel_note_keyed_jobs_v1(
        job_ids bigint[], queue_names varchar[], task_names varchar[])
    RETURNS void
    LANGUAGE plpgsql
    -- Whatever the statistics say: the table grows fast while sessions keep their plans.
    SET enable_seqscan = off SET enable_bitmapscan = off
AS $function$
BEGIN
    INSERT INTO procrastinate_diesel_keyed_jobs AS keyed (job_id)
    SELECT job.id
    FROM unnest(job_ids, queue_names, task_names) AS job (id, queue_name, task_name)
    WHERE EXISTS (
        SELECT FROM procrastinate_diesel_flow_controls AS control
        WHERE control.key_path IS NOT NULL
          AND control.name = CASE control.kind WHEN 'queue' THEN job.queue_name ELSE job.task_name END)
    ORDER BY job.id
    ON CONFLICT (job_id) DO UPDATE SET state = 'new';
    -- Those that had a limit before they moved to another queue leave their keys.
    UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'ended'
    WHERE keyed.job_id = ANY (job_ids) AND (keyed.state NOT IN ('new', 'ended')) IS TRUE;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_note_keyed_jobs_v1(bigint[], varchar[], varchar[]) IS
    'Marks those of these pending jobs that are subject to a limit for each key, so that the next '
    'fetch assigns them to their keys.';

CREATE FUNCTION procrastinate_diesel_note_next_of_locks_v1(job_ids bigint[])
    RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $function$
DECLARE
    next_ids CONSTANT bigint[] := ARRAY(
        SELECT (SELECT first.id FROM procrastinate_jobs AS first
                WHERE first.lock = ended.lock AND first.status = 'todo'
                ORDER BY first.lock, first.priority DESC, first.id
                LIMIT 1)
        FROM procrastinate_jobs AS ended
        WHERE ended.id = ANY (job_ids) AND ended.lock IS NOT NULL);
BEGIN
    IF cardinality(next_ids) > 0 THEN
        UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'new'
        WHERE keyed.job_id = ANY (ARRAY(
            SELECT next.job_id FROM procrastinate_diesel_keyed_jobs AS next
            WHERE next.job_id = ANY (next_ids) AND (next.state = 'pending') IS TRUE
            FOR UPDATE SKIP LOCKED));
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_note_next_of_locks_v1(bigint[]) IS
    'Marks the first pending job of each lock that these jobs have. It may have another key, and '
    'can start when they have ended.';

CREATE FUNCTION procrastinate_diesel_note_ended_jobs_v1(job_ids bigint[], are_deleted boolean)
    RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
BEGIN
    UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'ended'
    WHERE keyed.job_id = ANY (job_ids) AND (keyed.state <> 'ended') IS TRUE
      -- Another worker may have it.
      AND (are_deleted OR NOT EXISTS (
            SELECT FROM procrastinate_jobs AS job
            WHERE job.id = ANY (ARRAY[keyed.job_id]) AND job.status = doing));
    PERFORM procrastinate_diesel_note_next_of_locks_v1(job_ids);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_note_ended_jobs_v1(bigint[], boolean) IS
    'Marks the rows of jobs that do not run any more, or are being deleted, so that the next fetch '
    'can start others of their keys.';

CREATE FUNCTION procrastinate_diesel_end_keyed_jobs_v1(job_ids bigint[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    ended CONSTANT procrastinate_job_status[] := '{succeeded,failed,aborted}';
    removed bigint;
BEGIN
    -- No job waits for the end of these. Others of the key may be able to start if it is nearly
    -- full, or wait for the same lock.
    DELETE FROM procrastinate_diesel_keyed_jobs AS keyed
    -- With IS TRUE, because the planner may search the whole index of keys for a state.
    WHERE keyed.job_id = ANY (job_ids) AND (keyed.state = 'running') IS TRUE
      AND (SELECT NOT known.is_nearly_full FROM procrastinate_diesel_limit_keys AS known
           WHERE known.id = ANY (ARRAY[keyed.key_id]))
      AND (SELECT job.status = ANY (ended) AND job.lock IS NULL FROM procrastinate_jobs AS job
           WHERE job.id = ANY (ARRAY[keyed.job_id]));
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed < cardinality(job_ids) THEN
        PERFORM procrastinate_diesel_note_ended_jobs_v1(job_ids, false);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_end_keyed_jobs_v1(bigint[]) IS
    'Removes the rows of jobs that a worker has just finished, or marks them if other jobs may be '
    'able to start now.';

CREATE FUNCTION procrastinate_diesel_note_unscheduled_job_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
DECLARE
    nothing text;
BEGIN
    IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
        nothing := procrastinate_diesel_note_keyed_jobs_v1(
            ARRAY[NEW.id], ARRAY[NEW.queue_name], ARRAY[NEW.task_name]);
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_note_unscheduled_job_v1() IS
    'Marks a job that may start immediately, because its time was removed.';

SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'SHARE ROW EXCLUSIVE');
-- The contract's trigger for scheduled jobs is not called for one without a time.
CREATE TRIGGER procrastinate_diesel_note_unscheduled_job_v1
    AFTER UPDATE OF scheduled_at ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.scheduled_at IS NOT NULL AND NEW.scheduled_at IS NULL AND NEW.status = 'todo')
    EXECUTE FUNCTION procrastinate_diesel_note_unscheduled_job_v1();

CREATE FUNCTION procrastinate_diesel_unfinished_jobs_v1(p_kind text, p_name varchar)
    RETURNS SETOF bigint
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- The running ones first, because they count for the limit.
    IF p_kind = 'queue' THEN
        RETURN QUERY
            SELECT job.id FROM procrastinate_jobs AS job WHERE job.status = 'doing' AND job.queue_name = p_name
          UNION ALL
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL AND job.queue_name = p_name
          UNION ALL
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
              AND job.queue_name = p_name
          UNION ALL
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name = p_name;
    ELSE
        RETURN QUERY
            SELECT job.id FROM procrastinate_jobs AS job WHERE job.status = 'doing' AND job.task_name = p_name
          UNION ALL
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) IN (0, 1, 2)
              AND job.task_name = p_name;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_unfinished_jobs_v1(text, varchar) IS
    'The pending and running jobs of a queue or task. Reads no others.';

CREATE FUNCTION procrastinate_diesel_note_missing_jobs_v1(
        p_kind text, p_name varchar, most integer, skips_locked boolean DEFAULT false)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    missing_ids bigint[] := ARRAY(
        SELECT job.id
        FROM procrastinate_diesel_unfinished_jobs_v1(p_kind, p_name) AS job (id)
        WHERE NOT EXISTS (SELECT FROM procrastinate_diesel_keyed_jobs AS keyed WHERE keyed.job_id = job.id)
        LIMIT most);
    are_all CONSTANT boolean := cardinality(missing_ids) < most;
BEGIN
    IF skips_locked THEN
        missing_ids := ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.id = ANY (missing_ids)
            FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    INSERT INTO procrastinate_diesel_keyed_jobs (job_id)
    SELECT missing.id FROM unnest(missing_ids) AS missing (id)
    ON CONFLICT DO NOTHING;
    RETURN are_all;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_note_missing_jobs_v1(text, varchar, integer, boolean) IS
    'Marks pending and running jobs of a queue or task that have no row, because their transaction '
    'did not see the limit, at most so many. Returns whether these are all. With skips_locked it '
    'waits for no other transaction that has inserted the row of a job together with a change of '
    'the job.';

CREATE FUNCTION procrastinate_diesel_note_outdated_jobs_v1(
        p_kind text, p_name varchar, most integer, compares_keys boolean)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    -- OFFSET keeps the planner from joining all jobs of the limit with all of them.
    outdated_ids CONSTANT bigint[] := ARRAY(
        SELECT unfinished.id
        FROM procrastinate_diesel_unfinished_jobs_v1(p_kind, p_name) AS unfinished (id)
        CROSS JOIN LATERAL (
            SELECT keyed.* FROM procrastinate_diesel_keyed_jobs AS keyed WHERE keyed.job_id = unfinished.id
            OFFSET 0) AS noted
        CROSS JOIN LATERAL (
            SELECT known.* FROM procrastinate_diesel_limit_keys AS known WHERE known.id = noted.key_id
            OFFSET 0) AS former
        CROSS JOIN LATERAL (
            SELECT each.* FROM procrastinate_jobs AS each WHERE each.id = unfinished.id
            OFFSET 0) AS job
        -- A job has one key. The limit of its queue comes before that of its task.
        WHERE noted.state IN ('later', 'pending', 'running')
          AND (p_kind = 'queue' AND (former.kind = 'task' OR former.name <> p_name)
               OR NOT EXISTS (
                    SELECT FROM procrastinate_diesel_flow_controls AS control
                    WHERE control.kind = former.kind AND control.name = former.name
                      AND control.key_path = former.key_path)
               -- It was changed while there was no limit, or by a transaction that did not see it.
               OR (job.status = doing) <> (noted.state = 'running')
               OR noted.state <> 'running' AND (
                    job.priority <> noted.priority OR job.scheduled_at IS DISTINCT FROM noted.scheduled_at)
               OR compares_keys AND former.kind = p_kind AND former.name = p_name
                  AND former.key <> procrastinate_diesel_key_of_job_v1(job.id, job.args, former.key_path))
        LIMIT most);
BEGIN
    UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'new'
    WHERE keyed.job_id = ANY (ARRAY(
        SELECT outdated.job_id FROM procrastinate_diesel_keyed_jobs AS outdated
        WHERE outdated.job_id = ANY (outdated_ids) AND (outdated.state NOT IN ('new', 'ended')) IS TRUE
        FOR UPDATE SKIP LOCKED));
    RETURN cardinality(outdated_ids) < most;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_note_outdated_jobs_v1(text, varchar, integer, boolean) IS
    'Marks pending and running jobs of a queue or task whose row is not up to date, because limits '
    'were set, changed or removed, at most so many. Returns whether these are all. The keys of '
    'jobs are compared only if compares_keys.';

CREATE FUNCTION procrastinate_diesel_wake_keys_v1(p_kind text, p_name varchar, wake_after timestamptz)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- A fetch that has locked one of them may know the former limit. The next check finds it.
    UPDATE procrastinate_diesel_limit_keys AS known SET wakes_at = 'epoch'
    WHERE known.id = ANY (ARRAY(
        SELECT waiting.id FROM procrastinate_diesel_limit_keys AS waiting
        WHERE waiting.wakes_at > wake_after AND waiting.kind = p_kind AND waiting.name = p_name
        ORDER BY waiting.wakes_at
        FOR NO KEY UPDATE SKIP LOCKED));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_wake_keys_v1(text, varchar, timestamptz) IS
    'Lets fetches look at the keys of a limit again that would be looked at only after this time.';

CREATE FUNCTION procrastinate_diesel_remove_idle_keys_v1(p_kind text, p_name varchar, most integer)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    idle_keys CONSTANT bigint[] := ARRAY(
        SELECT unused.id FROM procrastinate_diesel_limit_keys AS unused
        LEFT JOIN procrastinate_diesel_flow_controls AS control
            ON control.kind = unused.kind AND control.name = unused.name AND control.key_path = unused.key_path
        WHERE unused.kind = p_kind AND unused.name = p_name
          -- Recent starts may still count.
          AND (control.kind IS NULL OR NOT unused.is_ready AND unused.wakes_at IS NULL
                 AND unused.turn + make_interval(secs => coalesce(control.key_start_period_seconds, 0))
                     < now() - interval '1 minute')
          AND NOT EXISTS (SELECT FROM procrastinate_diesel_keyed_jobs AS keyed WHERE keyed.key_id = unused.id)
        LIMIT most
        FOR UPDATE OF unused SKIP LOCKED);
BEGIN
    -- Another fetch may have assigned a job before this one had the lock. This statement sees it.
    DELETE FROM procrastinate_diesel_limit_keys AS known
    WHERE known.id = ANY (idle_keys)
      AND NOT EXISTS (SELECT FROM procrastinate_diesel_keyed_jobs AS keyed WHERE keyed.key_id = known.id);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_remove_idle_keys_v1(text, varchar, integer) IS
    'Deletes keys of a limit that have no jobs, at most so many.';

CREATE FUNCTION procrastinate_diesel_note_unlimited_jobs_v1(most integer)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    former record;
BEGIN
    FOR former IN
        SELECT state.kind, state.name
        FROM procrastinate_diesel_limit_states AS state
        WHERE state.slot = 0 AND state.keys_checked_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM procrastinate_diesel_flow_controls AS control
            WHERE control.kind = state.kind AND control.name = state.name AND control.key_path IS NOT NULL)
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'new'
        WHERE keyed.job_id = ANY (ARRAY(
            SELECT outdated.job_id
            FROM procrastinate_diesel_limit_keys AS known
            JOIN procrastinate_diesel_keyed_jobs AS outdated ON outdated.key_id = known.id
            WHERE known.kind = former.kind AND known.name = former.name AND outdated.state = 'running'
            FOR UPDATE OF outdated SKIP LOCKED) || ARRAY(
            SELECT outdated.job_id
            FROM procrastinate_diesel_limit_keys AS known
            JOIN procrastinate_diesel_keyed_jobs AS outdated ON outdated.key_id = known.id
            WHERE known.kind = former.kind AND known.name = former.name AND outdated.state IN ('later', 'pending')
            LIMIT most
            FOR UPDATE OF outdated SKIP LOCKED));
        PERFORM procrastinate_diesel_remove_idle_keys_v1(former.kind, former.name, most);
        UPDATE procrastinate_diesel_limit_states AS state SET keys_checked_at = NULL
        WHERE state.kind = former.kind AND state.name = former.name AND state.slot = 0 AND NOT EXISTS (
            SELECT FROM procrastinate_diesel_limit_keys AS known
            WHERE known.kind = former.kind AND known.name = former.name);
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_note_unlimited_jobs_v1(integer) IS
    'Marks the jobs of limits for each key that were removed, all running ones and at most so many '
    'others of each, because they may have another one. Forgets such a limit when it has no jobs.';

CREATE FUNCTION procrastinate_diesel_compare_keyed_jobs_v1(
        p_kind text, p_name varchar, p_changed_at timestamptz, has_other_keys boolean, is_going_on boolean,
        counted_at timestamptz, began_at timestamptz)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    are_all boolean;
BEGIN
    IF is_going_on AND NOT has_other_keys AND 1000 = (
            SELECT count(*)
            FROM (SELECT FROM procrastinate_diesel_keyed_jobs AS keyed WHERE keyed.state IN ('new', 'ended')
                  LIMIT 1000) AS marked) THEN
        -- First those that are marked already.
        RETURN;
    END IF;
    are_all := procrastinate_diesel_note_missing_jobs_v1(p_kind, p_name, 10000, true);
    are_all := procrastinate_diesel_note_outdated_jobs_v1(
        p_kind, p_name, 10000, has_other_keys OR is_going_on) AND are_all;
    PERFORM procrastinate_diesel_remove_idle_keys_v1(p_kind, p_name, 10000);
    -- If these were not all, a later fetch goes on. The running ones come first, so all of them are
    -- known. A search that takes long is not repeated for ten times as long.
    UPDATE procrastinate_diesel_limit_states AS state
    SET keys_checked_at = CASE WHEN are_all THEN counted_at + 9 * (clock_timestamp() - began_at) ELSE 'epoch' END,
        keys_checked_under = p_changed_at
    WHERE state.kind = p_kind AND state.name = p_name AND state.slot = 0;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_compare_keyed_jobs_v1(
    text, varchar, timestamptz, boolean, boolean, timestamptz, timestamptz) IS
    'Searches for jobs that a limit for each key does not know, or does not know as they are. '
    'has_other_keys if the limit was set or its path changed since the last time, is_going_on if '
    'there were more than were noted then.';

-- How long ago a limit was set decides how often to search: a transaction that did not see it
-- rarely stays open for long.
CREATE FUNCTION procrastinate_diesel_check_keyed_jobs_v1(counted_at timestamptz)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    control record;
    former record;
    began_at CONSTANT timestamptz := clock_timestamp();
BEGIN
    PERFORM procrastinate_diesel_note_unlimited_jobs_v1(10000);
    FOR control IN
        SELECT known.*
        FROM (
            SELECT each.kind, each.name, each.changed_at, each.keys_changed_at,
                each.key_start_period_seconds AS period_seconds, state.kind IS NULL AS is_new, state.keys_checked_at,
                state.keys_woken_at,
                state.keys_checked_under IS DISTINCT FROM each.keys_changed_at AS has_other_keys,
                (state.keys_checked_under = each.keys_changed_at
                 -- Otherwise the clock was wrong.
                 AND state.keys_checked_at < counted_at + interval '2 hours'
                 AND state.keys_checked_at + least(interval '10 minutes', greatest(
                        interval '1 second', (state.keys_checked_at - each.keys_changed_at) / 4)) > counted_at
                ) IS NOT TRUE AS is_due,
                (state.keys_woken_under = each.changed_at
                 AND state.keys_woken_at + interval '1 second' > counted_at) IS NOT TRUE AS is_changed
            FROM procrastinate_diesel_flow_controls AS each
            LEFT JOIN procrastinate_diesel_limit_states AS state
                ON state.kind = each.kind AND state.name = each.name AND state.slot = 0
            WHERE each.key_path IS NOT NULL) AS known
        WHERE known.is_due OR known.is_changed
        ORDER BY known.kind, known.name
    LOOP
        IF control.is_new THEN
            PERFORM procrastinate_diesel_add_limit_states_v1(control.kind, control.name, 0);
        END IF;
        SELECT state.keys_checked_at, state.keys_woken_at INTO former
        FROM procrastinate_diesel_limit_states AS state
        WHERE state.kind = control.kind AND state.name = control.name AND state.slot = 0
        FOR NO KEY UPDATE SKIP LOCKED;
        -- Otherwise another fetch checks it.
        CONTINUE WHEN NOT FOUND OR former.keys_checked_at IS DISTINCT FROM control.keys_checked_at
            OR former.keys_woken_at IS DISTINCT FROM control.keys_woken_at;
        -- The keys may wait for the end of a former period. Again a second later, for fetches that
        -- did not see the change. And no key waits for longer than a period, unless the clock was
        -- wrong.
        PERFORM procrastinate_diesel_wake_keys_v1(
            control.kind, control.name, counted_at + CASE
                WHEN control.is_changed THEN interval '1 second'
                ELSE make_interval(secs => greatest(control.period_seconds, 60)) END);
        IF control.is_changed THEN
            UPDATE procrastinate_diesel_limit_states AS state
            SET keys_woken_under = control.changed_at,
                keys_woken_at = CASE WHEN state.keys_woken_under = control.changed_at THEN 'infinity'
                                     ELSE counted_at END
            WHERE state.kind = control.kind AND state.name = control.name AND state.slot = 0;
        END IF;
        IF control.is_due THEN
            PERFORM procrastinate_diesel_compare_keyed_jobs_v1(
                control.kind, control.name, control.keys_changed_at, control.has_other_keys,
                former.keys_checked_at IS NOT DISTINCT FROM 'epoch', counted_at, began_at);
        END IF;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_check_keyed_jobs_v1(timestamptz) IS
    'Searches for jobs that a limit for each key does not know, and for keys that sleep for too '
    'long: each second after it was set, and less often later.';

CREATE FUNCTION procrastinate_diesel_unchecked_limits_v1(OUT queue_names varchar[], OUT task_names varchar[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    former record;
    are_all_unchecked boolean := false;
BEGIN
    FOR former IN
        SELECT state.kind, state.name FROM procrastinate_diesel_limit_states AS state
        WHERE state.slot = 0 AND state.keys_checked_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM procrastinate_diesel_flow_controls AS control
            WHERE control.kind = state.kind AND control.name = state.name AND control.key_path IS NOT NULL)
    LOOP
        -- Running jobs of a limit that was removed may count for another one.
        are_all_unchecked := are_all_unchecked OR EXISTS (
            SELECT FROM procrastinate_diesel_limit_keys AS known
            CROSS JOIN LATERAL (
                SELECT keyed.job_id FROM procrastinate_diesel_keyed_jobs AS keyed
                WHERE keyed.key_id = known.id AND keyed.state = 'running'
                LIMIT 1) AS running
            WHERE known.kind = former.kind AND known.name = former.name);
    END LOOP;
    SELECT coalesce(array_agg(control.name) FILTER (WHERE control.kind = 'queue'), '{}'),
        coalesce(array_agg(control.name) FILTER (WHERE control.kind = 'task'), '{}')
    INTO queue_names, task_names
    FROM procrastinate_diesel_flow_controls AS control
    LEFT JOIN procrastinate_diesel_limit_states AS state
        ON state.kind = control.kind AND state.name = control.name AND state.slot = 0
    WHERE control.key_path IS NOT NULL
      AND (are_all_unchecked OR state.keys_checked_under IS DISTINCT FROM control.keys_changed_at);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_unchecked_limits_v1() IS
    'Limits for each key of which no job may start yet, because another fetch is searching for the '
    'running jobs that count.';

CREATE FUNCTION procrastinate_diesel_clean_keys_v1(most integer)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM procrastinate_diesel_note_unlimited_jobs_v1(most);
    -- Otherwise fetches assign them, and delete those without a limit.
    DELETE FROM procrastinate_diesel_keyed_jobs AS keyed
    WHERE NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL)
      AND keyed.job_id = ANY (ARRAY(
        SELECT noted.job_id FROM procrastinate_diesel_keyed_jobs AS noted
        WHERE noted.state IN ('new', 'ended')
        ORDER BY noted.job_id
        LIMIT most
        FOR UPDATE SKIP LOCKED));
    -- Their keys.
    PERFORM procrastinate_diesel_note_unlimited_jobs_v1(most);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_clean_keys_v1(integer) IS
    'Deletes rows of limits that were removed, at most so many of each kind.';

CREATE FUNCTION procrastinate_diesel_lock_noted_jobs_v1(most integer, counted_at timestamptz)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    noted_ids bigint[] := ARRAY(
        SELECT keyed.job_id FROM procrastinate_diesel_keyed_jobs AS keyed
        WHERE keyed.state IN ('new', 'ended')
        ORDER BY keyed.job_id
        LIMIT most
        FOR UPDATE SKIP LOCKED);
    due_ids CONSTANT bigint[] := ARRAY(
        SELECT keyed.job_id FROM procrastinate_diesel_keyed_jobs AS keyed
        WHERE keyed.state = 'later' AND keyed.scheduled_at <= counted_at
        ORDER BY keyed.scheduled_at
        LIMIT most
        FOR UPDATE SKIP LOCKED);
BEGIN
    IF cardinality(noted_ids) = most THEN
        -- All running jobs, because they count for the limit.
        noted_ids := noted_ids || ARRAY(
            SELECT keyed.job_id FROM procrastinate_diesel_keyed_jobs AS keyed
            WHERE keyed.job_id = ANY (ARRAY(SELECT job.id FROM procrastinate_jobs AS job WHERE job.status = 'doing'))
              AND (keyed.state IN ('new', 'ended')) IS TRUE
              AND keyed.job_id NOT IN (SELECT unnest(noted_ids))
            FOR UPDATE SKIP LOCKED);
    END IF;
    RETURN noted_ids || due_ids;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_lock_noted_jobs_v1(integer, timestamptz) IS
    'Locks the marked rows of jobs, at most so many besides those of running jobs, and the rows of '
    'scheduled jobs that are due.';

CREATE FUNCTION procrastinate_diesel_find_keys_v1(job_ids bigint[])
    RETURNS procrastinate_diesel_keyed_job_v1[]
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- A job has one key. The limit of its queue comes before that of its task.
    RETURN ARRAY(
        SELECT ROW(
            keyed.job_id, keyed.key_id, found.kind, found.name, found.key_path, found.key, known.id, job.status,
            job.priority, job.scheduled_at)::procrastinate_diesel_keyed_job_v1
        FROM procrastinate_diesel_keyed_jobs AS keyed
        LEFT JOIN procrastinate_jobs AS job ON job.id = ANY (ARRAY[keyed.job_id])
        LEFT JOIN LATERAL (
            SELECT control.kind, control.name, control.key_path,
                procrastinate_diesel_key_of_job_v1(job.id, job.args, control.key_path) AS key
            FROM procrastinate_diesel_flow_controls AS control
            WHERE job.status IN ('todo', 'doing') AND control.key_path IS NOT NULL
              AND control.name = CASE control.kind WHEN 'queue' THEN job.queue_name ELSE job.task_name END
            ORDER BY control.kind
            LIMIT 1) AS found ON true
        -- With OFFSET the planner cannot read all keys of a limit.
        LEFT JOIN LATERAL (
            SELECT each.id FROM procrastinate_diesel_limit_keys AS each
            WHERE each.kind = found.kind AND each.name = found.name AND each.key_path = found.key_path
              AND each.key = found.key
            OFFSET 0) AS known ON true
        WHERE keyed.job_id = ANY (job_ids));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_keys_v1(bigint[]) IS
    'The limits and keys of these jobs, and their former keys.';

CREATE FUNCTION procrastinate_diesel_insert_keys_v1(jobs procrastinate_diesel_keyed_job_v1[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- It was never their turn. The one whose job is the oldest is the first of them.
    INSERT INTO procrastinate_diesel_limit_keys (kind, name, key_path, key, turn)
    SELECT job.kind, job.name, job.key_path, job.key,
        to_timestamp(0) + min(job.job_id) * interval '1 microsecond'
    FROM (SELECT each.* FROM unnest(jobs) AS each WHERE each.kind IS NOT NULL AND each.key_id IS NULL
          OFFSET 0) AS job
    -- Not those that another fetch may be adding: it would wait for the end of its transaction.
    WHERE pg_try_advisory_xact_lock(
        'procrastinate_diesel_limit_keys'::regclass::oid::integer, hashtext(job.name || ' ' || job.kind)
        / 16 * 16 + (hashtext(job.key) & 15))
    GROUP BY job.kind, job.name, job.key_path, job.key
    ORDER BY job.kind, job.name, job.key_path, job.key
    ON CONFLICT DO NOTHING;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_insert_keys_v1(procrastinate_diesel_keyed_job_v1[]) IS
    'Adds the keys of these jobs that there are not yet, but for those that another fetch may be '
    'adding.';

CREATE FUNCTION procrastinate_diesel_assign_keys_v1(most integer, counted_at timestamptz)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    noted_ids CONSTANT bigint[] := procrastinate_diesel_lock_noted_jobs_v1(most, counted_at);
    found procrastinate_diesel_keyed_job_v1[];
    locked_keys bigint[];
    woken_keys bigint[];
    assigned_jobs integer;
    is_set text;
BEGIN
    IF cardinality(noted_ids) = 0 THEN
        RETURN;
    END IF;
    found := procrastinate_diesel_find_keys_v1(noted_ids);
    IF EXISTS (SELECT FROM unnest(found) AS job WHERE job.kind IS NOT NULL AND job.key_id IS NULL) THEN
        PERFORM procrastinate_diesel_insert_keys_v1(found);
        found := procrastinate_diesel_find_keys_v1(noted_ids);
    END IF;
    -- The jobs of a key that another fetch has locked stay marked.
    locked_keys := ARRAY(
        SELECT known.id
        FROM procrastinate_diesel_limit_keys AS known
        WHERE known.id = ANY (ARRAY(
            SELECT DISTINCT unnest(ARRAY[job.former_key_id, job.key_id]) FROM unnest(found) AS job))
        ORDER BY known.id
        FOR NO KEY UPDATE SKIP LOCKED);
    WITH assigned AS (
        SELECT job.*,
            -- Nothing counts the running jobs without a key.
            job.kind IS NULL OR job.status = 'doing' AND job.key = '' AS is_over
        FROM unnest(found) AS job
        WHERE coalesce(job.former_key_id = ANY (locked_keys), true)
          AND (job.kind IS NULL OR job.key_id = ANY (locked_keys))),
    removed AS (
        DELETE FROM procrastinate_diesel_keyed_jobs AS keyed
        USING assigned
        WHERE assigned.is_over AND keyed.job_id = ANY (ARRAY[assigned.job_id])),
    changed AS (
        UPDATE procrastinate_diesel_keyed_jobs AS keyed
        SET key_id = assigned.key_id, priority = assigned.priority, scheduled_at = assigned.scheduled_at,
            state = CASE WHEN assigned.status = 'doing' THEN 'running'
                         WHEN assigned.scheduled_at > counted_at THEN 'later'
                         ELSE 'pending' END
        FROM assigned
        WHERE NOT assigned.is_over AND keyed.job_id = ANY (ARRAY[assigned.job_id]))
    SELECT array_agg(DISTINCT each.key_id), (SELECT count(*) FROM assigned) INTO woken_keys, assigned_jobs
    FROM (SELECT assigned.key_id FROM assigned
          WHERE assigned.status = 'todo' AND (assigned.scheduled_at > counted_at) IS NOT TRUE
          UNION ALL SELECT assigned.former_key_id FROM assigned) AS each;
    IF assigned_jobs < cardinality(found) THEN
        is_set := set_config('procrastinate_diesel.has_unassigned_jobs', 'true', true);
    END IF;
    -- The next statement sees the changed rows.
    UPDATE procrastinate_diesel_limit_keys AS known
    SET is_ready = next.priority IS NOT NULL, wakes_at = NULL, waits_for_room = false,
        top_priority = coalesce(next.priority, known.top_priority)
    FROM (
        SELECT woken.key_id, (
            SELECT keyed.priority FROM procrastinate_diesel_keyed_jobs AS keyed
            WHERE keyed.key_id = woken.key_id AND keyed.state = 'pending'
            ORDER BY keyed.key_id, keyed.state, keyed.priority DESC, keyed.job_id
            LIMIT 1) AS priority
        FROM unnest(woken_keys) AS woken (key_id)
        WHERE woken.key_id IS NOT NULL
        OFFSET 0) AS next
    WHERE known.id = ANY (ARRAY[next.key_id])
      AND (known.is_ready <> (next.priority IS NOT NULL) OR known.wakes_at IS NOT NULL
           OR known.top_priority <> next.priority);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_assign_keys_v1(integer, timestamptz) IS
    'Assigns marked jobs to their keys, at most so many, and marks the keys as ready.';

CREATE FUNCTION procrastinate_diesel_add_keys_v1(
        INOUT flow procrastinate_diesel_flow_v1, target_queue_names varchar[], due_at timestamptz)
    LANGUAGE plpgsql
AS $function$
DECLARE
    counted_at CONSTANT timestamptz := procrastinate_diesel_start_time_v1(due_at);
    is_queue_pending boolean;
    unchecked record;
BEGIN
    PERFORM procrastinate_diesel_check_keyed_jobs_v1(counted_at);
    unchecked := procrastinate_diesel_unchecked_limits_v1();
    IF cardinality(unchecked.queue_names || unchecked.task_names) > 0 THEN
        flow.blocked_queues := flow.blocked_queues || unchecked.queue_names;
        flow.blocked_tasks := flow.blocked_tasks || unchecked.task_names;
        flow.queue_names := CASE WHEN flow.queue_names IS NOT NULL THEN ARRAY(
            SELECT queue.name FROM unnest(flow.queue_names) AS queue (name)
            WHERE queue.name <> ALL (unchecked.queue_names)) END;
    END IF;
    PERFORM procrastinate_diesel_assign_keys_v1(1000, counted_at);
    UPDATE procrastinate_diesel_limit_keys AS known
    SET is_ready = true, wakes_at = NULL, waits_for_room = false
    WHERE known.id = ANY (ARRAY(
        SELECT waiting.id FROM procrastinate_diesel_limit_keys AS waiting
        WHERE waiting.wakes_at <= counted_at
        ORDER BY waiting.wakes_at
        LIMIT 1000
        FOR NO KEY UPDATE SKIP LOCKED));
    SELECT coalesce(array_agg(control.name) FILTER (WHERE control.kind = 'queue'), '{}'),
        coalesce(array_agg(control.name) FILTER (WHERE control.kind = 'task'), '{}')
    INTO flow.keyed_queues, flow.keyed_tasks
    FROM procrastinate_diesel_flow_controls AS control
    WHERE control.key_path IS NOT NULL
      AND (control.kind = 'task' OR target_queue_names IS NULL OR control.name = ANY (target_queue_names));
    flow.has_ready_keys := EXISTS (
        SELECT FROM procrastinate_diesel_flow_controls AS control
        JOIN procrastinate_diesel_limit_keys AS known
            ON known.is_ready AND known.kind = control.kind AND known.name = control.name
           AND known.key_path = control.key_path
        WHERE CASE control.kind
                WHEN 'queue' THEN control.name = ANY (flow.keyed_queues) AND control.name <> ALL (flow.blocked_queues)
                ELSE control.name = ANY (flow.keyed_tasks) AND control.name <> ALL (flow.blocked_tasks) END);
    IF 0 < ANY (flow.queue_rooms || flow.task_rooms) THEN
        flow := procrastinate_diesel_find_waiting_keys_v1(flow);
    END IF;
    IF flow.has_ready_keys AND flow.queue_names IS NOT NULL THEN
        flow.plainly_wanted := 0;
        RETURN;
    END IF;
    -- The other jobs are behind those with keys.
    is_queue_pending := EXISTS (
        SELECT FROM unnest(flow.keyed_queues) AS queue (name)
        WHERE procrastinate_diesel_is_any_pending_v1(ARRAY[queue.name], due_at));
    IF is_queue_pending AND flow.queue_names IS NULL THEN
        flow.queue_names := ARRAY(
            SELECT queue.name FROM unnest(procrastinate_diesel_pending_queues_v1()) AS queue (name)
            WHERE queue.name <> ALL (flow.blocked_queues));
    END IF;
    IF flow.has_ready_keys OR is_queue_pending OR EXISTS (
            SELECT FROM unnest(flow.keyed_tasks) AS task (name)
            WHERE procrastinate_diesel_is_task_pending_v1(task.name, target_queue_names)) THEN
        flow.plainly_wanted := 0;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_add_keys_v1(procrastinate_diesel_flow_v1, varchar[], timestamptz) IS
    'Adds the limits for each key to what a fetch obeys.';

CREATE FUNCTION procrastinate_diesel_lock_keys_v1(
        flow procrastinate_diesel_flow_v1, most integer, tried_keys bigint[])
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN ARRAY(
        SELECT ready.id
        FROM procrastinate_diesel_flow_controls AS control
        CROSS JOIN LATERAL (
            SELECT known.id, known.top_priority, known.turn
            FROM procrastinate_diesel_limit_keys AS known
            WHERE known.is_ready AND known.kind = control.kind AND known.name = control.name
              AND known.key_path = control.key_path AND known.id <> ALL (tried_keys)
            ORDER BY known.kind, known.name, known.top_priority DESC, known.turn, known.id
            LIMIT most
            FOR NO KEY UPDATE SKIP LOCKED) AS ready
        WHERE control.key_path IS NOT NULL
          AND CASE control.kind
                WHEN 'queue' THEN control.name = ANY (flow.keyed_queues) AND control.name <> ALL (flow.blocked_queues)
                ELSE control.name = ANY (flow.keyed_tasks) AND control.name <> ALL (flow.blocked_tasks) END
        ORDER BY ready.top_priority DESC, ready.turn, ready.id);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_lock_keys_v1(procrastinate_diesel_flow_v1, integer, bigint[]) IS
    'Locks the next ready keys of each limit, at most so many of each and without those passed '
    'over, and returns them in the order of their turns.';

CREATE FUNCTION procrastinate_diesel_unassigned_running_jobs_v1()
    RETURNS procrastinate_diesel_keyed_job_v1[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    noted_ids bigint[] := ARRAY(
        SELECT keyed.job_id FROM procrastinate_diesel_keyed_jobs AS keyed
        WHERE keyed.state IN ('new', 'ended')
        LIMIT 1001);
BEGIN
    IF cardinality(noted_ids) > 1000 THEN
        noted_ids := ARRAY(
            SELECT keyed.job_id FROM procrastinate_diesel_keyed_jobs AS keyed
            WHERE keyed.job_id = ANY (ARRAY(SELECT job.id FROM procrastinate_jobs AS job WHERE job.status = 'doing'))
              AND (keyed.state IN ('new', 'ended')) IS TRUE);
    ELSIF cardinality(noted_ids) > 0 THEN
        noted_ids := ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job WHERE job.id = ANY (noted_ids) AND job.status = doing);
    END IF;
    RETURN CASE WHEN cardinality(noted_ids) > 0 THEN procrastinate_diesel_find_keys_v1(noted_ids) ELSE '{}' END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_unassigned_running_jobs_v1() IS
    'The running jobs that are marked, with their limits and keys. Another fetch may be assigning '
    'them.';

CREATE FUNCTION procrastinate_diesel_key_rooms_v1(key_ids bigint[], most integer, counted_at timestamptz)
    RETURNS procrastinate_diesel_key_room_v1[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    rooms procrastinate_diesel_key_room_v1[];
    are_outdated boolean;
    unassigned CONSTANT procrastinate_diesel_keyed_job_v1[] := procrastinate_diesel_unassigned_running_jobs_v1();
BEGIN
    SELECT coalesce(array_agg(
            ROW(
                known.id, known.kind, known.turn,
                CASE WHEN known.key = '' THEN most ELSE greatest(0, least(
                    most, control.key_max_running - running.jobs - others.jobs,
                    control.key_max_starts - recent.starts)) END,
                greatest(
                    CASE WHEN running.jobs + others.jobs >= control.key_max_running
                         THEN counted_at + interval '1 second' END,
                    CASE WHEN recent.starts >= control.key_max_starts
                         THEN recent.first_at + make_interval(secs => control.key_start_period_seconds) END),
                known.top_priority
                )::procrastinate_diesel_key_room_v1
            ORDER BY locked.ordinal), '{}'),
        bool_or(running.jobs < running.rows)
    INTO rooms, are_outdated
    FROM unnest(key_ids) WITH ORDINALITY AS locked (id, ordinal)
    -- With OFFSET the planner cannot read all keys of a limit.
    CROSS JOIN LATERAL (
        SELECT each.* FROM procrastinate_diesel_limit_keys AS each WHERE each.id = locked.id OFFSET 0) AS known
    JOIN procrastinate_diesel_flow_controls AS control
        ON control.kind = known.kind AND control.name = known.name AND control.key_path = known.key_path
    CROSS JOIN LATERAL (
        SELECT count(job.id)::integer AS jobs, count(*) AS rows
        FROM procrastinate_diesel_keyed_jobs AS keyed
        LEFT JOIN procrastinate_jobs AS job ON job.id = ANY (ARRAY[keyed.job_id]) AND job.status = doing
        WHERE keyed.key_id = known.id AND keyed.state = 'running') AS running
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS jobs FROM unnest(unassigned) AS other
        WHERE other.key_id = known.id AND other.status = doing) AS others
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(counted.starts), 0)::integer AS starts, min(counted.at) AS first_at
        FROM procrastinate_diesel_recent_starts_v1(
            known.started_at, known.counted_starts, control.key_start_period_seconds, counted_at) AS counted) AS recent;
    IF are_outdated THEN
        UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'ended'
        WHERE keyed.job_id = ANY (ARRAY(
            SELECT former.job_id FROM procrastinate_diesel_keyed_jobs AS former
            WHERE former.key_id = ANY (key_ids) AND former.state = 'running'
              AND NOT EXISTS (
                    SELECT FROM procrastinate_jobs AS job
                    WHERE job.id = ANY (ARRAY[former.job_id]) AND job.status = doing)
            FOR UPDATE SKIP LOCKED));
    END IF;
    RETURN rooms;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_key_rooms_v1(bigint[], integer, timestamptz) IS
    'How many jobs of each of these locked keys may start, at most so many, and when to search '
    'again if there is no room. Marks the rows of jobs that do not run any more.';

CREATE FUNCTION procrastinate_diesel_lock_job_v1(p_job_id bigint)
    RETURNS boolean
    LANGUAGE plpgsql
    -- So that it comes after all other conditions.
    COST 1000000
AS $function$
DECLARE
    todo CONSTANT procrastinate_job_status := 'todo';
BEGIN
    PERFORM FROM procrastinate_jobs AS job WHERE job.id = p_job_id AND job.status = todo FOR UPDATE SKIP LOCKED;
    RETURN FOUND;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_lock_job_v1(bigint) IS
    'Locks a pending job. Returns false if another transaction has locked it.';

CREATE FUNCTION procrastinate_diesel_find_heads_of_keys_v1(
        flow procrastinate_diesel_flow_v1, rooms procrastinate_diesel_key_room_v1[], most integer, depth integer,
        passed_over bigint[], last_lock text, due_at timestamptz)
    RETURNS procrastinate_diesel_key_head_v1[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    todo CONSTANT procrastinate_job_status := 'todo';
BEGIN
    RETURN ARRAY(
        SELECT ROW(
            head.id, head.lock, head.priority, open.key_id, open.turn,
            row_number() OVER (PARTITION BY open.key_id ORDER BY head.priority DESC, head.id)
            )::procrastinate_diesel_key_head_v1
        FROM unnest(rooms) AS open
        CROSS JOIN LATERAL (
            SELECT job.id, job.lock, job.priority
            FROM (
                SELECT each.job_id, each.priority FROM procrastinate_diesel_keyed_jobs AS each
                WHERE each.key_id = open.key_id AND each.state = 'pending'
                ORDER BY each.key_id, each.state, each.priority DESC, each.job_id
                LIMIT depth) AS keyed
            JOIN procrastinate_jobs AS job ON job.id = ANY (ARRAY[keyed.job_id])
            WHERE job.status = todo
              -- After a search whose jobs were locked, only those that can be locked.
              AND (cardinality(passed_over) = 0
                   OR job.id <> ALL (passed_over) AND procrastinate_diesel_lock_job_v1(job.id))
              AND (job.scheduled_at IS NULL OR job.scheduled_at <= due_at)
              AND (flow.queue_names IS NULL OR job.queue_name = ANY (flow.queue_names))
              AND job.queue_name <> ALL (flow.blocked_queues) AND job.task_name <> ALL (flow.blocked_tasks)
              -- The key of its queue counts, as soon as there is one.
              AND (open.kind = 'queue' OR job.queue_name <> ALL (flow.keyed_queues))
              AND (job.lock IS NULL OR (last_lock IS NULL OR job.lock > last_lock)
                   AND job.id = (
                        SELECT first.id FROM procrastinate_jobs AS first
                        WHERE first.lock = job.lock AND first.status = 'todo'
                        ORDER BY first.priority DESC, first.id
                        LIMIT 1)
                   AND (SELECT holder.lock FROM procrastinate_jobs AS holder
                        WHERE holder.status = 'doing' AND holder.lock >= job.lock AND holder.lock <= job.lock
                        ORDER BY holder.lock
                        LIMIT 1) IS NULL)
            ORDER BY keyed.priority DESC, keyed.job_id
            LIMIT least(open.room, most)) AS head);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_heads_of_keys_v1(
    procrastinate_diesel_flow_v1, procrastinate_diesel_key_room_v1[], integer, integer, bigint[], text, timestamptz) IS
    'The first jobs of these keys that may start, as many as there is room for, and at most so '
    'many of each, among so many of its first pending jobs (NULL: among all).';

CREATE FUNCTION procrastinate_diesel_let_keys_wait_v1(
        waiting procrastinate_diesel_key_room_v1[], flow procrastinate_diesel_flow_v1, counted_at timestamptz,
        pause interval)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    todo CONSTANT procrastinate_job_status := 'todo';
    began_at CONSTANT timestamptz := clock_timestamp();
    is_any_full CONSTANT boolean := flow.is_held_back OR coalesce(0 = ANY (flow.queue_rooms || flow.task_rooms), false);
BEGIN
    -- Jobs can have been deleted, or started by a fetch that did not know the limit.
    UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'ended'
    WHERE keyed.job_id = ANY (ARRAY(
        SELECT former.job_id
        FROM unnest(waiting) AS each
        JOIN procrastinate_diesel_keyed_jobs AS former ON former.key_id = each.key_id AND former.state = 'pending'
        WHERE each.room > 0 AND NOT EXISTS (
            SELECT FROM procrastinate_jobs AS job WHERE job.id = ANY (ARRAY[former.job_id]) AND job.status = todo)
        LIMIT 1000
        FOR UPDATE OF former SKIP LOCKED));
    UPDATE procrastinate_diesel_limit_keys AS known
    SET is_ready = false, is_nearly_full = known.is_nearly_full OR each.room = 0,
        waits_for_room = is_any_full AND each.is_pending AND each.next_room_at IS NULL,
        vain_searches = known.vain_searches + CASE WHEN each.next_room_at IS NULL THEN 1 ELSE 0 END,
        -- Very many keys can wait, and very many jobs of one key. They must not keep workers busy.
        wakes_at = CASE WHEN each.is_pending
            THEN coalesce(each.next_room_at, counted_at + greatest(
                pause, 5 * (clock_timestamp() - began_at),
                CASE WHEN pause >= interval '1 second' THEN
                    least(interval '10 seconds', pause * power(1.5, least(known.vain_searches, 6))) END)) END
    FROM (
        SELECT key.*, EXISTS (
            SELECT FROM procrastinate_diesel_keyed_jobs AS keyed
            WHERE keyed.key_id = key.key_id AND keyed.state = 'pending') AS is_pending
        FROM unnest(waiting) AS key) AS each
    WHERE known.id = ANY (ARRAY[each.key_id])
      -- Its jobs may be in a queue that other workers serve.
      AND (each.room = 0 OR flow.serves_all_queues OR each.kind = 'queue' OR NOT each.is_pending);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_let_keys_wait_v1(
    procrastinate_diesel_key_room_v1[], procrastinate_diesel_flow_v1, timestamptz, interval) IS
    'Says when to look again at locked keys of which no job can start. If they have room, that is '
    'after the pause, or up to ten seconds if it was in vain before. If none of their jobs is '
    'pending, it is not before one is added.';

CREATE FUNCTION procrastinate_diesel_find_waiting_keys_v1(INOUT flow procrastinate_diesel_flow_v1)
    LANGUAGE plpgsql
AS $function$
BEGIN
    UPDATE procrastinate_diesel_limit_keys AS known
    SET is_ready = true, wakes_at = NULL, waits_for_room = false
    WHERE known.id = ANY (ARRAY(
        SELECT waiting.id
        FROM procrastinate_diesel_flow_controls AS control
        CROSS JOIN LATERAL (
            SELECT each.id FROM procrastinate_diesel_limit_keys AS each
            WHERE each.waits_for_room AND each.kind = control.kind AND each.name = control.name
              AND each.key_path = control.key_path
            ORDER BY each.kind, each.name, each.top_priority DESC, each.wakes_at, each.id
            LIMIT 20
            FOR NO KEY UPDATE SKIP LOCKED) AS waiting
        WHERE CASE control.kind
            WHEN 'queue' THEN control.name = ANY (flow.keyed_queues) AND control.name <> ALL (flow.blocked_queues)
            ELSE control.name = ANY (flow.keyed_tasks) AND control.name <> ALL (flow.blocked_tasks) END));
    flow.has_ready_keys := flow.has_ready_keys OR FOUND;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_waiting_keys_v1(procrastinate_diesel_flow_v1) IS
    'Makes some of the keys ready whose jobs could not start because another limit was full.';

CREATE FUNCTION procrastinate_diesel_rouse_keys_v1()
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- A transaction of a higher isolation level would fail if a fetch has changed one since.
    IF has_table_privilege('procrastinate_diesel_limit_keys', 'UPDATE')
            AND current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        UPDATE procrastinate_diesel_limit_keys AS known SET wakes_at = 'epoch'
        WHERE known.id = ANY (ARRAY(
            SELECT waiting.id FROM procrastinate_diesel_limit_keys AS waiting
            WHERE waiting.wakes_at > clock_timestamp() + interval '1 second' AND waiting.vain_searches > 0
            ORDER BY waiting.wakes_at
            FOR NO KEY UPDATE SKIP LOCKED));
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_rouse_keys_v1() IS
    'Lets fetches look again at the keys that they have looked at in vain, if that would be later '
    'than in a second.';

CREATE FUNCTION procrastinate_diesel_open_keys_v1(
        flow procrastinate_diesel_flow_v1, wanted integer, tried_keys bigint[], passed_over bigint[], last_lock text,
        due_at timestamptz,
        OUT open procrastinate_diesel_key_room_v1[], OUT heads procrastinate_diesel_key_head_v1[],
        OUT key_ids bigint[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    counted_at CONSTANT timestamptz := procrastinate_diesel_start_time_v1(due_at);
    began_at CONSTANT timestamptz := clock_timestamp();
    depth CONSTANT integer := 200 + cardinality(passed_over);
    new_keys bigint[];
    rooms procrastinate_diesel_key_room_v1[];
    new_heads procrastinate_diesel_key_head_v1[];
    startable_keys bigint[];
    waiting procrastinate_diesel_key_room_v1[];
    least_priority integer;
    -- More and more, because there can be very many keys of which no job can start.
    next_keys integer := wanted;
BEGIN
    open := '{}';
    heads := '{}';
    key_ids := '{}';
    LOOP
        new_keys := procrastinate_diesel_lock_keys_v1(
            flow, greatest(wanted - cardinality(open), next_keys), tried_keys || key_ids);
        EXIT WHEN cardinality(new_keys) = 0;
        key_ids := key_ids || new_keys;
        next_keys := least(2 * next_keys, 1000);
        rooms := procrastinate_diesel_key_rooms_v1(new_keys, wanted, counted_at);
        least_priority := (SELECT min(each.top_priority) FROM unnest(rooms) AS each);
        -- The second one in case another transaction has locked the first.
        new_heads := procrastinate_diesel_find_heads_of_keys_v1(flow, rooms, 2, depth, passed_over, last_lock, due_at);
        startable_keys := ARRAY(SELECT head.key_id FROM unnest(new_heads) AS head WHERE head.round = 1);
        IF cardinality(startable_keys) < cardinality(new_keys) THEN
            waiting := ARRAY(
                SELECT each FROM unnest(rooms) AS each WHERE each.key_id <> ALL (startable_keys) AND each.room > 0);
            IF cardinality(waiting) > 0 THEN
                -- Very many jobs that cannot start may be in front of one that can.
                new_heads := new_heads || procrastinate_diesel_find_heads_of_keys_v1(
                    flow, waiting, 2, NULL, passed_over, last_lock, due_at);
                startable_keys := ARRAY(SELECT head.key_id FROM unnest(new_heads) AS head WHERE head.round = 1);
            END IF;
            waiting := ARRAY(SELECT each FROM unnest(rooms) AS each WHERE each.key_id <> ALL (startable_keys));
            -- If another transaction has locked jobs, it is probably for a moment. A search that
            -- takes long is not repeated all the time.
            PERFORM procrastinate_diesel_let_keys_wait_v1(
                waiting, flow, counted_at, CASE
                    WHEN cardinality(passed_over) > 0 THEN interval '0.25 seconds'
                    ELSE greatest(interval '1 second', 5 * (clock_timestamp() - began_at)) END);
            rooms := ARRAY(SELECT each FROM unnest(rooms) AS each WHERE each.key_id = ANY (startable_keys));
        END IF;
        open := open || rooms;
        heads := heads || new_heads;
        -- The first jobs of a key may not be able to start. Then jobs of later keys can come before
        -- the others of it.
        EXIT WHEN cardinality(open) >= wanted AND (
            cardinality(key_ids) >= 10 * wanted + 100 OR (
                SELECT count(*) FROM unnest(heads) AS head
                WHERE head.round = 1 AND head.priority >= least_priority) >= wanted);
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_open_keys_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], bigint[], text, timestamptz) IS
    'Locks the next ready keys until enough of them have a job that may start (open), in the order '
    'of their turns. heads are their first jobs, key_ids all keys that were looked at.';

CREATE FUNCTION procrastinate_diesel_find_keyed_jobs_v1(
        flow procrastinate_diesel_flow_v1, wanted integer, tried_keys bigint[], passed_over bigint[], last_lock text,
        due_at timestamptz, has_others boolean,
        OUT job_ids bigint[], OUT locks text[], OUT positions bigint[], OUT job_keys bigint[], OUT key_ids bigint[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    keys record;
    heads procrastinate_diesel_key_head_v1[];
    -- The others have no further jobs that may start.
    further_keys bigint[];
    most integer;
BEGIN
    keys := procrastinate_diesel_open_keys_v1(flow, wanted, tried_keys, passed_over, last_lock, due_at);
    key_ids := keys.key_ids;
    heads := keys.heads;
    -- The first jobs of so many keys are enough if all have the same priority.
    IF has_others OR cardinality(keys.open) < wanted
            OR (SELECT count(DISTINCT head.priority) FROM unnest(heads) AS head WHERE head.round = 1) > 1 THEN
        further_keys := ARRAY(SELECT head.key_id FROM unnest(heads) AS head WHERE head.round = 2);
        most := greatest(20, 2 * wanted / greatest(cardinality(keys.open), 1));
        heads := ARRAY(SELECT head FROM unnest(heads) AS head WHERE head.key_id <> ALL (further_keys))
            || procrastinate_diesel_find_heads_of_keys_v1(
                flow, ARRAY(SELECT each FROM unnest(keys.open) AS each WHERE each.key_id = ANY (further_keys)),
                most, 200 + 4 * most + cardinality(passed_over), passed_over, last_lock, due_at);
    END IF;
    -- The first jobs of all keys come before their second ones. For that, the jobs of a priority
    -- exchange their places.
    SELECT coalesce(array_agg(head.id ORDER BY head.priority DESC, head.round, head.turn, head.key_id), '{}'),
        coalesce(array_agg(head.lock ORDER BY head.priority DESC, head.round, head.turn, head.key_id), '{}'),
        coalesce(array_agg(head.id ORDER BY head.priority DESC, head.id), '{}'),
        coalesce(array_agg(head.key_id ORDER BY head.priority DESC, head.round, head.turn, head.key_id), '{}')
    INTO job_ids, locks, positions, job_keys
    FROM (
        SELECT each.*
        FROM unnest(heads) AS each
        ORDER BY each.priority DESC, each.round, each.turn, each.key_id
        -- Some more than wanted, because another transaction can have locked some. All, if others
        -- are compared with them.
        LIMIT CASE WHEN NOT has_others THEN wanted + 10 END) AS head;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_keyed_jobs_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], bigint[], text, timestamptz, boolean) IS
    'Locks the next ready keys, and finds jobs of theirs that may start. has_others says whether '
    'jobs without such a limit were found, too. Each job has a position '
    'among those of its priority, to be compared with the IDs of other jobs. key_ids are all keys '
    'that were looked at, job_keys those of the jobs.';

CREATE FUNCTION procrastinate_diesel_still_keyed_v1(
        INOUT job_ids bigint[], INOUT job_locks text[], keyed_ids bigint[], locked_keys bigint[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    -- Without IS TRUE and with ANY, the planner may read all pending jobs of these keys.
    allowed_ids CONSTANT bigint[] := ARRAY(
        SELECT keyed.job_id FROM procrastinate_diesel_keyed_jobs AS keyed
        WHERE keyed.job_id = ANY (job_ids) AND (keyed.state = 'pending') IS TRUE
          AND array_position(locked_keys, keyed.key_id) IS NOT NULL
        -- Nobody may mark them before they are recorded as started.
        FOR UPDATE SKIP LOCKED);
BEGIN
    IF cardinality(allowed_ids) < cardinality(job_ids) THEN
        SELECT coalesce(array_agg(held.id ORDER BY held.ordinal), '{}'),
            coalesce(array_agg(held.lock ORDER BY held.ordinal), '{}')
        INTO job_ids, job_locks
        FROM unnest(job_ids, job_locks) WITH ORDINALITY AS held (id, lock, ordinal)
        WHERE held.id = ANY (allowed_ids) OR held.id <> ALL (keyed_ids);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_still_keyed_v1(bigint[], text[], bigint[], bigint[]) IS
    'Those of the locked jobs, with their locks, that still have the key under which they were '
    'found.';

CREATE FUNCTION procrastinate_diesel_start_keyed_jobs_v1(started_ids bigint[], due_at timestamptz)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    counted_at CONSTANT timestamptz := procrastinate_diesel_start_time_v1(due_at);
    started_keys bigint[];
    started_counts integer[];
    keyless bigint[];
BEGIN
    WITH started AS (
        UPDATE procrastinate_diesel_keyed_jobs AS keyed SET state = 'running'
        -- With IS TRUE, because the planner may search the whole index of keys for a state.
        WHERE keyed.job_id = ANY (ARRAY(
            SELECT noted.job_id FROM procrastinate_diesel_keyed_jobs AS noted
            WHERE noted.job_id = ANY (started_ids) AND (noted.state = 'pending') IS TRUE
            -- A job whose limit was removed can have a row that another fetch has locked.
            FOR UPDATE SKIP LOCKED))
        RETURNING keyed.key_id)
    SELECT array_agg(each.key_id), array_agg(each.jobs) INTO started_keys, started_counts
    FROM (SELECT started.key_id, count(*)::integer AS jobs FROM started GROUP BY started.key_id) AS each;
    -- The jobs in the next statement are those after this one.
    WITH changed AS (
        UPDATE procrastinate_diesel_limit_keys AS known
        SET is_ready = next.priority IS NOT NULL AND NOT next.is_full,
            -- A job can have ended unnoticed while the key was not nearly full.
            waits_for_room = false, vain_searches = 0,
            wakes_at = counted_at + CASE
                WHEN next.priority IS NULL OR NOT next.is_full THEN NULL
                WHEN known.is_nearly_full THEN interval '1 second'
                ELSE interval '0.1 seconds' END,
            is_nearly_full = next.is_nearly_full,
            top_priority = coalesce(next.priority, known.top_priority),
            -- Behind all others, in the order of the former turns.
            turn = clock_timestamp() + next.place * interval '1 microsecond',
            started_at = next.started_at, counted_starts = next.counted_starts
        FROM (
            SELECT each.key_id, row_number() OVER (ORDER BY former.turn, former.id) AS place,
                coalesce(counted.new_started_at, '{}') AS started_at,
                coalesce(counted.new_counted_starts, '{}') AS counted_starts,
                coalesce(former.key <> '' AND running.jobs >= control.key_max_running, false) AS is_full,
                coalesce(former.key <> '' AND running.jobs * 2 >= control.key_max_running, false) AS is_nearly_full,
                (SELECT keyed.priority FROM procrastinate_diesel_keyed_jobs AS keyed
                 WHERE keyed.key_id = each.key_id AND keyed.state = 'pending'
                 ORDER BY keyed.key_id, keyed.state, keyed.priority DESC, keyed.job_id
                 LIMIT 1) AS priority
            FROM unnest(started_keys, started_counts) AS each (key_id, jobs)
            -- With OFFSET the planner cannot read all keys of a limit.
            CROSS JOIN LATERAL (
                SELECT unchanged.* FROM procrastinate_diesel_limit_keys AS unchanged
                WHERE unchanged.id = each.key_id
                OFFSET 0) AS former
            JOIN procrastinate_diesel_flow_controls AS control
                ON control.kind = former.kind AND control.name = former.name AND control.key_path = former.key_path
            CROSS JOIN LATERAL (
                SELECT count(*) AS jobs FROM procrastinate_diesel_keyed_jobs AS keyed
                WHERE keyed.key_id = each.key_id AND keyed.state = 'running') AS running
            -- Without OFFSET the function would run also if there is no such limit.
            LEFT JOIN LATERAL (
                SELECT added.*
                FROM procrastinate_diesel_add_starts_v1(
                    former.started_at, former.counted_starts, control.key_start_period_seconds, counted_at, each.jobs)
                    AS added
                WHERE control.key_max_starts IS NOT NULL
                OFFSET 0) AS counted ON true) AS next
        WHERE known.id = ANY (ARRAY[next.key_id])
        RETURNING known.id, known.key)
    SELECT array_agg(changed.id) INTO keyless FROM changed WHERE changed.key = '';
    IF keyless IS NOT NULL THEN
        -- Nothing counts the running jobs without a key.
        DELETE FROM procrastinate_diesel_keyed_jobs AS keyed
        WHERE keyed.job_id = ANY (started_ids) AND array_position(keyless, keyed.key_id) IS NOT NULL;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_start_keyed_jobs_v1(bigint[], timestamptz) IS
    'Records the started jobs at their keys, and puts these at the end of the row.';

CREATE FUNCTION procrastinate_diesel_key_wait_v1(
        target_queue_names varchar[], rooms procrastinate_diesel_room_v1[], counted_at timestamptz)
    RETURNS double precision
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- A ready key is locked by another fetch for a moment. Or all its jobs are in other queues.
    RETURN (
        SELECT least(
            coalesce(
                (SELECT CASE WHEN current_setting('procrastinate_diesel.has_unassigned_jobs', true) = 'true'
                        THEN 0.05 ELSE 0.01 END
                 FROM procrastinate_diesel_keyed_jobs AS keyed WHERE keyed.state IN ('new', 'ended')
                 LIMIT 1
                 FOR UPDATE SKIP LOCKED),
                -- Other transactions have locked them.
                (SELECT 0.25 FROM procrastinate_diesel_keyed_jobs AS keyed WHERE keyed.state IN ('new', 'ended')
                 LIMIT 1)),
            -- A comparison is to go on.
            (SELECT 0.01 FROM procrastinate_diesel_flow_controls AS compared
             JOIN procrastinate_diesel_limit_states AS state
                ON state.kind = compared.kind AND state.name = compared.name AND state.slot = 0
             WHERE compared.key_path IS NOT NULL AND state.keys_checked_at = 'epoch'
             LIMIT 1),
            min(CASE WHEN next.is_ready AND (control.kind = 'queue' OR target_queue_names IS NULL) THEN 0.01
                     WHEN next.is_ready THEN 1
                     ELSE greatest(extract(epoch FROM next.wakes_at - counted_at), 0) END))
        FROM procrastinate_diesel_flow_controls AS control
        CROSS JOIN LATERAL (
            (SELECT known.is_ready, known.wakes_at FROM procrastinate_diesel_limit_keys AS known
             WHERE known.is_ready AND known.kind = control.kind AND known.name = control.name
               AND known.key_path = control.key_path
             LIMIT 1)
          UNION ALL
            (SELECT known.is_ready, known.wakes_at FROM procrastinate_diesel_limit_keys AS known
             WHERE known.wakes_at IS NOT NULL AND known.kind = control.kind AND known.name = control.name
               AND known.key_path = control.key_path
             ORDER BY known.wakes_at
             LIMIT 1)) AS next
        WHERE control.key_path IS NOT NULL
          AND (control.kind = 'task' OR target_queue_names IS NULL OR control.name = ANY (target_queue_names))
          AND NOT EXISTS (
                SELECT FROM unnest(rooms) AS closed
                WHERE closed.kind = control.kind AND closed.name = control.name AND closed.room = 0));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_key_wait_v1(
    varchar[], procrastinate_diesel_room_v1[], timestamptz) IS
    'In how many seconds a job with a key may be able to start. NULL if none is pending.';

-- It changes no row that a fetch changes. So a transaction that sets a limit holds up no fetch and
-- nobody who defers, only a retry that moves a job to another queue with such a limit.
CREATE FUNCTION procrastinate_diesel_limit_keys_v1(
        p_kind text, p_name varchar, p_key_path text[], p_max_running integer, p_max_starts integer,
        p_start_period_seconds double precision)
    RETURNS boolean
    LANGUAGE plpgsql
    SET jit = off SET enable_seqscan = off
AS $function$
DECLARE
    former_path text[];
BEGIN
    SELECT control.key_path INTO former_path
    FROM procrastinate_diesel_flow_controls AS control
    WHERE control.kind = p_kind AND control.name = p_name
    FOR UPDATE;
    IF p_key_path IS NOT NULL THEN
        INSERT INTO procrastinate_diesel_flow_controls
            (kind, name, key_path, key_max_running, key_max_starts, key_start_period_seconds)
        VALUES (p_kind, p_name, p_key_path, p_max_running, p_max_starts, p_start_period_seconds)
        ON CONFLICT (kind, name) DO UPDATE
        SET key_path = excluded.key_path, key_max_running = excluded.key_max_running,
            key_max_starts = excluded.key_max_starts,
            key_start_period_seconds = excluded.key_start_period_seconds, changed_at = clock_timestamp(),
            keys_changed_at = CASE WHEN former_path = excluded.key_path
                THEN procrastinate_diesel_flow_controls.keys_changed_at ELSE clock_timestamp() END;
        IF former_path IS NULL THEN
            -- No fetch knows these rows before the end of the transaction.
            PERFORM procrastinate_diesel_add_limit_states_v1(p_kind, p_name, 0);
            PERFORM procrastinate_diesel_note_missing_jobs_v1(p_kind, p_name, 2147483647);
        END IF;
    ELSIF former_path IS NULL THEN
        RETURN false;
    ELSE
        DELETE FROM procrastinate_diesel_flow_controls AS control
        WHERE control.kind = p_kind AND control.name = p_name
          AND control.paused_at IS NULL AND control.max_running IS NULL AND control.max_starts IS NULL;
        UPDATE procrastinate_diesel_flow_controls AS control
        SET key_path = NULL, key_max_running = NULL, key_max_starts = NULL, key_start_period_seconds = NULL,
            changed_at = clock_timestamp()
        WHERE control.kind = p_kind AND control.name = p_name;
    END IF;
    PERFORM procrastinate_diesel_notify_of_room_v1(p_kind, p_name);
    RETURN true;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_limit_keys_v1(
    text, varchar, text[], integer, integer, double precision) IS
    'Limits how many jobs of each key of a queue or task run at the same time, and how many start '
    'within a period. This replaces its former limit for each key. Without a path it removes the '
    'limit, and returns false if there was none.';
