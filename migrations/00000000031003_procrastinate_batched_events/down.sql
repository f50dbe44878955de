SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');
SELECT procrastinate_diesel_lock_table_v1('procrastinate_periodic_defers', 'ACCESS EXCLUSIVE');

SELECT procrastinate_diesel_replace_foreign_key_v1('');
DROP FUNCTION procrastinate_diesel_replace_foreign_key_v1(text);

SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_trigger_delete_jobs_v1');
SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_jobs_notify_queue_job_inserted_v1');
SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_trigger_status_events_insert_v1');
SELECT procrastinate_diesel_restore_original_v1('trigger', 'procrastinate_trigger_status_events_update_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_notify_queue_job_inserted_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_trigger_function_status_events_insert_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_trigger_function_status_events_update_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_trigger_function_scheduled_events_v1');
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_unlink_periodic_defers_v1');

DROP TABLE procrastinate_diesel_flow_controls;
