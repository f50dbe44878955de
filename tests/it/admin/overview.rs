//! The overview: charts, the oldest pending job, and what needs attention.

use std::time::Duration;

use procrastinate::admin::Access;

use super::Served;
use crate::support::{connect, database, sql, superuser};

#[tokio::test]
async fn the_charts_count_few_events_exactly() {
    let database = database();
    let mut connection = connect(&database);
    // A job each five minutes, which waited for ten seconds. Each tenth was scheduled for four seconds before its start.
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         SELECT 'q', 't', CASE WHEN n % 4 = 0 THEN 'failed' ELSE 'succeeded' END::procrastinate_job_status
         FROM generate_series(1, 288) AS n;
         INSERT INTO procrastinate_events (job_id, type, at)
         SELECT job.id, event.type::procrastinate_job_event_type,
                now() + interval '1 second' - (289 - job.id) * interval '5 minutes' + event.seconds * interval '1 second'
         FROM procrastinate_jobs AS job
         CROSS JOIN LATERAL (VALUES ('deferred', 0),
             (CASE WHEN job.id % 10 = 0 THEN 'scheduled' END, 6), ('started', 10), (job.status::text, 15))
             AS event (type, seconds)
         WHERE event.type IS NOT NULL ORDER BY 3",
    );
    let served = Served::to_operator(&database).await;
    let body = served.get("/queue").await.body;
    // The newest one ended less than five minutes ago. The oldest one ended within the day.
    assert!(body.contains("9 jobs succeeded, 3 failed. The most in one minute are 1."), "{body}");
    assert!(body.contains("216 jobs succeeded, 72 failed. The most in one hour are 12."), "{body}");
    assert!(body.contains("In a typical hour, half of the jobs waited at most 10 s."), "{body}");
    assert!(body.contains("3 jobs have failed in the last hour."), "{body}");
    assert!(!body.contains('≈') && !body.contains("style="), "{body}");
    for part in ["<title id=\"day-ended\">", "<desc id=\"day-waited-text\">", "The numbers of the last day"] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
}

#[tokio::test]
async fn an_old_overview_is_shown_while_another_one_is_read() {
    let database = database();
    let mut connection = connect(&database);
    let defer = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')";
    sql(&mut connection, defer);
    let served = Served::start(&database, |pages| {
        pages.access(|_| Access::operator("ann")).statement_timeout(Duration::from_millis(300))
    })
    .await;
    let pending = |number: u32| format!("status=todo\">{number}</a>");
    assert!(served.get("/queue").await.body.contains(&pending(1)));
    // An overview that took no time to read counts as new for eight seconds.
    tokio::time::sleep(Duration::from_secs(9)).await;
    sql(&mut connection, defer);
    sql(&mut connection, "BEGIN; LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE");
    let old = served.get("/queue").await;
    assert!(old.status == 200 && old.body.contains(&pending(1)), "{}", old.body);
    // Nobody could read another one, and the next visitor is told why.
    let mut status = old.status;
    while status == 200 {
        status = served.get("/queue").await.status;
    }
    assert_eq!(status, 503);
    sql(&mut connection, "COMMIT");
    let new = served.get("/queue").await;
    assert!(new.status == 200 && new.body.contains(&pending(2)), "{}", new.body);
}

#[tokio::test]
async fn the_charts_estimate_many_events_and_say_so() {
    let database = database();
    sql(
        &mut superuser(&database),
        "SET session_replication_role = replica;
         INSERT INTO procrastinate_events (job_id, type, at)
         SELECT n, CASE n % 4 WHEN 0 THEN 'deferred' WHEN 1 THEN 'started' ELSE 'succeeded' END::procrastinate_job_event_type,
                now() - (100001 - n) * interval '0.4 seconds' FROM generate_series(1, 100000) AS n;
         RESET session_replication_role;
         INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')",
    );
    let served = Served::to_operator(&database).await;
    let body = served.get("/queue").await.body;
    let day = body.split("id=\"day\"").nth(1).unwrap();
    let text = day.split("<p>").nth(1).unwrap().split(" jobs succeeded").next().unwrap();
    let estimate: u32 = text.trim_start_matches("≈ ").replace('\u{202f}', "").parse().unwrap();
    assert!(text.starts_with('≈') && (45_000..55_000).contains(&estimate), "{text}");
    assert!(day.contains(" 0 failed."), "{day}");
}

