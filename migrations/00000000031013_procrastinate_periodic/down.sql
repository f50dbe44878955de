DROP FUNCTION procrastinate_diesel_defer_periodic_job_v1(
    varchar, text, text, varchar, integer, varchar, bigint, jsonb);

-- As the migration found it.
SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'SHARE ROW EXCLUSIVE');
SELECT procrastinate_diesel_lock_table_v1('procrastinate_periodic_defers', 'ACCESS EXCLUSIVE');
DO $foreign_key$
DECLARE
    foreign_key text;
BEGIN
    FOR foreign_key IN
        SELECT constraints.conname FROM pg_catalog.pg_constraint AS constraints
        WHERE constraints.conrelid = 'procrastinate_periodic_defers'::regclass
          AND constraints.confrelid = 'procrastinate_jobs'::regclass
          AND constraints.contype = 'f' AND constraints.confdeltype = 'n'
    LOOP
        EXECUTE format(
            'ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT %1$I, '
            'ADD CONSTRAINT %1$I FOREIGN KEY (job_id) REFERENCES procrastinate_jobs (id) '
            'ON DELETE SET NULL NOT VALID',
            foreign_key);
    END LOOP;
END;
$foreign_key$;
