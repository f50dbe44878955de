SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');

DROP INDEX procrastinate_diesel_jobs_unsuccessful_idx_v1;
DROP INDEX procrastinate_diesel_jobs_locked_idx_v1;
DROP INDEX procrastinate_diesel_jobs_lock_order_idx_v1;
DROP INDEX procrastinate_diesel_jobs_scheduled_order_idx_v1;
DROP INDEX procrastinate_diesel_jobs_due_idx_v1;
DROP INDEX procrastinate_diesel_jobs_scheduled_idx_v1;
DROP INDEX procrastinate_diesel_jobs_task_idx_v1;

-- Those that existed before are restored.
DROP INDEX idx_procrastinate_jobs_worker_not_null;
DROP INDEX procrastinate_jobs_id_lock_idx_v1;
DROP INDEX procrastinate_jobs_queue_name_idx_v1;
DROP INDEX procrastinate_jobs_priority_idx_v1;
SELECT procrastinate_diesel_restore_original_v1(kind, name)
FROM procrastinate_diesel_originals_v1()
WHERE kind = 'index';

DROP FUNCTION procrastinate_diesel_restore_original_v1(text, text);
DROP FUNCTION procrastinate_diesel_originals_v1();
DROP FUNCTION procrastinate_diesel_lock_table_v1(text, text);
