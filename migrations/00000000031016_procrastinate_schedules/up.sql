CREATE TABLE procrastinate_diesel_schedules (
    task_name varchar(128) NOT NULL CHECK (task_name <> ''),
    periodic_id varchar(128) NOT NULL,
    cron text CHECK (cron <> ''),
    interval_seconds bigint CHECK (interval_seconds > 0),
    time_zone text CHECK (time_zone <> ''),
    args jsonb NOT NULL CHECK (jsonb_typeof(args) = 'object' AND args -> 'timestamp' IS NULL),
    queue_name varchar(128) CHECK (queue_name <> ''),
    priority integer,
    lock text CHECK (octet_length(lock) <= 2600),
    queueing_lock text CHECK (octet_length(queueing_lock) <= 2600),
    start_within_seconds double precision CHECK (start_within_seconds > 0),
    limit_key text CHECK (octet_length(limit_key) <= 2600),
    missed_ticks text NOT NULL CHECK (missed_ticks IN ('procrastinate', 'skip', 'last', 'all')),
    max_delay_seconds bigint CHECK (max_delay_seconds >= 0),
    overlap text NOT NULL CHECK (overlap IN ('allow', 'skip')),
    ticks_after timestamptz,
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    run_requested_at timestamptz,
    last_job_id bigint,
    seen_in_code_at timestamptz,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    version bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (task_name, periodic_id),
    CHECK ((cron IS NULL) <> (interval_seconds IS NULL)),
    CHECK (time_zone IS NULL OR cron IS NOT NULL),
    CHECK (paused_at IS NOT NULL OR (paused_by IS NULL AND pause_reason IS NULL)));
COMMENT ON TABLE procrastinate_diesel_schedules IS
    'Schedules of periodic tasks: those in the database, and for display and pausing those in the '
    'code of programs.';
COMMENT ON COLUMN procrastinate_diesel_schedules.periodic_id IS
    'Tells several schedules of one task apart. May be empty.';
COMMENT ON COLUMN procrastinate_diesel_schedules.cron IS
    'The cron expression. NULL for a schedule with an interval.';
COMMENT ON COLUMN procrastinate_diesel_schedules.interval_seconds IS
    'The interval, counted from the beginning of 1970 in UTC. NULL for a schedule with a cron '
    'expression.';
COMMENT ON COLUMN procrastinate_diesel_schedules.time_zone IS 'An IANA name. NULL means UTC.';
COMMENT ON COLUMN procrastinate_diesel_schedules.args IS 'The arguments of the jobs, without the tick.';
COMMENT ON COLUMN procrastinate_diesel_schedules.queue_name IS
    'The queue of the jobs. NULL, here and in the next five columns, means the value of the task.';
COMMENT ON COLUMN procrastinate_diesel_schedules.start_within_seconds IS
    'How soon after a tick was deferred its job must start. Otherwise the job is cancelled.';
COMMENT ON COLUMN procrastinate_diesel_schedules.limit_key IS 'The key of the jobs for limits of each key.';
COMMENT ON COLUMN procrastinate_diesel_schedules.missed_ticks IS
    'What to do with missed ticks: procrastinate, skip, last or all.';
COMMENT ON COLUMN procrastinate_diesel_schedules.max_delay_seconds IS
    'How old a tick may be when it is deferred. NULL means the value of the application.';
COMMENT ON COLUMN procrastinate_diesel_schedules.overlap IS
    'What to do with a tick while the last job is pending or running: allow or skip.';
COMMENT ON COLUMN procrastinate_diesel_schedules.ticks_after IS
    'Ticks until this time are skipped. It is the time when the schedule was created or resumed, '
    'or when its times were changed.';
COMMENT ON COLUMN procrastinate_diesel_schedules.paused_at IS 'When it was paused. NULL if it is not.';
COMMENT ON COLUMN procrastinate_diesel_schedules.run_requested_at IS
    'When somebody asked to run the task now. A worker defers the job and sets this to NULL.';
COMMENT ON COLUMN procrastinate_diesel_schedules.last_job_id IS
    'The job that was deferred last. It may be deleted.';
COMMENT ON COLUMN procrastinate_diesel_schedules.seen_in_code_at IS
    'When a worker last had the schedule in its code. NULL for a schedule of the database.';
