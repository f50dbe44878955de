-- Priorities that age: a pending job gains priority for each period that it has waited, up to a
-- maximum, so that a steady stream of jobs with a higher priority cannot hold it back forever.
--
-- Jobs have no time at which they were deferred. So each pass over a queue remembers the newest job
-- at its beginning. The next pass, a period later, raises the jobs up to that one: they have waited
-- for at least as long as the two are apart. A job that was scheduled or retried waits since the
-- time that it was scheduled for.
--
-- A pass is made in batches, each in its own transaction. It goes from the highest priority below
-- the maximum to the lowest, along the indexes that fetches use. A raised job is then behind the
-- position of the pass, which never raises it twice.

CREATE TABLE procrastinate_diesel_priority_ageings (
    queue_name varchar(128) PRIMARY KEY,
    every_seconds double precision NOT NULL CHECK (every_seconds >= 1),
    step integer NOT NULL DEFAULT 1 CHECK (step > 0),
    max_priority integer NOT NULL,
    last_aged_at timestamptz,
    last_job_id bigint NOT NULL DEFAULT 0,
    pass_began_at timestamptz,
    pass_last_job_id bigint NOT NULL DEFAULT 0,
    pass_stage integer NOT NULL DEFAULT 0,
    pass_priority integer,
    pass_job_id bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50);
COMMENT ON TABLE procrastinate_diesel_priority_ageings IS
    'Queues whose pending jobs gain priority while they wait. A queue without a row pays nothing.';
COMMENT ON COLUMN procrastinate_diesel_priority_ageings.every_seconds IS
    'The period: a job gains step for each full period that it has waited.';
COMMENT ON COLUMN procrastinate_diesel_priority_ageings.max_priority IS
    'The highest priority that a job reaches by waiting. Jobs that have it or more keep theirs.';
COMMENT ON COLUMN procrastinate_diesel_priority_ageings.last_aged_at IS
    'When the last complete pass began. NULL before the first one.';
COMMENT ON COLUMN procrastinate_diesel_priority_ageings.last_job_id IS
    'The newest job at that time. Jobs with a greater ID have not waited for a full period.';
COMMENT ON COLUMN procrastinate_diesel_priority_ageings.pass_began_at IS
    'When the current pass began. NULL if there is none. The other columns of the pass are the '
    'newest job at that time, and the position of the pass: the stage, and within it the priority '
    'and ID of the last job.';

-- Roles that run workers must be able to do so as before. As long as the table is empty, they only
-- read it.
GRANT SELECT ON procrastinate_diesel_priority_ageings TO PUBLIC;
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
        EXECUTE format('GRANT SELECT, UPDATE ON procrastinate_diesel_priority_ageings TO %s', grantee);
    END LOOP;
END;
$grants$;

-- The stages of a pass: 0 jobs that are neither locked nor scheduled, 1 scheduled jobs if few of
-- them are due, 2 scheduled jobs otherwise, 3 jobs with a lock.
--
-- Queues and locks are compared with an array of one. So the planner does not take the column for a
-- constant, and only the index that begins with it has the order of the query. Unlike a range, the
-- array lets the scan begin and end at the columns that follow.
CREATE FUNCTION procrastinate_diesel_next_priority_v1(p_stage integer, p_queue_name varchar, p_below integer)
    RETURNS integer
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_names CONSTANT varchar[] := ARRAY[p_queue_name];
BEGIN
    RETURN CASE p_stage
        WHEN 0 THEN (
            SELECT job.priority FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
              AND job.queue_name = ANY (queue_names) AND job.priority < p_below
            ORDER BY job.queue_name, job.priority DESC, job.id
            LIMIT 1)
        WHEN 2 THEN (
            SELECT job.priority FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
              AND job.queue_name = ANY (queue_names) AND job.priority < p_below
            ORDER BY job.queue_name, job.priority DESC, job.id
            LIMIT 1)
        ELSE (
            SELECT job.priority FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NOT NULL
              AND job.queue_name = ANY (queue_names) AND job.priority < p_below
            ORDER BY job.queue_name, job.priority DESC, job.id
            LIMIT 1)
        END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_next_priority_v1(integer, varchar, integer) IS
    'The highest priority below this one that a pending job of the queue has, among the jobs of a '
    'stage of an ageing pass. NULL if there is none.';

