CREATE TABLE orders (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer text NOT NULL,
    email text NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    placed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE invoices (
    number bigint PRIMARY KEY,
    order_id bigint NOT NULL UNIQUE REFERENCES orders (id)
);

-- The jobs about an order. Old jobs are deleted after a while, but the row remains.
CREATE TABLE order_jobs (
    order_id bigint NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    purpose text NOT NULL,
    job_id bigint REFERENCES procrastinate_jobs (id) ON DELETE SET NULL,
    PRIMARY KEY (order_id, purpose)
);
-- Deleting a job searches for rows that refer to it.
CREATE INDEX order_jobs_job_id ON order_jobs (job_id);
