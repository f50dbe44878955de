DROP FUNCTION procrastinate_diesel_defer_periodic_job_v1(
    varchar, text, text, varchar, integer, varchar, bigint, jsonb);
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_defer_periodic_job_v2');

-- As the migration found it.
SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');
SELECT procrastinate_diesel_lock_table_v1('procrastinate_periodic_defers', 'ACCESS EXCLUSIVE');
SELECT procrastinate_diesel_replace_foreign_key_v1('ON DELETE SET NULL NOT VALID');
