-- Pauses and limits: which of the pending jobs may not start now. The functions that fetch jobs
-- obey them, so they hold for workers of every language.
--
-- A limit is kept without a counter. A fetch locks the state of the limit, and counts the running
-- jobs in the next statement, which sees every job that was started before the lock was granted.
-- A job releases its place when its status changes, whoever changes it.

CREATE TABLE procrastinate_diesel_flow_controls (
    kind text NOT NULL CHECK (kind IN ('queue', 'task')),
    name varchar(128) NOT NULL,
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    skips_ticks boolean NOT NULL DEFAULT false,
    max_running integer CHECK (max_running > 0),
    max_starts integer CHECK (max_starts > 0),
    start_period_seconds double precision CHECK (start_period_seconds > 0),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name),
    CHECK ((max_starts IS NULL) = (start_period_seconds IS NULL)),
    CHECK (paused_at IS NOT NULL OR max_running IS NOT NULL OR max_starts IS NOT NULL),
    CHECK (paused_at IS NOT NULL OR (paused_by IS NULL AND pause_reason IS NULL AND NOT skips_ticks)));
COMMENT ON TABLE procrastinate_diesel_flow_controls IS
    'Pauses and limits of queues and tasks. A queue or task without a row has none. While the '
    'table is empty, a fetch does not search for any.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.kind IS 'queue or task.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.name IS 'The name of the queue or task.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.paused_at IS
    'Since when no job of it starts. NULL if it is not paused.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.skips_ticks IS
    'Whether periodic tasks defer no jobs during the pause.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.max_running IS
    'How many of its jobs may run at the same time. NULL if there is no such limit.';
COMMENT ON COLUMN procrastinate_diesel_flow_controls.max_starts IS
    'How many of its jobs may start within any period of start_period_seconds.';

