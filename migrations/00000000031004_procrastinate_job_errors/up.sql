-- Locked first, because the foreign key would wait for its lock without a limit.
SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'SHARE ROW EXCLUSIVE');

CREATE TABLE procrastinate_diesel_job_errors (
    job_id bigint NOT NULL REFERENCES procrastinate_jobs (id) ON DELETE CASCADE,
    attempt integer NOT NULL,
    error text NOT NULL,
    worker_id bigint,
    worker_name text,
    duration_seconds double precision,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, attempt));
COMMENT ON TABLE procrastinate_diesel_job_errors IS
    'Why attempts of jobs failed. One row for each attempt that ended with an error.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.job_id IS 'The job.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.attempt IS 'The number of the attempt, from 1.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.error IS
    'The error with all its sources, or the message and location of the panic.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.worker_id IS
    'The worker that ran the job. NULL if it is unknown.';
COMMENT ON COLUMN procrastinate_diesel_job_errors.duration_seconds IS
    'How long the attempt took. NULL if its worker died.';
