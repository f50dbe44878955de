CREATE TABLE orders (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer text NOT NULL,
    amount_cents bigint NOT NULL,
    -- The job that sends the confirmation. When old jobs are deleted, the order stays.
    mail_job_id bigint REFERENCES procrastinate_jobs (id) ON DELETE SET NULL
);
