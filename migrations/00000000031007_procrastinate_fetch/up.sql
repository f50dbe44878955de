-- Which jobs may start, and starting them. The functions that choose jobs rely on the settings of
-- the planner that their callers make, procrastinate_fetch_job_v2 and
-- procrastinate_diesel_finish_and_fetch_jobs_v1. They take the current time as a parameter, so that
-- tests can choose it.
--
-- A status that is compared in a condition on an ID is a variable, not a literal: the planner would
-- otherwise search an index of all pending jobs for the ID. A queue, or the lock of a running job,
-- is compared with >= and <=, so that only an index that begins with it serves the order.
--
-- Jobs start from the front of an index. Until the next vacuum it has entries of started jobs
-- there, which each search passes. So whether there is any job at all is looked up from the back.

CREATE FUNCTION procrastinate_diesel_fetch_unlocked_jobs_v1(
        p_worker_id bigint, target_queue_names varchar[], wanted integer, due_at timestamptz,
        ignores_locks boolean DEFAULT false, is_controlled boolean DEFAULT false,
        blocked_queues varchar[] DEFAULT '{}', blocked_tasks varchar[] DEFAULT '{}',
        has_deadlines boolean DEFAULT false,
        OUT started_ids bigint[], OUT queue_names varchar[], OUT task_names varchar[]) LANGUAGE plpgsql
AS $function$
BEGIN
    IF target_queue_names IS NULL THEN
        WITH started AS (
            UPDATE procrastinate_jobs AS job
            SET status = 'doing', worker_id = p_worker_id
            WHERE job.id = ANY (ARRAY(
                SELECT unlocked.id
                FROM procrastinate_jobs AS unlocked
                WHERE unlocked.status = 'todo' AND unlocked.lock IS NULL AND unlocked.scheduled_at IS NULL
                  AND (is_controlled OR NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls))
                  AND (NOT is_controlled OR (
                       unlocked.queue_name <> ALL (blocked_queues) AND unlocked.task_name <> ALL (blocked_tasks)
                       AND NOT (has_deadlines AND procrastinate_diesel_is_expired_v1(unlocked.id, due_at))))
                  AND (ignores_locks OR (
                       SELECT locked.id
                       FROM procrastinate_jobs AS locked
                       WHERE locked.status = 'todo' AND locked.lock IS NOT NULL
                       ORDER BY locked.lock, locked.priority DESC, locked.id
                       LIMIT 1) IS NULL)
                  AND ((SELECT scheduled.scheduled_at
                        FROM procrastinate_jobs AS scheduled
                        WHERE scheduled.status = 'todo' AND scheduled.lock IS NULL
                          AND scheduled.scheduled_at IS NOT NULL
                        ORDER BY scheduled.scheduled_at AT TIME ZONE 'UTC'
                        LIMIT 1) <= due_at) IS NOT TRUE
                ORDER BY unlocked.priority DESC, unlocked.id
                LIMIT wanted
                FOR UPDATE OF unlocked SKIP LOCKED))
            RETURNING job.id, job.queue_name, job.task_name),
        events AS (INSERT INTO procrastinate_events (job_id, type) SELECT started.id, 'started' FROM started)
        SELECT array_agg(started.id), array_agg(started.queue_name) FILTER (WHERE is_controlled),
            array_agg(started.task_name) FILTER (WHERE is_controlled)
        INTO started_ids, queue_names, task_names FROM started;
    ELSIF cardinality(target_queue_names) = 1 THEN
        WITH started AS (
            UPDATE procrastinate_jobs AS job
            SET status = 'doing', worker_id = p_worker_id
            WHERE job.id = ANY (ARRAY(
                SELECT unlocked.id
                FROM procrastinate_jobs AS unlocked
                WHERE unlocked.status = 'todo' AND unlocked.lock IS NULL AND unlocked.scheduled_at IS NULL
                  AND unlocked.queue_name >= target_queue_names[1] AND unlocked.queue_name <= target_queue_names[1]
                  AND (is_controlled OR NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls))
                  AND (NOT is_controlled OR (unlocked.task_name <> ALL (blocked_tasks)
                       AND NOT (has_deadlines AND procrastinate_diesel_is_expired_v1(unlocked.id, due_at))))
                  AND (ignores_locks OR (
                       SELECT locked.id
                       FROM procrastinate_jobs AS locked
                       WHERE locked.status = 'todo' AND locked.lock IS NOT NULL
                         AND locked.queue_name >= target_queue_names[1] AND locked.queue_name <= target_queue_names[1]
                       ORDER BY locked.queue_name DESC, locked.priority, locked.id DESC
                       LIMIT 1) IS NULL)
                  AND ((SELECT scheduled.scheduled_at
                        FROM procrastinate_jobs AS scheduled
                        WHERE scheduled.status = 'todo' AND scheduled.lock IS NULL
                          AND scheduled.scheduled_at IS NOT NULL
                          AND scheduled.queue_name >= target_queue_names[1]
                          AND scheduled.queue_name <= target_queue_names[1]
                        ORDER BY scheduled.queue_name, scheduled.scheduled_at
                        LIMIT 1) <= due_at) IS NOT TRUE
                ORDER BY unlocked.queue_name, unlocked.priority DESC, unlocked.id
                LIMIT wanted
                FOR UPDATE OF unlocked SKIP LOCKED))
            RETURNING job.id, job.queue_name, job.task_name),
        events AS (INSERT INTO procrastinate_events (job_id, type) SELECT started.id, 'started' FROM started)
        SELECT array_agg(started.id), array_agg(started.queue_name) FILTER (WHERE is_controlled),
            array_agg(started.task_name) FILTER (WHERE is_controlled)
        INTO started_ids, queue_names, task_names FROM started;
    END IF;
    started_ids := coalesce(started_ids, '{}');
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_fetch_unlocked_jobs_v1(
    bigint, varchar[], integer, timestamptz, boolean, boolean, varchar[], varchar[], boolean) IS
    'Starts the next jobs that are neither locked nor scheduled, for a worker of all queues or of '
    'one queue, and returns their IDs; with is_controlled, also their queues and tasks. Starts '
    'none if a scheduled job is due or, unless it ignores locks, a locked one is pending, because '
    'these may come first. Starts none if anything is paused or limited, unless the flow says what '
    'is. Starts none for several queues, either: then use procrastinate_diesel_lock_next_jobs_v1.';