CREATE FUNCTION procrastinate_diesel_jobs_to_age_v1(
        p_stage integer, ageing procrastinate_diesel_priority_ageings, most integer)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $function$
DECLARE
    queue_names CONSTANT varchar[] := ARRAY[ageing.queue_name];
    oldest CONSTANT timestamptz := ageing.pass_began_at - make_interval(secs => ageing.every_seconds);
BEGIN
    RETURN CASE p_stage
        WHEN 0 THEN ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NULL
              AND job.queue_name = ANY (queue_names) AND job.priority = ageing.pass_priority
              AND job.id > ageing.pass_job_id AND job.id <= ageing.last_job_id
            ORDER BY job.queue_name, job.priority DESC, job.id
            LIMIT most)
        WHEN 1 THEN ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
              AND job.queue_name = ANY (queue_names) AND job.scheduled_at <= oldest
            ORDER BY job.queue_name, job.scheduled_at
            LIMIT most)
        WHEN 2 THEN ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NULL AND job.scheduled_at IS NOT NULL
              AND job.queue_name = ANY (queue_names) AND job.priority = ageing.pass_priority
              AND job.id > ageing.pass_job_id AND job.id <= ageing.last_job_id
            ORDER BY job.queue_name, job.priority DESC, job.id
            LIMIT most)
        ELSE ARRAY(
            SELECT job.id FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock IS NOT NULL
              AND job.queue_name = ANY (queue_names) AND job.priority = ageing.pass_priority
              AND job.id > ageing.pass_job_id AND job.id <= ageing.last_job_id
            ORDER BY job.queue_name, job.priority DESC, job.id
            LIMIT most)
        END;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_jobs_to_age_v1(
    integer, procrastinate_diesel_priority_ageings, integer) IS
    'The next jobs of a stage of an ageing pass, in its order. Some may not have waited long '
    'enough. Stage 1 has all jobs that were scheduled for a time at least one period ago.';

CREATE FUNCTION procrastinate_diesel_preceding_priority_v1(
        p_lock text, p_priority integer, p_below integer, p_after_id bigint, p_job_id bigint)
    RETURNS integer
    LANGUAGE plpgsql
AS $function$
DECLARE
    locks CONSTANT text[] := ARRAY[p_lock];
    looked_at integer := p_priority;
BEGIN
    -- One probe for each priority. Between them may be any number of newer jobs.
    WHILE (
        SELECT job.id FROM procrastinate_jobs AS job
        WHERE job.status = 'todo' AND job.lock = ANY (locks) AND job.priority = looked_at
          AND job.id > p_after_id AND job.id < p_job_id
        ORDER BY job.lock, job.priority DESC, job.id
        LIMIT 1) IS NULL
    LOOP
        looked_at := (
            SELECT job.priority FROM procrastinate_jobs AS job
            WHERE job.status = 'todo' AND job.lock = ANY (locks)
              AND job.priority > looked_at AND job.priority < p_below
            ORDER BY job.lock DESC, job.priority, job.id DESC
            LIMIT 1);
        EXIT WHEN looked_at IS NULL;
    END LOOP;
    -- The running job can be retried. Then it is pending again.
    RETURN least(looked_at, (
        SELECT job.priority FROM procrastinate_jobs AS job
        WHERE job.lock = p_lock AND job.status = 'doing' AND job.priority >= p_priority AND job.id < p_job_id));
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_preceding_priority_v1(text, integer, integer, bigint, bigint) IS
    'The least priority, from p_priority on and below p_below, of the pending jobs of a lock with '
    'an ID between these, and of its running job if that has a smaller ID. NULL if there is none.';

