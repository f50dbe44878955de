DROP TABLE order_jobs;
DROP TABLE invoices;
DROP TABLE orders;