CREATE FUNCTION procrastinate_diesel_is_any_pending_v1(target_queue_names varchar[], due_at timestamptz)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF target_queue_names IS NULL THEN
        RETURN (SELECT unlocked.id
                FROM procrastinate_jobs AS unlocked
                WHERE unlocked.status = 'todo' AND unlocked.lock IS NULL AND unlocked.scheduled_at IS NULL
                ORDER BY unlocked.priority, unlocked.id DESC
                LIMIT 1) IS NOT NULL
            OR (SELECT locked.id
                FROM procrastinate_jobs AS locked
                WHERE locked.status = 'todo' AND locked.lock IS NOT NULL
                ORDER BY locked.lock DESC, locked.priority, locked.id DESC
                LIMIT 1) IS NOT NULL
            OR ((SELECT scheduled.scheduled_at
                 FROM procrastinate_jobs AS scheduled
                 WHERE scheduled.status = 'todo' AND scheduled.lock IS NULL AND scheduled.scheduled_at IS NOT NULL
                 ORDER BY scheduled.scheduled_at AT TIME ZONE 'UTC'
                 LIMIT 1) <= due_at) IS TRUE;
    ELSIF cardinality(target_queue_names) = 1 THEN
        RETURN (SELECT unlocked.id
                FROM procrastinate_jobs AS unlocked
                WHERE unlocked.status = 'todo' AND unlocked.lock IS NULL AND unlocked.scheduled_at IS NULL
                  AND unlocked.queue_name >= target_queue_names[1] AND unlocked.queue_name <= target_queue_names[1]
                ORDER BY unlocked.queue_name DESC, unlocked.priority, unlocked.id DESC
                LIMIT 1) IS NOT NULL
            OR (SELECT locked.id
                FROM procrastinate_jobs AS locked
                WHERE locked.status = 'todo' AND locked.lock IS NOT NULL
                  AND locked.queue_name >= target_queue_names[1] AND locked.queue_name <= target_queue_names[1]
                ORDER BY locked.queue_name DESC, locked.priority, locked.id DESC
                LIMIT 1) IS NOT NULL
            OR ((SELECT scheduled.scheduled_at
                 FROM procrastinate_jobs AS scheduled
                 WHERE scheduled.status = 'todo' AND scheduled.lock IS NULL AND scheduled.scheduled_at IS NOT NULL
                   AND scheduled.queue_name >= target_queue_names[1] AND scheduled.queue_name <= target_queue_names[1]
                 ORDER BY scheduled.queue_name, scheduled.scheduled_at
                 LIMIT 1) <= due_at) IS TRUE;
    END IF;
    RETURN true;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_is_any_pending_v1(varchar[], timestamptz) IS
    'Whether any job of all queues (NULL) or of one queue is pending and, if it has no lock, not '
    'scheduled for later. Always true for several queues.';

CREATE FUNCTION procrastinate_diesel_find_jobs_by_task_v1(
        flow procrastinate_diesel_flow_v1, most integer, passed_over bigint[])
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- Each task of each queue is searched for, and the blocked ones are left out. So it does not
    -- matter how many of their jobs are pending.
    RETURN ARRAY(
        WITH RECURSIVE pending (task_name, queue_name) AS (
            (SELECT job.task_name, job.queue_name FROM procrastinate_jobs AS job
             WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = 0
             ORDER BY job.task_name DESC, job.queue_name DESC
             LIMIT 1)
          UNION ALL
            SELECT next.task_name, next.queue_name
            FROM pending AS previous
            CROSS JOIN LATERAL (
                SELECT job.task_name, job.queue_name FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = 0
                  AND (job.task_name, job.queue_name) < (previous.task_name, previous.queue_name)
                ORDER BY job.task_name DESC, job.queue_name DESC
                LIMIT 1) AS next)
        SELECT unlocked.id
        FROM pending
        CROSS JOIN LATERAL (
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND num_nonnulls(job.lock, job.scheduled_at) = 0
              AND job.task_name >= pending.task_name AND job.task_name <= pending.task_name
              AND job.queue_name >= pending.queue_name AND job.queue_name <= pending.queue_name
              AND job.id <> ALL (passed_over)
            ORDER BY job.task_name, job.queue_name, job.priority DESC, job.id
            LIMIT most) AS unlocked
        WHERE pending.task_name <> ALL (flow.blocked_tasks)
          AND CASE WHEN flow.queue_names IS NULL THEN pending.queue_name <> ALL (flow.blocked_queues)
                   ELSE pending.queue_name = ANY (flow.queue_names) END);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_jobs_by_task_v1(procrastinate_diesel_flow_v1, integer, bigint[]) IS
    'The first jobs of each queue and task that are neither locked nor scheduled, without the '
    'blocked tasks, at most so many of each.';

CREATE FUNCTION procrastinate_diesel_find_unlocked_jobs_v1(
        flow procrastinate_diesel_flow_v1, most integer, passed_over bigint[])
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    first_ids bigint[];
BEGIN
    IF cardinality(flow.limited_queues) = 0 AND cardinality(flow.limited_tasks) = 0
            AND (cardinality(flow.blocked_queues) > 0 OR cardinality(flow.blocked_tasks) > 0) THEN
        -- Usually enough of the first jobs are not blocked. A search of each queue or task takes
        -- longer the more of them there are.
        first_ids := ARRAY(
            SELECT first.id
            FROM (SELECT job.id, job.priority, job.queue_name, job.task_name FROM procrastinate_jobs AS job
                  WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
                  ORDER BY job.priority DESC, job.id
                  LIMIT 2 * most + least(coalesce(cardinality(flow.queue_names), 0), 10000)) AS first
            WHERE first.id <> ALL (passed_over) AND first.task_name <> ALL (flow.blocked_tasks)
              AND CASE WHEN flow.queue_names IS NULL THEN first.queue_name <> ALL (flow.blocked_queues)
                       ELSE first.queue_name IN (SELECT unnest(flow.queue_names)) END
            ORDER BY first.priority DESC, first.id
            LIMIT most);
        IF cardinality(first_ids) = most THEN
            RETURN first_ids;
        END IF;
    END IF;
    IF cardinality(flow.blocked_tasks) > 0 THEN
        RETURN procrastinate_diesel_find_jobs_by_task_v1(flow, most, passed_over);
    ELSIF flow.queue_names IS NULL THEN
        RETURN ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
              AND job.id <> ALL (passed_over) AND job.queue_name <> ALL (flow.blocked_queues)
            ORDER BY job.priority DESC, job.id
            LIMIT most);
    END IF;
    RETURN ARRAY(
        SELECT unlocked.id
        FROM (SELECT DISTINCT unnest(flow.queue_names)) AS queue (name)
        CROSS JOIN LATERAL (
            SELECT job.id, job.priority FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
              AND job.id <> ALL (passed_over)
              AND job.queue_name >= queue.name AND job.queue_name <= queue.name
            ORDER BY job.queue_name, job.priority DESC, job.id
            LIMIT most) AS unlocked
        ORDER BY unlocked.priority DESC, unlocked.id
        -- Of a queue or task with a limit, fewer may be able to start.
        LIMIT CASE WHEN cardinality(flow.limited_queues || flow.limited_tasks) = 0 THEN most END);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_unlocked_jobs_v1(procrastinate_diesel_flow_v1, integer, bigint[]) IS
    'The first jobs that are neither locked nor scheduled: at most so many of each queue, or of '
    'all queues together.';

CREATE FUNCTION procrastinate_diesel_scheduled_queues_v1(target_queue_names varchar[])
    RETURNS varchar[]
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF cardinality(target_queue_names) = 1 THEN
        RETURN target_queue_names;
    ELSIF target_queue_names IS NOT NULL THEN
        RETURN ARRAY(SELECT DISTINCT unnest(target_queue_names));
    END IF;
    RETURN ARRAY(
        WITH RECURSIVE scheduled_queue (name) AS (
            (SELECT job.queue_name FROM procrastinate_jobs AS job
             WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
             ORDER BY job.queue_name DESC
             LIMIT 1)
          UNION ALL
            SELECT (SELECT job.queue_name FROM procrastinate_jobs AS job
                    WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                      AND job.queue_name < previous.name
                    ORDER BY job.queue_name DESC
                    LIMIT 1)
            FROM scheduled_queue AS previous
            WHERE previous.name IS NOT NULL)
        SELECT name FROM scheduled_queue WHERE name IS NOT NULL);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_scheduled_queues_v1(varchar[]) IS
    'The given queues, or if NULL all queues that have scheduled jobs without a lock.';