COMMENT ON COLUMN procrastinate_diesel_schedules.version IS
    'A new number after each change, by which a tick of an older version is recognised.';

CREATE FUNCTION procrastinate_diesel_notify_schedules_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM pg_notify('procrastinate_diesel_schedules', '');
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_notify_schedules_v1() IS
    'Notifies workers that a schedule was created, changed, paused, resumed, removed or is to run '
    'now.';
CREATE TRIGGER procrastinate_diesel_notify_schedules
    AFTER INSERT OR DELETE OR UPDATE OF version, paused_at, run_requested_at ON procrastinate_diesel_schedules
    FOR EACH ROW EXECUTE FUNCTION procrastinate_diesel_notify_schedules_v1();

CREATE FUNCTION procrastinate_diesel_create_schedule_v1(
        p_task_name varchar, p_periodic_id varchar, p_values jsonb, p_at timestamptz)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    created_at CONSTANT timestamptz := coalesce(p_at, now());
    given CONSTANT procrastinate_diesel_schedules :=
        jsonb_populate_record(NULL::procrastinate_diesel_schedules, p_values);
BEGIN
    INSERT INTO procrastinate_diesel_schedules (
        task_name, periodic_id, cron, time_zone, args, queue_name, priority, lock, queueing_lock, start_within_seconds,
        limit_key, missed_ticks, max_delay_seconds, overlap, ticks_after, created_at, changed_at)
    VALUES (
        p_task_name, p_periodic_id, given.cron, given.time_zone, coalesce(given.args, '{}'), given.queue_name,
        given.priority, given.lock, given.queueing_lock, given.start_within_seconds, given.limit_key,
        coalesce(given.missed_ticks, 'procrastinate'), given.max_delay_seconds, coalesce(given.overlap, 'allow'),
        created_at, created_at, created_at)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_create_schedule_v1(varchar, varchar, jsonb, timestamptz) IS
    'Creates a schedule with these values, an object with names of columns, at this time (NULL: '
    'now). Returns false if there is one with the task and periodic_id.';

CREATE FUNCTION procrastinate_diesel_change_schedule_v1(
        p_task_name varchar, p_periodic_id varchar, p_values jsonb, p_at timestamptz)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
DECLARE
    changed procrastinate_diesel_schedules;
    old_times text[];
BEGIN
    SELECT known.* INTO changed FROM procrastinate_diesel_schedules AS known
    WHERE known.task_name = p_task_name AND known.periodic_id = p_periodic_id AND known.seen_in_code_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    old_times := ARRAY[changed.cron, changed.time_zone];
    -- Columns that are not given keep their values.
    changed := jsonb_populate_record(changed, p_values);
    UPDATE procrastinate_diesel_schedules AS known
    SET cron = changed.cron,
        time_zone = changed.time_zone,
        args = changed.args,
        queue_name = changed.queue_name,
        priority = changed.priority,
        lock = changed.lock,
        queueing_lock = changed.queueing_lock,
        start_within_seconds = changed.start_within_seconds,
        limit_key = changed.limit_key,
        missed_ticks = changed.missed_ticks,
        max_delay_seconds = changed.max_delay_seconds,
        overlap = changed.overlap,
        ticks_after = CASE
            WHEN old_times IS DISTINCT FROM ARRAY[changed.cron, changed.time_zone] THEN coalesce(p_at, now())
            ELSE known.ticks_after
        END,
        changed_at = coalesce(p_at, now()),
        version = DEFAULT
    WHERE known.task_name = p_task_name AND known.periodic_id = p_periodic_id;
    RETURN true;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_change_schedule_v1(varchar, varchar, jsonb, timestamptz) IS
    'Changes these values of a schedule in the database, an object with names of columns, at this '
    'time (NULL: now). If its times change, ticks until then are skipped. Returns false if there '
    'is no such schedule, or if it is in the code of a program.';

CREATE FUNCTION procrastinate_diesel_register_schedules_v1(schedules jsonb)
    RETURNS integer
    LANGUAGE plpgsql
AS $function$
DECLARE
    inserted integer;
    updated integer;
