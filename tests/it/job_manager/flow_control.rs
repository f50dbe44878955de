//! Pausing and limiting.

use std::time::Duration;

use procrastinate::Error;
use procrastinate::job_manager::{
    fetch_job, limit_queue, limit_task, list_flow_controls, pause_queue, pause_task, register_worker, resume_queue,
    resume_task, unlimit_queue, unlimit_task,
};
use procrastinate::models::ProcrastinateFlowControl;

use super::{Desk, each_way, work};

each_way!(
    a_paused_queue_is_listed_with_who_and_why_until_it_is_resumed,
    a_paused_task_starts_no_job,
    a_limit_is_listed_replaced_and_removed,
    invalid_values_are_refused_before_a_statement_is_sent,
);

async fn controls(desk: &mut Desk) -> Vec<ProcrastinateFlowControl> {
    desk.execute(list_flow_controls()).await.unwrap()
}

async fn a_paused_queue_is_listed_with_who_and_why_until_it_is_resumed(mut desk: Desk) {
    assert_eq!(controls(&mut desk).await, []);
    assert!(desk.execute(pause_queue("mails").by("anna").reason("spam").skip_ticks()).await.unwrap());
    let [first] = controls(&mut desk).await.try_into().unwrap();
    assert_eq!((first.kind.as_str(), first.name.as_str()), ("queue", "mails"));
    assert!(first.is_paused() && first.skips_ticks);
    assert_eq!((first.paused_by.as_deref(), first.pause_reason.as_deref()), (Some("anna"), Some("spam")));

    assert!(!desk.execute(pause_queue("mails").by("ben")).await.unwrap());
    let [second] = controls(&mut desk).await.try_into().unwrap();
    assert_eq!((second.paused_at, second.paused_by.as_deref()), (first.paused_at, Some("ben")));
    assert_eq!((second.pause_reason, second.skips_ticks), (None, false));

    assert!(desk.execute(resume_queue("mails")).await.unwrap());
    assert!(!desk.execute(resume_queue("mails")).await.unwrap());
    assert_eq!(controls(&mut desk).await, []);
}

async fn a_paused_task_starts_no_job(mut desk: Desk) {
    let id = desk.defer(work());
    let worker_id = desk.execute(register_worker()).await.unwrap();
    assert!(desk.execute(pause_task("work")).await.unwrap());
    assert_eq!(desk.execute(fetch_job(worker_id)).await.unwrap(), None);
    assert!(desk.execute(resume_task("work")).await.unwrap());
    assert_eq!(desk.execute(fetch_job(worker_id)).await.unwrap().unwrap().id, i64::from(id));
}

async fn a_limit_is_listed_replaced_and_removed(mut desk: Desk) {
    desk.execute(limit_queue("mails").max_running(5).max_starts(100, Duration::from_millis(1_500))).await.unwrap();
    desk.execute(limit_task("work").max_running(1)).await.unwrap();
    let limits = |controls: Vec<ProcrastinateFlowControl>| -> Vec<_> {
        let limit = |control: ProcrastinateFlowControl| {
            assert!(!control.is_paused());
            (control.kind, control.max_running, control.max_starts, control.start_period_seconds)
        };
        controls.into_iter().map(limit).collect()
    };
    let of_task = ("task".to_owned(), Some(1), None, None);
    let of_queue = ("queue".to_owned(), Some(5), Some(100), Some(1.5));
    assert_eq!(limits(controls(&mut desk).await), [of_queue, of_task.clone()]);

    desk.execute(limit_queue("mails").max_running(6)).await.unwrap();
    assert_eq!(limits(controls(&mut desk).await), [("queue".to_owned(), Some(6), None, None), of_task]);
    assert!(desk.execute(unlimit_queue("mails")).await.unwrap());
    assert!(!desk.execute(unlimit_queue("mails")).await.unwrap());
    assert!(desk.execute(unlimit_task("work")).await.unwrap());
    assert_eq!(controls(&mut desk).await, []);
}

async fn invalid_values_are_refused_before_a_statement_is_sent(mut desk: Desk) {
    let second = Duration::from_secs(1);
    let too_long = "x".repeat(10_001);
    let refused = |result: Result<(), Error>, expected: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(desk.execute(pause_queue("")).await.map(drop), "queue name");
    refused(desk.execute(pause_task("a\0")).await.map(drop), "task name");
    refused(desk.execute(pause_queue("a").reason(&too_long)).await.map(drop), "reason of the pause");
    refused(desk.execute(pause_queue("a").by("\0")).await.map(drop), "name of who pauses");
    refused(desk.execute(resume_queue("x".repeat(129))).await.map(drop), "at most 128 bytes");
    refused(desk.execute(limit_queue("a")).await, "must have max_running or max_starts");
    refused(desk.execute(limit_queue("a").max_running(0)).await, "max_running");
    refused(desk.execute(limit_queue("a").max_running(u32::MAX)).await, "4294967295");
    refused(desk.execute(limit_task("a").per_key("x".repeat(501)).max_running(1)).await, "at most 500 bytes");
    refused(desk.execute(limit_task("a").max_starts(0, second)).await, "max_starts");
    refused(desk.execute(limit_task("a").max_starts(1, Duration::ZERO)).await, "at least 10 ms");
    refused(desk.execute(limit_task("a").max_starts(1, Duration::MAX)).await, "at most 1,000 years");
    assert_eq!(controls(&mut desk).await, []);
}