CREATE FUNCTION procrastinate_diesel_find_due_jobs_v1(
        flow procrastinate_diesel_flow_v1, most integer, passed_over bigint[], due_at timestamptz)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_names CONSTANT varchar[] := ARRAY(
        SELECT queue.name FROM unnest(procrastinate_diesel_scheduled_queues_v1(flow.queue_names)) AS queue (name)
        WHERE queue.name <> ALL (flow.blocked_queues));
BEGIN
    -- If enough of the first scheduled jobs of a queue are due, no others are read. Otherwise all
    -- due ones are compared, or, if they are very many, the jobs are read in their order.
    RETURN ARRAY(
        SELECT due.id
        FROM unnest(queue_names) AS queue (name)
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(near.id) FILTER (WHERE near.is_due), '{}') AS due_ids,
                   count(*) < 2 * most OR count(*) FILTER (WHERE near.is_due) >= most AS are_enough
            FROM (SELECT job.id, job.scheduled_at <= due_at AND job.id <> ALL (passed_over)
                             AND job.task_name <> ALL (flow.blocked_tasks) AS is_due
                  FROM procrastinate_jobs AS job
                  WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                    AND job.queue_name = queue.name
                  ORDER BY job.priority DESC, job.id
                  LIMIT 2 * most) AS near) AS first_jobs
        CROSS JOIN LATERAL (
            SELECT count(*) >= 1000 AS are_many
            FROM (SELECT FROM procrastinate_jobs AS job
                  WHERE NOT first_jobs.are_enough
                    AND job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                    AND job.queue_name = queue.name AND job.scheduled_at <= due_at
                  ORDER BY job.scheduled_at
                  LIMIT 1000) AS counted) AS due_jobs
        CROSS JOIN LATERAL (
            (SELECT unnest(first_jobs.due_ids[:most]) AS id WHERE first_jobs.are_enough)
          UNION ALL
            (SELECT few.id
             FROM (SELECT job.id, job.priority FROM procrastinate_jobs AS job
                   WHERE NOT first_jobs.are_enough AND NOT due_jobs.are_many
                     AND job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                     AND job.queue_name = queue.name AND job.scheduled_at <= due_at
                     AND job.id <> ALL (passed_over) AND job.task_name <> ALL (flow.blocked_tasks)
                   ORDER BY job.scheduled_at
                   LIMIT 1000) AS few
             ORDER BY few.priority DESC, few.id
             LIMIT most)
          UNION ALL
            (SELECT job.id FROM procrastinate_jobs AS job
             WHERE due_jobs.are_many
               AND job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
               AND job.queue_name = queue.name AND job.scheduled_at <= due_at
               AND job.id <> ALL (passed_over) AND job.task_name <> ALL (flow.blocked_tasks)
             ORDER BY job.priority DESC, job.id
             LIMIT most)) AS due);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_due_jobs_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], timestamptz) IS
    'The first scheduled jobs of each queue that are due and have no lock, at most so many of each '
    'queue.';

CREATE FUNCTION procrastinate_diesel_queues_with_locks_v1(target_queue_names varchar[])
    RETURNS varchar[]
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF cardinality(target_queue_names) = 1 THEN
        RETURN target_queue_names;
    ELSIF target_queue_names IS NOT NULL THEN
        RETURN ARRAY(SELECT DISTINCT unnest(target_queue_names));
    END IF;
    RETURN ARRAY(
        WITH RECURSIVE locked_queue (name) AS (
            (SELECT job.queue_name FROM procrastinate_jobs AS job
             WHERE job.status = 'todo' AND job.lock IS NOT NULL
             ORDER BY job.queue_name DESC
             LIMIT 1)
          UNION ALL
            SELECT (SELECT job.queue_name FROM procrastinate_jobs AS job
                    WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name < previous.name
                    ORDER BY job.queue_name DESC
                    LIMIT 1)
            FROM locked_queue AS previous
            WHERE previous.name IS NOT NULL)
        SELECT name FROM locked_queue WHERE name IS NOT NULL);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_queues_with_locks_v1(varchar[]) IS
    'The given queues, or if NULL all queues that have pending jobs with a lock.';

CREATE FUNCTION procrastinate_diesel_find_first_heads_v1(
        flow procrastinate_diesel_flow_v1, wanted integer, most integer, passed_over bigint[], last_lock text,
        due_at timestamptz, OUT job_ids bigint[], OUT locks text[], OUT is_complete boolean)
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_names varchar[] := procrastinate_diesel_queues_with_locks_v1(flow.queue_names);
    -- Other workers may have locked some of them.
    enough CONSTANT integer :=
        CASE WHEN procrastinate_diesel_had_many_v1('held_rows') THEN most ELSE least(most, wanted + wanted / 8 + 1) END;
BEGIN
    IF cardinality(flow.blocked_queues) > 0 THEN
        queue_names := ARRAY(
            SELECT queue.name FROM unnest(queue_names) AS queue (name) WHERE queue.name <> ALL (flow.blocked_queues));
    END IF;
    SELECT coalesce(bool_and(
               cardinality(found.ids) >= wanted
               OR NOT EXISTS (
                    SELECT FROM procrastinate_jobs AS further
                    WHERE further.status = 'todo' AND further.lock IS NOT NULL AND further.queue_name = queue.name
                    ORDER BY further.priority DESC, further.id
                    LIMIT 1 OFFSET 2 * (most + cardinality(passed_over)))), true),
           coalesce(array_agg(head.id) FILTER (WHERE head.id IS NOT NULL), '{}'),
           coalesce(array_agg(head.lock) FILTER (WHERE head.id IS NOT NULL), '{}')
    INTO is_complete, job_ids, locks
    FROM unnest(queue_names) AS queue (name)
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(startable.id), '{}') AS ids, coalesce(array_agg(startable.lock), '{}') AS locks
        FROM (
            SELECT near.id, near.lock
            FROM (SELECT job.id, job.lock, job.scheduled_at, job.priority, job.task_name
                  FROM procrastinate_jobs AS job
                  WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name = queue.name
                  ORDER BY job.priority DESC, job.id
                  LIMIT 2 * (most + cardinality(passed_over))) AS near
            WHERE near.id <> ALL (passed_over) AND near.task_name <> ALL (flow.blocked_tasks)
              AND (last_lock IS NULL OR near.lock > last_lock)
              AND (near.scheduled_at IS NULL OR near.scheduled_at <= due_at)
              AND near.id = (
                    SELECT first.id FROM procrastinate_jobs AS first
                    WHERE first.lock = near.lock AND first.status = 'todo'
                    ORDER BY first.priority DESC, first.id
                    LIMIT 1)
              AND (SELECT holder.lock FROM procrastinate_jobs AS holder
                   WHERE holder.status = 'doing' AND holder.lock >= near.lock AND holder.lock <= near.lock
                   ORDER BY holder.lock
                   LIMIT 1) IS NULL
            ORDER BY near.priority DESC, near.id
            LIMIT enough + cardinality(passed_over)) AS startable) AS found
    LEFT JOIN LATERAL unnest(found.ids, found.locks) AS head (id, lock) ON true;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_first_heads_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz) IS
    'Jobs that are the first of their lock and may start, among the first pending jobs of each '
    'queue. is_complete if that is as many as wanted of each queue that has more pending jobs with '
    'a lock. With last_lock, only jobs whose lock comes after it.';

