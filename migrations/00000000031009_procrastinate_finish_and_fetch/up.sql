CREATE TYPE procrastinate_diesel_fetched_v1 AS (
    kind text,
    id bigint,
    queue_name varchar,
    task_name varchar,
    priority integer,
    lock text,
    queueing_lock text,
    args jsonb,
    scheduled_at timestamptz,
    attempts integer,
    abort_requested boolean,
    worker_id bigint,
    problem text,
    wait_seconds double precision);
COMMENT ON TYPE procrastinate_diesel_fetched_v1 IS
    'A job as a worker gets it (kind = fetched), or what happened to one of its jobs: lost, '
    'failed or refused. Or when it makes sense to fetch again (kind = wait).';

CREATE FUNCTION procrastinate_diesel_fetched_v1(job procrastinate_jobs)
    RETURNS SETOF procrastinate_diesel_fetched_v1
    LANGUAGE sql
    STABLE
AS $function$
    SELECT 'fetched'::text, job.id, job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args,
        -- Clients have no value for an infinite time.
        CASE WHEN isfinite(job.scheduled_at) THEN job.scheduled_at END,
        job.attempts, job.abort_requested, job.worker_id, NULL::text, NULL::double precision;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_fetched_v1(procrastinate_jobs) IS
    'The row of a job that a worker gets. The planner replaces a call in FROM by its body.';

CREATE FUNCTION procrastinate_diesel_wait_v1(target_queue_names varchar[], due_at timestamptz)
    RETURNS SETOF procrastinate_diesel_fetched_v1
    LANGUAGE plpgsql
AS $function$
DECLARE
    control CONSTANT text := coalesce(current_setting('procrastinate_diesel.flow_control', true), '');
    counted_at CONSTANT timestamptz := procrastinate_diesel_start_time_v1(due_at);
    rooms procrastinate_diesel_room_v1[];
    outcome procrastinate_diesel_fetched_v1;
BEGIN
    IF control <> '' THEN
        rooms := procrastinate_diesel_rooms_v1(target_queue_names, due_at, false);
        SELECT extract(epoch FROM min(each.next_room_at) - counted_at)
        INTO outcome.wait_seconds
        FROM unnest(rooms) AS each
        WHERE each.room = 0 AND each.is_pending;
        IF EXISTS (SELECT FROM procrastinate_diesel_flow_controls AS each WHERE each.key_path IS NOT NULL) THEN
            outcome.wait_seconds := least(
                outcome.wait_seconds, procrastinate_diesel_key_wait_v1(target_queue_names, rooms, counted_at));
        END IF;
        -- There are more jobs that have not started in time: very many, or others have locked them.
        outcome.wait_seconds := least(
            outcome.wait_seconds, CASE control WHEN 'many' THEN 0 WHEN 'locked' THEN 0.25 END);
        -- A limit that held back the fetch may have room by now.
        IF outcome.wait_seconds IS NOT NULL OR control = 'held back' THEN
            outcome.kind := 'wait';
            outcome.wait_seconds := greatest(outcome.wait_seconds, 0);
            RETURN NEXT outcome;
        END IF;
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_wait_v1(varchar[], timestamptz) IS
    'If a limit holds back pending jobs of these queues, or jobs that have not started in time, a '
    'row (kind = wait) with the seconds until there may be room. Only after '
    'procrastinate_diesel_fetch_jobs_v1.';

CREATE FUNCTION procrastinate_diesel_check_worker_v1(p_worker_id bigint)
    RETURNS void
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- A released worker is about to be deleted.
    IF NOT EXISTS (
        SELECT FROM procrastinate_workers AS worker
        WHERE worker.id = p_worker_id AND worker.last_heartbeat > 'epoch')
    THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('Worker %s is not registered', p_worker_id),
            TABLE = 'procrastinate_jobs',
            CONSTRAINT = 'procrastinate_jobs_worker_id_fkey';
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_check_worker_v1(bigint) IS
    'Raises a violation of the foreign key of the jobs if the worker is not registered.';

-- The settings hold in the functions that it calls, too. Every statement there reads a few rows
-- along an index. The planner must choose that whatever the statistics say, also for a plan that it
-- made when the tables were empty. The plan is made once and never compiled: the settings make
-- every plan seem expensive. With lock_timeout, a row that another transaction holds for long does
-- not delay everything else.
CREATE FUNCTION procrastinate_diesel_finish_and_fetch_jobs_v1(
        p_worker_id bigint, finished_job_ids bigint[], end_statuses procrastinate_job_status[],
        target_queue_names varchar[], free_slots integer, retries jsonb DEFAULT NULL,
        deleted_job_ids bigint[] DEFAULT NULL, errors jsonb DEFAULT NULL, one_by_one boolean DEFAULT false,
        due_at timestamptz DEFAULT NULL, finished_attempts integer[] DEFAULT NULL,
        deleted_attempts integer[] DEFAULT NULL)
    RETURNS SETOF procrastinate_diesel_fetched_v1 LANGUAGE plpgsql
    SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off SET enable_incremental_sort = off
    SET lock_timeout = '5s'
AS $function$
DECLARE
    lost_ids bigint[] := '{}'; failed_ids bigint[]; fetched_ids bigint[];
    problem_kinds text[]; problem_ids bigint[]; problems text[];
    outcome procrastinate_diesel_fetched_v1;
    former_depth CONSTANT text := coalesce(current_setting('procrastinate_diesel.batched_at_depth', true), '');
    depth text := set_config('procrastinate_diesel.batched_at_depth', pg_trigger_depth()::text, true);
