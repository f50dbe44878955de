SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');
SELECT procrastinate_diesel_lock_table_v1('procrastinate_periodic_defers', 'ACCESS EXCLUSIVE');

DO $foreign_key$
DECLARE
    foreign_key text;
BEGIN
    FOR foreign_key IN
        SELECT constraints.conname FROM pg_catalog.pg_constraint AS constraints
        WHERE constraints.conrelid = 'procrastinate_periodic_defers'::regclass
          AND constraints.confrelid = 'procrastinate_jobs'::regclass
          AND constraints.contype = 'f' AND constraints.confdeltype = 'n'
    LOOP
        EXECUTE format(
            'ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT %1$I, '
            'ADD CONSTRAINT %1$I FOREIGN KEY (job_id) REFERENCES procrastinate_jobs (id)',
            foreign_key);
    END LOOP;
END;
$foreign_key$;

SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_trigger_delete_jobs_v1');
SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_jobs_notify_queue_job_inserted_v1');
SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_trigger_status_events_insert_v1');
SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_trigger_status_events_update_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_notify_queue_job_inserted_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_trigger_function_status_events_insert_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_trigger_function_status_events_update_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_trigger_function_scheduled_events_v1');
