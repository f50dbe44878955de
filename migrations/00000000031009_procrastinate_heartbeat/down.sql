DROP FUNCTION procrastinate_diesel_reregister_worker_v1(bigint[], integer[]);
DROP FUNCTION procrastinate_diesel_jobs_of_worker_v1(bigint, bigint[]);
DROP FUNCTION procrastinate_diesel_update_heartbeat_v1(bigint);
