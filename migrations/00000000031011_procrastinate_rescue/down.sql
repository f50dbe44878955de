DROP FUNCTION procrastinate_diesel_rescue_jobs_v1(jsonb);
DROP FUNCTION procrastinate_diesel_rescue_job_v1(
    bigint, integer, boolean, timestamptz, integer, varchar, text, text);
DROP FUNCTION procrastinate_diesel_jobs_without_worker_v1(varchar[], bigint);
DROP FUNCTION procrastinate_diesel_unregister_worker_v1(bigint, integer);
DROP FUNCTION procrastinate_diesel_remove_worker_v1(bigint, integer);
DROP FUNCTION procrastinate_diesel_release_stalled_workers_v1(double precision);
DROP FUNCTION procrastinate_diesel_release_worker_v1(bigint, timestamptz);
