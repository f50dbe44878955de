SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');
DROP TRIGGER procrastinate_diesel_note_unscheduled_job_v1 ON procrastinate_jobs;
DROP FUNCTION procrastinate_diesel_note_unscheduled_job_v1();

-- Without these functions, nothing may start under such a limit.
SELECT procrastinate_diesel_limit_keys_v1(control.kind, control.name, NULL, NULL, NULL, NULL)
FROM procrastinate_diesel_flow_controls AS control
WHERE control.key_path IS NOT NULL;
DELETE FROM procrastinate_diesel_keyed_jobs;
DELETE FROM procrastinate_diesel_limit_keys;

DROP FUNCTION procrastinate_diesel_limit_keys_v1(text, varchar, text[], integer, integer, double precision);
DROP FUNCTION procrastinate_diesel_key_wait_v1(varchar[], procrastinate_diesel_room_v1[], timestamptz);
DROP FUNCTION procrastinate_diesel_start_keyed_jobs_v1(bigint[], timestamptz);
DROP FUNCTION procrastinate_diesel_still_keyed_v1(bigint[], text[], bigint[], bigint[]);
DROP FUNCTION procrastinate_diesel_find_keyed_jobs_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], bigint[], text, timestamptz, boolean);
DROP FUNCTION procrastinate_diesel_open_keys_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_rouse_keys_v1();
DROP FUNCTION procrastinate_diesel_find_waiting_keys_v1(procrastinate_diesel_flow_v1);
DROP FUNCTION procrastinate_diesel_let_keys_wait_v1(
    procrastinate_diesel_key_room_v1[], procrastinate_diesel_flow_v1, timestamptz, interval);
DROP FUNCTION procrastinate_diesel_find_heads_of_keys_v1(
    procrastinate_diesel_flow_v1, procrastinate_diesel_key_room_v1[], integer, integer, bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_lock_job_v1(bigint);
DROP FUNCTION procrastinate_diesel_key_rooms_v1(bigint[], integer, timestamptz);
DROP FUNCTION procrastinate_diesel_unassigned_running_jobs_v1();
DROP FUNCTION procrastinate_diesel_lock_keys_v1(procrastinate_diesel_flow_v1, integer, bigint[]);
DROP FUNCTION procrastinate_diesel_add_keys_v1(procrastinate_diesel_flow_v1, varchar[], timestamptz);
DROP FUNCTION procrastinate_diesel_assign_keys_v1(integer, timestamptz);
DROP FUNCTION procrastinate_diesel_insert_keys_v1(procrastinate_diesel_keyed_job_v1[]);
DROP FUNCTION procrastinate_diesel_find_keys_v1(bigint[]);
DROP FUNCTION procrastinate_diesel_lock_noted_jobs_v1(integer, timestamptz);
DROP FUNCTION procrastinate_diesel_clean_keys_v1(integer);
DROP FUNCTION procrastinate_diesel_unchecked_limits_v1();
DROP FUNCTION procrastinate_diesel_check_keyed_jobs_v1(timestamptz);
DROP FUNCTION procrastinate_diesel_compare_keyed_jobs_v1(
    text, varchar, timestamptz, boolean, boolean, timestamptz, timestamptz);
DROP FUNCTION procrastinate_diesel_note_unlimited_jobs_v1(integer);
DROP FUNCTION procrastinate_diesel_remove_idle_keys_v1(text, varchar, integer);
DROP FUNCTION procrastinate_diesel_wake_keys_v1(text, varchar, timestamptz);
DROP FUNCTION procrastinate_diesel_note_outdated_jobs_v1(text, varchar, integer, boolean);
DROP FUNCTION procrastinate_diesel_note_missing_jobs_v1(text, varchar, integer, boolean);
DROP FUNCTION procrastinate_diesel_unfinished_jobs_v1(text, varchar);
DROP FUNCTION procrastinate_diesel_key_of_job_v1(bigint, jsonb, text[]);
DROP TYPE procrastinate_diesel_key_head_v1;
DROP TYPE procrastinate_diesel_keyed_job_v1;
DROP FUNCTION procrastinate_diesel_end_keyed_jobs_v1(bigint[]);
DROP FUNCTION procrastinate_diesel_note_ended_jobs_v1(bigint[], boolean);
DROP FUNCTION procrastinate_diesel_note_next_of_locks_v1(bigint[]);
DROP FUNCTION procrastinate_diesel_note_keyed_jobs_v1(bigint[], varchar[], varchar[]);
