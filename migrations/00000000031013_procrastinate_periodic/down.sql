DROP FUNCTION procrastinate_diesel_defer_periodic_job_v1(
    varchar, text, text, varchar, integer, varchar, bigint, jsonb);
