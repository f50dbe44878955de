// @generated automatically by Diesel CLI.

pub mod sql_types {
    #[derive(diesel::query_builder::QueryId, Clone, Copy, Debug, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "procrastinate_job_event_type"))]
    pub struct ProcrastinateJobEventType;

    #[derive(diesel::query_builder::QueryId, Clone, Copy, Debug, diesel::sql_types::SqlType)]
    #[diesel(postgres_type(name = "procrastinate_job_status"))]
    pub struct ProcrastinateJobStatus;
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_action_jobs (action_id, first_job_id) {
        action_id -> Int8,
        first_job_id -> Int8,
        job_ids -> Array<Nullable<Int8>>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_actions (id) {
        id -> Int8,
        at -> Timestamptz,
        actor -> Text,
        action -> Text,
        target -> Text,
        details -> Jsonb,
        selected -> Nullable<Int8>,
        changed -> Int8,
        skipped -> Int8,
        refused -> Int8,
        finished_at -> Nullable<Timestamptz>,
        problem -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_flow_controls (kind, name) {
        kind -> Text,
        #[max_length = 128]
        name -> Varchar,
        paused_at -> Nullable<Timestamptz>,
        paused_by -> Nullable<Text>,
        pause_reason -> Nullable<Text>,
        skips_ticks -> Bool,
        max_running -> Nullable<Int4>,
        max_starts -> Nullable<Int4>,
        start_period_seconds -> Nullable<Float8>,
        key_path -> Nullable<Array<Nullable<Text>>>,
        key_max_running -> Nullable<Int4>,
        key_max_starts -> Nullable<Int4>,
        key_start_period_seconds -> Nullable<Float8>,
        changed_at -> Timestamptz,
        keys_changed_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_job_errors (job_id, attempt) {
        job_id -> Int8,
        attempt -> Int4,
        error -> Text,
        worker_id -> Nullable<Int8>,
        worker_name -> Nullable<Text>,
        duration_seconds -> Nullable<Float8>,
        at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_job_options (job_id) {
        job_id -> Int8,
        start_before -> Nullable<Timestamptz>,
        limit_key -> Nullable<Text>,
        checked_at -> Nullable<Timestamptz>,
        is_expired -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_keyed_jobs (job_id) {
        job_id -> Int8,
        state -> Text,
        key_id -> Nullable<Int8>,
        priority -> Int4,
        scheduled_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_limit_keys (id) {
        id -> Int8,
        kind -> Text,
        #[max_length = 128]
        name -> Varchar,
        key_path -> Array<Nullable<Text>>,
        key -> Text,
        is_ready -> Bool,
        is_nearly_full -> Bool,
        wakes_at -> Nullable<Timestamptz>,
        waits_for_room -> Bool,
        vain_searches -> Int4,
        top_priority -> Int4,
        turn -> Timestamptz,
        started_at -> Array<Nullable<Timestamptz>>,
        counted_starts -> Array<Nullable<Int4>>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_limit_states (kind, name, slot) {
        kind -> Text,
        #[max_length = 128]
        name -> Varchar,
        slot -> Int4,
        fetches -> Int8,
        started_at -> Array<Nullable<Timestamptz>>,
        counted_starts -> Array<Nullable<Int4>>,
        jobs_per_slot -> Nullable<Int4>,
        jobs_left -> Int4,
        counted_under -> Nullable<Timestamptz>,
        keys_checked_at -> Nullable<Timestamptz>,
        keys_checked_under -> Nullable<Timestamptz>,
        keys_woken_at -> Nullable<Timestamptz>,
        keys_woken_under -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_priority_ageings (queue_name) {
        #[max_length = 128]
        queue_name -> Varchar,
        every_seconds -> Float8,
        step -> Int4,
        max_priority -> Int4,
        last_aged_at -> Nullable<Timestamptz>,
        last_job_id -> Int8,
        pass_began_at -> Nullable<Timestamptz>,
        pass_last_job_id -> Int8,
        pass_stage -> Int4,
        pass_priority -> Nullable<Int4>,
        pass_job_id -> Int8,
        changed_at -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_schedules (task_name, periodic_id) {
        #[max_length = 128]
        task_name -> Varchar,
        #[max_length = 128]
        periodic_id -> Varchar,
        cron -> Nullable<Text>,
        interval_seconds -> Nullable<Int8>,
        time_zone -> Nullable<Text>,
        args -> Jsonb,
        #[max_length = 128]
        queue_name -> Nullable<Varchar>,
        priority -> Nullable<Int4>,
        lock -> Nullable<Text>,
        queueing_lock -> Nullable<Text>,
        start_within_seconds -> Nullable<Float8>,
        limit_key -> Nullable<Text>,
        missed_ticks -> Text,
        max_delay_seconds -> Nullable<Int8>,
        overlap -> Text,
        ticks_after -> Nullable<Timestamptz>,
        paused_at -> Nullable<Timestamptz>,
        paused_by -> Nullable<Text>,
        pause_reason -> Nullable<Text>,
        run_requested_at -> Nullable<Timestamptz>,
        last_job_id -> Nullable<Int8>,
        seen_in_code_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        changed_at -> Timestamptz,
        version -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_diesel_unique_keys (key) {
        key -> Text,
        job_id -> Int8,
        period_seconds -> Float8,
        free_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::ProcrastinateJobEventType;

    procrastinate_events (id) {
        id -> Int8,
        job_id -> Int8,
        #[sql_name = "type"]
        type_ -> Nullable<ProcrastinateJobEventType>,
        at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::ProcrastinateJobStatus;

    procrastinate_jobs (id) {
        id -> Int8,
        #[max_length = 128]
        queue_name -> Varchar,
        #[max_length = 128]
        task_name -> Varchar,
        priority -> Int4,
        lock -> Nullable<Text>,
        queueing_lock -> Nullable<Text>,
        args -> Jsonb,
        status -> ProcrastinateJobStatus,
        scheduled_at -> Nullable<Timestamptz>,
        attempts -> Int4,
        abort_requested -> Bool,
        worker_id -> Nullable<Int8>,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_periodic_defers (id) {
        id -> Int8,
        #[max_length = 128]
        task_name -> Varchar,
        defer_timestamp -> Nullable<Int8>,
        job_id -> Nullable<Int8>,
        #[max_length = 128]
        periodic_id -> Varchar,
    }
}

diesel::table! {
    use diesel::sql_types::*;

    procrastinate_workers (id) {
        id -> Int8,
        last_heartbeat -> Timestamptz,
    }
}

diesel::joinable!(procrastinate_diesel_action_jobs -> procrastinate_diesel_actions (action_id));
diesel::joinable!(procrastinate_diesel_job_errors -> procrastinate_jobs (job_id));
diesel::joinable!(procrastinate_events -> procrastinate_jobs (job_id));
diesel::joinable!(procrastinate_jobs -> procrastinate_workers (worker_id));
diesel::joinable!(procrastinate_periodic_defers -> procrastinate_jobs (job_id));

diesel::allow_tables_to_appear_in_same_query!(
    procrastinate_diesel_action_jobs,
    procrastinate_diesel_actions,
    procrastinate_diesel_flow_controls,
    procrastinate_diesel_job_errors,
    procrastinate_diesel_job_options,
    procrastinate_diesel_keyed_jobs,
    procrastinate_diesel_limit_keys,
    procrastinate_diesel_limit_states,
    procrastinate_diesel_priority_ageings,
    procrastinate_diesel_schedules,
    procrastinate_diesel_unique_keys,
    procrastinate_events,
    procrastinate_jobs,
    procrastinate_periodic_defers,
    procrastinate_workers,
);
