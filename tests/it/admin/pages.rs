//! What the pages show.

use procrastinate::admin::Access;

use super::{OWN, SCRIPT, Served, form};
use crate::migrations::catalog::found_database;
use crate::support::{connect, database, sql};

#[tokio::test]
async fn an_empty_queue_says_what_to_do_next() {
    let database = database();
    let served = Served::to_operator(&database).await;
    for (page, text) in [
        ("/queue", "There are no jobs yet"),
        ("/queue/overview", "There are no jobs yet"),
        ("/queue/jobs", "There are no jobs here"),
        ("/queue/queues", "There are no queues yet"),
        ("/queue/workers", "No worker is registered"),
        ("/queue/tasks", "There are no tasks yet"),
        ("/queue/locks", "No running job holds a lock"),
    ] {
        let response = served.get(page).await;
        assert!(response.status == 200 && response.body.contains(text), "{page}: {}", response.body);
    }
}

/// What operators read where they look for buttons, and where they send a form.
const PYTHONS_ALONE: &str = "This database has only the tables of Python&#39;s Procrastinate. To change anything here, \
                             apply the migrations of this crate.";

#[tokio::test]
async fn a_form_for_a_database_of_pythons_alone_is_refused_with_the_reason() {
    let (database, _connection) = found_database();
    let served = Served::to_operator(&database).await;
    for (path, body) in [
        ("jobs/defer", "task=t"),
        ("queues/limit", "kind=queue&name=q&action=limit&scope=all&running=1&seen=none"),
        ("queues/limit", "kind=queue&name=q&action=remove_limit&scope=all&seen=none"),
        ("queues/change", "kind=queue&name=q&action=pause"),
        ("schedules/new", "task=t&cron=@daily"),
        ("schedules/edit", "task=t&cron=@daily"),
        ("schedules/change", "task=t&action=run_schedule"),
        ("schedules/change", "task=t&action=remove_schedule"),
        ("jobs/change", "action=cancel&query=status%3Dtodo"),
        ("jobs/1/change", "action=cancel&seen=todo"),
    ] {
        let refused = served.post(&format!("/queue/{path}"), body, &[OWN]).await;
        assert!(refused.status == 409 && refused.body.contains(PYTHONS_ALONE), "{path} {body}: {}", refused.body);
    }
    for page in ["jobs/defer", "queues/limit?kind=queue&name=q", "schedules/new"] {
        let refused = served.get(&format!("/queue/{page}")).await;
        assert!(refused.status == 409 && refused.body.contains(PYTHONS_ALONE), "{page}: {}", refused.body);
    }
    let reader = Served::start(&database, |pages| pages.access(|_| Access::reader("bob"))).await;
    assert!(!reader.get("/queue/queues").await.body.contains(PYTHONS_ALONE));
}

#[tokio::test]
async fn a_nul_character_is_refused_before_the_database_sees_it() {
    let database = database();
    let served = Served::to_operator(&database).await;
    for (page, field) in [
        ("jobs?queue=%00", "queue"),
        ("jobs?text=a%00b", "text"),
        ("jobs/1?outcome=%00", "outcome"),
        ("queues/limit?kind=queue&name=%00", "name"),
        ("locks?after=%00", "after"),
        ("schedules?after=a&after_id=%00", "after_id"),
        ("schedules/show?task=%00", "task"),
        ("schedules/edit?task=t&id=%00", "id"),
        ("schedules/new?task=%00", "task"),
    ] {
        let refused = served.get(&format!("/queue/{page}")).await;
        assert_eq!(refused.status, 400, "{page}: {}", refused.body);
        let (rule, unchanged) = (format!("<p>The field &#34;{field}&#34; is "), "Nothing was changed");
        assert!(refused.body.contains(&rule) && refused.body.contains("without NUL characters"), "{}", refused.body);
        assert!(!refused.body.contains(unchanged), "{}", refused.body);
    }
    for (path, body) in [
        ("jobs/defer", "task=t&lock=%00"),
        ("jobs/1/change", "action=queue&value=%00"),
        ("jobs/change", "action=delete&confirmed=yes&query=status%3Dfailed%26queue%3D%2500"),
        ("queues/change", "kind=queue&name=q&action=pause&reason=%00"),
        ("queues/limit", "kind=queue&name=%00&action=limit&scope=all&running=1&seen=none"),
        ("schedules/new", "task=t&cron=@daily&queue=%00"),
        ("schedules/edit", "task=t&cron=@daily&lock=%00"),
        ("schedules/change", "task=t&action=pause_schedule&reason=%00"),
    ] {
        let refused = served.post(&format!("/queue/{path}"), body, &[OWN]).await;
        assert!(refused.status == 400 && refused.body.contains("without NUL characters"), "{path}: {}", refused.body);
    }
}

