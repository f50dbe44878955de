SELECT procrastinate_diesel_lock_table_v1('procrastinate_jobs', 'ACCESS EXCLUSIVE');

DROP TABLE procrastinate_diesel_job_errors;
