//! Jobs that are deferred, fetched and finished without a worker, what is announced of them, and what is refused.

use std::time::Duration;

use chrono::{DateTime, Utc};
use procrastinate::job_manager::Notification;
use procrastinate::job_manager::{cancel_job, fetch_job, finish_job, register_worker, retry_job, unregister_worker};
use procrastinate::{
    AppBuilder, IfEnqueued, JobContext, JobStatus, JobToDefer, PeriodicTask, TaskControl, configure_task, task,
};
use serde_json::json;

use super::on_both;
use super::side::Side;
use crate::support::within_patience;

const HOUR: Duration = Duration::from_secs(3_600);

fn job(number: i64) -> JobToDefer {
    configure_task("mail", json!({ "number": number })).queue("mails")
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl Side {
    async fn defer(&mut self, job: JobToDefer) -> i64 {
        let answer = self.app.defer(job).await;
        self.answer("defer", answer).map_or(0, i64::from)
    }

    async fn register(&mut self) -> i64 {
        let answer = self.app.perform(register_worker()).await;
        self.answer("register", answer).unwrap()
    }

    async fn fetch(&mut self, worker_id: i64, queues: &[&str]) -> i64 {
        let answer = self.app.perform(fetch_job(worker_id).queues(queues.iter().copied())).await;
        let fetched = answer.as_ref().ok().and_then(|job| Some(job.as_ref()?.id)).unwrap_or(0);
        self.jobs_answer("fetch", answer.map(|job| job.into_iter().collect()));
        fetched
    }
}

#[tokio::test]
async fn a_job_is_stored_as_it_was_given() {
    on_both(
        |app| app,
        async |side| {
            side.defer(job(1)).await;
            let everything = job(2).priority(-7).lock("lock").queueing_lock("ö\"'; --");
            side.defer(everything.schedule_at(time("2100-01-01T00:00:00.123456789Z"))).await;
            side.defer(job(3).schedule_in(Duration::from_secs(3_600))).await;
            let args = json!({
                "whole": [0, -1, u64::MAX, i64::MIN], "real": [0.1, 1.0, -0.0, 1e16, 1.5e17, 1e300, 1.5e-7, 123456789012345680000.0],
                "text": "ö\"\\\n\u{1f980}", "nested": { "null": null, "b": true, "a": [] }, "": 1,
            });
            side.defer(configure_task("many arguments", args)).await;
        },
    )
    .await;
}

#[tokio::test]
async fn only_one_pending_job_holds_a_queueing_lock() {
    on_both(
        |app| app,
        async |side| {
            side.defer(job(1).queueing_lock("a")).await;
            side.defer(job(2).queueing_lock("a")).await;
            // The number that was drawn for it is gone.
            let second = side.defer(job(3).queueing_lock("b")).await;
            let answer = side.app.defer_unless_enqueued(job(4).queueing_lock("a")).await;
            side.answer("defer unless enqueued", answer);
            let worker = side.register().await;
            side.fetch(worker, &["mails"]).await;
            // The first runs, so another may wait; when it is to wait again, it cannot.
            side.defer(job(5).queueing_lock("a")).await;
            let answer = side.app.perform(retry_job(1)).await;
            side.answer("retry the first", answer);
            let answer = side.app.perform(cancel_job(second)).await;
            side.answer("cancel the second", answer);
            side.defer(job(6).queueing_lock("b")).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_batch_is_deferred_as_a_whole_or_not_at_all() {
    on_both(
        |app| app,
        async |side| {
            side.defer(job(0).queueing_lock("taken")).await;
            let far = time("2100-01-01T00:00:00Z");
            for (name, jobs) in [
                ("none", vec![]),
                ("three", vec![job(1), job(2).schedule_at(far).priority(5), job(3).queue("other").lock("l")]),
                ("one is taken", vec![job(4), job(5).queueing_lock("free"), job(6).queueing_lock("taken"), job(7)]),
                ("one is there twice", vec![job(8).queueing_lock("new"), job(9), job(10).queueing_lock("new")]),
                ("each its own", vec![job(11).queueing_lock("new"), job(12).queueing_lock("newer")]),
            ] {
                let answer = side.app.batch_defer(jobs).await;
                side.answer(name, answer);
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_job_is_deferred_unless_another_one_is_pending() {
    on_both(
        |app| app,
        async |side| {
            let kept = |number: i64, lock: &str| job(number).queueing_lock(lock).unless_enqueued();
            side.defer(kept(1, "a")).await;
            side.defer(kept(2, "a")).await;
            let answer = side.app.defer_unless_enqueued(kept(3, "a")).await;
            side.answer("defer unless enqueued", answer);
            for (name, jobs) in [
                ("kept, new and twice", vec![kept(4, "a"), kept(5, "b"), job(6), kept(7, "b")]),
                ("all kept", vec![kept(8, "b"), kept(9, "a")]),
                ("one fails", vec![kept(10, "c"), job(11).queueing_lock("a")]),
                ("the second fails", vec![kept(12, "d"), job(13).queueing_lock("d")]),
                ("the first has it", vec![job(14).queueing_lock("d"), kept(15, "d")]),
            ] {
                let answer = side.app.batch_defer(jobs).await;
                side.answer(name, answer);
            }
            let worker = side.register().await;
            side.fetch(worker, &["mails"]).await;
            side.defer(kept(16, "a")).await;
            side.defer(job(17).unless_enqueued()).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_pending_job_is_replaced_or_kept() {
    use IfEnqueued::{Keep, Replace, ReplaceExceptSchedule};
    on_both(
        |app| app,
        async |side| {
            let (past, future) = (time("2000-01-01T00:00:00Z"), time("2100-01-01T00:00:00Z"));
            let with =
                |number: i64, lock: &str, choice: IfEnqueued| job(number).queueing_lock(lock).if_enqueued(choice);
            let mut listener = side.app.listen_for_jobs(&["mails", "other"]).await.unwrap();
            for job in [
                with(1, "a", Replace).schedule_at(future),
                with(2, "a", ReplaceExceptSchedule).queue("other").priority(5).lock("l"),
                with(3, "a", Replace).schedule_at(past),
                with(4, "a", Keep).schedule_at(future),
                with(5, "a", Replace),
                job(6).queueing_lock("a"),
                job(7).if_enqueued(Replace),
            ] {
                let answer = side.app.defer_detailed(job).await;
                side.answer("defer", answer);
            }
            for (name, jobs) in [
                ("none", vec![]),
                ("all kinds", vec![with(8, "b", Keep), with(9, "a", Replace), job(10), with(11, "b", Replace)]),
                ("one fails", vec![with(12, "a", Replace), job(13).queueing_lock("b"), with(14, "c", Replace)]),
                ("the second fails", vec![with(15, "d", Replace), job(16).queueing_lock("d")]),
                ("the first has it", vec![job(17).queueing_lock("d"), with(18, "d", ReplaceExceptSchedule)]),
            ] {
                let answer = side.app.batch_defer_detailed(jobs).await;
                side.answer(name, answer);
            }
            let worker = side.register().await;
            let fetched = side.fetch(worker, &["mails"]).await;
            side.note(format!("fetched {fetched}"));
            side.defer(with(19, "a", Replace)).await;
            let answer = side.app.perform(retry_job(fetched)).await;
            side.answer("retry", answer);
            let last = side.defer(job(20)).await;
            loop {
                let heard = within_patience(listener.next()).await.unwrap();
                side.note(format!("heard {heard:?}"));
                if heard == Notification::JobInserted(last.into()) {
                    break;
                }
            }
        },
    )
    .await;
}

#[tokio::test]
async fn invalid_values_are_refused_before_anything_is_stored() {
    on_both(
        |app| app,
        async |side| {
            side.defer(job(1).queue("")).await;
            side.defer(job(2).queue("q".repeat(129))).await;
            side.defer(job(3).lock("nul\0")).await;
            side.defer(configure_task("not an object", 7)).await;
            let answer = side.app.batch_defer([job(4), job(5).queue("q".repeat(200))]).await;
            side.answer("a batch", answer);
            let answer = side.app.perform(finish_job(1, JobStatus::Todo)).await;
            side.answer("finish as todo", answer);
            side.note(format!(
                "{:?}",
                side.app.configure_task("unknown", json!({})).map_err(|error| error.to_string())
            ));
        },
    )
    .await;
}

#[tokio::test]
async fn due_jobs_of_the_workers_queues_are_fetched_by_priority_and_id() {
    on_both(
        |app| app,
        async |side| {
            let (past, future) = (time("2000-01-01T00:00:00Z"), time("2100-01-01T00:00:00Z"));
            for job in [
                job(1),
                job(2).priority(5),
                job(3).priority(-5),
                job(4).priority(5),
                job(5).priority(9).schedule_at(future),
                job(6).priority(7).schedule_at(past),
                job(7).queue("other").priority(100),
            ] {
                side.defer(job).await;
            }
            let worker = side.register().await;
            side.fetch(worker, &[]).await;
            side.fetch(worker, &["nobody's"]).await;
            for _ in 0..5 {
                side.fetch(worker, &["mails", "nobody's"]).await;
            }
            let answer = side.app.perform(fetch_job(worker)).await;
            side.jobs_answer("fetch from all", answer.map(|job| job.into_iter().collect()));
            side.fetch(worker, &["mails", "other"]).await;
        },
    )
    .await;
}

#[tokio::test]
async fn jobs_with_one_lock_run_one_at_a_time_in_order_across_queues_and_schedules() {
    on_both(
        |app| app,
        async |side| {
            let future = time("2100-01-01T00:00:00Z");
            for job in [
                job(1).lock("a"),
                job(2).lock("a").priority(1).queue("other"),
                job(3).lock("b"),
                job(4).lock("b").priority(3).schedule_at(future),
                job(5).lock("c"),
                job(6).lock("c"),
                job(7),
            ] {
                side.defer(job).await;
            }
            let worker = side.register().await;
            // 1 waits behind 2 of the other queue, 3 behind 4, which waits for its time.
            let fifth = side.fetch(worker, &["mails"]).await;
            side.fetch(worker, &["mails"]).await;
            side.fetch(worker, &["mails"]).await;
            let answer = side.app.perform(finish_job(fifth, JobStatus::Succeeded)).await;
            side.answer("finish the fifth", answer);
            side.fetch(worker, &["mails"]).await;
            side.fetch(worker, &["other"]).await;
            let answer = side.app.perform(cancel_job(4)).await;
            side.answer("cancel the fourth", answer);
            side.fetch(worker, &["mails", "other"]).await;
            side.fetch(worker, &["mails", "other"]).await;
            // Another lock for one that is to wait again.
            let answer = side.app.perform(retry_job(3).lock("a").priority(50)).await;
            side.answer("retry the third", answer);
            side.fetch(worker, &["mails", "other"]).await;
        },
    )
    .await;
}

#[tokio::test]
async fn an_unregistered_worker_fetches_no_job() {
    on_both(
        |app| app,
        async |side| {
            side.fetch(7, &["mails"]).await;
            side.defer(job(1)).await;
            side.fetch(7, &["mails"]).await;
            let worker = side.register().await;
            side.fetch(worker, &["mails"]).await;
            let answer = side.app.perform(unregister_worker(worker)).await;
            side.answer("unregister", answer);
            side.register().await;
        },
    )
    .await;
}

#[tokio::test]
async fn listeners_of_a_queue_are_notified() {
    on_both(
        |app| app,
        async |side| {
            let long = "q".repeat(100);
            let mut listeners = Vec::new();
            for queues in [vec!["mails"], vec!["mails", "other"], vec![], vec![long.as_str()]] {
                listeners.push(side.app.listen_for_jobs(&queues).await.unwrap());
            }
            let refused = side.app.listen_for_jobs(&[""]).await.map(|_| ());
            side.answer("listen for a queue without a name", refused);
            let first = side.defer(job(1)).await;
            side.defer(job(2).queue("other").schedule_at(time("2100-01-01T00:00:00Z"))).await;
            side.defer(job(3).queue(long)).await;
            side.app.batch_defer([job(4), job(5), job(6).queue("other"), job(7)]).await.unwrap();
            let worker = side.register().await;
            side.fetch(worker, &["mails"]).await;
            let waiting = side.defer(job(8)).await;
            for id in [first, first, waiting] {
                let answer = side.app.perform(cancel_job(id).abort(true)).await;
                side.answer("abort", answer);
            }
            let answer = side.app.perform(retry_job(first)).await;
            side.answer("retry", answer);
            let last = [side.defer(job(9)).await, side.defer(job(10).queue("other")).await];
            for (number, listener) in listeners.iter_mut().enumerate() {
                let mut heard = Vec::new();
                while !last.iter().all(|id| heard.contains(&Notification::JobInserted((*id).into()))) {
                    heard.push(within_patience(listener.next()).await.unwrap());
                    if number == 0 && heard.last() == Some(&Notification::JobInserted(last[0].into())) {
                        break;
                    }
                }
                side.note(format!("listener {number} heard {heard:?}"));
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_tick_of_a_periodic_task_is_deferred_once() {
    #[task(queue = "ticks")]
    async fn tick(timestamp: i64) {
        assert!(timestamp > 0);
    }
    #[task(queue = "ticks", queueing_lock = "one at a time")]
    async fn exclusive_tick(timestamp: i64) {
        assert!(timestamp > 0);
    }
    let tasks = |app: AppBuilder| {
        let hourly = PeriodicTask::new::<tick>("0 * * * *").periodic_id("hourly");
        let tasks = app.task::<tick>().task::<exclusive_tick>().periodic(hourly);
        tasks
            .periodic(PeriodicTask::new::<tick>("*/10 * * * *"))
            .periodic(PeriodicTask::new::<exclusive_tick>("*/5 * * * *"))
    };
    on_both(tasks, async |side| {
        let mut one = side.app.periodic_deferrer();
        one.defer_due(time("2020-01-01T10:00:05Z")).await;
        side.look();
        // Another one finds them deferred already, and is behind.
        let mut other = side.app.periodic_deferrer();
        other.defer_due(time("2020-01-01T10:00:30Z")).await;
        one.defer_due(time("2020-01-01T10:22:00Z")).await;
        other.defer_due(time("2020-01-01T10:12:00Z")).await;
        side.look();
        let answer = side.app.perform(procrastinate::job_manager::delete_job(1)).await;
        side.answer("delete a job that a tick points to", answer);
        // Far ahead: a clock that was wrong holds nothing up.
        side.app.periodic_deferrer().defer_due(time("2100-01-01T00:00:05Z")).await;
        other.defer_due(time("2020-01-01T10:33:00Z")).await;
        let again_at = other.defer_due(time("2020-01-01T11:00:00Z")).await;
        side.note(again_at.to_rfc3339());
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_not_started_in_time_is_cancelled() {
    #[task(pass_context)]
    async fn sometimes(context: JobContext, times: i32) -> Result<(), TaskControl> {
        if context.job().attempts < times { Err(TaskControl::retry_in(2 * HOUR)) } else { Ok(()) }
    }
    let hourly = || PeriodicTask::new::<sometimes>("0 * * * *").args(json!({ "times": 0 })).start_within(HOUR);
    on_both(
        |app| app.task::<sometimes>().periodic(hourly().limit_key("hourly")),
        async |side| {
            side.app.periodic_deferrer().defer_due(Utc::now()).await;
            for (name, times) in [("started in time", 1), ("plain", 0)] {
                side.note(name);
                side.defer(sometimes(times).start_within(HOUR).limit_key("k")).await;
            }
            let debounced = |hours| sometimes(0).queueing_lock("q").start_within(hours * HOUR);
            side.defer(debounced(3).lock("l")).await;
            side.defer(debounced(1).if_enqueued(IfEnqueued::Replace)).await;
            side.defer(debounced(9).if_enqueued(IfEnqueued::ReplaceExceptSchedule)).await;
            side.defer(debounced(9).if_enqueued(IfEnqueued::Keep)).await;
            side.defer(debounced(9)).await;
            let batch =
                [sometimes(0).start_before(time("2100-01-01T00:00:00Z")), sometimes(0), sometimes(0).limit_key("b")];
            let answer = side.app.batch_defer(batch).await;
            side.answer("batch", answer);
            side.defer(sometimes(0).start_before(time("2001-01-01T00:00:00Z"))).await;
            side.look();
            let mut worker = side.app.test_worker().unwrap();
            for _ in 0..3 {
                let ran = worker.run_until_empty().await.unwrap();
                side.note(format!("{:?}", ran.iter().map(|ran| ran.job.id).collect::<Vec<_>>()));
                side.look();
                side.defer(sometimes(0).schedule_in(HOUR / 2).start_within(HOUR)).await;
                side.defer(sometimes(0)).await;
                worker.advance(5 * HOUR / 2);
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_unique_key_refuses_further_jobs() {
    on_both(AppBuilder::task::<work>, async |side| {
        for (key, period) in [("once", Duration::ZERO), ("hourly", HOUR)] {
            let job = || work().unique_for(key, period);
            side.defer(job()).await;
            side.defer(job()).await;
            side.defer(job().unless_enqueued()).await;
            side.defer(job().queueing_lock("q").unless_enqueued()).await;
        }
        side.defer(work().queueing_lock("q").unique("other").unless_enqueued()).await;
        side.defer(work().queueing_lock("q").unique("more").unless_enqueued()).await;
        side.defer(work().queueing_lock("q").unique("yet more")).await;
        let kept = |key: &str| work().unique(key).unless_enqueued();
        let batches = [
            vec![work().unique("new"), work().unique("once")],
            vec![work().unique("new"), work().unique("new")],
            vec![kept("z"), kept("once"), kept("a"), work(), kept("z"), work().unique("more")],
        ];
        for batch in batches {
            let answer = side.app.batch_defer_detailed(batch).await;
            side.answer("batch", answer);
        }
        side.look();
        let worker = side.register().await;
        for delete in [false, true] {
            let id = side.fetch(worker, &["default"]).await;
            side.defer(work().unique("once")).await;
            side.execute("finish", finish_job(id, JobStatus::Succeeded).delete_job(delete)).await;
            side.defer(work().unique("once")).await;
            side.defer(work().unique("hourly")).await;
        }
        side.look();
    })
    .await;
}

#[task]
async fn work() {}