#[tokio::test]
async fn a_database_without_tables_says_how_to_create_them() {
    let database = database();
    sql(&mut connect(&database), "DROP TABLE procrastinate_jobs CASCADE");
    let served = Served::to_operator(&database).await;
    let (read, sent) = (served.get("/queue/jobs").await, served.post("/queue/jobs/change", ALL_FAILED, &[OWN]).await);
    for response in [&read, &sent] {
        assert!(response.status == 503 && response.body.contains("procrastinate schema --apply"), "{}", response.body);
    }
    assert!(!read.body.contains("Nothing was changed") && sent.body.contains("Nothing was changed"), "{}", read.body);
}

/// A form that asks for a confirmation.
const ALL_FAILED: &str = "action=retry&query=status%3Dfailed";

#[tokio::test]
async fn names_do_not_turn_the_text_around_them() {
    let database = database();
    let mut connection = connect(&database);
    // What follows this character runs from right to left.
    let name = "\u{202e}a";
    sql(
        &mut connection,
        &format!(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('{name}', '{name}', '{name}');
             INSERT INTO procrastinate_diesel_actions (actor, action, target, finished_at)
             VALUES ('ann', 'pause_schedule', '\"{name}\" of report', now());
             SELECT procrastinate_diesel_pause_v1('queue', '{name}', '{name}', '{name}', false);
             SELECT procrastinate_diesel_create_schedule_v1('{name}', '{name}', '{{\"cron\": \"@daily\"}}', now())"
        ),
    );
    let served = Served::to_operator(&database).await;
    let marked = format!("<bdi>{name}</bdi>");
    for (page, text) in [
        ("actions", format!("pause schedule <bdi>&#34;{name}&#34; of report</bdi></td>")),
        ("schedules?outcome=1", format!("pause schedule <bdi>&#34;{name}&#34; of report</bdi>: done")),
        ("schedules", marked.clone()),
        ("jobs", format!("lock {marked}")),
        ("queues", format!("by {marked}: {marked}")),
        ("queues/limit?kind=queue&name=%E2%80%AEa", format!("queue {marked}")),
    ] {
        let page = served.get(&format!("/queue/{page}")).await.marked;
        assert!(page.contains(&text), "{text:?} is not in {page}");
    }
}

#[tokio::test]
async fn a_database_of_pythons_alone_has_its_pages_too() {
    let (database, mut connection) = found_database();
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, lock)
         VALUES ('q', 't', 'failed', NULL), ('q', 't', 'todo', 'l'), ('q', 't', 'todo', 'l'), ('q', 't', 'doing', 'l')",
    );
    // Of some lists, these are the columns with numbers.
    let numbers = [
        ("/queue/queues", vec!["2", "0", "1", "1+"]),
        ("/queue/tasks", vec!["2", "1", "1+", "0"]),
        ("/queue/locks", vec!["2"]),
    ];
    let served = Served::to_operator(&database).await;
    for page in [
        "/queue",
        "/queue/jobs?text=t",
        "/queue/jobs?status=failed&created_since=1h&ended_since=1h",
        "/queue/jobs?status=todo&lock=l",
        "/queue/jobs/1",
        "/queue/queues",
        "/queue/tasks",
        "/queue/locks",
        "/queue/workers",
    ] {
        let response = served.get(page).await;
        assert_eq!(response.status, 200, "{page}: {}", response.body);
        let has_buttons = ["/jobs", "/queues", "/tasks"].iter().any(|part| page.contains(part));
        assert_eq!(response.body.contains(PYTHONS_ALONE), has_buttons, "{page}: {}", response.body);
        if let Some((_, expected)) = numbers.iter().find(|(list, _)| *list == page) {
            let cells = response.body.split("<td class=\"number\">").skip(1);
            let texts = cells.map(|cell| cell.split("</td>").next().unwrap().trim_end_matches("</a>"));
            let found: Vec<_> = texts.map(|text| text.rsplit('>').next().unwrap()).collect();
            assert_eq!(&found, expected, "{page}");
        }
    }
}

