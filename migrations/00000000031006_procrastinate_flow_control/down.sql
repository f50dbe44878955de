DROP FUNCTION procrastinate_diesel_set_limit_v1(text, varchar, integer, integer, double precision);
DROP FUNCTION procrastinate_diesel_resume_v1(text, varchar);
DROP FUNCTION procrastinate_diesel_skips_tick_v1(varchar, varchar);
DROP FUNCTION procrastinate_diesel_pause_v1(text, varchar, text, text, boolean);
DROP FUNCTION procrastinate_diesel_notify_of_room_v1(text, varchar);
DROP FUNCTION procrastinate_diesel_first_of_queue_v1(varchar);
DROP FUNCTION procrastinate_diesel_count_starts_v1(procrastinate_diesel_flow_v1, bigint[], timestamptz);
DROP FUNCTION procrastinate_diesel_correct_starts_v1(
    procrastinate_diesel_recorded_starts_v1, bigint[], timestamptz);
DROP FUNCTION procrastinate_diesel_record_starts_v1(
    text, varchar, integer, double precision, timestamptz, integer);
DROP FUNCTION procrastinate_diesel_read_flow_v1(varchar[], integer, timestamptz);
DROP FUNCTION procrastinate_diesel_lock_rooms_v1(varchar[], integer, timestamptz);
DROP FUNCTION procrastinate_diesel_lock_limits_v1(procrastinate_diesel_room_v1[], integer);
DROP FUNCTION procrastinate_diesel_add_limit_states_v1(text, varchar, integer);
DROP FUNCTION procrastinate_diesel_take_limit_v1(text, varchar, integer, boolean);
DROP FUNCTION procrastinate_diesel_take_jobs_left_v1(varchar[], integer, timestamptz);
DROP FUNCTION procrastinate_diesel_take_from_slot_v1(
    text, varchar, integer, timestamptz, double precision, timestamptz);
DROP FUNCTION procrastinate_diesel_keep_jobs_left_v1(procrastinate_diesel_room_v1, integer);
DROP FUNCTION procrastinate_diesel_take_slot_v1(text, varchar, boolean);
DROP FUNCTION procrastinate_diesel_limit_lock_v1(text, varchar);
DROP FUNCTION procrastinate_diesel_suits_slot_v1(procrastinate_diesel_room_v1, integer, integer);
DROP FUNCTION procrastinate_diesel_without_keys_v1(procrastinate_diesel_flow_v1);
DROP FUNCTION procrastinate_diesel_pending_queues_v1();
DROP FUNCTION procrastinate_diesel_rooms_v1(varchar[], timestamptz, boolean);
DROP FUNCTION procrastinate_diesel_add_starts_v1(
    timestamptz[], integer[], double precision, timestamptz, integer);
DROP FUNCTION procrastinate_diesel_entry_end_v1(timestamptz, double precision);
DROP FUNCTION procrastinate_diesel_recent_starts_v1(timestamptz[], integer[], double precision, timestamptz);
DROP FUNCTION procrastinate_diesel_start_time_v1(timestamptz);
DROP FUNCTION procrastinate_diesel_count_running_v1(text, varchar);
DROP FUNCTION procrastinate_diesel_is_task_pending_v1(varchar, varchar[]);
DROP TYPE procrastinate_diesel_recorded_starts_v1;
DROP TYPE procrastinate_diesel_room_v1;
DROP TYPE procrastinate_diesel_key_room_v1;
DROP TYPE procrastinate_diesel_flow_v1;
DROP FUNCTION procrastinate_diesel_is_expired_v1(bigint, timestamptz);
DROP TABLE procrastinate_diesel_unique_keys;
DROP TABLE procrastinate_diesel_job_options;
DROP TABLE procrastinate_diesel_keyed_jobs;
DROP TABLE procrastinate_diesel_limit_keys;
DROP TABLE procrastinate_diesel_limit_states;
