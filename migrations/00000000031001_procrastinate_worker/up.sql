-- What is this crate's own for deferring and for workers: functions that handle many jobs in one statement, a table of
-- errors, and indexes and triggers to match. Of the contract nothing changes that a client could see. New names carry
-- "diesel" so that they can never meet a later name of Procrastinate's.
--
-- What is replaced is kept under a name with "diesel_kept" in it, and comes back when this migration is reverted.

---------------------------------------------------------------------------------------------------- indexes

-- Each job that waits is in one set of indexes: the jobs that are free to start, those that wait for their time, or those
-- with a lock. So what waits for tomorrow, or behind a lock, is never passed on the way to a job that can start. And no
-- index but those that the contract demands has entries of jobs that have ended, or needs one when a plain job is started
-- or ends.

DROP INDEX procrastinate_jobs_priority_idx_v1;
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON procrastinate_jobs (priority DESC, id)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL;
DROP INDEX procrastinate_jobs_queue_name_idx_v1;
CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL;

CREATE INDEX procrastinate_diesel_jobs_scheduled_idx_v1 ON procrastinate_jobs (queue_name, scheduled_at)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL;
-- Whether any of them is due, whatever its queue. By an expression that nothing else orders by: to a planner that looks for
-- the first of one queue, an index on the time alone would seem as good as the one above.
CREATE INDEX procrastinate_diesel_jobs_due_idx_v1 ON procrastinate_jobs ((scheduled_at AT TIME ZONE 'UTC'))
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL;
-- For when very many of them are due.
CREATE INDEX procrastinate_diesel_jobs_scheduled_order_idx_v1 ON procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL;

-- The first waiting job of a lock is found by one look-up, however many wait behind it.
CREATE INDEX procrastinate_diesel_jobs_lock_order_idx_v1 ON procrastinate_jobs (lock, priority DESC, id)
    WHERE status = 'todo' AND lock IS NOT NULL;
CREATE INDEX procrastinate_diesel_jobs_locked_idx_v1 ON procrastinate_jobs (queue_name, priority DESC, id)
    WHERE status = 'todo' AND lock IS NOT NULL;
DROP INDEX procrastinate_jobs_id_lock_idx_v1;
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON procrastinate_jobs (id, lock)
    WHERE status IN ('todo', 'doing') AND lock IS NOT NULL;

-- For the foreign key, too: without it, removing a worker reads the whole table.
DROP INDEX idx_procrastinate_jobs_worker_not_null;
CREATE INDEX idx_procrastinate_jobs_worker_not_null ON procrastinate_jobs (worker_id, status) WHERE worker_id IS NOT NULL;

-- Jobs whose worker was removed. A job never passes through this index while its worker lives.
CREATE INDEX procrastinate_diesel_jobs_without_worker_idx_v1 ON procrastinate_jobs (id)
    WHERE status = 'doing' AND worker_id IS NULL;

--------------------------------------------------------------------------------------------------- triggers

-- The functions below that handle many jobs at once write the events of all of them in one statement, and send one
-- notification for each queue. They say so by a setting of their own, for which the triggers of single rows stand back.
-- What other triggers do meanwhile, an application's own for instance, is no part of it.

ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1;
ALTER TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs
    RENAME TO procrastinate_diesel_kept_notify_queue_job_inserted_v1;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.status = 'todo'
        AND (current_setting('procrastinate_diesel.events', true) IS DISTINCT FROM 'batched' OR pg_trigger_depth() > 0))
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();

ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_status_events_insert_v1;
ALTER TRIGGER procrastinate_trigger_status_events_insert_v1 ON procrastinate_jobs
    RENAME TO procrastinate_diesel_kept_status_events_insert_v1;
CREATE TRIGGER procrastinate_trigger_status_events_insert_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.status = 'todo'
        AND (current_setting('procrastinate_diesel.events', true) IS DISTINCT FROM 'batched' OR pg_trigger_depth() > 0))
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_insert_v1();

ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_scheduled_events_v1;
ALTER TRIGGER procrastinate_trigger_scheduled_events_v1 ON procrastinate_jobs
    RENAME TO procrastinate_diesel_kept_scheduled_events_v1;
-- Here the function looks whether it is to stand back: it is rarely called, while each statement that changes jobs, be it
-- Python's, has to read the whole condition of a trigger before it does anything.
ALTER FUNCTION procrastinate_trigger_function_scheduled_events_v1() RENAME TO procrastinate_diesel_kept_scheduled_events_v1;
CREATE FUNCTION procrastinate_trigger_function_scheduled_events_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF current_setting('procrastinate_diesel.events', true) IS DISTINCT FROM 'batched' OR pg_trigger_depth() > 1 THEN
        INSERT INTO procrastinate_events (job_id, type, at) VALUES (NEW.id, 'scheduled', NEW.scheduled_at);
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_scheduled_events_v1() IS
    'Writes the event of a waiting job that is scheduled, dated with the time it is scheduled for, except for functions that write the events of many jobs themselves.';
CREATE TRIGGER procrastinate_trigger_scheduled_events_v1
    AFTER INSERT OR UPDATE ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.scheduled_at IS NOT NULL AND NEW.status = 'todo')
    EXECUTE FUNCTION procrastinate_trigger_function_scheduled_events_v1();

ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_status_events_update_v1;
ALTER TRIGGER procrastinate_trigger_status_events_update_v1 ON procrastinate_jobs
    RENAME TO procrastinate_diesel_kept_status_events_update_v1;
CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status
        AND (current_setting('procrastinate_diesel.events', true) IS DISTINCT FROM 'batched' OR pg_trigger_depth() > 0))
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_update_v1();

---------------------------------------------------------------------------------------------------- errors

CREATE TABLE procrastinate_diesel_job_errors (
    job_id bigint NOT NULL REFERENCES procrastinate_jobs (id) ON DELETE CASCADE,
    attempt integer NOT NULL,
    error text NOT NULL,
    worker_id bigint,
    worker_name text,
    duration_seconds double precision,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, attempt));
