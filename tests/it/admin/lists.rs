//! The lists of tasks and locks.

use super::{SCRIPT, Served, form};
use crate::support::{connect, database, sql};

/// The cells of the row that begins with this name, as texts without tags.
fn row(body: &str, name: &str) -> Vec<String> {
    let rows = body.split("<tr").map(|row| row.split_once('>').unwrap().1.split("</tr>").next().unwrap());
    let cells = rows.map(|row| {
        let cells = row.split("</td>").flat_map(|cell| cell.split("</th>"));
        let texts = cells.map(|cell| {
            let pieces = cell.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
            pieces.collect::<String>().trim().to_owned()
        });
        texts.collect::<Vec<_>>()
    });
    cells.into_iter().find(|cells| cells.first().is_some_and(|first| first == name)).expect(body)
}

#[tokio::test]
async fn tasks_have_their_counts_durations_and_limits() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, scheduled_at)
         VALUES ('q', 'mail', NULL, NULL), ('q', 'mail', 'l', NULL), ('q', 'mail', NULL, now() + interval '1 day'),
                ('q', 'mail', 'l', now() + interval '1 day'), ('q', 'scan', NULL, NULL);
         INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         SELECT 'q', 'mail', status::procrastinate_job_status
         FROM unnest('{doing, failed, failed, succeeded, succeeded, succeeded}'::text[]) AS status;
         -- They ran for 1, 2, 3, 4 and 60 seconds.
         INSERT INTO procrastinate_events (job_id, type, at)
         SELECT id, 'started', now() - interval '5 minutes' FROM procrastinate_jobs WHERE status IN ('failed', 'succeeded');
         INSERT INTO procrastinate_events (job_id, type, at)
         SELECT id, status::text::procrastinate_job_event_type,
                now() - interval '5 minutes' + CASE id WHEN 11 THEN 60 ELSE id - 6 END * interval '1 second'
         FROM procrastinate_jobs WHERE status IN ('failed', 'succeeded');
         -- A job with too many events is counted, but not measured.
         INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 'often', 'succeeded');
         INSERT INTO procrastinate_events (job_id, type) SELECT 12, 'started' FROM generate_series(1, 101);
         INSERT INTO procrastinate_events (job_id, type) VALUES (12, 'succeeded');
         SELECT procrastinate_diesel_pause_v1('task', 'mail', 'bob', 'no server', false);
         SELECT procrastinate_diesel_set_limit_v1('task', 'mail', 7, 30, 60);
         SELECT procrastinate_diesel_pause_v1('task', 'unused')",
    );
    let served = Served::to_operator(&database).await;
    let body = served.get("/queue/tasks").await.body;
    let mail = row(&body, "mail");
    assert_eq!(mail[1..8], ["4", "1", "2", "5", "40.0 %", "3 s", "1 min"], "{body}");
    let flow = &mail[8];
    assert!(flow.starts_with("paused") && flow.contains("by bob: no server"), "{flow}");
    assert!(flow.contains("at most 7 running") && flow.contains("at most 30 starts in 1 min"), "{flow}");
    assert_eq!(row(&body, "scan")[1..8], ["1", "0", "0", "0", "", "", ""]);
    assert_eq!(row(&body, "often")[4..8], ["1", "0 %", "", ""]);
    assert_eq!(row(&body, "unused")[1..4], ["0", "0", "0"]);
    assert!(body.contains("newest 6 jobs that ended"), "{body}");
    let failed = served.get("/queue/jobs?status=failed&task=mail").await.body;
    assert!(body.contains("jobs?status=failed&amp;task=mail") && failed.contains("jobs/7"), "{failed}");
}

