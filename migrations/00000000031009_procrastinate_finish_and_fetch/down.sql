DROP FUNCTION procrastinate_diesel_finish_and_fetch_jobs_v1(
    bigint, bigint[], procrastinate_job_status[], varchar[], integer, jsonb, bigint[], jsonb, boolean, timestamptz,
    integer[], integer[]);
DROP FUNCTION procrastinate_diesel_wait_v1(varchar[], timestamptz);
DROP FUNCTION procrastinate_diesel_check_worker_v1(bigint);
DROP FUNCTION procrastinate_diesel_fetched_v1(procrastinate_jobs);
DROP TYPE procrastinate_diesel_fetched_v1;
