DROP FUNCTION procrastinate_diesel_defer_or_replace_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[]);
DROP FUNCTION procrastinate_diesel_upsert_jobs_v1(
    varchar[], varchar[], integer[], text[], text[], jsonb[], timestamptz[], text[]);
DROP FUNCTION procrastinate_diesel_clear_options_v1(bigint[], text[], text[]);
DROP FUNCTION procrastinate_diesel_report_upserts_v1(bigint[], text[], varchar[], varchar[], timestamptz[]);