CREATE TABLE procrastinate_diesel_limit_states (
    kind text NOT NULL,
    name varchar(128) NOT NULL,
    fetches bigint NOT NULL DEFAULT 0,
    started_at timestamptz[] NOT NULL DEFAULT '{}',
    counted_starts integer[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (kind, name)) WITH (fillfactor = 50);
COMMENT ON TABLE procrastinate_diesel_limit_states IS
    'What a fetch locks while it starts jobs of a limited queue or task, and which starts still '
    'count for the limit of a period. Only the functions that fetch jobs use it.';
COMMENT ON COLUMN procrastinate_diesel_limit_states.fetches IS
    'How many fetches have started jobs. Each changes the row, so a transaction of a higher '
    'isolation level, which does not see their jobs, fails.';
COMMENT ON COLUMN procrastinate_diesel_limit_states.started_at IS
    'When jobs were started. Starts within a hundredth of the period are one entry, with the end '
    'of this time.';

-- Roles that can fetch jobs must be able to do so as before. As long as there is no limit, they
-- only read the tables.
GRANT SELECT ON procrastinate_diesel_flow_controls, procrastinate_diesel_limit_states TO PUBLIC;
DO $grants$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM pg_catalog.pg_class AS class
        -- The owner has no entry of its own as long as nothing was granted.
        CROSS JOIN LATERAL aclexplode(coalesce(class.relacl, acldefault('r', class.relowner))) AS acl
        WHERE class.oid = 'procrastinate_jobs'::regclass AND acl.privilege_type = 'UPDATE'
          AND acl.grantee <> quote_ident(current_user)::regrole
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON procrastinate_diesel_limit_states TO %s', grantee);
    END LOOP;
END;
$grants$;

CREATE TYPE procrastinate_diesel_flow_v1 AS (
    is_controlled boolean,
    is_held_back boolean,
    queue_names varchar[],
    blocked_queues varchar[],
    blocked_tasks varchar[],
    plainly_wanted integer,
    limited_queues varchar[],
    queue_rooms integer[],
    limited_tasks varchar[],
    task_rooms integer[],
    counts_starts boolean);
COMMENT ON TYPE procrastinate_diesel_flow_v1 IS
    'Which jobs a fetch may start: of these queues (NULL: of all but the blocked ones), not of the '
    'blocked tasks, and of the limited queues and tasks only as many as there is room for. '
    'plainly_wanted is how many jobs can start without a count of each. is_held_back if a limit '
    'has no room for pending jobs.';

CREATE TYPE procrastinate_diesel_room_v1 AS (
    kind text,
    name varchar,
    room integer,
    is_pending boolean,
    next_room_at timestamptz,
    counts_starts boolean,
    fetches bigint);
COMMENT ON TYPE procrastinate_diesel_room_v1 IS
    'How many more jobs of a paused or limited queue or task may start (room), and whether any is '
    'pending. next_room_at is when to search again if there is no room, NULL if it is paused. '
    'fetches is how many fetches have started jobs under the limit, NULL if it is not known.';

CREATE FUNCTION procrastinate_diesel_is_task_pending_v1(p_task_name varchar, target_queue_names varchar[])
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- Searched from the back, as in procrastinate_diesel_is_any_pending_v1.
    FOR non_nulls IN 0..2 LOOP
        IF target_queue_names IS NULL AND (
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = non_nulls
              AND job.task_name >= p_task_name AND job.task_name <= p_task_name
            ORDER BY job.task_name DESC, job.queue_name DESC, job.priority, job.id DESC
            LIMIT 1) IS NOT NULL
        OR EXISTS (
            SELECT FROM unnest(target_queue_names) AS queue (name)
            CROSS JOIN LATERAL (
                SELECT job.id FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = non_nulls
                  AND job.task_name >= p_task_name AND job.task_name <= p_task_name
                  AND job.queue_name >= queue.name AND job.queue_name <= queue.name
                ORDER BY job.task_name DESC, job.queue_name DESC, job.priority, job.id DESC
                LIMIT 1) AS last)
        THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_is_task_pending_v1(varchar, varchar[]) IS
    'Whether any job of a task is pending in these queues (NULL: in any queue). It may be '
    'scheduled for later.';

CREATE FUNCTION procrastinate_diesel_count_running_v1(p_kind text, p_name varchar)
    RETURNS integer
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF p_kind = 'queue' THEN
        RETURN (SELECT count(*) FROM procrastinate_jobs AS job
                WHERE job.status = 'doing' AND job.queue_name = p_name);
    END IF;
    RETURN (SELECT count(*) FROM procrastinate_jobs AS job WHERE job.status = 'doing' AND job.task_name = p_name);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_count_running_v1(text, varchar) IS
    'How many jobs of a queue or task are running.';

CREATE FUNCTION procrastinate_diesel_start_time_v1(due_at timestamptz)
    RETURNS timestamptz
    LANGUAGE sql
AS $function$
    -- The transaction may have begun long before.
    SELECT CASE WHEN due_at = now() THEN clock_timestamp() ELSE due_at END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_start_time_v1(timestamptz) IS
    'When a job starts that a fetch finds at this time: now, unless a test has chosen the time.';

CREATE FUNCTION procrastinate_diesel_recent_starts_v1(
        started_at timestamptz[], counted_starts integer[], period_seconds double precision, counted_at timestamptz)
    RETURNS TABLE (at timestamptz, starts integer)
    LANGUAGE sql
    STABLE
AS $function$
    -- Starts that are far in the future were counted while the clock was wrong.
    SELECT counted.at, counted.starts
    FROM unnest(started_at, counted_starts) AS counted (at, starts)
    WHERE counted.at > counted_at - make_interval(secs => period_seconds)
      AND counted.at < counted_at + make_interval(secs => greatest(period_seconds, 60));
$function$;
COMMENT ON FUNCTION procrastinate_diesel_recent_starts_v1(timestamptz[], integer[], double precision, timestamptz) IS
    'The recorded starts that count at a time for a limit of this period.';

CREATE FUNCTION procrastinate_diesel_rooms_v1(
        target_queue_names varchar[], due_at timestamptz, is_queue_searched boolean)
    RETURNS procrastinate_diesel_room_v1[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    counted_at CONSTANT timestamptz := procrastinate_diesel_start_time_v1(due_at);
    is_queue_assumed CONSTANT boolean := is_queue_searched AND cardinality(target_queue_names) IS NOT DISTINCT FROM 1;
    control record;
    rooms procrastinate_diesel_room_v1[];
    found procrastinate_diesel_room_v1;
    running integer;
    recent record;
BEGIN
    FOR control IN
        SELECT each.*, state.fetches, state.started_at, state.counted_starts
        FROM procrastinate_diesel_flow_controls AS each
        LEFT JOIN procrastinate_diesel_limit_states AS state ON state.kind = each.kind AND state.name = each.name
        ORDER BY each.kind, each.name
    LOOP
        rooms := coalesce(rooms, '{}');
        CONTINUE WHEN control.kind = 'queue' AND control.name <> ALL (target_queue_names);
        found := (control.kind, control.name, 0, true, NULL, control.max_starts IS NOT NULL, control.fetches);
        IF control.kind = 'task' THEN
            found.is_pending := procrastinate_diesel_is_task_pending_v1(control.name, target_queue_names);
        ELSIF NOT is_queue_assumed THEN
            found.is_pending := procrastinate_diesel_is_any_pending_v1(ARRAY[control.name], due_at);
        END IF;
        IF control.paused_at IS NULL AND found.is_pending THEN
            IF control.max_running IS NOT NULL THEN
                running := procrastinate_diesel_count_running_v1(control.kind, control.name);
                found.room := greatest(control.max_running - running, 0);
                found.next_room_at := CASE WHEN found.room = 0 THEN counted_at + interval '1 second' END;
            END IF;
            IF control.max_starts IS NOT NULL THEN
                SELECT coalesce(sum(counted.starts), 0)::integer AS starts,
                    min(counted.at) + make_interval(secs => control.start_period_seconds) AS next_end
                INTO recent
                FROM procrastinate_diesel_recent_starts_v1(
                    control.started_at, control.counted_starts, control.start_period_seconds, counted_at) AS counted;
                found.room := least(
                    CASE WHEN control.max_running IS NOT NULL THEN found.room END,
                    greatest(control.max_starts - recent.starts, 0));
                found.next_room_at := CASE WHEN found.room = 0 THEN coalesce(found.next_room_at, recent.next_end) END;
            END IF;
        END IF;
        IF found.next_room_at IS NOT NULL AND control.kind = 'queue' AND is_queue_assumed THEN
            -- A full limit holds back a fetch only if jobs are pending.
            found.is_pending := procrastinate_diesel_is_any_pending_v1(ARRAY[control.name], due_at);
        END IF;
        rooms := rooms || found;
    END LOOP;
    RETURN rooms;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_rooms_v1(varchar[], timestamptz, boolean) IS
    'How many more jobs may start of each queue among the given ones (NULL: of all queues), and of '
    'each task, that is paused or limited, in the order of kind and name. NULL if nothing is '
    'paused or limited. If too many jobs are running, the next time to search is in a second. '
    'is_queue_searched if the caller searches a single queue anyway: then it counts as pending '
    'unless its limit is full.';

CREATE FUNCTION procrastinate_diesel_pending_queues_v1()
    RETURNS varchar[]
    LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN ARRAY(
        WITH RECURSIVE unlocked_queue (name) AS (
            (SELECT job.queue_name FROM procrastinate_jobs AS job
             WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
             ORDER BY job.queue_name DESC
             LIMIT 1)
          UNION ALL
            SELECT (SELECT job.queue_name FROM procrastinate_jobs AS job
                    WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
                      AND job.queue_name < previous.name
                    ORDER BY job.queue_name DESC
                    LIMIT 1)
            FROM unlocked_queue AS previous
            WHERE previous.name IS NOT NULL)
        SELECT name FROM unlocked_queue WHERE name IS NOT NULL
        UNION SELECT unnest(procrastinate_diesel_scheduled_queues_v1(NULL))
        UNION SELECT unnest(procrastinate_diesel_queues_with_locks_v1(NULL)));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_pending_queues_v1() IS 'All queues that have pending jobs.';

CREATE FUNCTION procrastinate_diesel_lock_limits_v1(limits procrastinate_diesel_room_v1[])
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    known procrastinate_diesel_room_v1;
    former_fetches bigint;
    is_changed boolean := false;
BEGIN
    FOREACH known IN ARRAY limits LOOP
        IF known.fetches IS NULL THEN
            INSERT INTO procrastinate_diesel_limit_states (kind, name) VALUES (known.kind, known.name)
            ON CONFLICT DO NOTHING;
        END IF;
        UPDATE procrastinate_diesel_limit_states AS state SET fetches = state.fetches + 1
        WHERE state.kind = known.kind AND state.name = known.name
        RETURNING state.fetches - 1 INTO former_fetches;
        is_changed := is_changed OR former_fetches IS DISTINCT FROM known.fetches;
    END LOOP;
    RETURN is_changed;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_lock_limits_v1(procrastinate_diesel_room_v1[]) IS
    'Locks the states of limits, which must be in the order of kind and name, until the end of the '
    'transaction, and counts the fetch. Only one fetch at a time starts jobs of a limit. Returns '
    'whether others may have started since the limits were read.';

CREATE FUNCTION procrastinate_diesel_close_rooms_v1(
        rooms procrastinate_diesel_room_v1[], locked procrastinate_diesel_room_v1[])
    RETURNS procrastinate_diesel_room_v1[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    each procrastinate_diesel_room_v1;
    closed procrastinate_diesel_room_v1[];
BEGIN
    FOREACH each IN ARRAY coalesce(rooms, '{}') LOOP
        IF each.room > 0 AND NOT EXISTS (
                SELECT FROM unnest(locked) AS known WHERE known.kind = each.kind AND known.name = each.name) THEN
            each.room := 0;
            -- The next fetch can lock it.
            each.next_room_at := clock_timestamp();
        END IF;
        closed := closed || each;
    END LOOP;
    RETURN coalesce(closed, rooms);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_close_rooms_v1(
    procrastinate_diesel_room_v1[], procrastinate_diesel_room_v1[]) IS
    'These limits, without room in those that are not locked.';

CREATE FUNCTION procrastinate_diesel_read_flow_v1(
        target_queue_names varchar[], wanted integer, due_at timestamptz)
    RETURNS procrastinate_diesel_flow_v1
    LANGUAGE plpgsql
AS $function$
DECLARE
    rooms procrastinate_diesel_room_v1[] := procrastinate_diesel_rooms_v1(target_queue_names, due_at, true);
    open procrastinate_diesel_room_v1[] := '{}';
    each procrastinate_diesel_room_v1;
    queue_names varchar[] := target_queue_names;
    blocked_queues varchar[] := '{}'; blocked_tasks varchar[] := '{}';
    limited_queues varchar[] := '{}'; queue_rooms integer[] := '{}'; queue_room integer;
    limited_tasks varchar[] := '{}'; task_rooms integer[] := '{}'; task_room integer;
    is_queue_blocked boolean := false; is_task_blocked boolean := false;
    is_held_back boolean := false; counts_starts boolean := false;
BEGIN
    -- A limit that is full, or of which nothing is pending, needs no lock.
    FOREACH each IN ARRAY coalesce(rooms, '{}') LOOP
        IF each.room > 0 THEN
            open := open || each;
        END IF;
    END LOOP;
    IF cardinality(open) > 0 AND procrastinate_diesel_lock_limits_v1(open) THEN
        -- These statements see all that others have started before the locks were granted. Nothing
        -- of a limit starts without its lock.
        rooms := procrastinate_diesel_close_rooms_v1(
            procrastinate_diesel_rooms_v1(target_queue_names, due_at, true), open);
    END IF;
    FOREACH each IN ARRAY coalesce(rooms, '{}') LOOP
        is_held_back := is_held_back OR (each.is_pending AND each.next_room_at IS NOT NULL);
        IF each.room = 0 AND each.kind = 'queue' THEN
            blocked_queues := blocked_queues || each.name;
            is_queue_blocked := is_queue_blocked OR each.is_pending;
        ELSIF each.room = 0 THEN
            blocked_tasks := blocked_tasks || each.name;
            is_task_blocked := is_task_blocked OR each.is_pending;
        ELSE
            counts_starts := counts_starts OR each.counts_starts;
            IF each.kind = 'queue' THEN
                limited_queues := limited_queues || each.name;
                queue_rooms := queue_rooms || each.room;
                queue_room := least(queue_room, each.room);
            ELSE
                limited_tasks := limited_tasks || each.name;
                task_rooms := task_rooms || each.room;
                task_room := least(task_room, each.room);
            END IF;
        END IF;
    END LOOP;
    IF queue_names IS NULL AND (is_queue_blocked OR queue_room < wanted) THEN
        -- Jobs of the other queues are behind those of a queue that is blocked or nearly full.
        queue_names := procrastinate_diesel_pending_queues_v1();
    END IF;
    IF queue_names IS NOT NULL AND cardinality(blocked_queues) > 0 THEN
        queue_names := ARRAY(
            SELECT queue.name FROM unnest(queue_names) AS queue (name) WHERE queue.name <> ALL (blocked_queues));
    END IF;
    RETURN (
        rooms IS NOT NULL, is_held_back, queue_names, blocked_queues, blocked_tasks,
        CASE WHEN is_task_blocked OR task_room < wanted THEN 0
             WHEN cardinality(queue_names) = 1 THEN
                 least(wanted, queue_rooms[array_position(limited_queues, queue_names[1])])
             WHEN queue_room < wanted THEN 0
             ELSE wanted END,
        limited_queues, queue_rooms, limited_tasks, task_rooms, counts_starts)::procrastinate_diesel_flow_v1;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_read_flow_v1(varchar[], integer, timestamptz) IS
    'Which jobs a fetch from these queues may start, and how many. Locks the limits that have room '
    'and pending jobs, until the end of the transaction.';

CREATE FUNCTION procrastinate_diesel_count_starts_v1(
        flow procrastinate_diesel_flow_v1, started_ids bigint[], due_at timestamptz)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
DECLARE
    counted_at CONSTANT timestamptz := procrastinate_diesel_start_time_v1(due_at);
    started record;
    slot_seconds double precision;
    new_start timestamptz;
BEGIN
    FOR started IN
        SELECT control.kind, control.name, control.start_period_seconds, count(*)::integer AS jobs
        FROM procrastinate_jobs AS job
        JOIN procrastinate_diesel_flow_controls AS control
            ON control.kind = 'queue' AND control.name = job.queue_name AND control.name = ANY (flow.limited_queues)
            OR control.kind = 'task' AND control.name = job.task_name AND control.name = ANY (flow.limited_tasks)
        WHERE job.id = ANY (started_ids) AND control.max_starts IS NOT NULL
        GROUP BY control.kind, control.name
    LOOP
        slot_seconds := started.start_period_seconds / 100;
        new_start := to_timestamp(ceil(extract(epoch FROM counted_at) / slot_seconds) * slot_seconds);
        UPDATE procrastinate_diesel_limit_states AS state
        SET (started_at, counted_starts) = (
                SELECT array_agg(slot.at), array_agg(slot.starts)
                FROM (
                    SELECT each.at, sum(each.starts)::integer AS starts
                    FROM (SELECT former.at, former.starts
                          FROM procrastinate_diesel_recent_starts_v1(
                              state.started_at, state.counted_starts, started.start_period_seconds, counted_at)
                              AS former
                          UNION ALL SELECT new_start, started.jobs) AS each
                    GROUP BY each.at) AS slot)
        WHERE state.kind = started.kind AND state.name = started.name;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_count_starts_v1(procrastinate_diesel_flow_v1, bigint[], timestamptz) IS
    'Records the started jobs of queues and tasks whose starts are limited.';

CREATE FUNCTION procrastinate_diesel_first_of_queue_v1(p_queue_name varchar)
    RETURNS bigint
    LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN least(
        (SELECT job.id FROM procrastinate_jobs AS job
         WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
           AND job.queue_name >= p_queue_name AND job.queue_name <= p_queue_name
         ORDER BY job.queue_name, job.priority DESC, job.id
         LIMIT 1),
        (SELECT job.id FROM procrastinate_jobs AS job
         WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
           AND job.queue_name >= p_queue_name AND job.queue_name <= p_queue_name
         ORDER BY job.queue_name, job.priority DESC, job.id
         LIMIT 1),
        (SELECT job.id FROM procrastinate_jobs AS job
         WHERE job.status = 'todo' AND job.lock IS NOT NULL
           AND job.queue_name >= p_queue_name AND job.queue_name <= p_queue_name
         ORDER BY job.queue_name, job.priority DESC, job.id
         LIMIT 1));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_first_of_queue_v1(varchar) IS
    'A pending job of a queue, or NULL if there is none.';

-- The settings hold in the functions that it calls, too. Every statement reads a few rows of each
-- queue along an index.
CREATE FUNCTION procrastinate_diesel_notify_of_room_v1(p_kind text, p_name varchar)
    RETURNS void
    LANGUAGE plpgsql
    SET jit = off SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_sort = off SET enable_incremental_sort = off
AS $function$
DECLARE
    first_ids bigint[];
    queue_names varchar[];
BEGIN
    IF p_kind = 'queue' THEN
        first_ids := ARRAY[procrastinate_diesel_first_of_queue_v1(p_name)];
        queue_names := ARRAY[p_name];
    ELSE
        WITH RECURSIVE pending (non_nulls, queue_name, id) AS (
            SELECT kind.non_nulls, first.queue_name, first.id
            FROM generate_series(0, 2) AS kind (non_nulls)
            CROSS JOIN LATERAL (
                SELECT job.queue_name, job.id FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = kind.non_nulls
                  AND job.task_name >= p_name AND job.task_name <= p_name
                ORDER BY job.task_name, job.queue_name, job.priority DESC, job.id
                LIMIT 1) AS first
          UNION ALL
            SELECT previous.non_nulls, next.queue_name, next.id
            FROM pending AS previous
            CROSS JOIN LATERAL (
                SELECT job.queue_name, job.id FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = previous.non_nulls
                  AND job.task_name >= p_name AND job.task_name <= p_name
                  AND job.queue_name > previous.queue_name
                ORDER BY job.task_name, job.queue_name, job.priority DESC, job.id
                LIMIT 1) AS next)
        SELECT array_agg(pending.id), array_agg(pending.queue_name) INTO first_ids, queue_names FROM pending;
    END IF;
    IF first_ids[1] IS NOT NULL THEN
        PERFORM procrastinate_diesel_notify_jobs_v1(first_ids, queue_names);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_notify_of_room_v1(text, varchar) IS
    'Notifies workers that jobs of a queue or task may start again: once for each queue that has '
    'such jobs.';

CREATE FUNCTION procrastinate_diesel_pause_v1(
        p_kind text, p_name varchar, p_paused_by text DEFAULT NULL, p_reason text DEFAULT NULL,
        p_skips_ticks boolean DEFAULT false)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    is_new boolean;
BEGIN
    INSERT INTO procrastinate_diesel_flow_controls AS control
        (kind, name, paused_at, paused_by, pause_reason, skips_ticks)
    VALUES (p_kind, p_name, now(), p_paused_by, p_reason, p_skips_ticks)
    ON CONFLICT (kind, name) DO UPDATE
    SET paused_at = coalesce(control.paused_at, excluded.paused_at), paused_by = excluded.paused_by,
        pause_reason = excluded.pause_reason, skips_ticks = excluded.skips_ticks, changed_at = now()
    RETURNING control.paused_at = now() INTO is_new;
    RETURN is_new;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_pause_v1(text, varchar, text, text, boolean) IS
    'Pauses a queue or task. Returns false if it was paused already. Then it only replaces who '
    'paused it and why.';

CREATE FUNCTION procrastinate_diesel_skips_tick_v1(p_queue_name varchar, p_task_name varchar)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN EXISTS (
        SELECT FROM procrastinate_diesel_flow_controls AS control
        WHERE control.paused_at IS NOT NULL AND control.skips_ticks
          AND control.name = CASE control.kind WHEN 'queue' THEN p_queue_name ELSE p_task_name END);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_skips_tick_v1(varchar, varchar) IS
    'Whether a periodic task defers no jobs, because it or its queue is paused in that way.';

CREATE FUNCTION procrastinate_diesel_resume_v1(p_kind text, p_name varchar)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- Another transaction may be removing the limit.
    PERFORM FROM procrastinate_diesel_flow_controls AS control
    WHERE control.kind = p_kind AND control.name = p_name
    FOR UPDATE;
    DELETE FROM procrastinate_diesel_flow_controls AS control
    WHERE control.kind = p_kind AND control.name = p_name AND control.paused_at IS NOT NULL
      AND control.max_running IS NULL AND control.max_starts IS NULL;
    IF NOT FOUND THEN
        UPDATE procrastinate_diesel_flow_controls AS control
        SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, skips_ticks = false, changed_at = now()
        WHERE control.kind = p_kind AND control.name = p_name AND control.paused_at IS NOT NULL;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    PERFORM procrastinate_diesel_notify_of_room_v1(p_kind, p_name);
    RETURN true;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_resume_v1(text, varchar) IS
    'Resumes a paused queue or task, and notifies its workers. Returns false if it was not paused.';

CREATE FUNCTION procrastinate_diesel_set_limit_v1(
        p_kind text, p_name varchar, p_max_running integer, p_max_starts integer,
        p_start_period_seconds double precision)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    is_any CONSTANT boolean := p_max_running IS NOT NULL OR p_max_starts IS NOT NULL;
BEGIN
    IF is_any THEN
        INSERT INTO procrastinate_diesel_flow_controls
            (kind, name, max_running, max_starts, start_period_seconds)
        VALUES (p_kind, p_name, p_max_running, p_max_starts, p_start_period_seconds)
        ON CONFLICT (kind, name) DO UPDATE
        SET max_running = excluded.max_running, max_starts = excluded.max_starts,
            start_period_seconds = excluded.start_period_seconds, changed_at = now();
    ELSE
        -- Another transaction may be ending the pause.
        PERFORM FROM procrastinate_diesel_flow_controls AS control
        WHERE control.kind = p_kind AND control.name = p_name
        FOR UPDATE;
        DELETE FROM procrastinate_diesel_flow_controls AS control
        WHERE control.kind = p_kind AND control.name = p_name AND control.paused_at IS NULL;
        IF NOT FOUND THEN
            UPDATE procrastinate_diesel_flow_controls AS control
            SET max_running = NULL, max_starts = NULL, start_period_seconds = NULL, changed_at = now()
            WHERE control.kind = p_kind AND control.name = p_name
              AND (control.max_running IS NOT NULL OR control.max_starts IS NOT NULL);
            IF NOT FOUND THEN
                RETURN false;
            END IF;
        END IF;
    END IF;
    -- There may be more room than before.
    PERFORM procrastinate_diesel_notify_of_room_v1(p_kind, p_name);
    RETURN true;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_set_limit_v1(text, varchar, integer, integer, double precision) IS
    'Limits how many jobs of a queue or task run at the same time, and how many start within a '
    'period. This replaces its former limit. Without any number it removes the limit, and returns '
    'false if there was none.';
