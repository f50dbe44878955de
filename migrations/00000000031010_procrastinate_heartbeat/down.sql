DROP FUNCTION procrastinate_diesel_reregister_worker_v1(bigint, bigint, bigint[], integer[]);
DROP FUNCTION procrastinate_diesel_draw_worker_id_v1();
DROP FUNCTION procrastinate_diesel_jobs_of_worker_v1(bigint, bigint[]);
DROP FUNCTION procrastinate_diesel_held_jobs_v1(bigint);
DROP FUNCTION procrastinate_diesel_update_heartbeat_v1(bigint);
