DROP FUNCTION procrastinate_diesel_retry_job_v1(bigint, timestamptz, integer, varchar, text);
DROP FUNCTION procrastinate_diesel_finish_job_v1(bigint, procrastinate_job_status, boolean);
