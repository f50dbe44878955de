DROP FUNCTION procrastinate_diesel_finish_one_by_one_v1(
    bigint, bigint[], procrastinate_job_status[], jsonb, bigint[], jsonb, integer[], integer[]);
DROP FUNCTION procrastinate_diesel_store_outcome_v1(
    bigint, bigint, integer, procrastinate_job_status, jsonb, boolean, jsonb, boolean);
DROP FUNCTION procrastinate_diesel_requeue_jobs_v1(bigint, jsonb);
DROP FUNCTION procrastinate_diesel_requeue_job_v1(
    bigint, bigint, integer, timestamptz, integer, varchar, text, boolean);
DROP FUNCTION procrastinate_diesel_delete_finished_jobs_v1(bigint, bigint[], integer[]);
DROP FUNCTION procrastinate_diesel_end_keys_v1(bigint[]);
DROP FUNCTION procrastinate_diesel_finish_jobs_v1(bigint, bigint[], procrastinate_job_status[], integer[]);
DROP FUNCTION procrastinate_diesel_check_unchanged_v1(bigint, bigint[], integer[]);
DROP FUNCTION procrastinate_diesel_record_errors_v1(bigint, jsonb);
