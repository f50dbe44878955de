DROP FUNCTION procrastinate_diesel_tend_unique_keys_v1(bigint);
SELECT procrastinate_diesel_restore_original_v1('function', 'procrastinate_finish_job_v1');
DROP FUNCTION procrastinate_diesel_defer_unique_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[], timestamptz[], text[], text[],
    double precision[]);
DROP FUNCTION procrastinate_diesel_settle_keys_v1(text[], bigint[], bigint[], text[]);
DROP FUNCTION procrastinate_diesel_defer_claimed_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[], timestamptz[], text[], bigint[]);
DROP FUNCTION procrastinate_diesel_claim_keys_v1(text[], double precision[], text[]);
DROP FUNCTION procrastinate_diesel_claim_key_v1(text, double precision);
DROP FUNCTION procrastinate_diesel_key_free_at_v1(bigint, double precision, timestamptz);
