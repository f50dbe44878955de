DROP FUNCTION procrastinate_diesel_defer_scheduled_jobs_v1(
    varchar[], text[], varchar[], integer[], varchar[], bigint[], jsonb[], bigint[], timestamptz[], text[]);
DROP FUNCTION procrastinate_diesel_defer_scheduled_job_v1(
    varchar, text, text, varchar, integer, varchar, bigint, jsonb, bigint, timestamptz, timestamptz, text);
DROP FUNCTION procrastinate_diesel_store_tick_options_v1(bigint, timestamptz, text);
DROP FUNCTION procrastinate_diesel_skip_tick_v1(varchar, varchar, bigint, double precision);
DROP FUNCTION procrastinate_diesel_register_schedules_v1(jsonb);
DROP FUNCTION procrastinate_diesel_change_schedule_v1(varchar, varchar, jsonb, timestamptz);
DROP FUNCTION procrastinate_diesel_create_schedule_v1(varchar, varchar, jsonb, timestamptz);
DROP TABLE procrastinate_diesel_schedules;
DROP FUNCTION procrastinate_diesel_notify_schedules_v1();
