SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_fetch_job_v2');

DROP FUNCTION procrastinate_diesel_try_fetch_jobs_v1(bigint, varchar[], integer, timestamptz);
DROP FUNCTION procrastinate_diesel_ends_statement_v1(text);
DROP FUNCTION procrastinate_diesel_fetch_jobs_v1(bigint, varchar[], integer, timestamptz);
DROP FUNCTION procrastinate_diesel_fetch_uncounted_jobs_v1(bigint, varchar[], integer, timestamptz);
DROP FUNCTION procrastinate_diesel_fetch_controlled_jobs_v1(
    bigint, varchar[], procrastinate_diesel_flow_v1, integer, timestamptz);
DROP FUNCTION procrastinate_diesel_fetch_and_start_v1(
    bigint, varchar[], procrastinate_diesel_flow_v1, integer, timestamptz);
DROP FUNCTION procrastinate_diesel_fetch_jobs_one_by_one_v1(
    bigint, varchar[], procrastinate_diesel_flow_v1, integer, timestamptz);
DROP FUNCTION procrastinate_diesel_start_jobs_v1(bigint, bigint[]);
DROP FUNCTION procrastinate_diesel_lock_next_jobs_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_lock_candidates_v1(
    procrastinate_diesel_flow_v1, bigint[], bigint[], text[], integer, timestamptz, bigint[], bigint[]);
DROP FUNCTION procrastinate_diesel_find_candidates_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_find_lock_heads_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_remember_many_v1(text, boolean);
DROP FUNCTION procrastinate_diesel_had_many_v1(text);
DROP FUNCTION procrastinate_diesel_find_heads_by_queue_v1(
    procrastinate_diesel_flow_v1, integer, bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_find_heads_by_lock_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_find_first_heads_v1(
    procrastinate_diesel_flow_v1, integer, integer, bigint[], text, timestamptz);
DROP FUNCTION procrastinate_diesel_queues_with_locks_v1(varchar[]);
DROP FUNCTION procrastinate_diesel_find_due_jobs_v1(procrastinate_diesel_flow_v1, integer, bigint[], timestamptz);
DROP FUNCTION procrastinate_diesel_scheduled_queues_v1(varchar[]);
DROP FUNCTION procrastinate_diesel_find_unlocked_jobs_v1(procrastinate_diesel_flow_v1, integer, bigint[]);
DROP FUNCTION procrastinate_diesel_find_jobs_by_task_v1(procrastinate_diesel_flow_v1, integer, bigint[]);
DROP FUNCTION procrastinate_diesel_is_any_pending_v1(varchar[], timestamptz);
DROP FUNCTION procrastinate_diesel_fetch_unlocked_jobs_v1(
    bigint, varchar[], integer, timestamptz, boolean, boolean, varchar[], varchar[], boolean);
