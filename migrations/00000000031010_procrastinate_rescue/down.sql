DROP FUNCTION procrastinate_diesel_rescue_jobs_v1(jsonb);
DROP FUNCTION procrastinate_diesel_jobs_without_worker_v1(varchar[]);
