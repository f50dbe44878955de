//! What the pages show.

use super::{SCRIPT, Served, form};
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
        let pages = pages.access(|_| procrastinate::admin::Access::reader("ann"));
        pages.statement_timeout(std::time::Duration::from_millis(50))
    })
    .await;
    let response = served.get("/queue/jobs").await;
    assert!(response.status == 503 && response.body.contains("took too long"), "{}", response.body);
    // The connection is of use again.
    sql(&mut connection, "ROLLBACK");
    assert_eq!(served.get("/queue/jobs").await.status, 200);
}