COMMENT ON TABLE procrastinate_diesel_job_errors IS 'Why attempts at jobs failed: a row for each attempt that ended with an error.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.job_id IS 'The job.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.attempt IS 'Which attempt it was: 1 for the first.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.error IS 'The error with all its sources, or the message of the panic and its place.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.worker_id IS 'The worker that ran the job; NULL when it is not known any more.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.duration_seconds IS 'How long the attempt took; NULL when its worker died.';

CREATE FUNCTION procrastinate_diesel_announce_jobs_v1(job_ids bigint[], queue_names varchar[])
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- Listeners take a message for a reason to look at the table, so one for each queue is enough.
    PERFORM CASE WHEN octet_length(message.channel) <= 63 THEN pg_notify(message.channel, message.content) END,
            pg_notify('procrastinate_any_queue_v1', message.content)
    FROM (
        SELECT 'procrastinate_queue_v1#' || job.queue_name AS channel,
               json_build_object('type', 'job_inserted', 'job_id', min(job.id))::text AS content
        FROM unnest(job_ids, queue_names) AS job (id, queue_name)
        GROUP BY job.queue_name
        ORDER BY min(job.id)) AS message;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_announce_jobs_v1(bigint[], varchar[]) IS
    'Notifies whoever listens of new jobs, given with their queues as parallel arrays: one message for each queue.';

CREATE FUNCTION procrastinate_diesel_store_job_v1(
        p_queue_name varchar, p_task_name varchar, p_priority integer, p_lock text, p_queueing_lock text, arguments jsonb,
        p_scheduled_at timestamptz)
    RETURNS bigint
    LANGUAGE plpgsql
    SET procrastinate_diesel.events = 'batched'
AS $function$
DECLARE
    new_id bigint;
BEGIN
    WITH inserted AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        VALUES (p_queue_name, p_task_name, p_priority, p_lock, p_queueing_lock, arguments, p_scheduled_at)
        ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
        RETURNING id, scheduled_at),
    events AS (
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT inserted.id, event.type, event.at
        FROM inserted CROSS JOIN LATERAL (VALUES
            ('scheduled'::procrastinate_job_event_type, inserted.scheduled_at),
            ('deferred'::procrastinate_job_event_type, now())) AS event (type, at)
        WHERE event.at IS NOT NULL)
    SELECT inserted.id INTO new_id FROM inserted;
    RETURN new_id;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_store_job_v1(varchar, varchar, integer, text, text, jsonb, timestamptz) IS
    'Inserts a job and notifies nobody: whoever calls this announces the job when it is committed. NULL when its queueing lock is taken.';

CREATE FUNCTION procrastinate_diesel_defer_jobs_v1(
        queue_names varchar[], task_names varchar[], priorities integer[], locks text[], queueing_locks text[],
        arguments jsonb[], scheduled_ats timestamptz[])
    RETURNS TABLE (job_id bigint, taken_queueing_lock text)
    LANGUAGE plpgsql
    SET procrastinate_diesel.events = 'batched'
AS $function$
DECLARE
    new_ids bigint[];
    new_queues varchar[];
    violated_constraint text;
    violation text;
BEGIN
    -- The block with a handler is a subtransaction: it is what lets the caller's transaction live on after a violation.
    BEGIN
        WITH inserted AS (
            INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
            SELECT job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args, job.scheduled_at
            FROM unnest(queue_names, task_names, priorities, locks, queueing_locks, arguments, scheduled_ats)
                WITH ORDINALITY
                AS job (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at, position)
            ORDER BY job.position
            RETURNING id, queue_name, scheduled_at),
        events AS (
            INSERT INTO procrastinate_events (job_id, type, at)
            SELECT inserted.id, event.type, event.at
            FROM inserted CROSS JOIN LATERAL (VALUES
                ('scheduled'::procrastinate_job_event_type, inserted.scheduled_at),
                ('deferred'::procrastinate_job_event_type, now())) AS event (type, at)
            WHERE event.at IS NOT NULL)
        -- Numbers are drawn in the order of insertion, so their order is the order of the input.
        SELECT array_agg(inserted.id ORDER BY inserted.id), array_agg(inserted.queue_name ORDER BY inserted.id)
        INTO new_ids, new_queues
        FROM inserted;
    EXCEPTION WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME, violation = PG_EXCEPTION_DETAIL;
        IF violated_constraint <> 'procrastinate_jobs_queueing_lock_idx_v1' THEN
            RAISE;
        END IF;
        -- The words of the detail depend on the server's language, this part of it does not.
        RETURN QUERY SELECT NULL::bigint, coalesce(substring(violation FROM '\(queueing_lock\)=\((.*)\)'), '');
        RETURN;
    END;

    PERFORM procrastinate_diesel_announce_jobs_v1(new_ids, new_queues);
    RETURN QUERY SELECT job.id, NULL::text FROM unnest(new_ids) AS job (id);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_jobs_v1(varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[]) IS
    'Inserts jobs given as parallel arrays, all or none, and returns their ids in the order of the input. When a queueing lock is taken, by a waiting job or twice in the input: one row that names it, and the caller''s transaction lives on.';

CREATE FUNCTION procrastinate_diesel_put_back_job_v1(
        p_job_id bigint, p_worker_id bigint, p_attempts integer, retry_at timestamptz, new_priority integer,
        new_queue_name varchar, new_lock text, counts boolean)
    RETURNS procrastinate_job_status
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    -- One job at a time, whoever calls this: its events are for the triggers.
    SET procrastinate_diesel.events = 'single'
AS $function$
DECLARE
    -- Not written out in the conditions: the planner would take the indexes on running jobs for a way to find one by its id.
    doing CONSTANT procrastinate_job_status := 'doing';
    became procrastinate_job_status;
    violated_constraint text;