BEGIN
    IF one_by_one THEN
        SELECT * INTO lost_ids, failed_ids, problem_kinds, problem_ids, problems
        FROM procrastinate_diesel_finish_one_by_one_v1(
            p_worker_id, finished_job_ids, end_statuses, retries, deleted_job_ids, errors, finished_attempts,
            deleted_attempts);
    ELSE
        -- Errors first, because they belong to attempts of jobs that are still doing.
        IF errors IS NOT NULL THEN
            PERFORM procrastinate_diesel_record_errors_v1(p_worker_id, errors);
        END IF;
        IF cardinality(finished_job_ids) > 0 THEN
            lost_ids := procrastinate_diesel_finish_jobs_v1(
                p_worker_id, finished_job_ids, end_statuses, finished_attempts);
        END IF;
        IF cardinality(deleted_job_ids) > 0 THEN
            lost_ids := lost_ids || procrastinate_diesel_delete_finished_jobs_v1(
                p_worker_id, deleted_job_ids, deleted_attempts);
        END IF;
        IF retries IS NOT NULL THEN
            SELECT lost_ids || requeued.lost, requeued.failed INTO lost_ids, failed_ids
            FROM procrastinate_diesel_requeue_jobs_v1(p_worker_id, retries) AS requeued (lost, failed);
        END IF;
    END IF;
    -- A worker that was considered stalled gets back the jobs that nobody has taken.
    IF cardinality(lost_ids) > 0 THEN
        PERFORM procrastinate_diesel_check_worker_v1(p_worker_id);
    END IF;
    -- After the outcomes, so that a lock that a job releases is taken again.
    IF free_slots > 0 AND one_by_one THEN
        SELECT tried.started_ids, problem_kinds || 'refused'::text, problem_ids || NULL::bigint,
            problems || tried.problem
        INTO fetched_ids, problem_kinds, problem_ids, problems
        FROM procrastinate_diesel_try_fetch_jobs_v1(
            p_worker_id, target_queue_names, free_slots, coalesce(due_at, now())) AS tried;
    ELSIF free_slots > 0 THEN
        fetched_ids := procrastinate_diesel_fetch_jobs_v1(
            p_worker_id, target_queue_names, free_slots, coalesce(due_at, now()));
    END IF;
    depth := set_config('procrastinate_diesel.batched_at_depth', former_depth, true);
    -- Not earlier: a block that is rolled back does not take back returned rows.
    IF cardinality(lost_ids) > 0 OR failed_ids IS NOT NULL OR problems IS NOT NULL THEN
        FOR outcome.kind, outcome.id, outcome.problem IN
            SELECT 'lost', lost.id, NULL FROM unnest(lost_ids) AS lost (id)
            UNION ALL SELECT 'failed', failed.id, NULL FROM unnest(failed_ids) AS failed (id)
            UNION ALL SELECT each.* FROM unnest(problem_kinds, problem_ids, problems) AS each (kind, id, problem)
            WHERE each.problem IS NOT NULL
        LOOP
            RETURN NEXT outcome;
        END LOOP;
    END IF;
    IF free_slots > coalesce(cardinality(fetched_ids), 0) THEN
        RETURN QUERY SELECT * FROM procrastinate_diesel_wait_v1(target_queue_names, coalesce(due_at, now()));
    END IF;
    IF cardinality(fetched_ids) > 0 THEN
        RETURN QUERY
            SELECT fetched.*
            FROM procrastinate_jobs AS job CROSS JOIN LATERAL procrastinate_diesel_fetched_v1(job) AS fetched
            WHERE job.id = ANY (fetched_ids);
    END IF;
END;
$function$;
COMMENT ON FUNCTION procrastinate_diesel_finish_and_fetch_jobs_v1(
    bigint, bigint[], procrastinate_job_status[], varchar[], integer, jsonb, bigint[], jsonb, boolean, timestamptz,
    integer[], integer[]) IS
    'Everything that a worker needs of the database in one call and one transaction. Finishes jobs '
    'with their end statuses, deletes those that are not kept, requeues those that are retried, '
    'stores errors, and fetches jobs for the free slots. The retries are those of '
    'procrastinate_diesel_requeue_jobs_v1, the errors those of '
    'procrastinate_diesel_record_errors_v1. Returns the fetched jobs (kind = fetched), and only '
    'the IDs of the others. kind is lost for jobs that no longer belong to the worker and stay as '
    'they are. It is failed for jobs that failed instead of being requeued. With one_by_one, an '
    'outcome that the database refuses does not keep the others from being stored; it is returned '
    'with the error (kind = refused). If only a part of it is refused, kind is not_deleted, '
    'without_error or without_event, as procrastinate_diesel_finish_one_by_one_v1 says. A refused '
    'row without an ID means that no job could be fetched. If a limit keeps pending jobs from '
    'being fetched, a row says when there may be room (kind = wait). If a job is lost and the '
    'worker is not registered, nothing is done, and it raises a violation of the foreign key of '
    'the jobs. due_at is the time that scheduled jobs are compared with; NULL means now. The '
    'attempts are those of procrastinate_diesel_finish_jobs_v1, in the order of the jobs.';
