-- Drops what the up migration created. An adopted database keeps its tables and jobs.

DO $drop$
BEGIN

IF to_regclass(quote_ident(current_schema()) || '.procrastinate_jobs') IS NULL
   OR coalesce(
        obj_description(to_regclass(quote_ident(current_schema()) || '.procrastinate_jobs'), 'pg_class')
            NOT LIKE '%Created by the migrations of the procrastinate crate.%', true)
THEN
    RAISE NOTICE 'The tables of Procrastinate were not created by this migration; they stay.';
    RETURN;
END IF;

-- In the order in which every statement locks them.
LOCK TABLE procrastinate_jobs, procrastinate_periodic_defers, procrastinate_events, procrastinate_workers;
-- It returns a row of the table, so it goes first.
DROP FUNCTION procrastinate_fetch_job_v2(varchar[], bigint);
DROP TABLE procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs, procrastinate_workers;
DROP FUNCTION
    procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[]),
    procrastinate_defer_periodic_job_v2(varchar, varchar, varchar, varchar, integer, varchar, bigint, jsonb),
    procrastinate_finish_job_v1(bigint, procrastinate_job_status, boolean),
    procrastinate_cancel_job_v1(bigint, boolean, boolean),
    procrastinate_retry_job_v1(bigint, timestamptz, integer, varchar, varchar),
    procrastinate_retry_job_v2(bigint, timestamptz, integer, varchar, varchar),
    procrastinate_register_worker_v1(),
    procrastinate_unregister_worker_v1(bigint),
    procrastinate_update_heartbeat_v1(bigint),
    procrastinate_prune_stalled_workers_v1(float),
    procrastinate_notify_queue_job_inserted_v1(),
    procrastinate_notify_queue_abort_job_v1(),
    procrastinate_trigger_function_status_events_insert_v1(),
    procrastinate_trigger_function_status_events_update_v1(),
    procrastinate_trigger_function_scheduled_events_v1(),
    procrastinate_trigger_abort_requested_events_procedure_v1(),
    procrastinate_unlink_periodic_defers_v1();
DROP TYPE procrastinate_job_to_defer_v1, procrastinate_job_event_type, procrastinate_job_status;

END;
$drop$;