#[tokio::test]
async fn names_arguments_and_errors_are_text_on_every_page() {
    let database = database();
    let mut connection = connect(&database);
    let script = SCRIPT.replace('\'', "''");
    sql(
        &mut connection,
        &format!(
            "SELECT procrastinate_register_worker_v1();
             INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args, status, worker_id)
             SELECT '{script}', '{script}', '{script}' || status, '{script}' || status,
                    jsonb_build_object('{script}', '{script}'), status, CASE WHEN status = 'doing' THEN 1 END
             FROM unnest(enum_range(NULL::procrastinate_job_status)) AS status WHERE status <> 'aborting';
             INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, worker_name)
             SELECT id, 1, '{script}', '{script}' FROM procrastinate_jobs;
             SELECT procrastinate_diesel_pause_v1('queue', '{script}', '{script}', '{script}', false)"
        ),
    );
    let served = Served::to_operator(&database).await;
    let query = form(SCRIPT);
    let list = format!("/queue/jobs?queue={query}&text={query}");
    for page in ["/queue", "/queue/jobs", &list, "/queue/jobs/1", "/queue/jobs/4", "/queue/queues", "/queue/workers"] {
        let response = served.get(page).await;
        assert_eq!(response.status, 200, "{page}: {}", response.body);
        assert!(!response.body.contains("<script>"), "{page}: {}", response.body);
        assert!(response.body.contains("&#60;script&#62;"), "{page}: {}", response.body);
    }
    assert!(served.get(&list).await.body.contains("jobs/4"));
    let response = served.get(&format!("/queue/jobs?status={query}")).await;
    assert!(response.status == 400 && !response.body.contains("<script>"), "{}", response.body);
}

#[tokio::test]
async fn the_list_of_jobs_has_pages_in_both_directions() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) SELECT 'q', 't' FROM generate_series(1, 60)",
    );
    let served = Served::to_operator(&database).await;
    let ids = |body: &str| -> Vec<u32> {
        let links = body.split("jobs/").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok());
        links.collect()
    };
    let mut seen = Vec::new();
    let mut page = "/queue/jobs?queue=q".to_owned();
    for expected in [25, 25, 10] {
        let body = served.get(&page).await.body;
        let found = ids(&body);
        assert_eq!(found.len(), expected);
        page = format!("/queue/jobs?queue=q&before={}", found.last().unwrap());
        assert_eq!(body.contains(&page[12..].replace('&', "&#38;")), expected == 25, "{body}");
        seen.extend(found);
    }
    assert_eq!(seen, (1..=60).rev().collect::<Vec<_>>());
    let newer = served.get("/queue/jobs?queue=q&after=10").await.body;
    assert_eq!(ids(&newer), (11..=35).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_job_has_exact_arguments_its_errors_and_its_events() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args)
         VALUES ('q', 't', 'l', '{\"large\": 123456789012345678901234567890.125}'), ('q', 'u', 'l', '{}');
         UPDATE procrastinate_jobs SET args = jsonb_build_object('long', repeat('x', 1000000)) WHERE id = 2;
         INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, duration_seconds)
         VALUES (1, 1, 'the mail server is down', 1.5)",
    );
    let served = Served::to_operator(&database).await;
    let body = served.get("/queue/jobs/1").await.body;
    for text in ["123456789012345678901234567890.125", "the mail server is down", "deferred", "jobs/2", "Attempt 1"] {
        assert!(body.contains(text), "{text} is not in {body}");
    }
    assert!(body.contains("no worker is alive"), "{body}");
    // Later than a page can show.
    sql(&mut connection, "UPDATE procrastinate_jobs SET scheduled_at = '290000-01-01' WHERE id = 1");
    for page in ["jobs", "jobs/1"] {
        let shown = served.get(&format!("/queue/{page}")).await;
        assert_eq!(shown.status, 200, "{}", shown.body);
    }
    let long = served.get("/queue/jobs/2").await.body;
    assert!(long.len() < 40_000 && long.contains("1000018 characters"), "{} bytes", long.len());
    for (page, status) in [("/queue/jobs/3", 404), ("/queue/jobs/x", 404), ("/queue/jobs?before=x", 400)] {
        assert_eq!(served.get(page).await.status, status, "{page}");
    }
}

#[tokio::test]
async fn a_page_that_takes_too_long_says_so() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "BEGIN; LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE");
    let served = Served::start(&database, |pages| {
        let pages = pages.access(|_| Access::reader("ann"));
        pages.statement_timeout(std::time::Duration::from_millis(50))
    })
    .await;
    let response = served.get("/queue/jobs").await;
    assert!(response.status == 503 && response.body.contains("took too long"), "{}", response.body);
    assert!(!response.body.contains("Nothing was changed"), "{}", response.body);
    // The connection is of use again.
    sql(&mut connection, "ROLLBACK");
    assert_eq!(served.get("/queue/jobs").await.status, 200);
}