CREATE FUNCTION procrastinate_diesel_find_heads_by_lock_v1(
        flow procrastinate_diesel_flow_v1, most_locks integer, most integer, passed_over bigint[], last_lock text,
        due_at timestamptz, OUT job_ids bigint[], OUT locks text[], OUT is_complete boolean)
    LANGUAGE plpgsql
AS $function$
BEGIN
    WITH RECURSIVE some_lock (name) AS (
        (SELECT job.lock FROM procrastinate_jobs AS job
         WHERE job.status = 'todo' AND job.lock IS NOT NULL
         ORDER BY job.lock
         LIMIT 1)
      UNION ALL
        SELECT (SELECT job.lock FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.lock > previous.name
                ORDER BY job.lock
                LIMIT 1)
        FROM some_lock AS previous
        WHERE previous.name IS NOT NULL),
    each_lock (name) AS (
        SELECT name FROM some_lock WHERE name IS NOT NULL LIMIT most_locks + 1),
    head AS (
        SELECT first.id, each_lock.name AS lock, first.priority
        FROM each_lock
        CROSS JOIN LATERAL (
            SELECT job.id, job.priority, job.scheduled_at, job.queue_name, job.task_name
            FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock = each_lock.name
            ORDER BY job.priority DESC, job.id
            LIMIT 1) AS first
        WHERE (SELECT count(*) FROM each_lock) <= most_locks
          AND first.id <> ALL (passed_over)
          AND (last_lock IS NULL OR each_lock.name > last_lock)
          AND (first.scheduled_at IS NULL OR first.scheduled_at <= due_at)
          AND (flow.queue_names IS NULL OR first.queue_name = ANY (flow.queue_names))
          AND first.queue_name <> ALL (flow.blocked_queues) AND first.task_name <> ALL (flow.blocked_tasks)
          AND (SELECT holder.lock FROM procrastinate_jobs AS holder
               WHERE holder.status = 'doing' AND holder.lock >= each_lock.name AND holder.lock <= each_lock.name
               ORDER BY holder.lock
               LIMIT 1) IS NULL
        ORDER BY first.priority DESC, first.id
        LIMIT most)
    SELECT (SELECT count(*) FROM each_lock) <= most_locks,
           coalesce(array_agg(head.id), '{}'), coalesce(array_agg(head.lock), '{}')
    INTO is_complete, job_ids, locks
    FROM head;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_heads_by_lock_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz) IS
    'Jobs that are the first of their lock and may start, if the pending jobs have at most so many '
    'different locks. Otherwise none, and is_complete is false.';

CREATE FUNCTION procrastinate_diesel_find_heads_by_queue_v1(
        flow procrastinate_diesel_flow_v1, most integer, passed_over bigint[], last_lock text, due_at timestamptz,
        OUT job_ids bigint[], OUT locks text[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_names CONSTANT varchar[] := ARRAY(
        SELECT queue.name FROM unnest(procrastinate_diesel_queues_with_locks_v1(flow.queue_names)) AS queue (name)
        WHERE queue.name <> ALL (flow.blocked_queues));
BEGIN
    SELECT coalesce(array_agg(head.id), '{}'), coalesce(array_agg(head.lock), '{}')
    INTO job_ids, locks
    FROM unnest(queue_names) AS queue (name)
    CROSS JOIN LATERAL (
        SELECT job.id, job.lock FROM procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name = queue.name
          AND job.id <> ALL (passed_over) AND job.task_name <> ALL (flow.blocked_tasks)
          AND (last_lock IS NULL OR job.lock > last_lock)
          AND (job.scheduled_at IS NULL OR job.scheduled_at <= due_at)
          AND (SELECT holder.lock FROM procrastinate_jobs AS holder
               WHERE holder.status = 'doing' AND holder.lock >= job.lock AND holder.lock <= job.lock
               ORDER BY holder.lock
               LIMIT 1) IS NULL
          AND job.id = (
                SELECT first.id FROM procrastinate_jobs AS first
                WHERE first.lock = job.lock AND first.status = 'todo'
                ORDER BY first.priority DESC, first.id
                LIMIT 1)
        ORDER BY job.priority DESC, job.id
        LIMIT most) AS head;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_heads_by_queue_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], text, timestamptz) IS
    'Jobs that are the first of their lock and may start. Reads the pending jobs of each queue '
    'until it has enough: slow if there are very many that cannot start.';

CREATE FUNCTION procrastinate_diesel_had_many_v1(what text)
    RETURNS boolean
    LANGUAGE plpgsql
    STABLE
AS $function$
BEGIN
    RETURN coalesce(current_setting('procrastinate_diesel.has_many_' || what, true) = 'true', false);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_had_many_v1(text) IS
    'Whether the former fetch of this session found jobs of many different locks that can start '
    '(locks), or as many scheduled jobs that are due as it read (due_jobs). If so, the next one '
    'does not begin with searches that would find none. Or whether other transactions held rows of '
    'jobs that it found (held_rows). If so, the next one reads more of them.';

CREATE FUNCTION procrastinate_diesel_remember_many_v1(what text, has_many boolean)
    RETURNS text
    LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN set_config('procrastinate_diesel.has_many_' || what, has_many::text, false);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_remember_many_v1(text, boolean) IS
    'Remembers for the session what procrastinate_diesel_had_many_v1 tells. A rollback takes it '
    'back.';

