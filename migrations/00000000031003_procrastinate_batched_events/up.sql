-- Functions that change many jobs at once write the events of all of them in one statement, and
-- send one notification for each queue. For that they put pg_trigger_depth() into the setting
-- procrastinate_diesel.batched_at_depth. The triggers on single rows do nothing at that depth.
-- Functions that delete many jobs do the same.
--
-- A trigger of the application runs one level deeper. The jobs that it changes get their events
-- from the triggers.
--
-- The setting is made with set_config and reset at the end of each function. A SET clause would
-- need a superuser, because the server does not know the setting.

SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');
SELECT procrastinate_diesel_lock_table_v1('procrastinate_periodic_defers', 'ACCESS EXCLUSIVE');

DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.status = 'todo'
        AND current_setting('procrastinate_diesel.batched_at_depth', true)
            IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();

DROP TRIGGER procrastinate_trigger_status_events_insert_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_trigger_status_events_insert_v1
    AFTER INSERT ON procrastinate_jobs FOR EACH ROW
    WHEN (NEW.status = 'todo'
        AND current_setting('procrastinate_diesel.batched_at_depth', true)
            IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_insert_v1();

DROP TRIGGER procrastinate_trigger_status_events_update_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status
        AND current_setting('procrastinate_diesel.batched_at_depth', true)
            IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_trigger_function_status_events_update_v1();

-- A foreign key without an action searches twice for each deleted job, after this trigger has
-- searched once. One that unlinks the job searches once, and needs no trigger.
DROP TRIGGER procrastinate_trigger_delete_jobs_v1 ON procrastinate_jobs;
CREATE TRIGGER procrastinate_trigger_delete_jobs_v1
    BEFORE DELETE ON procrastinate_jobs FOR EACH ROW
    WHEN (current_setting('procrastinate_diesel.batched_at_depth', true)
        IS DISTINCT FROM pg_trigger_depth()::text)
    EXECUTE FUNCTION procrastinate_unlink_periodic_defers_v1();

DO $foreign_key$
DECLARE
    foreign_key text;
BEGIN
    FOR foreign_key IN
        SELECT constraints.conname FROM pg_catalog.pg_constraint AS constraints
        WHERE constraints.conrelid = 'procrastinate_periodic_defers'::regclass
          AND constraints.confrelid = 'procrastinate_jobs'::regclass
          AND constraints.contype = 'f' AND constraints.confdeltype = 'a'
    LOOP
        EXECUTE format(
            'ALTER TABLE procrastinate_periodic_defers DROP CONSTRAINT %1$I, '
            'ADD CONSTRAINT %1$I FOREIGN KEY (job_id) REFERENCES procrastinate_jobs (id) ON DELETE SET NULL',
            foreign_key);
    END LOOP;
END;
$foreign_key$;

-- Here the function checks the setting, not the trigger. It is rarely called, while the condition
-- of a trigger is read for every statement that changes jobs.
CREATE OR REPLACE FUNCTION procrastinate_trigger_function_scheduled_events_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $function$
BEGIN
    -- One level less: this is a trigger itself.
    IF current_setting('procrastinate_diesel.batched_at_depth', true)
            IS DISTINCT FROM (pg_trigger_depth() - 1)::text THEN
        INSERT INTO procrastinate_events (job_id, type, at) VALUES (NEW.id, 'scheduled', NEW.scheduled_at);
    END IF;
    RETURN NULL;
END;
$function$;
COMMENT ON FUNCTION procrastinate_trigger_function_scheduled_events_v1() IS
    'Writes the event of a pending job that is scheduled, dated with the time it is scheduled for. '
    'Does nothing for functions that write the events of many jobs in one statement.';