BEGIN
    -- In order, so that workers that start together do not wait for each other in a circle.
    INSERT INTO procrastinate_diesel_schedules (
        task_name, periodic_id, cron, interval_seconds, time_zone, args, queue_name, priority, lock, queueing_lock,
        start_within_seconds, limit_key, missed_ticks, max_delay_seconds, overlap, seen_in_code_at, created_at,
        changed_at)
    SELECT given.task_name, given.periodic_id, given.cron, given.interval_seconds, given.time_zone, given.args,
           given.queue_name, given.priority, given.lock, given.queueing_lock, given.start_within_seconds,
           given.limit_key, given.missed_ticks, given.max_delay_seconds, coalesce(given.overlap, 'allow'),
           now(), now(), now()
    FROM jsonb_populate_recordset(NULL::procrastinate_diesel_schedules, schedules) AS given
    WHERE NOT EXISTS (
        SELECT FROM procrastinate_diesel_schedules AS known
        WHERE known.task_name = given.task_name AND known.periodic_id = given.periodic_id)
    ORDER BY given.task_name, given.periodic_id
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS inserted = ROW_COUNT;

    -- Rows that somebody is changing are skipped, and written the next time.
    UPDATE procrastinate_diesel_schedules AS known
    SET cron = stale.cron,
        interval_seconds = stale.interval_seconds,
        time_zone = stale.time_zone,
        args = stale.args,
        queue_name = stale.queue_name,
        priority = stale.priority,
        lock = stale.lock,
        queueing_lock = stale.queueing_lock,
        start_within_seconds = stale.start_within_seconds,
        limit_key = stale.limit_key,
        missed_ticks = stale.missed_ticks,
        max_delay_seconds = stale.max_delay_seconds,
        overlap = coalesce(stale.overlap, 'allow'),
        seen_in_code_at = now(),
        changed_at = CASE WHEN stale.is_different THEN now() ELSE known.changed_at END
    FROM (
        SELECT given.*, different.is_different
        FROM jsonb_populate_recordset(NULL::procrastinate_diesel_schedules, schedules) AS given
        JOIN procrastinate_diesel_schedules AS older
            ON older.task_name = given.task_name AND older.periodic_id = given.periodic_id
        CROSS JOIN LATERAL (
            SELECT (older.cron, older.interval_seconds, older.time_zone, older.args, older.queue_name,
                    older.priority, older.lock, older.queueing_lock, older.start_within_seconds, older.limit_key,
                    older.missed_ticks, older.max_delay_seconds, older.overlap)
                IS DISTINCT FROM
                   (given.cron, given.interval_seconds, given.time_zone, given.args, given.queue_name,
                    given.priority, given.lock, given.queueing_lock, given.start_within_seconds, given.limit_key,
                    given.missed_ticks, given.max_delay_seconds, coalesce(given.overlap, 'allow'))
                AS is_different) AS different
        WHERE older.seen_in_code_at IS NOT NULL
          AND (different.is_different OR older.seen_in_code_at < now() - interval '30 minutes')
        FOR NO KEY UPDATE OF older SKIP LOCKED) AS stale
    WHERE known.task_name = stale.task_name AND known.periodic_id = stale.periodic_id;
    GET DIAGNOSTICS updated = ROW_COUNT;
    RETURN inserted + updated;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_register_schedules_v1(jsonb) IS
    'Writes the schedules that a worker has in its code, an array of objects with names of '
    'columns. Writes nothing if they were seen in the last 30 minutes and are the same. Schedules '
    'of the database stay as they are. Returns the number of rows written.';