CREATE FUNCTION procrastinate_diesel_find_lock_heads_v1(
        flow procrastinate_diesel_flow_v1, wanted integer, most integer, passed_over bigint[], last_lock text,
        due_at timestamptz, OUT job_ids bigint[], OUT locks text[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    heads record;
    -- What a former search of this session found.
    had_many CONSTANT boolean := procrastinate_diesel_had_many_v1('locks');
    has_many boolean := had_many;
BEGIN
    -- The cheapest search for very few locks comes first, then that for many, then that for some
    -- hundred.
    IF NOT had_many THEN
        heads := procrastinate_diesel_find_heads_by_lock_v1(
            flow, 5, most, passed_over, last_lock, due_at);
        has_many := NOT heads.is_complete;
    END IF;
    IF has_many THEN
        heads := procrastinate_diesel_find_first_heads_v1(
            flow, wanted, most, passed_over, last_lock, due_at);
        has_many := heads.is_complete AND cardinality(heads.job_ids) > 0;
    END IF;
    IF has_many <> had_many THEN
        PERFORM procrastinate_diesel_remember_many_v1('locks', has_many);
    END IF;
    IF NOT heads.is_complete THEN
        heads := procrastinate_diesel_find_heads_by_lock_v1(
            flow, 500, most, passed_over, last_lock, due_at);
    END IF;
    IF NOT heads.is_complete THEN
        heads := procrastinate_diesel_find_heads_by_queue_v1(
            flow, most, passed_over, last_lock, due_at);
    END IF;
    job_ids := heads.job_ids;
    locks := heads.locks;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_lock_heads_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz) IS
    'Jobs that are the first of their lock and may start: at least as many as wanted, if there are '
    'so many. With last_lock, only jobs whose lock comes after it.';

CREATE FUNCTION procrastinate_diesel_find_candidates_v1(
        flow procrastinate_diesel_flow_v1, missing integer, wanted integer, passed_over bigint[], last_lock text,
        due_at timestamptz,
        OUT job_ids bigint[], OUT head_ids bigint[], OUT head_locks text[], OUT has_more boolean)
    LANGUAGE plpgsql
AS $function$
DECLARE
    -- How many of each kind to read at once. Other workers may have locked some of them.
    most CONSTANT integer := least(wanted, 100000) + 10;
    had_many_due CONSTANT boolean := procrastinate_diesel_had_many_v1('due_jobs');
    has_many_due boolean := false;
    is_any_plain boolean;
    is_any_scheduled boolean;
    is_any_locked boolean;
    due_ids bigint[];
    heads record;
BEGIN
    job_ids := '{}';
    head_ids := '{}';
    head_locks := '{}';
    has_more := false;
    -- All its queues can have limits for each key.
    IF flow.queue_names = '{}' THEN
        RETURN;
    END IF;
    SELECT (SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
            ORDER BY job.queue_name DESC, job.priority, job.id DESC
            LIMIT 1) IS NOT NULL,
           had_many_due OR (
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
            ORDER BY job.queue_name DESC, job.priority, job.id DESC
            LIMIT 1) IS NOT NULL,
           procrastinate_diesel_had_many_v1('locks') OR (
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NOT NULL
            ORDER BY job.queue_name DESC, job.priority, job.id DESC
            LIMIT 1) IS NOT NULL
    INTO is_any_plain, is_any_scheduled, is_any_locked;
    IF is_any_plain THEN
        job_ids := procrastinate_diesel_find_unlocked_jobs_v1(flow, most, passed_over);
        has_more := cardinality(job_ids) >= most;
    END IF;
    IF is_any_scheduled THEN
        due_ids := procrastinate_diesel_find_due_jobs_v1(flow, most, passed_over, due_at);
        has_many_due := cardinality(due_ids) >= most;
        has_more := has_more OR has_many_due;
        job_ids := job_ids || due_ids;
    END IF;
    IF has_many_due <> had_many_due THEN
        PERFORM procrastinate_diesel_remember_many_v1('due_jobs', has_many_due);
    END IF;
    IF is_any_locked THEN
        heads := procrastinate_diesel_find_lock_heads_v1(flow, missing, most, passed_over, last_lock, due_at);
        head_ids := heads.job_ids;
        head_locks := heads.locks;
        has_more := has_more OR cardinality(head_ids) >= missing;
        job_ids := job_ids || head_ids;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_find_candidates_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz) IS
    'The next jobs that may be able to start, whether they are plain, scheduled or locked, but '
    'none with a limit for each key. heads are those with a lock. has_more if there can be others. '
    'wanted is how many jobs the fetch wants, missing how many of them it does not have yet.';

CREATE FUNCTION procrastinate_diesel_lock_candidates_v1(
        INOUT flow procrastinate_diesel_flow_v1, candidates bigint[], head_ids bigint[], head_locks text[],
        wanted integer, due_at timestamptz, keyed_ids bigint[], positions bigint[],
        OUT job_ids bigint[], OUT job_locks text[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    todo CONSTANT procrastinate_job_status := 'todo';
    queue_rooms integer[] := flow.queue_rooms;
    task_rooms integer[] := flow.task_rooms;
    queue_place integer;
    task_place integer;
    -- A cursor reads row by row. A loop over the query itself would read, and lock, jobs in
    -- advance.
    each_job CURSOR FOR
        SELECT job.id, job.lock, job.queue_name, job.task_name
        FROM procrastinate_jobs AS job
        WHERE job.id = ANY (candidates) AND job.status = todo
          AND job.lock IS NOT DISTINCT FROM head_locks[array_position(head_ids, job.id)]
          AND (job.scheduled_at IS NULL OR job.scheduled_at <= due_at)
          AND CASE WHEN flow.queue_names IS NULL THEN job.queue_name <> ALL (flow.blocked_queues)
                   ELSE job.queue_name IN (SELECT unnest(flow.queue_names)) END
          AND job.task_name <> ALL (flow.blocked_tasks)
          AND (job.id = ANY (keyed_ids)
               OR job.queue_name <> ALL (flow.keyed_queues) AND job.task_name <> ALL (flow.keyed_tasks))
          AND NOT (flow.has_deadlines AND procrastinate_diesel_is_expired_v1(job.id, due_at))
        ORDER BY job.priority DESC, coalesce(positions[array_position(keyed_ids, job.id)], job.id)
        FOR UPDATE OF job SKIP LOCKED;
BEGIN
    job_ids := '{}';
    job_locks := '{}';
    -- Whatever others have changed meanwhile is compared again.
    IF cardinality(flow.limited_queues) = 0 AND cardinality(flow.limited_tasks) = 0 THEN
        SELECT coalesce(array_agg(candidate.id), '{}'), coalesce(array_agg(candidate.lock), '{}')
        INTO job_ids, job_locks
        FROM (
            SELECT job.id, job.lock
            FROM procrastinate_jobs AS job
            WHERE job.id = ANY (candidates) AND job.status = todo
              AND job.lock IS NOT DISTINCT FROM head_locks[array_position(head_ids, job.id)]
              AND (job.scheduled_at IS NULL OR job.scheduled_at <= due_at)
              AND CASE WHEN flow.queue_names IS NULL THEN job.queue_name <> ALL (flow.blocked_queues)
                       ELSE job.queue_name IN (SELECT unnest(flow.queue_names)) END
              AND job.task_name <> ALL (flow.blocked_tasks)
              AND (job.id = ANY (keyed_ids)
                   OR job.queue_name <> ALL (flow.keyed_queues) AND job.task_name <> ALL (flow.keyed_tasks))
              AND NOT (flow.has_deadlines AND procrastinate_diesel_is_expired_v1(job.id, due_at))
            ORDER BY job.priority DESC, coalesce(positions[array_position(keyed_ids, job.id)], job.id)
            LIMIT wanted
            FOR UPDATE OF job SKIP LOCKED) AS candidate;
        RETURN;
    END IF;
    FOR candidate IN each_job LOOP
        queue_place := array_position(flow.limited_queues, candidate.queue_name);
        task_place := array_position(flow.limited_tasks, candidate.task_name);
        CONTINUE WHEN queue_rooms[queue_place] = 0 OR task_rooms[task_place] = 0;
        IF queue_place IS NOT NULL THEN
            queue_rooms[queue_place] := queue_rooms[queue_place] - 1;
        END IF;
        IF task_place IS NOT NULL THEN
            task_rooms[task_place] := task_rooms[task_place] - 1;
        END IF;
        job_ids := job_ids || candidate.id;
        job_locks := job_locks || candidate.lock;
        EXIT WHEN cardinality(job_ids) = wanted;
    END LOOP;
    -- The next search leaves out what has no room any more.
    flow.queue_rooms := queue_rooms;
    flow.task_rooms := task_rooms;
    flow.blocked_tasks := flow.blocked_tasks || ARRAY(
        SELECT task.name FROM unnest(flow.limited_tasks, task_rooms) AS task (name, room) WHERE task.room = 0);
    flow.blocked_queues := flow.blocked_queues || ARRAY(
        SELECT queue.name FROM unnest(flow.limited_queues, queue_rooms) AS queue (name, room) WHERE queue.room = 0);
    flow.queue_names := CASE WHEN flow.queue_names IS NOT NULL THEN ARRAY(
        SELECT queue.name FROM unnest(flow.queue_names) AS queue (name)
        WHERE queue.name <> ALL (flow.blocked_queues)) END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_lock_candidates_v1(
    procrastinate_diesel_flow_v1, bigint[], bigint[], text[], integer, timestamptz, bigint[], bigint[]) IS
    'Locks the rows of those candidates that may start, at most so many, and returns their IDs and '
    'locks. A candidate must have the lock of which it was found to be the first job. keyed_ids '
    'are the candidates with a limit for each key, with their positions. Returns the flow with the '
    'room that is left.';

CREATE FUNCTION procrastinate_diesel_lock_next_jobs_v1(
        flow procrastinate_diesel_flow_v1, wanted integer, passed_over bigint[], last_lock text,
        due_at timestamptz, OUT job_ids bigint[], OUT locks text[])
    LANGUAGE plpgsql
AS $function$
DECLARE
    missing integer := wanted;
    tried bigint[] := passed_over;
    tried_keys bigint[] := '{}';
    search procrastinate_diesel_flow_v1;
    has_more boolean;
    found record;
    keyed record;
    held record;
    had_held_rows CONSTANT boolean := procrastinate_diesel_had_many_v1('held_rows');
    has_held_rows boolean := false;
BEGIN
    job_ids := '{}';
    locks := '{}';
    IF NOT flow.has_ready_keys THEN
        SELECT '{}'::bigint[] AS job_ids, '{}'::text[] AS locks, '{}'::bigint[] AS positions,
            '{}'::bigint[] AS job_keys
        INTO keyed;
    END IF;
    WHILE missing > 0 LOOP
        search := CASE WHEN cardinality(flow.keyed_queues || flow.keyed_tasks) > 0
            THEN procrastinate_diesel_without_keys_v1(flow) ELSE flow END;
        found := procrastinate_diesel_find_candidates_v1(search, missing, wanted, tried, last_lock, due_at);
        has_more := found.has_more;
        IF flow.has_ready_keys THEN
            keyed := procrastinate_diesel_find_keyed_jobs_v1(
                flow, least(missing, 100000), tried_keys, tried, last_lock, due_at,
                cardinality(found.job_ids || job_ids || tried_keys) > 0);
            has_more := has_more OR cardinality(keyed.key_ids) > 0;
            tried_keys := tried_keys || keyed.key_ids;
        END IF;
        held := procrastinate_diesel_lock_candidates_v1(
            flow, found.job_ids || keyed.job_ids, found.head_ids || keyed.job_ids, found.head_locks || keyed.locks,
            missing, due_at, keyed.job_ids, keyed.positions);
        flow := held.flow;
        IF cardinality(keyed.job_ids) > 0 THEN
            held := procrastinate_diesel_still_keyed_v1(held.job_ids, held.job_locks, keyed.job_ids, keyed.key_ids);
            IF cardinality(held.job_ids) < missing AND cardinality(flow.limited_queues || flow.limited_tasks) = 0 THEN
                -- Another transaction has locked all of these jobs. There can be further ones.
                tried_keys := ARRAY(
                    SELECT tried.key_id FROM unnest(tried_keys) AS tried (key_id)
                    WHERE tried.key_id <> ALL (keyed.job_keys) OR tried.key_id = ANY (ARRAY(
                        SELECT each.key_id FROM unnest(keyed.job_ids, keyed.job_keys) AS each (id, key_id)
                        WHERE each.id = ANY (held.job_ids))));
            END IF;
        END IF;
        job_ids := job_ids || held.job_ids;
        locks := locks || held.job_locks;
        missing := missing - cardinality(held.job_ids);
        has_held_rows := has_held_rows OR missing > 0 AND has_more
            OR had_held_rows AND held.job_ids <> found.job_ids[1:cardinality(held.job_ids)];
        EXIT WHEN NOT has_more;
        tried := tried || found.job_ids || keyed.job_ids;
    END LOOP;
    IF has_held_rows <> had_held_rows THEN
        PERFORM procrastinate_diesel_remember_many_v1('held_rows', has_held_rows);
    END IF;
    SELECT coalesce(array_agg(job.id), '{}'), coalesce(array_agg(job.lock), '{}')
    INTO job_ids, locks
    FROM (SELECT each.* FROM unnest(job_ids, locks) AS each (id, lock) ORDER BY each.lock) AS job;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_lock_next_jobs_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], text, timestamptz) IS
    'Locks the rows of the next jobs that may start, at most so many and without those passed '
    'over, and returns their IDs and locks, in the order of the locks. With last_lock, only '
    'unlocked jobs and those whose lock comes after it.';

