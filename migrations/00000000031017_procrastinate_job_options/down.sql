DROP FUNCTION procrastinate_diesel_tend_job_options_v1(bigint, timestamptz);
DROP FUNCTION procrastinate_diesel_remove_deadlines_v1();
DROP FUNCTION procrastinate_diesel_expire_jobs_v1(timestamptz);
DROP FUNCTION procrastinate_diesel_expire_some_jobs_v1(timestamptz, integer);
DROP FUNCTION procrastinate_diesel_living_holders_v1(text[]);
DROP FUNCTION procrastinate_diesel_expire_holders_v1(text[]);
DROP FUNCTION procrastinate_diesel_expire_job_v1(bigint);
DROP FUNCTION procrastinate_diesel_expire_pending_v1(bigint[]);
DROP FUNCTION procrastinate_diesel_defer_with_options_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[], timestamptz[], text[]);
DROP FUNCTION procrastinate_diesel_store_options_v1(bigint[], text[], text[], timestamptz[], text[]);
DROP FUNCTION procrastinate_diesel_mark_deadlines_v1();
DELETE FROM procrastinate_diesel_flow_controls WHERE kind = 'deadline';
