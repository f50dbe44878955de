DROP FUNCTION procrastinate_diesel_jobs_of_worker_v1(bigint, bigint[]);
DROP FUNCTION procrastinate_diesel_update_heartbeat_v1(bigint);
DROP FUNCTION procrastinate_diesel_finish_and_fetch_jobs_v1(bigint, bigint[], procrastinate_job_status[], varchar[], integer, jsonb);
DROP FUNCTION procrastinate_diesel_defer_jobs_v1(varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[]);
DROP INDEX procrastinate_diesel_jobs_lock_order_idx_v1;