BEGIN
    -- As procrastinate_retry_job_v2, where an abort that was requested wins.
    UPDATE procrastinate_jobs AS job
    SET status = CASE WHEN job.abort_requested THEN 'failed' ELSE 'todo' END::procrastinate_job_status,
        attempts = CASE WHEN job.abort_requested OR NOT counts THEN job.attempts ELSE job.attempts + 1 END,
        scheduled_at = CASE WHEN job.abort_requested THEN job.scheduled_at ELSE coalesce(retry_at, now()) END,
        priority = CASE WHEN job.abort_requested THEN job.priority ELSE coalesce(new_priority, job.priority) END,
        queue_name = CASE WHEN job.abort_requested THEN job.queue_name ELSE coalesce(new_queue_name, job.queue_name) END,
        lock = CASE WHEN job.abort_requested THEN job.lock ELSE coalesce(new_lock, job.lock) END
    WHERE job.id = p_job_id AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id
      AND (p_attempts IS NULL OR job.attempts = p_attempts)
    RETURNING job.status INTO became;
    RETURN became;
EXCEPTION WHEN unique_violation THEN
    GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
    IF violated_constraint <> 'procrastinate_jobs_queueing_lock_idx_v1' THEN
        RAISE;
    END IF;
    -- Its queueing lock is held by one that waits, and it cannot wait beside that one.
    UPDATE procrastinate_jobs AS job
    SET status = 'failed', abort_requested = false, attempts = job.attempts + 1
    WHERE job.id = p_job_id AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id
      AND (p_attempts IS NULL OR job.attempts = p_attempts)
    RETURNING job.status INTO became;
    RETURN became;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_put_back_job_v1(bigint, bigint, integer, timestamptz, integer, varchar, text, boolean) IS
    'Lets a job that this worker is doing (NULL: that lost its worker), after so many attempts (NULL: whichever), wait for another one. Answers with what became of it: todo, or failed when its abort was requested or its queueing lock is taken; NULL when it is not this worker''s. Unless "counts" the attempt that ended does not count.';

CREATE FUNCTION procrastinate_diesel_start_free_jobs_v1(p_worker_id bigint, target_queue_names varchar[], wanted integer)
    RETURNS SETOF procrastinate_jobs
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- In each of the two, what might go before others is looked for once, along the index that has the order which is asked
    -- for.
    IF target_queue_names IS NULL THEN
        RETURN QUERY
            UPDATE procrastinate_jobs AS job
            SET status = 'doing', worker_id = p_worker_id
            WHERE job.id = ANY (ARRAY(
                SELECT free.id
                FROM procrastinate_jobs AS free
                WHERE free.status = 'todo' AND free.lock IS NULL AND free.scheduled_at IS NULL
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
                ORDER BY free.priority DESC, free.id
                LIMIT wanted
                FOR UPDATE OF free SKIP LOCKED))
            RETURNING job.*;
    ELSIF cardinality(target_queue_names) = 1 THEN
        RETURN QUERY
            UPDATE procrastinate_jobs AS job
            SET status = 'doing', worker_id = p_worker_id
            WHERE job.id = ANY (ARRAY(
                SELECT free.id
                FROM procrastinate_jobs AS free
                WHERE free.status = 'todo' AND free.lock IS NULL AND free.scheduled_at IS NULL
                  -- Not "=": that would make the order of the index over all queues as good, and its jobs would be passed by.
                  AND free.queue_name >= target_queue_names[1] AND free.queue_name <= target_queue_names[1]
                  AND (SELECT locked.id
                       FROM procrastinate_jobs AS locked
                       WHERE locked.status = 'todo' AND locked.lock IS NOT NULL
                         AND locked.queue_name >= target_queue_names[1] AND locked.queue_name <= target_queue_names[1]
                       ORDER BY locked.queue_name, locked.priority DESC, locked.id
                       LIMIT 1) IS NULL
                  AND ((SELECT scheduled.scheduled_at
                        FROM procrastinate_jobs AS scheduled
                        WHERE scheduled.status = 'todo' AND scheduled.lock IS NULL AND scheduled.scheduled_at IS NOT NULL
                          AND scheduled.queue_name >= target_queue_names[1]
                          AND scheduled.queue_name <= target_queue_names[1]
                        ORDER BY scheduled.queue_name, scheduled.scheduled_at
                        LIMIT 1) <= now()) IS NOT TRUE
                ORDER BY free.queue_name, free.priority DESC, free.id
                LIMIT wanted
                FOR UPDATE OF free SKIP LOCKED))
            RETURNING job.*;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_start_free_jobs_v1(bigint, varchar[], integer) IS
    'Starts the next jobs that are neither locked nor scheduled, at most so many, for a worker of all queues or of one, and answers with them. Starts none where a job with a lock waits or a scheduled one is due, since these may go first: then, and for several queues, procrastinate_diesel_hold_next_jobs_v1 knows. For use in functions that set what the planner may do.';