CREATE FUNCTION procrastinate_diesel_skip_tick_v1(
        p_task_name varchar, p_periodic_id varchar, p_defer_timestamp bigint, p_latest_timestamp double precision)
    RETURNS boolean
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF EXISTS (
        SELECT FROM procrastinate_periodic_defers AS known
        WHERE known.task_name = p_task_name
          AND known.periodic_id = p_periodic_id
          AND known.defer_timestamp >= p_defer_timestamp
          AND (known.defer_timestamp <= p_latest_timestamp OR known.defer_timestamp = p_defer_timestamp))
    THEN
        RETURN false;
    END IF;
    INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
    VALUES (p_task_name, p_periodic_id, p_defer_timestamp)
    ON CONFLICT DO NOTHING;
    DELETE FROM procrastinate_periodic_defers
    WHERE p_defer_timestamp <= p_latest_timestamp
      AND id IN (
        SELECT older.id FROM procrastinate_periodic_defers AS older
        WHERE older.task_name = p_task_name
          AND older.periodic_id = p_periodic_id
          AND older.defer_timestamp < p_defer_timestamp
        FOR UPDATE SKIP LOCKED);
    RETURN true;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_skip_tick_v1(varchar, varchar, bigint, double precision) IS
    'Claims a tick without a job, so that nobody defers it later. Returns false if that tick or a '
    'later one was claimed before. Ticks after p_latest_timestamp come from a clock that is wrong.';

CREATE FUNCTION procrastinate_diesel_store_tick_options_v1(job_id bigint, start_before timestamptz, limit_key text)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    IF job_id IS NOT NULL AND num_nonnulls(start_before, limit_key) > 0 THEN
        PERFORM procrastinate_diesel_store_options_v1(
            ARRAY[job_id], ARRAY['new'], ARRAY['fail'], ARRAY[start_before], ARRAY[limit_key]);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_store_tick_options_v1(bigint, timestamptz, text) IS
    'Stores the options of the job of a tick, if there is a job and it has any.';

CREATE FUNCTION procrastinate_diesel_defer_scheduled_job_v1(
        p_queue_name varchar, p_lock text, p_queueing_lock text, p_task_name varchar, p_priority integer,
        p_periodic_id varchar, p_defer_timestamp bigint, arguments jsonb, p_version bigint,
        p_run_requested_at timestamptz, p_start_before timestamptz DEFAULT NULL, p_limit_key text DEFAULT NULL)
    RETURNS TABLE (job_id bigint, outcome text)
    LANGUAGE plpgsql
AS $function$
DECLARE
    is_run CONSTANT boolean := p_run_requested_at IS NOT NULL;
    schedule procrastinate_diesel_schedules;
    is_queueing_lock_taken boolean;
