DROP FUNCTION procrastinate_diesel_rescue_jobs_v1(jsonb);
DROP FUNCTION procrastinate_diesel_jobs_without_worker_v1(varchar[]);
DROP FUNCTION procrastinate_diesel_register_worker_again_v1(bigint[], integer[]);
DROP FUNCTION procrastinate_diesel_jobs_of_worker_v1(bigint, bigint[]);
DROP FUNCTION procrastinate_diesel_update_heartbeat_v1(bigint);
DROP FUNCTION procrastinate_fetch_job_v2(varchar[], bigint);
ALTER FUNCTION procrastinate_diesel_kept_fetch_job_v2(varchar[], bigint) RENAME TO procrastinate_fetch_job_v2;
DROP FUNCTION procrastinate_diesel_finish_and_fetch_jobs_v1(bigint, bigint[], procrastinate_job_status[], varchar[], integer, jsonb, bigint[], jsonb);
DROP FUNCTION procrastinate_diesel_hold_next_jobs_v1(varchar[], integer, bigint[], text);
DROP FUNCTION procrastinate_diesel_start_free_jobs_v1(bigint, varchar[], integer);
DROP FUNCTION procrastinate_diesel_put_back_job_v1(bigint, bigint, integer, timestamptz, integer, varchar, text, boolean);
DROP FUNCTION procrastinate_diesel_defer_jobs_v1(varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[]);
DROP FUNCTION procrastinate_diesel_store_job_v1(varchar, varchar, integer, text, text, jsonb, timestamptz);
DROP FUNCTION procrastinate_diesel_announce_jobs_v1(bigint[], varchar[]);
DROP TABLE procrastinate_diesel_job_errors;

DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
ALTER TRIGGER procrastinate_diesel_kept_notify_queue_job_inserted_v1 ON procrastinate_jobs RENAME TO procrastinate_jobs_notify_queue_job_inserted_v1;
ALTER TABLE procrastinate_jobs ENABLE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1;

DROP TRIGGER procrastinate_trigger_status_events_insert_v1 ON procrastinate_jobs;
ALTER TRIGGER procrastinate_diesel_kept_status_events_insert_v1 ON procrastinate_jobs RENAME TO procrastinate_trigger_status_events_insert_v1;
ALTER TABLE procrastinate_jobs ENABLE TRIGGER procrastinate_trigger_status_events_insert_v1;

DROP TRIGGER procrastinate_trigger_scheduled_events_v1 ON procrastinate_jobs;
DROP FUNCTION procrastinate_trigger_function_scheduled_events_v1();
ALTER FUNCTION procrastinate_diesel_kept_scheduled_events_v1() RENAME TO procrastinate_trigger_function_scheduled_events_v1;
ALTER TRIGGER procrastinate_diesel_kept_scheduled_events_v1 ON procrastinate_jobs RENAME TO procrastinate_trigger_scheduled_events_v1;
ALTER TABLE procrastinate_jobs ENABLE TRIGGER procrastinate_trigger_scheduled_events_v1;

DROP TRIGGER procrastinate_trigger_status_events_update_v1 ON procrastinate_jobs;
ALTER TRIGGER procrastinate_diesel_kept_status_events_update_v1 ON procrastinate_jobs RENAME TO procrastinate_trigger_status_events_update_v1;
ALTER TABLE procrastinate_jobs ENABLE TRIGGER procrastinate_trigger_status_events_update_v1;

DROP INDEX procrastinate_diesel_jobs_without_worker_idx_v1;
DROP INDEX idx_procrastinate_jobs_worker_not_null;
CREATE INDEX idx_procrastinate_jobs_worker_not_null ON procrastinate_jobs (worker_id)
    WHERE worker_id IS NOT NULL AND status = 'doing';
DROP INDEX procrastinate_jobs_id_lock_idx_v1;
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON procrastinate_jobs (id, lock) WHERE status IN ('todo', 'doing');
DROP INDEX procrastinate_diesel_jobs_locked_idx_v1;
DROP INDEX procrastinate_diesel_jobs_lock_order_idx_v1;
DROP INDEX procrastinate_diesel_jobs_scheduled_order_idx_v1;
DROP INDEX procrastinate_diesel_jobs_due_idx_v1;
DROP INDEX procrastinate_diesel_jobs_scheduled_idx_v1;
DROP INDEX procrastinate_jobs_queue_name_idx_v1;
CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON procrastinate_jobs (queue_name);
DROP INDEX procrastinate_jobs_priority_idx_v1;
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON procrastinate_jobs (priority DESC, id) WHERE status = 'todo';