CREATE FUNCTION procrastinate_diesel_hold_next_jobs_v1(
        target_queue_names varchar[], wanted integer, passed_over bigint[], last_lock text)
    RETURNS TABLE (job_id bigint, job_lock text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    -- Not written out in a condition beside an id: the planner would take an index on all that waits for a way to find it.
    todo CONSTANT procrastinate_job_status := 'todo';
    missing integer := wanted;
    -- How many of each kind to look at in one go: some may be held by others, who are fetching too.
    most CONSTANT integer := least(wanted, 100000) + 10;
    tried bigint[] := coalesce(passed_over, '{}');
    is_any_scheduled boolean;
    is_any_locked boolean;
    has_more boolean;
    candidates bigint[];
    locks text[];
    found bigint[];
    found_locks text[];
    queues varchar[];
    is_full boolean;
    looked_at integer;
BEGIN
    SELECT EXISTS (
                SELECT FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL),
           EXISTS (
                SELECT FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND job.lock IS NOT NULL)
    INTO is_any_scheduled, is_any_locked;

    WHILE missing > 0 LOOP
        -- The first of those that are free to start.
        IF target_queue_names IS NULL THEN
            SELECT coalesce(array_agg(free.id), '{}') INTO candidates
            FROM (
                SELECT job.id FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL AND job.id <> ALL (tried)
                ORDER BY job.priority DESC, job.id
                LIMIT most) AS free;
        ELSE
            SELECT coalesce(array_agg(free.id), '{}') INTO candidates
            FROM (SELECT DISTINCT unnest(target_queue_names)) AS queue (name)
            CROSS JOIN LATERAL (
                SELECT job.id FROM procrastinate_jobs AS job
                WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL AND job.id <> ALL (tried)
                  AND job.queue_name >= queue.name AND job.queue_name <= queue.name
                ORDER BY job.queue_name, job.priority DESC, job.id
                LIMIT most) AS free;
        END IF;
        has_more := cardinality(candidates) >= most;
        locks := array_fill(NULL::text, ARRAY[cardinality(candidates)]);

        -- The first of those whose time has come. Where they are few, all of them are looked at, else those of their
        -- queue in their order: then most of them are due.
        IF is_any_scheduled THEN
            WITH RECURSIVE scheduled_queue (name) AS (
                (SELECT job.queue_name FROM procrastinate_jobs AS job
                 WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                   AND target_queue_names IS NULL
                 ORDER BY job.queue_name
                 LIMIT 1)
              UNION ALL
                SELECT (SELECT job.queue_name FROM procrastinate_jobs AS job
                        WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                          AND job.queue_name > previous.name
                        ORDER BY job.queue_name
                        LIMIT 1)
                FROM scheduled_queue AS previous
                WHERE previous.name IS NOT NULL)
            SELECT coalesce(array_agg(due.id), '{}') INTO found
            FROM (SELECT name FROM scheduled_queue WHERE name IS NOT NULL
                  UNION SELECT unnest(target_queue_names)) AS queue (name)
            CROSS JOIN LATERAL (
                SELECT count(*) >= 1000 AS are_many
                FROM (SELECT FROM procrastinate_jobs AS job
                      WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                        AND job.queue_name = queue.name AND job.scheduled_at <= now()
                      ORDER BY job.scheduled_at
                      LIMIT 1000) AS counted) AS due_jobs
            CROSS JOIN LATERAL (
                (SELECT few.id
                 FROM (SELECT job.id, job.priority FROM procrastinate_jobs AS job
                       WHERE NOT due_jobs.are_many
                         AND job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                         AND job.queue_name = queue.name AND job.scheduled_at <= now() AND job.id <> ALL (tried)
                       ORDER BY job.scheduled_at
                       LIMIT 1000) AS few
                 ORDER BY few.priority DESC, few.id
                 LIMIT most)
              UNION ALL
                (SELECT job.id FROM procrastinate_jobs AS job
                 WHERE due_jobs.are_many
                   AND job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
                   AND job.queue_name = queue.name AND job.scheduled_at <= now() AND job.id <> ALL (tried)
                 ORDER BY job.priority DESC, job.id
                 LIMIT most)) AS due;
            has_more := has_more OR cardinality(found) >= most;
            candidates := candidates || found;
            locks := locks || array_fill(NULL::text, ARRAY[cardinality(found)]);
        END IF;

        -- Of each lock the first job that waits may start, if none of that lock runs and its time has come. Most often it
        -- is among the first that wait in its queue.
        IF is_any_locked THEN
            WITH RECURSIVE locked_queue (name) AS (
                (SELECT job.queue_name FROM procrastinate_jobs AS job
                 WHERE job.status = 'todo' AND job.lock IS NOT NULL AND target_queue_names IS NULL
                 ORDER BY job.queue_name
                 LIMIT 1)
              UNION ALL
                SELECT (SELECT job.queue_name FROM procrastinate_jobs AS job
                        WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name > previous.name
                        ORDER BY job.queue_name
                        LIMIT 1)
                FROM locked_queue AS previous
                WHERE previous.name IS NOT NULL)
            SELECT array_agg(queue.name) INTO queues
            FROM (SELECT name FROM locked_queue WHERE name IS NOT NULL
                  UNION SELECT unnest(target_queue_names)) AS queue (name);

            SELECT coalesce(bool_or(head.is_full), false),
                   coalesce(array_agg(head.id) FILTER (WHERE head.may_start), '{}'),
                   coalesce(array_agg(head.lock) FILTER (WHERE head.may_start), '{}')
            INTO is_full, found, found_locks
            FROM (
                SELECT near.id, near.lock, near.is_full,
                       near.is_nearest AND near.id <> ALL (tried)
                       AND (last_lock IS NULL OR near.lock > last_lock)
                       AND (near.scheduled_at IS NULL OR near.scheduled_at <= now())
                       AND NOT EXISTS (
                            SELECT FROM procrastinate_jobs AS holder
                            WHERE holder.lock = near.lock AND holder.status = 'doing')
                       AND near.id = (
                            SELECT first.id FROM procrastinate_jobs AS first
                            WHERE first.lock = near.lock AND first.status = 'todo'
                            ORDER BY first.priority DESC, first.id
                            LIMIT 1) AS may_start
                FROM (
                    SELECT job.id, job.lock, job.scheduled_at,
                           count(*) OVER (PARTITION BY queue.name) >= 2 * most AS is_full,
                           -- Of the others of its lock none can be the first.
                           row_number() OVER (PARTITION BY job.lock ORDER BY job.priority DESC, job.id) = 1 AS is_nearest
                    FROM unnest(queues) AS queue (name)
                    CROSS JOIN LATERAL (
                        SELECT waiting.id, waiting.lock, waiting.scheduled_at, waiting.priority
                        FROM procrastinate_jobs AS waiting
                        WHERE waiting.status = 'todo' AND waiting.lock IS NOT NULL AND waiting.queue_name = queue.name
                        ORDER BY waiting.priority DESC, waiting.id
                        LIMIT 2 * most) AS job) AS near) AS head;
            -- If they all wait behind a few others, look at one of each lock,
            IF is_full AND cardinality(found) < missing THEN
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
                    SELECT name FROM some_lock WHERE name IS NOT NULL LIMIT 501),
                head AS (
                    SELECT first.id, each_lock.name AS lock, first.priority
                    FROM each_lock
                    CROSS JOIN LATERAL (
                        SELECT job.id, job.priority, job.scheduled_at, job.queue_name FROM procrastinate_jobs AS job
                        WHERE job.status = 'todo' AND job.lock = each_lock.name
                        ORDER BY job.priority DESC, job.id
                        LIMIT 1) AS first
                    WHERE first.id <> ALL (tried)
                      AND (last_lock IS NULL OR each_lock.name > last_lock)
                      AND (first.scheduled_at IS NULL OR first.scheduled_at <= now())
                      AND (target_queue_names IS NULL OR first.queue_name = ANY (target_queue_names))
                      AND NOT EXISTS (
                            SELECT FROM procrastinate_jobs AS holder
                            WHERE holder.lock = each_lock.name AND holder.status = 'doing')
                    ORDER BY first.priority DESC, first.id
                    LIMIT most)
                SELECT (SELECT count(*) FROM each_lock), coalesce(array_agg(head.id), '{}'), coalesce(array_agg(head.lock), '{}')
                INTO looked_at, found, found_locks
                FROM head;
                -- or, where there are many locks too, at all of them until there are enough.
                IF looked_at > 500 THEN
                    SELECT coalesce(array_agg(head.id), '{}'), coalesce(array_agg(head.lock), '{}') INTO found, found_locks
                    FROM unnest(queues) AS queue (name)
                    CROSS JOIN LATERAL (
                        SELECT job.id, job.lock FROM procrastinate_jobs AS job
                        WHERE job.status = 'todo' AND job.lock IS NOT NULL AND job.queue_name = queue.name
                          AND job.id <> ALL (tried)
                          AND (last_lock IS NULL OR job.lock > last_lock)
                          AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
                          AND NOT EXISTS (
                                SELECT FROM procrastinate_jobs AS holder
                                WHERE holder.lock = job.lock AND holder.status = 'doing')
                          AND job.id = (
                                SELECT first.id FROM procrastinate_jobs AS first
                                WHERE first.lock = job.lock AND first.status = 'todo'
                                ORDER BY first.priority DESC, first.id
                                LIMIT 1)
                        ORDER BY job.priority DESC, job.id
                        LIMIT most) AS head;
                END IF;
            END IF;
            has_more := has_more OR cardinality(found) >= missing;
            candidates := candidates || found;
            locks := locks || found_locks;
        END IF;

        -- Hold the first of all these. Whatever somebody else has changed meanwhile is looked at again.
        SELECT coalesce(array_agg(held.id), '{}'), coalesce(array_agg(held.lock), '{}') INTO found, found_locks
        FROM (
            SELECT job.id, job.lock
            FROM procrastinate_jobs AS job
            WHERE job.id = ANY (candidates) AND job.status = todo
              AND CASE
                    WHEN is_any_locked THEN job.lock IS NOT DISTINCT FROM locks[array_position(candidates, job.id)]
                    ELSE job.lock IS NULL
                END
              AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
              AND (target_queue_names IS NULL OR job.queue_name = ANY (target_queue_names))
            ORDER BY job.priority DESC, job.id
            LIMIT missing
            FOR UPDATE OF job SKIP LOCKED) AS held;
        RETURN QUERY SELECT held.id, held.lock FROM unnest(found, found_locks) AS held (id, lock);
        missing := missing - cardinality(found);
        EXIT WHEN NOT has_more;
        tried := tried || candidates;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_hold_next_jobs_v1(varchar[], integer, bigint[], text) IS
    'Locks the rows of the next jobs that may be started, at most so many and not those that are passed over, and answers with their ids and locks. With "last_lock" only those with a later lock, or none. For use in functions that set what the planner may do.';

