SELECT procrastinate_diesel_lock_table_v1('procrastinate_events', 'ACCESS EXCLUSIVE');

DROP FUNCTION procrastinate_diesel_delete_old_jobs_v1(
    procrastinate_job_status[], interval, varchar, integer, jsonb);
DROP FUNCTION procrastinate_diesel_delete_jobs_if_old_v1(
    bigint[], procrastinate_job_status[], timestamptz, varchar);
DROP FUNCTION procrastinate_diesel_delete_aborted_jobs_v1(timestamptz, varchar, integer);
DROP INDEX procrastinate_diesel_events_final_idx_v1;