#[tokio::test]
async fn locks_have_the_job_that_holds_them_and_the_jobs_that_wait() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "SELECT procrastinate_register_worker_v1();
         INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
         SELECT 'q', 'charge', lock FROM unnest('{held, held, free, free, free, single}'::text[]) AS lock;
         UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE id = 1;
         INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status) VALUES ('q', 'lost', 'lost', 'doing');
         INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
         SELECT 'q', 'charge', 'hot' FROM generate_series(1, 1002)",
    );
    let served = Served::to_operator(&database).await;
    let body = served.get("/queue/locks").await.body;
    assert_eq!(row(&body, "held"), ["held", "1", "#2", "#1 charge", "now", "1", ""], "{body}");
    assert_eq!(row(&body, "free")[1..4], ["3", "#3", "no job"]);
    assert_eq!(row(&body, "lost")[1..6], ["0", "", "#7 lost", "", "none"]);
    assert_eq!(row(&body, "hot")[1], "1\u{202f}000+");
    assert!(!body.contains("single"), "{body}");
    let single = served.get("/queue/locks?lock=single").await.body;
    assert_eq!(row(&single, "single")[1..4], ["1", "#6", "no job"]);
    // The links lead to these jobs, however many others are pending.
    let pending = served.get("/queue/jobs?status=todo&lock=free").await.body;
    assert!(body.contains("jobs?status=todo&amp;lock=free"), "{body}");
    assert!(["jobs/3\"", "jobs/4\"", "jobs/5\""].iter().all(|link| pending.contains(link)), "{pending}");
    assert_eq!(served.get("/queue/locks?lock=%00").await.status, 400);
}

#[tokio::test]
async fn held_locks_have_pages() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status)
         SELECT 'q', 't', 'lock-' || n, 'doing' FROM generate_series(100, 300) AS n",
    );
    let served = Served::to_operator(&database).await;
    let mut page = "/queue/locks".to_owned();
    let mut seen = 0;
    for (rows, next) in [(100, Some("lock-199")), (100, Some("lock-299")), (1, None)] {
        let body = served.get(&page).await.body;
        let found = body.matches("<tr data-key").count();
        assert_eq!(found, rows, "{body}");
        seen += found;
        let link = next.map(|next| format!("?after={next}"));
        assert_eq!(body.contains("?after="), link.is_some());
        if let Some(link) = link {
            assert!(body.contains(&link), "{body}");
            page = format!("/queue/locks{link}");
        }
    }
    assert_eq!(seen, 201);
    let beyond = served.get("/queue/locks?after=zzzz").await.body;
    assert!(beyond.contains("No running job holds a lock after this one"), "{beyond}");
}

#[tokio::test]
async fn hostile_names_of_tasks_and_locks_are_text() {
    let database = database();
    let mut connection = connect(&database);
    let script = SCRIPT.replace('\'', "''");
    let long = "x".repeat(128);
    sql(
        &mut connection,
        &format!(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('q', '{script}', '{script}'),
                    ('q', '{script}', '{script}'), ('q', '{long}', repeat('y', 2000)), ('q', '{long}', repeat('y', 2000)),
                    ('q', E'\\u202etxt\\n', E'../\"><img src=x>'), ('q', '%2F?&#', E'../\"><img src=x>');
             SELECT procrastinate_diesel_pause_v1('task', '{script}', '{script}', '{script}', false)"
        ),
    );
    let served = Served::to_operator(&database).await;
    let searched = format!("/queue/locks?lock={}", form(SCRIPT));
    for page in ["/queue/tasks", "/queue/locks", &searched, "/queue"] {
        let response = served.get(page).await;
        assert_eq!(response.status, 200, "{page}: {}", response.body);
        assert!(!response.body.contains("<script>") && !response.body.contains("<img"), "{page}: {}", response.body);
        assert!(response.body.contains("&#60;script&#62;"), "{page}: {}", response.body);
    }
    let locks = served.get("/queue/locks").await.body;
    assert!(locks.contains(&"y".repeat(2000)) && locks.contains("lock=..%2F%22%3E%3Cimg%20src%3Dx%3E"), "{locks}");
    let tasks = served.get("/queue/tasks").await.body;
    assert!(tasks.contains("task=%252F%3F%26%23") && tasks.contains(&long), "{tasks}");
}
