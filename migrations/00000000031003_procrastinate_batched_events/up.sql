-- Functions that change many jobs at once write the events of all of them in one statement, and
-- send one notification for each queue. For that they put pg_trigger_depth() into the setting
-- procrastinate_diesel.batched_at_depth. The triggers on single rows do nothing at that depth.
--
-- A trigger of the application runs one level deeper. The jobs that it changes get their events
-- from the triggers.
--
-- The setting is made with set_config and reset at the end of each function. A SET clause would
-- need a superuser, because the server does not know the setting.

SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');

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