CREATE FUNCTION procrastinate_diesel_finish_and_fetch_jobs_v1(
        p_worker_id bigint, finished_job_ids bigint[], end_statuses procrastinate_job_status[],
        target_queue_names varchar[], free_slots integer, retries jsonb DEFAULT NULL,
        deleted_job_ids bigint[] DEFAULT NULL, errors jsonb DEFAULT NULL)
    RETURNS TABLE (
        lost boolean, id bigint, queue_name varchar, task_name varchar, priority integer, lock text, queueing_lock text,
        args jsonb, scheduled_at timestamptz, attempts integer, abort_requested boolean, worker_id bigint,
        became procrastinate_job_status)
    LANGUAGE plpgsql
    -- Every statement in here is a walk along an index with a handful of rows at its end. These settings keep the
    -- planner to that whatever the statistics say, also for a plan that was kept since the tables were empty. What they
    -- forbid is priced, not impossible: such prices would have a plan compiled, or made anew for each call.
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_sort = off
    SET enable_incremental_sort = off
    -- A row that somebody holds on to for long must not hold up everything else that is asked for here.
    SET lock_timeout = '5s'
    SET procrastinate_diesel.events = 'batched'
AS $function$
#variable_conflict use_column
DECLARE
    -- Not written out in the conditions beside an id: the planner would take the indexes on running jobs for a way to find
    -- one. For the same reason workers are compared in a way that no index serves.
    doing CONSTANT procrastinate_job_status := 'doing';
    missing integer := free_slots;
    free_ids bigint[];
    locked_ids bigint[];
    candidate_id bigint;
    taken_ids bigint[] := '{}';
    overtaken_ids bigint[] := '{}';
    is_overtaken boolean;
    last_lock text;
    violated_constraint text;
    retry record;
    is_lost boolean := false;
    have_all_succeeded boolean;
    ended integer;
