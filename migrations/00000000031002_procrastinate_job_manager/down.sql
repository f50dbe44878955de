DROP FUNCTION procrastinate_diesel_delete_old_jobs_v1(procrastinate_job_status[], interval, varchar, integer, jsonb);
DROP FUNCTION procrastinate_diesel_retry_job_v1(bigint, timestamptz, integer, varchar, text);
DROP FUNCTION procrastinate_diesel_finish_job_v1(bigint, procrastinate_job_status, boolean);
DROP INDEX procrastinate_diesel_jobs_unsuccessful_idx_v1;
DROP INDEX procrastinate_diesel_events_final_idx_v1;