#[tokio::test]
async fn the_oldest_pending_job_is_one_that_could_start() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, scheduled_at)
         VALUES ('q', 'tomorrow', 0, NULL, now() + interval '1 day'), ('q', 'plain', 9, NULL, NULL),
                ('q', 'low', -5, NULL, NULL), ('z', 'locked', 0, 'l', NULL), ('q', 'due', 0, NULL, now() - interval '4 hours');
         UPDATE procrastinate_events AS event SET at = now() - age.hours * interval '1 hour'
         FROM (VALUES (1, 9), (2, 1), (3, 3), (4, 2), (5, 8)) AS age (id, hours)
         WHERE event.job_id = age.id AND event.type = 'deferred'",
    );
    // The first of its priority was retried. Another one has waited longer.
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name, priority) VALUES ('q', 'second', 9)");
    sql(&mut connection, "UPDATE procrastinate_events SET at = now() - interval '7 hours' WHERE job_id = 6");
    for (oldest, since) in
        [("second", "7 h ago"), ("due", "4 h ago"), ("low", "3 h ago"), ("locked", "2 h ago"), ("plain", "1 h ago")]
    {
        let served = Served::to_operator(&database).await;
        let body = served.get("/queue").await.body;
        let text = body.split("Oldest pending job").nth(1).unwrap().split("</p>").next().unwrap();
        assert!(text.contains(&format!("</a> {oldest} in ")) && text.contains(since), "{oldest}: {text}");
        sql(&mut connection, &format!("DELETE FROM procrastinate_jobs WHERE task_name = '{oldest}'"));
    }
    let served = Served::to_operator(&database).await;
    assert!(!served.get("/queue").await.body.contains("Oldest pending job"));
}

#[tokio::test]
async fn a_queue_whose_jobs_all_have_locks_or_times_needs_attention() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 hour');
         INSERT INTO procrastinate_jobs (queue_name, task_name, lock, scheduled_at)
         VALUES ('locked', 't', 'a', NULL), ('locked', 't', 'b', now() + interval '1 day'),
                ('timed', 't', NULL, now() - interval '3 hours'), ('later', 't', 'c', now() + interval '1 hour'),
                ('both', 't', 'd', now() - interval '4 hours');
         UPDATE procrastinate_events SET at = now() - interval '5 hours' WHERE type = 'deferred'",
    );
    let served = Served::to_operator(&database).await;
    let body = served.get("/queue").await.body;
    for (queue, waited) in [("locked", "5 h"), ("timed", "3 h"), ("both", "4 h")] {
        let text = format!("No job of the queue {queue} runs, and its first one has been pending for {waited}");
        assert!(body.contains(&text), "{text}: {body}");
    }
    assert!(!body.contains("No job of the queue later"), "{body}");
    let queues = served.get("/queue/queues").await.body;
    let row = queues.split("data-key=\"locked\"").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.contains("<td class=\"number\">2</td>\n<td class=\"number\">1</td>"), "{row}");
}

#[tokio::test]
async fn a_change_of_the_contract_needs_attention() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't');
         ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_trigger_status_events_update_v1",
    );
    let served = Served::to_operator(&database).await;
    // The check runs in the background.
    let seen = async {
        while !served.get("/queue").await.body.contains("trigger procrastinate_trigger_status_events_update_v1") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap();
}

#[tokio::test]
async fn of_many_paused_queues_the_overview_names_the_first() {
    let database = database();
    sql(
        &mut connect(&database),
        "SELECT procrastinate_diesel_pause_v1('queue', 'q' || n) FROM generate_series(1, 7) AS n",
    );
    let body = Served::to_operator(&database).await.get("/queue").await.body;
    assert!(body.contains("The queue q5 is paused.") && !body.contains("The queue q6 is paused."), "{body}");
    assert!(body.contains("2 more queues or tasks are paused."), "{body}");
}