BEGIN
    -- What went wrong, beside the jobs. First, because here it still shows which jobs are this worker's; they are locked,
    -- so that they stay so. An attempt that is there already was stored by a call whose answer got lost on the way.
    IF errors IS NOT NULL THEN
        INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, worker_id, worker_name, duration_seconds)
        SELECT job.id, job.attempts + 1, failure.error, p_worker_id, failure.worker_name, failure.duration_seconds
        FROM jsonb_to_recordset(errors)
            AS failure (job_id bigint, attempts integer, error text, worker_name text, duration_seconds double precision)
        CROSS JOIN LATERAL (
            SELECT held.id, held.attempts
            FROM procrastinate_jobs AS held
            WHERE held.id = failure.job_id AND held.status = doing AND held.worker_id IS NOT DISTINCT FROM p_worker_id
              AND (failure.attempts IS NULL OR held.attempts = failure.attempts)
            FOR UPDATE) AS job
        ON CONFLICT DO NOTHING;
        -- Of a job that is tried again for ever, the last hundred are kept.
        DELETE FROM procrastinate_diesel_job_errors AS old
        USING jsonb_to_recordset(errors) AS failure (job_id bigint, attempts integer)
        WHERE failure.attempts >= 100 AND old.job_id = failure.job_id AND old.attempt <= failure.attempts - 99;
    END IF;

    -- Finish: only jobs that are still doing and still this worker's. A job that already stands as it should was finished by
    -- an earlier call whose answer got lost on the way.
    IF cardinality(finished_job_ids) > 0 THEN
        IF NOT end_statuses <@ ARRAY['succeeded', 'failed', 'aborted']::procrastinate_job_status[] THEN
            RAISE EXCEPTION 'End status should be either "succeeded", "failed" or "aborted" (job ids: %)', finished_job_ids;
        END IF;
        -- Looking for the status of each takes the longer the more there are.
        have_all_succeeded :=
            'succeeded' = ALL (end_statuses) AND cardinality(end_statuses) = cardinality(finished_job_ids);
        WITH finished AS (
            UPDATE procrastinate_jobs AS job
            SET status = CASE
                    WHEN have_all_succeeded THEN 'succeeded'
                    ELSE end_statuses[array_position(finished_job_ids, job.id)]
                END,
                abort_requested = false,
                attempts = job.attempts + 1,
                -- A worker that stops lets go of its jobs: it must not have to look through all that it ever did.
                worker_id = NULL
            WHERE job.id = ANY (finished_job_ids) AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id
            RETURNING job.id, job.status)
        INSERT INTO procrastinate_events (job_id, type)
        SELECT finished.id, finished.status::text::procrastinate_job_event_type FROM finished;
        GET DIAGNOSTICS ended = ROW_COUNT;
        IF ended < cardinality(finished_job_ids) THEN
            RETURN QUERY
                SELECT true, ending.id, NULL::varchar, NULL::varchar, NULL::integer, NULL::text, NULL::text, NULL::jsonb,
                       NULL::timestamptz, NULL::integer, NULL::boolean, NULL::bigint, NULL::procrastinate_job_status
                FROM unnest(finished_job_ids, end_statuses) AS ending (id, status)
                WHERE NOT EXISTS (
                        SELECT FROM procrastinate_jobs AS job
                        WHERE job.id = ending.id AND job.status = ending.status
                          AND (job.worker_id IS NULL OR job.worker_id = p_worker_id));
            is_lost := FOUND;
        END IF;
    END IF;

    -- Finish and delete: the same jobs only. One that is not there any more was deleted by an earlier call, or by hand.
    IF cardinality(deleted_job_ids) > 0 THEN
        DELETE FROM procrastinate_jobs AS job
        WHERE job.id = ANY (deleted_job_ids) AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id;
        GET DIAGNOSTICS ended = ROW_COUNT;
        IF ended < cardinality(deleted_job_ids) THEN
            RETURN QUERY
                SELECT true, job.id, NULL::varchar, NULL::varchar, NULL::integer, NULL::text, NULL::text, NULL::jsonb,
                       NULL::timestamptz, NULL::integer, NULL::boolean, NULL::bigint, NULL::procrastinate_job_status
                FROM procrastinate_jobs AS job
                WHERE job.id = ANY (deleted_job_ids);
            is_lost := is_lost OR FOUND;
        END IF;
    END IF;

    -- Retry: only jobs that are still doing and still this worker's, and in the attempt that has ended: the worker may have
    -- been handed the next one already, in an answer that got lost on the way.
    IF retries IS NOT NULL THEN
        FOR retry IN
            SELECT * FROM jsonb_to_recordset(retries)
                AS retry (job_id bigint, attempts integer, retry_at timestamptz, priority integer, queue_name varchar,
                    lock text, counts boolean)
            ORDER BY job_id
        LOOP
            became := procrastinate_diesel_put_back_job_v1(
                retry.job_id, p_worker_id, retry.attempts, retry.retry_at, retry.priority, retry.queue_name, retry.lock,
                coalesce(retry.counts, true));
            IF became = 'failed' THEN
                lost := false;
                id := retry.job_id;
                RETURN NEXT;
            -- One that is not doing, or that this worker is doing in a later attempt, was retried by an earlier call whose
            -- answer got lost, or ended by hand.
            ELSIF became IS NULL AND EXISTS (
                    SELECT FROM procrastinate_jobs AS job
                    WHERE job.id = retry.job_id AND job.status = doing
                      AND (job.worker_id IS DISTINCT FROM p_worker_id OR job.attempts <= retry.attempts)) THEN
                lost := true;
                id := retry.job_id;
                is_lost := true;
                RETURN NEXT;
            END IF;
        END LOOP;
    END IF;

    -- A worker that was taken for dead has lost nothing yet: it registers again, and has back what nobody has taken.
    IF is_lost AND NOT EXISTS (SELECT FROM procrastinate_workers AS worker WHERE worker.id = p_worker_id) THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('Worker %s is not registered', p_worker_id),
            TABLE = 'procrastinate_jobs',
            CONSTRAINT = 'procrastinate_jobs_worker_id_fkey';
    END IF;

    -- Fetch: as procrastinate_fetch_job_v2, for as many jobs as there are free slots. Most often they are neither locked nor
    -- scheduled.
    IF missing > 0 THEN
        RETURN QUERY
            WITH started AS MATERIALIZED (
                SELECT * FROM procrastinate_diesel_start_free_jobs_v1(p_worker_id, target_queue_names, missing)),
            events AS (
                INSERT INTO procrastinate_events (job_id, type) SELECT started.id, 'started' FROM started)
            SELECT false, job.id, job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args,
                CASE WHEN isfinite(job.scheduled_at) THEN job.scheduled_at END, job.attempts, job.abort_requested,
                job.worker_id, NULL::procrastinate_job_status
            FROM started AS job;
        -- That there are any says that no others could start; that there are none says nothing.
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    WHILE missing > 0 LOOP
        SELECT coalesce(array_agg(next.job_id) FILTER (WHERE next.job_lock IS NULL), '{}'),
               coalesce(array_agg(next.job_id ORDER BY next.job_lock) FILTER (WHERE next.job_lock IS NOT NULL), '{}')
        INTO free_ids, locked_ids
        -- A second look keeps to the order of the locks.
        FROM procrastinate_diesel_hold_next_jobs_v1(target_queue_names, missing, overtaken_ids, last_lock) AS next;

        IF cardinality(free_ids) > 0 THEN
            RETURN QUERY
                WITH started AS (
                    UPDATE procrastinate_jobs AS job
                    SET status = 'doing', worker_id = p_worker_id
                    WHERE job.id = ANY (free_ids)
                    RETURNING job.*),
                events AS (
                    INSERT INTO procrastinate_events (job_id, type) SELECT started.id, 'started' FROM started)
                SELECT false, job.id, job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args,
                    CASE WHEN isfinite(job.scheduled_at) THEN job.scheduled_at END, job.attempts, job.abort_requested,
                    job.worker_id, NULL::procrastinate_job_status
                FROM started AS job;
            missing := missing - cardinality(free_ids);
        END IF;

        -- Since the look above, another worker may have started a job that came in before one of these under the same
        -- lock. The unique index on running locks tells. One at a time and in the order of the locks, so that workers
        -- which wait for each other there never do so in a circle.
        is_overtaken := false;
        FOREACH candidate_id IN ARRAY locked_ids LOOP
            BEGIN
                UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = p_worker_id WHERE job.id = candidate_id
                RETURNING job.lock INTO last_lock;
                taken_ids := taken_ids || candidate_id;
                missing := missing - 1;
            EXCEPTION WHEN unique_violation THEN
                GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
                IF violated_constraint <> 'procrastinate_jobs_lock_idx_v1' THEN
                    RAISE;
                END IF;
                overtaken_ids := overtaken_ids || candidate_id;
                is_overtaken := true;
            END;
        END LOOP;
        -- Look again for what can be taken instead.
        EXIT WHEN NOT is_overtaken;
    END LOOP;

    -- Not from within the block above: rows that were returned stay returned, also when the block is rolled back.
    IF cardinality(taken_ids) > 0 THEN
        INSERT INTO procrastinate_events (job_id, type) SELECT taken.id, 'started' FROM unnest(taken_ids) AS taken (id);
        RETURN QUERY
            SELECT false, job.id, job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args,
                CASE WHEN isfinite(job.scheduled_at) THEN job.scheduled_at END, job.attempts, job.abort_requested,
                job.worker_id, NULL::procrastinate_job_status
            FROM procrastinate_jobs AS job
            WHERE job.id = ANY (taken_ids);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_finish_and_fetch_jobs_v1(bigint, bigint[], procrastinate_job_status[], varchar[], integer, jsonb, bigint[], jsonb) IS
    'Ends the jobs that a worker has finished, deletes those that are not to be kept, puts those back that are to be retried (an array of objects with job_id, and optionally attempts, without the one that ended, retry_at, priority, queue_name, lock and counts), keeps what went wrong (an array of objects with job_id, error, worker_name and duration_seconds, and optionally attempts), and takes new jobs for the free slots, in one transaction. Answers with the jobs taken, with a row (lost = true, only the id set) for each finished job that was not this worker''s any more and was left as it is, and with a row (lost = false, became = failed) for each that could not be retried. Where something is lost and the worker is not registered any more, nothing is done: it raises a violation of the jobs'' foreign key.';

