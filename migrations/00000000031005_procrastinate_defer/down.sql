DROP FUNCTION procrastinate_diesel_defer_each_job_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[]);
DROP FUNCTION procrastinate_diesel_defer_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[]);
DROP FUNCTION procrastinate_diesel_notify_jobs_v1(bigint[], varchar[]);
DROP FUNCTION procrastinate_diesel_notify_queue_v1(varchar, bigint);
