DROP FUNCTION procrastinate_diesel_actions_on_job_v1(bigint, bigint, integer);
DROP FUNCTION procrastinate_diesel_record_action_v1(text, text, text, jsonb, bigint);
DROP FUNCTION procrastinate_diesel_end_action_v1(bigint, text);
DROP FUNCTION procrastinate_diesel_change_some_jobs_v1(
    bigint, bigint[], boolean, text, timestamptz, integer, varchar, text);
DROP FUNCTION procrastinate_diesel_begin_action_v1(text, text, text, jsonb, bigint, text);
DROP FUNCTION procrastinate_diesel_delete_old_actions_v1(integer);
DROP FUNCTION procrastinate_diesel_change_jobs_v1(
    bigint[], text, timestamptz, integer, varchar, text, double precision);
DROP FUNCTION procrastinate_diesel_try_change_v1(bigint[], text, timestamptz, integer, varchar);
DROP FUNCTION procrastinate_diesel_apply_change_v1(bigint[], text, timestamptz, integer, varchar);
DROP FUNCTION procrastinate_diesel_announce_changes_v1(bigint[], boolean);
DROP FUNCTION procrastinate_diesel_lock_changeable_v1(bigint[], text, text, double precision);
DROP TABLE procrastinate_diesel_action_jobs;
DROP TABLE procrastinate_diesel_actions;
