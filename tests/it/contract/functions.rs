//! The signatures of the functions, and how clients may call them.

use serde_json::json;

use super::queue::Queue;

/// Name, arguments and result of every function of the contract, but for those of the triggers.
const SIGNATURES: [&str; 11] = [
    "procrastinate_cancel_job_v1 | job_id bigint, abort boolean, delete_job boolean | bigint",
    "procrastinate_defer_jobs_v1 | jobs procrastinate_job_to_defer_v1[] | bigint[]",
    "procrastinate_defer_periodic_job_v2 | _queue_name character varying, _lock character varying, \
     _queueing_lock character varying, _task_name character varying, _priority integer, \
     _periodic_id character varying, _defer_timestamp bigint, _args jsonb | bigint",
    "procrastinate_fetch_job_v2 | target_queue_names character varying[], p_worker_id bigint | procrastinate_jobs",
    "procrastinate_finish_job_v1 | job_id bigint, end_status procrastinate_job_status, delete_job boolean | void",
    "procrastinate_prune_stalled_workers_v1 | seconds_since_heartbeat double precision | TABLE(worker_id bigint)",
    "procrastinate_register_worker_v1 |  | TABLE(worker_id bigint)",
    "procrastinate_retry_job_v1 | job_id bigint, retry_at timestamp with time zone, new_priority integer, \
     new_queue_name character varying, new_lock character varying | void",
    "procrastinate_retry_job_v2 | job_id bigint, retry_at timestamp with time zone, new_priority integer, \
     new_queue_name character varying, new_lock character varying | void",
    "procrastinate_unregister_worker_v1 | worker_id bigint | void",
    "procrastinate_update_heartbeat_v1 | worker_id bigint | void",
];

#[test]
fn every_function_has_its_one_signature() {
    let mut queue = Queue::new();
    let signatures = queue.rows(
        "SELECT proname, pg_get_function_arguments(oid), pg_get_function_result(oid)
         FROM pg_proc
         WHERE proname LIKE 'procrastinate\\_%'
           AND proname NOT LIKE '%diesel%'
           AND prorettype <> 'trigger'::regtype
         ORDER BY proname",
    );
    // An overload would be a second line.
    assert_eq!(signatures, SIGNATURES);
}

#[test]
fn every_trigger_has_its_name_and_calls_its_function() {
    let mut queue = Queue::new();
    let triggers = queue.rows(
        "SELECT trigger.tgname, trigger.tgfoid::regproc
         FROM pg_trigger AS trigger
         WHERE trigger.tgrelid = 'procrastinate_jobs'::regclass
           AND NOT trigger.tgisinternal
           AND trigger.tgname NOT LIKE '%diesel%'
         ORDER BY trigger.tgname",
    );
    assert_eq!(
        triggers,
        [
            "procrastinate_jobs_notify_queue_job_aborted_v1 | procrastinate_notify_queue_abort_job_v1",
            "procrastinate_jobs_notify_queue_job_inserted_v1 | procrastinate_notify_queue_job_inserted_v1",
            "procrastinate_trigger_abort_requested_events_v1 \
             | procrastinate_trigger_abort_requested_events_procedure_v1",
            "procrastinate_trigger_delete_jobs_v1 | procrastinate_unlink_periodic_defers_v1",
            "procrastinate_trigger_scheduled_events_v1 | procrastinate_trigger_function_scheduled_events_v1",
            "procrastinate_trigger_status_events_insert_v1 | procrastinate_trigger_function_status_events_insert_v1",
            "procrastinate_trigger_status_events_update_v1 | procrastinate_trigger_function_status_events_update_v1",
        ]
    );
}

#[test]
fn every_function_can_be_called_with_untyped_values() {
    let mut queue = Queue::with_jobs(json!([{}, { "status": "doing" }, { "status": "doing" }, { "status": "failed" }]));
    for (call, answer) in [
        ("procrastinate_defer_jobs_v1('{\"(mails,send,5,lock,queueing,\\\"{}\\\",tomorrow)\"}')::text", "{5}"),
        ("procrastinate_defer_periodic_job_v2('mails', NULL, NULL, 'send', '0', 'daily', '86400', '{}')", "6"),
        ("procrastinate_cancel_job_v1('1', 'false', 'false')", "1"),
        ("worker_id FROM procrastinate_register_worker_v1()", "1"),
    ] {
        assert_eq!(queue.row(&format!("SELECT {call}")), answer, "{call}");
    }
    for call in [
        "procrastinate_finish_job_v1('2', 'succeeded', 'false')",
        "procrastinate_retry_job_v1('3', NULL, NULL, NULL, NULL)",
        "procrastinate_retry_job_v2('4', 'tomorrow', '1', 'mails', 'lock')",
        "procrastinate_update_heartbeat_v1('1')",
        "procrastinate_unregister_worker_v1('1')",
    ] {
        queue.row(&format!("SELECT {call}"));
    }
    assert_eq!(queue.rows("SELECT worker_id FROM procrastinate_prune_stalled_workers_v1('30')"), [""; 0]);
    assert_eq!(queue.row("SELECT id FROM procrastinate_fetch_job_v2('{mails}', NULL)"), "6");
    assert_eq!(queue.row("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"), "3");
}

#[test]
fn every_function_can_be_called_with_names() {
    let mut queue = Queue::with_jobs(json!([{}, { "status": "doing" }, { "status": "doing" }, { "status": "failed" }]));
    let calls = [
        "procrastinate_defer_jobs_v1(jobs => '{}')",
        "procrastinate_defer_periodic_job_v2(
             _queue_name => 'mails', _lock => NULL, _queueing_lock => NULL, _task_name => 'send', _priority => 0,
             _periodic_id => 'daily', _defer_timestamp => 86400, _args => '{}')",
        "procrastinate_fetch_job_v2(target_queue_names => '{}', p_worker_id => NULL)",
        "procrastinate_cancel_job_v1(job_id => 1, abort => false, delete_job => false)",
        "procrastinate_finish_job_v1(job_id => 2, end_status => 'succeeded', delete_job => false)",
        "procrastinate_retry_job_v1(
             job_id => 3, retry_at => NULL, new_priority => NULL, new_queue_name => NULL, new_lock => NULL)",
        "procrastinate_retry_job_v2(
             job_id => 4, retry_at => NULL, new_priority => NULL, new_queue_name => NULL, new_lock => NULL)",
        "procrastinate_update_heartbeat_v1(worker_id => 1)",
        "procrastinate_unregister_worker_v1(worker_id => 1)",
    ];
    for call in calls {
        queue.row(&format!("SELECT {call}::text"));
    }
    queue.rows("SELECT worker_id FROM procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat => 30)");
}