BEGIN
    LOCK TABLE procrastinate_jobs IN ROW EXCLUSIVE MODE;
    -- The lock of procrastinate_diesel_defer_periodic_job_v1. Workers take it before the row, so a
    -- locked row is one that somebody is changing. Workers do not wait for that.
    PERFORM pg_advisory_xact_lock(
        hashtext('procrastinate_diesel_defer_periodic_job_v1'), hashtext(p_periodic_id || '@' || p_task_name));
    SELECT known.* INTO schedule FROM procrastinate_diesel_schedules AS known
    WHERE known.task_name = p_task_name AND known.periodic_id = p_periodic_id
    FOR NO KEY UPDATE SKIP LOCKED;
    IF schedule.task_name IS NULL AND EXISTS (
        SELECT FROM procrastinate_diesel_schedules AS known
        WHERE known.task_name = p_task_name AND known.periodic_id = p_periodic_id)
    THEN
        outcome := 'locked';
    ELSIF p_version IS NULL AND schedule.task_name IS NOT NULL AND schedule.seen_in_code_at IS NULL THEN
        outcome := 'conflict';
    ELSIF p_version IS NOT NULL AND p_version IS DISTINCT FROM schedule.version THEN
        outcome := 'changed';
    ELSIF is_run AND schedule.run_requested_at IS DISTINCT FROM p_run_requested_at THEN
        outcome := 'already_deferred';
    ELSIF NOT is_run AND (
        schedule.paused_at IS NOT NULL OR p_defer_timestamp <= extract(epoch FROM schedule.ticks_after))
    THEN
        outcome := 'paused';
    END IF;
    IF outcome IS NOT NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM procrastinate_diesel_expire_holders_v1(ARRAY[p_queueing_lock]);
    IF schedule.overlap = 'skip' AND NOT procrastinate_diesel_expire_job_v1(schedule.last_job_id) AND EXISTS (
        SELECT FROM procrastinate_jobs AS job WHERE job.id = schedule.last_job_id AND job.status IN ('todo', 'doing'))
    THEN
        outcome := 'overlaps';
        IF NOT is_run AND NOT procrastinate_diesel_skip_tick_v1(
            p_task_name, p_periodic_id, p_defer_timestamp, extract(epoch FROM clock_timestamp()) + 60)
        THEN
            outcome := 'already_deferred';
        END IF;
    ELSIF is_run THEN
        INSERT INTO procrastinate_jobs AS job (queue_name, task_name, priority, lock, queueing_lock, args)
        VALUES (p_queue_name, p_task_name, p_priority, p_lock, p_queueing_lock, arguments)
        ON CONFLICT (queueing_lock) WHERE status = 'todo' AND queueing_lock IS NOT NULL DO NOTHING
        RETURNING job.id INTO job_id;
        outcome := CASE WHEN job_id IS NULL THEN 'queueing_lock_taken' ELSE 'deferred' END;
    ELSE
        SELECT tick.job_id, tick.is_queueing_lock_taken INTO job_id, is_queueing_lock_taken
        FROM procrastinate_diesel_defer_periodic_job_v1(
            p_queue_name, p_lock, p_queueing_lock, p_task_name, p_priority, p_periodic_id, p_defer_timestamp,
            arguments) AS tick;
        outcome := CASE
            WHEN job_id IS NOT NULL THEN 'deferred'
            WHEN is_queueing_lock_taken THEN 'queueing_lock_taken'
            ELSE 'already_deferred' END;
    END IF;

    PERFORM procrastinate_diesel_store_tick_options_v1(job_id, p_start_before, p_limit_key);
    IF is_run THEN
        UPDATE procrastinate_diesel_schedules AS known
        SET run_requested_at = NULL, last_job_id = coalesce(job_id, known.last_job_id)
        WHERE known.task_name = p_task_name AND known.periodic_id = p_periodic_id;
    ELSIF job_id IS NOT NULL THEN
        UPDATE procrastinate_diesel_schedules AS known SET last_job_id = job_id
        WHERE known.task_name = p_task_name AND known.periodic_id = p_periodic_id;
    END IF;
    RETURN NEXT;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_scheduled_job_v1(
    varchar, text, text, varchar, integer, varchar, bigint, jsonb, bigint, timestamptz, timestamptz, text) IS
    'Defers one tick of a periodic task like procrastinate_diesel_defer_periodic_job_v1, if its '
    'schedule allows it. It must not be paused, and must have the version that the worker has read '
    '(NULL: it is in the worker''s code). If jobs must not overlap, the last one must be finished. '
    'With p_run_requested_at, defers the job of that request instead. Returns the ID of the job or '
    'NULL, and what was found: deferred, already_deferred, queueing_lock_taken, paused, overlaps, '
    'changed (or removed), conflict (also in the database) or locked (somebody is changing it).';

CREATE FUNCTION procrastinate_diesel_defer_scheduled_jobs_v1(
        queue_names varchar[], locks text[], task_names varchar[], priorities integer[], periodic_ids varchar[],
        defer_timestamps bigint[], arguments jsonb[], versions bigint[], starts_before timestamptz[],
        limit_keys text[])
    RETURNS TABLE (job_id bigint, outcome text)
    LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN QUERY
        SELECT deferred.job_id, deferred.outcome
        FROM unnest(
            queue_names, locks, task_names, priorities, periodic_ids, defer_timestamps, arguments, versions,
            starts_before, limit_keys) WITH ORDINALITY
            AS tick (queue_name, lock, task_name, priority, periodic_id, defer_timestamp, arguments, version,
                start_before, limit_key, place)
        CROSS JOIN LATERAL procrastinate_diesel_defer_scheduled_job_v1(
            tick.queue_name, tick.lock, NULL, tick.task_name, tick.priority, tick.periodic_id, tick.defer_timestamp,
            tick.arguments, tick.version, NULL, tick.start_before, tick.limit_key) AS deferred
        ORDER BY tick.place;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_defer_scheduled_jobs_v1(
    varchar[], text[], varchar[], integer[], varchar[], bigint[], jsonb[], bigint[], timestamptz[], text[]) IS
    'Defers one tick of each of several schedules, as '
    'procrastinate_diesel_defer_scheduled_job_v1 does. The schedules must be in the order of task '
    'and periodic_id, so that two workers do not wait for each other. The jobs have no queueing '
    'locks, for which it could wait.';