CREATE FUNCTION procrastinate_diesel_start_jobs_v1(p_worker_id bigint, job_ids bigint[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    WITH started AS (
        UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = p_worker_id
        FROM unnest(job_ids) AS next (id)
        -- An array of one: for a plain comparison the planner may read all jobs in the order of
        -- their IDs.
        WHERE job.id = ANY (ARRAY[next.id])
        RETURNING job.id)
    INSERT INTO procrastinate_events (job_id, type) SELECT started.id, 'started' FROM started;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_start_jobs_v1(bigint, bigint[]) IS
    'Starts jobs for a worker, in this order, and writes their events.';

CREATE FUNCTION procrastinate_diesel_fetch_jobs_one_by_one_v1(
        p_worker_id bigint, target_queue_names varchar[], flow procrastinate_diesel_flow_v1, wanted integer,
        due_at timestamptz)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    started_ids bigint[] := '{}';
    new_ids bigint[];
    next record;
    candidate record;
    overtaken_ids bigint[] := '{}';
    is_overtaken boolean;
    last_lock text;
    violated_constraint text;
BEGIN
    LOOP
        -- The order of the locks is kept when it searches again.
        next := procrastinate_diesel_lock_next_jobs_v1(
            flow, wanted - cardinality(started_ids), overtaken_ids, last_lock, due_at);
        is_overtaken := false;
        new_ids := '{}';
        FOR candidate IN SELECT job.id, job.lock FROM unnest(next.job_ids, next.locks) AS job (id, lock) LOOP
            BEGIN
                PERFORM procrastinate_diesel_start_jobs_v1(p_worker_id, ARRAY[candidate.id]);
                new_ids := new_ids || candidate.id;
                last_lock := coalesce(candidate.lock, last_lock);
            EXCEPTION WHEN unique_violation THEN
                GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
                IF violated_constraint <> 'procrastinate_jobs_lock_idx_v1' THEN
                    RAISE;
                END IF;
                overtaken_ids := overtaken_ids || candidate.id;
                is_overtaken := true;
            END;
        END LOOP;
        IF flow.counts_starts THEN
            PERFORM procrastinate_diesel_count_starts_v1(flow, new_ids, due_at);
        END IF;
        IF flow.has_ready_keys THEN
            PERFORM procrastinate_diesel_start_keyed_jobs_v1(new_ids, due_at);
        END IF;
        started_ids := started_ids || new_ids;
        EXIT WHEN NOT is_overtaken;
        IF flow.is_controlled THEN
            flow := procrastinate_diesel_read_flow_v1(target_queue_names, wanted - cardinality(started_ids), due_at);
        END IF;
    END LOOP;
    RETURN started_ids;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_fetch_jobs_one_by_one_v1(
    bigint, varchar[], procrastinate_diesel_flow_v1, integer, timestamptz) IS
    'Starts the next jobs, each in a subtransaction. Passes over a job if another worker has '
    'started one with the same lock meanwhile, and searches again.';

CREATE FUNCTION procrastinate_diesel_fetch_and_start_v1(
        p_worker_id bigint, target_queue_names varchar[], flow procrastinate_diesel_flow_v1, wanted integer,
        due_at timestamptz)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    next record;
BEGIN
    -- Meanwhile another worker may have started a job with the same lock that was deferred before
    -- this one. The unique index on the locks of running jobs detects it. Jobs are started in the
    -- order of their locks, so that workers that wait for each other at this index never do so in a
    -- circle. The rows are locked in the subtransaction that changes them. If they were locked
    -- before it, each would need a multixact.
    BEGIN
        next := procrastinate_diesel_lock_next_jobs_v1(flow, wanted, '{}', NULL, due_at);
        IF cardinality(next.job_ids) > 0 THEN
            PERFORM procrastinate_diesel_start_jobs_v1(p_worker_id, next.job_ids);
            IF flow.counts_starts THEN
                PERFORM procrastinate_diesel_count_starts_v1(flow, next.job_ids, due_at);
            END IF;
            IF flow.has_ready_keys THEN
                PERFORM procrastinate_diesel_start_keyed_jobs_v1(next.job_ids, due_at);
            END IF;
        END IF;
        RETURN next.job_ids;
    EXCEPTION WHEN unique_violation THEN
        RETURN procrastinate_diesel_fetch_jobs_one_by_one_v1(p_worker_id, target_queue_names, flow, wanted, due_at);
    END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_fetch_and_start_v1(
    bigint, varchar[], procrastinate_diesel_flow_v1, integer, timestamptz) IS
    'Starts the next jobs that the flow allows, whether they are plain, scheduled or locked.';

CREATE FUNCTION procrastinate_diesel_fetch_controlled_jobs_v1(
        p_worker_id bigint, target_queue_names varchar[], flow procrastinate_diesel_flow_v1, wanted integer,
        due_at timestamptz)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    search CONSTANT procrastinate_diesel_flow_v1 :=
        CASE WHEN cardinality(flow.keyed_queues || flow.keyed_tasks) > 0
             THEN procrastinate_diesel_without_keys_v1(flow) ELSE flow END;
    started record;
    control text;
BEGIN
    IF flow.plainly_wanted > 0 THEN
        started := procrastinate_diesel_fetch_unlocked_jobs_v1(
            p_worker_id, search.queue_names, flow.plainly_wanted, due_at, false, true, search.blocked_queues,
            search.blocked_tasks, flow.has_deadlines);
        IF cardinality(started.started_ids) > 0 THEN
            IF flow.counts_starts THEN
                PERFORM procrastinate_diesel_count_starts_v1(flow, started.started_ids, due_at);
            END IF;
            -- Whether the next fetch may do without a count. It need not try if pending jobs are
            -- held back, or this fetch was alone.
            IF NOT flow.is_held_back AND NOT flow.has_deadlines AND 0 <> ALL (flow.queue_slots || flow.task_slots)
                AND cardinality(flow.keyed_queues || flow.keyed_tasks) = 0
                AND (flow.queue_names IS NULL) = (target_queue_names IS NULL)
            THEN
                control := set_config('procrastinate_diesel.flow_control', 'plain', false);
            END IF;
            RETURN started.started_ids;
        END IF;
    END IF;
    IF NOT flow.has_ready_keys AND NOT procrastinate_diesel_is_any_pending_v1(search.queue_names, due_at) THEN
        RETURN '{}';
    END IF;
    RETURN procrastinate_diesel_fetch_and_start_v1(p_worker_id, target_queue_names, flow, wanted, due_at);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_fetch_controlled_jobs_v1(
    bigint, varchar[], procrastinate_diesel_flow_v1, integer, timestamptz) IS
    'Like procrastinate_diesel_fetch_jobs_v1, if anything is paused or limited.';

CREATE FUNCTION procrastinate_diesel_fetch_uncounted_jobs_v1(
        p_worker_id bigint, target_queue_names varchar[], wanted integer, due_at timestamptz)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    taken CONSTANT record := procrastinate_diesel_take_slots_v1(target_queue_names, wanted, due_at);
    started record;
    each procrastinate_diesel_slot_v1;
    started_of_limit integer;
    held text;
BEGIN
    IF NOT taken.is_possible THEN
        RETURN '{}';
    END IF;
    started := procrastinate_diesel_fetch_unlocked_jobs_v1(
        p_worker_id, target_queue_names, wanted, due_at, false, true, taken.blocked_queues, taken.blocked_tasks);
    IF cardinality(started.started_ids) > 0 AND taken.slots IS NOT NULL THEN
        held := set_config('procrastinate_diesel.holds_limits', 'true', true);
        FOREACH each IN ARRAY taken.slots LOOP
            started_of_limit := cardinality(array_positions(
                CASE each.kind WHEN 'queue' THEN started.queue_names ELSE started.task_names END, each.name));
            IF started_of_limit > 0 THEN
                PERFORM procrastinate_diesel_use_slot_v1(each, started_of_limit, due_at);
            END IF;
        END LOOP;
    END IF;
    RETURN started.started_ids;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_fetch_uncounted_jobs_v1(bigint, varchar[], integer, timestamptz) IS
    'Starts the next jobs that are neither locked nor scheduled, for a worker of all queues or of '
    'one queue, as far as that is possible without a count.';

CREATE FUNCTION procrastinate_diesel_fetch_jobs_v1(
        p_worker_id bigint, target_queue_names varchar[], wanted integer, due_at timestamptz)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    started record;
    started_ids bigint[];
    heads record;
    flow procrastinate_diesel_flow_v1;
    -- What the former fetch of this session found. It saves a search that would start nothing.
    former_control CONSTANT text := coalesce(current_setting('procrastinate_diesel.flow_control', true), '');
    was_controlled CONSTANT boolean := former_control <> '';
    had_many CONSTANT boolean :=
        procrastinate_diesel_had_many_v1('locks') OR procrastinate_diesel_had_many_v1('due_jobs');
    control text;
    unexpired text;
BEGIN
    IF NOT was_controlled AND NOT had_many THEN
        -- If it finds any, no others can start.
        started := procrastinate_diesel_fetch_unlocked_jobs_v1(p_worker_id, target_queue_names, wanted, due_at);
        -- An idle worker is done here.
        IF cardinality(started.started_ids) > 0
            OR NOT procrastinate_diesel_is_any_pending_v1(target_queue_names, due_at) THEN
            RETURN started.started_ids;
        END IF;
    END IF;
    IF former_control = 'plain' AND coalesce(cardinality(target_queue_names), 1) = 1 THEN
        started_ids := procrastinate_diesel_fetch_uncounted_jobs_v1(
            p_worker_id, target_queue_names, wanted, due_at);
        IF cardinality(started_ids) > 0 THEN
            RETURN started_ids;
        END IF;
    END IF;
    IF was_controlled OR EXISTS (SELECT FROM procrastinate_diesel_flow_controls) THEN
        IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS each WHERE each.kind = 'deadline') THEN
            -- First, because these jobs release their locks.
            unexpired := procrastinate_diesel_expire_jobs_v1(due_at);
        END IF;
        flow := procrastinate_diesel_read_flow_v1(target_queue_names, wanted, due_at);
    ELSE
        flow := (
            false, false, target_queue_names, '{}', '{}', wanted, '{}', '{}', '{}', '{}', '{}', '{}', false, '{}', '{}',
            false, false, target_queue_names IS NULL);
    END IF;
    control := coalesce(
        unexpired,
        CASE WHEN flow.is_held_back THEN 'held back' WHEN flow.is_controlled THEN 'controlled' ELSE '' END);
    IF control <> former_control THEN
        control := set_config('procrastinate_diesel.flow_control', control, false);
    END IF;
    IF unexpired = 'many' THEN
        -- They may be in front of all others.
        RETURN '{}';
    ELSIF flow.is_controlled THEN
        RETURN procrastinate_diesel_fetch_controlled_jobs_v1(p_worker_id, target_queue_names, flow, wanted, due_at);
    ELSIF was_controlled THEN
        RETURN procrastinate_diesel_fetch_jobs_v1(p_worker_id, target_queue_names, wanted, due_at);
    END IF;
    IF NOT had_many AND coalesce(cardinality(target_queue_names), 1) = 1 THEN
        -- Plain jobs are also the only ones if there are very few locks and none of their jobs can
        -- start.
        heads := procrastinate_diesel_find_heads_by_lock_v1(flow, 5, 1, '{}', NULL, due_at);
        IF heads.is_complete AND cardinality(heads.job_ids) = 0 THEN
            started := procrastinate_diesel_fetch_unlocked_jobs_v1(
                p_worker_id, target_queue_names, wanted, due_at, ignores_locks => true);
            IF cardinality(started.started_ids) > 0 THEN
                RETURN started.started_ids;
            END IF;
        END IF;
    END IF;
    RETURN procrastinate_diesel_fetch_and_start_v1(p_worker_id, target_queue_names, flow, wanted, due_at);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_fetch_jobs_v1(bigint, varchar[], integer, timestamptz) IS
    'Starts the next jobs of the queues for a worker, of all queues if NULL, at most so many, and '
    'returns their IDs. It writes their events itself.';

CREATE FUNCTION procrastinate_diesel_ends_statement_v1(error_code text)
    RETURNS boolean
    LANGUAGE sql
    IMMUTABLE
AS $function$
    -- Connections, read-only transactions, rolled back transactions such as deadlocks, resources,
    -- locks that are not available, interventions of an operator, the system, and the server
    -- itself.
    SELECT left(error_code, 2) IN ('08', '25', '40', '53', '55', '57', '58', 'XX');
$function$;
COMMENT ON FUNCTION procrastinate_diesel_ends_statement_v1(text) IS
    'Whether an error, given by its SQLSTATE, is not about the job at hand, so that the whole '
    'statement fails. It may succeed when it is run again.';

CREATE FUNCTION procrastinate_diesel_try_fetch_jobs_v1(
        p_worker_id bigint, target_queue_names varchar[], wanted integer, due_at timestamptz,
        OUT started_ids bigint[], OUT problem text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    violated_constraint text;
BEGIN
    started_ids := procrastinate_diesel_fetch_jobs_v1(p_worker_id, target_queue_names, wanted, due_at);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
    -- A worker that is not registered must know.
    IF procrastinate_diesel_ends_statement_v1(SQLSTATE)
            OR violated_constraint = 'procrastinate_jobs_worker_id_fkey' THEN
        RAISE;
    END IF;
    problem := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_try_fetch_jobs_v1(bigint, varchar[], integer, timestamptz) IS
    'Like procrastinate_diesel_fetch_jobs_v1, in a subtransaction: if the database refuses to '
    'start a job, no job is started, and the error is returned.';

-- For clients of the contract. Also the one place, besides
-- procrastinate_diesel_finish_and_fetch_jobs_v1, that tells the planner how to fetch.
CREATE OR REPLACE FUNCTION procrastinate_fetch_job_v2(target_queue_names varchar[], p_worker_id bigint)
    RETURNS procrastinate_jobs
    LANGUAGE plpgsql
    SET jit = off SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
    SET enable_sort = off SET enable_incremental_sort = off
AS $function$
DECLARE
    started_ids bigint[];
    fetched procrastinate_jobs;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
BEGIN
    -- What procrastinate_diesel_fetch_unlocked_jobs_v1 does, for one job, in three quarters of the
    -- time.
    IF target_queue_names IS NULL THEN
        UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = p_worker_id
        WHERE job.id = (
            SELECT unlocked.id
            FROM procrastinate_jobs AS unlocked
            WHERE unlocked.status = 'todo' AND unlocked.lock IS NULL AND unlocked.scheduled_at IS NULL
              AND NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls)
              AND (SELECT locked.id
                   FROM procrastinate_jobs AS locked
                   WHERE locked.status = 'todo' AND locked.lock IS NOT NULL
                   ORDER BY locked.lock, locked.priority DESC, locked.id
                   LIMIT 1) IS NULL
              AND ((SELECT scheduled.scheduled_at
                    FROM procrastinate_jobs AS scheduled
                    WHERE scheduled.status = 'todo' AND scheduled.lock IS NULL AND scheduled.scheduled_at IS NOT NULL
                    ORDER BY scheduled.scheduled_at AT TIME ZONE 'UTC'
                    LIMIT 1) <= now()) IS NOT TRUE
            ORDER BY unlocked.priority DESC, unlocked.id
            LIMIT 1
            FOR UPDATE OF unlocked SKIP LOCKED)
        RETURNING job.* INTO fetched;
    ELSIF cardinality(target_queue_names) = 1 THEN
        UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = p_worker_id
        WHERE job.id = (
            SELECT unlocked.id
            FROM procrastinate_jobs AS unlocked
            WHERE unlocked.status = 'todo' AND unlocked.lock IS NULL AND unlocked.scheduled_at IS NULL
              AND unlocked.queue_name >= target_queue_names[1] AND unlocked.queue_name <= target_queue_names[1]
              AND NOT EXISTS (SELECT FROM procrastinate_diesel_flow_controls)
              AND (SELECT locked.id
                   FROM procrastinate_jobs AS locked
                   WHERE locked.status = 'todo' AND locked.lock IS NOT NULL
                     AND locked.queue_name >= target_queue_names[1] AND locked.queue_name <= target_queue_names[1]
                   ORDER BY locked.queue_name DESC, locked.priority, locked.id DESC
                   LIMIT 1) IS NULL
              AND ((SELECT scheduled.scheduled_at
                    FROM procrastinate_jobs AS scheduled
                    WHERE scheduled.status = 'todo' AND scheduled.lock IS NULL AND scheduled.scheduled_at IS NOT NULL
                      AND scheduled.queue_name >= target_queue_names[1]
                      AND scheduled.queue_name <= target_queue_names[1]
                    ORDER BY scheduled.queue_name, scheduled.scheduled_at
                    LIMIT 1) <= now()) IS NOT TRUE
            ORDER BY unlocked.queue_name, unlocked.priority DESC, unlocked.id
            LIMIT 1
            FOR UPDATE OF unlocked SKIP LOCKED)
        RETURNING job.* INTO fetched;
    END IF;
    IF fetched.id IS NOT NULL THEN
        INSERT INTO procrastinate_events (job_id, type) VALUES (fetched.id, 'started');
        depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
        RETURN fetched;
    END IF;

    started_ids := procrastinate_diesel_fetch_jobs_v1(p_worker_id, target_queue_names, 1, now());
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
    IF cardinality(started_ids) = 0 THEN
        RETURN NULL;
    END IF;
    SELECT * INTO fetched FROM procrastinate_jobs AS job WHERE job.id = started_ids[1];
    RETURN fetched;
END;
$function$;
COMMENT ON FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) IS
    'Fetches the next job of the queues for a worker, of all queues if NULL. Returns a row of '
    'NULLs if there is none.';