CREATE FUNCTION procrastinate_diesel_raise_priorities_v1(
        job_ids bigint[], priorities integer[], OUT raised integer, OUT problem text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    -- A scheduled job gets no event: its time is the same.
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
    part integer;
BEGIN
    BEGIN
        UPDATE procrastinate_jobs AS job SET priority = given.priority
        FROM unnest(job_ids, priorities) AS given (id, priority)
        WHERE job.id = given.id;
        GET DIAGNOSTICS raised = ROW_COUNT;
        IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS control WHERE control.key_path IS NOT NULL) THEN
            PERFORM procrastinate_diesel_note_keyed_jobs_v1(
                array_agg(job.id), array_agg(job.queue_name), array_agg(job.task_name))
            FROM procrastinate_jobs AS job
            WHERE job.id = ANY (job_ids);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF procrastinate_diesel_ends_statement_v1(SQLSTATE) THEN
            RAISE;
        END IF;
        problem := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
        raised := 0;
        -- The same for each half, so that one job does not hold back the others.
        part := cardinality(job_ids) / 2;
        IF part > 0 THEN
            raised := (SELECT sum(half.raised) FROM (
                SELECT (procrastinate_diesel_raise_priorities_v1(job_ids[:part], priorities[:part])).raised
                UNION ALL
                SELECT (procrastinate_diesel_raise_priorities_v1(job_ids[part + 1:], priorities[part + 1:])).raised)
                AS half (raised));
        END IF;
    END;
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_raise_priorities_v1(bigint[], integer[]) IS
    'Gives these jobs, which the caller has locked, their new priorities, and returns how many. '
    'Jobs that the database refuses to change keep theirs. problem is the error of one of them.';