-- For clients of the contract: the same choice, one job at a time.
ALTER FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) RENAME TO procrastinate_diesel_kept_fetch_job_v2;
CREATE FUNCTION procrastinate_fetch_job_v2(target_queue_names varchar[], p_worker_id bigint)
    RETURNS procrastinate_jobs
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_sort = off
    SET enable_incremental_sort = off
AS $function$
DECLARE
    candidate_id bigint;
    overtaken_ids bigint[] := '{}';
    taken procrastinate_jobs;
    violated_constraint text;
BEGIN
    SELECT * INTO taken FROM procrastinate_diesel_start_free_jobs_v1(p_worker_id, target_queue_names, 1);
    IF FOUND THEN
        RETURN taken;
    END IF;
    LOOP
        SELECT next.job_id INTO candidate_id
        FROM procrastinate_diesel_hold_next_jobs_v1(target_queue_names, 1, overtaken_ids, NULL) AS next;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        -- Another worker may have started a job meanwhile that came in before this one under the same lock. The unique
        -- index on running locks tells.
        BEGIN
            UPDATE procrastinate_jobs SET status = 'doing', worker_id = p_worker_id
            WHERE id = candidate_id
            RETURNING * INTO taken;
            RETURN taken;
        EXCEPTION WHEN unique_violation THEN
            GET STACKED DIAGNOSTICS violated_constraint = CONSTRAINT_NAME;
            IF violated_constraint <> 'procrastinate_jobs_lock_idx_v1' THEN
                RAISE;
            END IF;
            overtaken_ids := overtaken_ids || candidate_id;
        END;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) IS
    'Takes the next job of the queues (NULL: of all queues) for a worker; a row of NULLs when there is none.';