CREATE FUNCTION procrastinate_diesel_age_jobs_v1(
        ageing procrastinate_diesel_priority_ageings, job_ids bigint[],
        OUT raised integer, OUT first_id bigint, OUT problem text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    -- A variable, as in the migration procrastinate_finish.
    todo CONSTANT procrastinate_job_status := 'todo';
    oldest CONSTANT timestamptz := ageing.pass_began_at - make_interval(secs => ageing.every_seconds);
    raised_ids bigint[];
    priorities integer[];
BEGIN
    WITH waiting AS MATERIALIZED (
        SELECT job.id, job.priority, job.lock,
            least(
                job.priority + ageing.step * greatest(1, floor(
                    extract(epoch FROM ageing.pass_began_at - greatest(ageing.last_aged_at, job.scheduled_at))
                        ::double precision / ageing.every_seconds)),
                ageing.max_priority)::integer AS priority_by_age
        FROM procrastinate_jobs AS job
        WHERE job.id = ANY (job_ids) AND job.status = todo AND job.queue_name = ageing.queue_name
          AND job.priority < ageing.max_priority AND job.id <= ageing.last_job_id
          AND (job.scheduled_at IS NULL OR job.scheduled_at <= oldest)
        FOR NO KEY UPDATE SKIP LOCKED),
    placed AS MATERIALIZED (
        SELECT each.*, lag(each.id, 1, 0::bigint) OVER same_lock AS preceding_id
        FROM waiting AS each
        WINDOW same_lock AS (PARTITION BY each.lock, each.priority ORDER BY each.id)),
    -- A job does not overtake an older one with the same lock, which may be scheduled for later, in
    -- another queue, or running.
    bounded AS (
        SELECT each.id, each.priority, CASE WHEN each.lock IS NULL THEN each.priority_by_age
            ELSE min(least(each.priority_by_age, CASE WHEN each.lock IS NOT NULL THEN
                procrastinate_diesel_preceding_priority_v1(
                    each.lock, each.priority, each.priority_by_age, each.preceding_id, each.id) END)) OVER same_lock
            END AS new_priority
        FROM placed AS each
        WINDOW same_lock AS (PARTITION BY each.lock, each.priority ORDER BY each.id))
    SELECT array_agg(each.id ORDER BY each.id), array_agg(each.new_priority ORDER BY each.id)
    INTO raised_ids, priorities
    FROM bounded AS each
    WHERE each.new_priority > each.priority;

    raised := 0;
    IF raised_ids IS NOT NULL THEN
        SELECT changed.raised, changed.problem INTO raised, problem
        FROM procrastinate_diesel_raise_priorities_v1(raised_ids, priorities) AS changed;
        first_id := raised_ids[1];
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_age_jobs_v1(procrastinate_diesel_priority_ageings, bigint[]) IS
    'Raises the priorities of those of the jobs that have waited long enough, and returns how many '
    'and the first of them. Skips jobs that others have locked.';

CREATE FUNCTION procrastinate_diesel_age_queue_v1(
        INOUT ageing procrastinate_diesel_priority_ageings, most integer, OUT raised bigint, OUT problem text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    missing integer := most;
    -- A job with a lock takes twice as long as another one.
    cost integer;
    wanted integer;
    job_ids bigint[];
    first_id bigint;
    batch record;
BEGIN
    raised := 0;
    WHILE missing > 0 AND ageing.pass_stage <= 3 LOOP
        job_ids := '{}';
        cost := CASE WHEN ageing.pass_stage = 3 THEN 2 ELSE 1 END;
        wanted := greatest(missing / cost, 1);
        IF ageing.pass_stage = 1 THEN
            job_ids := procrastinate_diesel_jobs_to_age_v1(1, ageing, most + 1);
            ageing.pass_stage := 3;
            IF cardinality(job_ids) > most THEN
                job_ids := '{}';
                ageing.pass_stage := 2;
            END IF;
        ELSIF ageing.pass_priority IS NULL THEN
            ageing.pass_priority := procrastinate_diesel_next_priority_v1(
                ageing.pass_stage, ageing.queue_name, ageing.max_priority);
            IF ageing.pass_priority IS NULL THEN
                ageing.pass_stage := ageing.pass_stage + 1;
            END IF;
        ELSE
            job_ids := procrastinate_diesel_jobs_to_age_v1(ageing.pass_stage, ageing, wanted);
            IF cardinality(job_ids) = wanted THEN
                ageing.pass_job_id := job_ids[wanted];
            ELSE
                ageing.pass_job_id := 0;
                ageing.pass_priority := procrastinate_diesel_next_priority_v1(
                    ageing.pass_stage, ageing.queue_name, ageing.pass_priority);
                IF ageing.pass_priority IS NULL THEN
                    ageing.pass_stage := ageing.pass_stage + 1;
                END IF;
            END IF;
        END IF;
        IF cardinality(job_ids) > 0 THEN
            batch := procrastinate_diesel_age_jobs_v1(ageing, job_ids);
            raised := raised + batch.raised;
            problem := coalesce(batch.problem, problem);
            first_id := least(first_id, batch.first_id);
        END IF;
        -- Many priorities without a job to raise must not make a long transaction.
        missing := missing - cost * cardinality(job_ids) - 1;
    END LOOP;
    IF first_id IS NOT NULL THEN
        -- A fetch may have found only these jobs, and skipped them because they were locked.
        PERFORM procrastinate_diesel_notify_jobs_v1(ARRAY[first_id], ARRAY[ageing.queue_name]);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_age_queue_v1(procrastinate_diesel_priority_ageings, integer) IS
    'Continues an ageing pass until it has read about so many jobs, and returns its position and '
    'how many jobs it has raised. The pass is complete after stage 3.';

-- The settings hold in the functions that it calls, too.
CREATE FUNCTION procrastinate_diesel_age_priorities_v1(due_at timestamptz DEFAULT NULL, most integer DEFAULT 1000)
    RETURNS TABLE (queue_name varchar, raised bigint, has_more boolean, wait_seconds double precision, problem text)
    LANGUAGE plpgsql
    -- As in procrastinate_diesel_finish_and_fetch_jobs_v1.
    SET jit = off SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
    SET enable_sort = off SET enable_incremental_sort = off
AS $function$
DECLARE
    aged_at CONSTANT timestamptz := coalesce(due_at, now());
    ageing procrastinate_diesel_priority_ageings;
    aged record;
BEGIN
    raised := 0;
    has_more := false;
    IF NOT EXISTS (SELECT FROM procrastinate_diesel_priority_ageings) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- A time that is far in the future comes from a clock that was wrong.
    SELECT known.* INTO ageing FROM procrastinate_diesel_priority_ageings AS known
    WHERE known.pass_began_at IS NOT NULL OR known.last_aged_at IS NULL
       OR known.last_aged_at <= aged_at - make_interval(secs => known.every_seconds)
       OR known.last_aged_at > aged_at + make_interval(secs => greatest(known.every_seconds, 60))
    ORDER BY coalesce(known.pass_began_at, known.last_aged_at + make_interval(secs => known.every_seconds)) NULLS FIRST,
        known.queue_name COLLATE "C"
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        IF ageing.pass_began_at IS NULL OR ageing.pass_began_at
                > aged_at + make_interval(secs => greatest(ageing.every_seconds, 60)) THEN
            ageing.pass_began_at := aged_at;
            ageing.pass_last_job_id := coalesce(
                (SELECT job.id FROM procrastinate_jobs AS job ORDER BY job.id DESC LIMIT 1), 0);
        END IF;
        IF ageing.last_aged_at IS NULL OR ageing.last_aged_at > ageing.pass_began_at THEN
            -- How long the jobs have waited is known from now on.
            ageing.pass_stage := 4;
        END IF;
        SELECT * INTO aged FROM procrastinate_diesel_age_queue_v1(ageing, most);
        ageing := aged.ageing;
        UPDATE procrastinate_diesel_priority_ageings AS known
        SET last_aged_at = CASE WHEN ageing.pass_stage > 3 THEN ageing.pass_began_at ELSE ageing.last_aged_at END,
            last_job_id = CASE WHEN ageing.pass_stage > 3 THEN ageing.pass_last_job_id ELSE ageing.last_job_id END,
            pass_began_at = CASE WHEN ageing.pass_stage <= 3 THEN ageing.pass_began_at END,
            pass_last_job_id = ageing.pass_last_job_id,
            pass_stage = CASE WHEN ageing.pass_stage > 3 THEN 0 ELSE ageing.pass_stage END,
            pass_priority = CASE WHEN ageing.pass_stage <= 3 THEN ageing.pass_priority END,
            pass_job_id = CASE WHEN ageing.pass_stage > 3 THEN 0 ELSE ageing.pass_job_id END
        WHERE known.queue_name = ageing.queue_name;
        queue_name := ageing.queue_name;
        raised := aged.raised;
        problem := aged.problem;
    END IF;
    SELECT min(CASE
        WHEN known.pass_began_at IS NOT NULL OR known.last_aged_at IS NULL
            OR known.last_aged_at > aged_at + make_interval(secs => greatest(known.every_seconds, 60)) THEN 0
        ELSE greatest(0, extract(epoch FROM known.last_aged_at - aged_at)::double precision + known.every_seconds) END)
    INTO wait_seconds
    FROM procrastinate_diesel_priority_ageings AS known;
    has_more := queue_name IS NOT NULL AND wait_seconds = 0;
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_age_priorities_v1(timestamptz, integer) IS
    'Raises the priorities of pending jobs that have waited, in one queue whose period is over at '
    'due_at (NULL: now), and reads about so many jobs. Returns the queue, NULL if there was '
    'nothing to do, and how many jobs it has raised. has_more is whether to call it again '
    'immediately. Otherwise wait_seconds is how long nothing is to do, NULL if no queue ages. '
    'problem is an error of a job that the database refuses to change.';

CREATE FUNCTION procrastinate_diesel_set_ageing_v1(
        p_queue_name varchar, p_every_seconds double precision, p_step integer, p_max_priority integer)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- Settings that are different end the current pass, so that no job is raised by both.
    INSERT INTO procrastinate_diesel_priority_ageings AS ageing (queue_name, every_seconds, step, max_priority)
    VALUES (p_queue_name, p_every_seconds, p_step, p_max_priority)
    ON CONFLICT (queue_name) DO UPDATE
    SET every_seconds = excluded.every_seconds, step = excluded.step, max_priority = excluded.max_priority,
        last_aged_at = coalesce(ageing.pass_began_at, ageing.last_aged_at),
        last_job_id = CASE WHEN ageing.pass_began_at IS NULL THEN ageing.last_job_id ELSE ageing.pass_last_job_id END,
        pass_began_at = NULL, pass_stage = 0, pass_priority = NULL, pass_job_id = 0, changed_at = now()
    WHERE (ageing.every_seconds, ageing.step, ageing.max_priority)
        IS DISTINCT FROM (excluded.every_seconds, excluded.step, excluded.max_priority);
    RETURN FOUND;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_set_ageing_v1(varchar, double precision, integer, integer) IS
    'Lets the pending jobs of a queue gain priority while they wait. This replaces its former '
    'settings. Returns false if they are the same.';

CREATE FUNCTION procrastinate_diesel_stop_ageing_v1(p_queue_name varchar)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
BEGIN
    DELETE FROM procrastinate_diesel_priority_ageings AS ageing WHERE ageing.queue_name = p_queue_name;
    RETURN FOUND;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_stop_ageing_v1(varchar) IS
    'Ends the ageing of a queue. Its jobs keep their priorities. Returns false if there was none.';