CREATE FUNCTION procrastinate_diesel_update_heartbeat_v1(p_worker_id bigint)
    RETURNS TABLE (job_id bigint, abort_requested boolean)
    LANGUAGE plpgsql
    SET jit = off
    SET enable_seqscan = off
    -- Whoever gives up waiting leaves the server waiting: one more process with each try.
    SET lock_timeout = '5s'
AS $function$
BEGIN
    UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = p_worker_id;
    IF FOUND THEN
        RETURN QUERY
            SELECT job.id, job.abort_requested
            FROM procrastinate_jobs AS job
            WHERE job.worker_id = p_worker_id AND job.status = 'doing';
        RETURN NEXT;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_update_heartbeat_v1(bigint) IS
    'Says that a worker is alive. Answers with the jobs that it is doing and, at the end, a NULL; with nothing when it is not registered any more.';

CREATE FUNCTION procrastinate_diesel_jobs_of_worker_v1(p_worker_id bigint, job_ids bigint[])
    RETURNS SETOF procrastinate_jobs
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
BEGIN
    RETURN QUERY
        SELECT * FROM procrastinate_jobs AS job
        WHERE job.id = ANY (job_ids) AND job.status = doing AND job.worker_id IS NOT DISTINCT FROM p_worker_id;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_jobs_of_worker_v1(bigint, bigint[]) IS 'Those of the jobs that a worker is doing.';

CREATE FUNCTION procrastinate_diesel_register_worker_again_v1(job_ids bigint[], job_attempts integer[])
    RETURNS TABLE (worker_id bigint, job_id bigint)
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    new_worker_id bigint;
BEGIN
    INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id INTO new_worker_id;
    RETURN QUERY
        WITH kept AS (
            UPDATE procrastinate_jobs AS job
            SET worker_id = new_worker_id
            WHERE job.id = ANY (job_ids) AND job.attempts = job_attempts[array_position(job_ids, job.id)]
              AND job.status = doing AND job.worker_id IS NULL
            RETURNING job.id)
        SELECT new_worker_id, kept.id FROM kept;
    RETURN QUERY SELECT new_worker_id, NULL::bigint;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_register_worker_again_v1(bigint[], integer[]) IS
    'Enters a worker whose row was removed while it was running these jobs, and gives it those of them that nobody has taken since. Answers with its id beside each job that it has again, and beside a NULL at the end.';

CREATE FUNCTION procrastinate_diesel_jobs_without_worker_v1(task_names varchar[])
    RETURNS SETOF procrastinate_jobs
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_sort = off
    SET enable_incremental_sort = off
AS $function$
BEGIN
    RETURN QUERY
        SELECT * FROM procrastinate_jobs AS job
        WHERE job.status = 'doing' AND job.worker_id IS NULL AND job.task_name = ANY (task_names)
        ORDER BY job.id
        LIMIT 1000;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_jobs_without_worker_v1(varchar[]) IS
    'Jobs of these tasks that are marked as running while their worker is gone: the first thousand.';

CREATE FUNCTION procrastinate_diesel_rescue_jobs_v1(rescues jsonb)
    RETURNS TABLE (job_id bigint, became procrastinate_job_status)
    LANGUAGE plpgsql
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    doing CONSTANT procrastinate_job_status := 'doing';
    rescue record;
    is_abort_requested boolean;
BEGIN
    FOR rescue IN
        SELECT * FROM jsonb_to_recordset(rescues)
            AS rescue (job_id bigint, attempts integer, is_retried boolean, retry_at timestamptz, priority integer,
                queue_name varchar, lock text, error text)
        ORDER BY job_id
    LOOP
        -- One that another worker is rescuing at this moment, or that its own worker has taken back, is left to them.
        SELECT job.abort_requested INTO is_abort_requested
        FROM procrastinate_jobs AS job
        WHERE job.id = rescue.job_id AND job.status = doing AND job.worker_id IS NULL AND job.attempts = rescue.attempts
        FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;

        INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error)
        VALUES (rescue.job_id, rescue.attempts + 1, rescue.error)
        ON CONFLICT DO NOTHING;

        job_id := rescue.job_id;
        IF is_abort_requested OR NOT rescue.is_retried THEN
            UPDATE procrastinate_jobs AS job
            SET status = CASE WHEN is_abort_requested THEN 'aborted' ELSE 'failed' END::procrastinate_job_status,
                abort_requested = false,
                attempts = job.attempts + 1
            WHERE job.id = rescue.job_id
            RETURNING job.status INTO became;
        ELSE
            became := procrastinate_diesel_put_back_job_v1(
                rescue.job_id, NULL, rescue.attempts, rescue.retry_at, rescue.priority, rescue.queue_name, rescue.lock, true);
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_rescue_jobs_v1(jsonb) IS
    'Ends the attempts of jobs whose worker died (an array of objects with job_id, attempts, is_retried and error, and optionally retry_at, priority, queue_name and lock): such a job waits for another attempt if is_retried, else it fails; one whose abort was requested is aborted. The attempt counts. Answers with what became of each job that was still without a worker.';
