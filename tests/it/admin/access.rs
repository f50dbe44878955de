//! Who sees the pages, and what protects them.

use procrastinate::admin::{Access, AdminPages, basic_auth, loopback};

use super::{OWN, Served};
use crate::support::{connect, database, rows, sql};

const PAGES: [&str; 8] = [
    "/queue",
    "/queue/jobs",
    "/queue/jobs/1",
    "/queue/queues",
    "/queue/tasks",
    "/queue/locks",
    "/queue/workers",
    "/queue/none",
];

#[tokio::test]
async fn nobody_sees_a_page_until_the_application_decides_who_may() {
    let database = database();
    let served = Served::start(&database, |pages| pages).await;
    for page in PAGES {
        let response = served.get(page).await;
        assert_eq!(response.status, 403, "{page}");
        assert!(response.body.contains("AdminPages::access") && !response.body.contains("<table"), "{page}");
    }
}

#[tokio::test]
async fn a_visitor_signs_in_or_is_sent_to_a_page_to_do_so() {
    let database = database();
    let served = Served::start(&database, |pages| pages.access(basic_auth([(Access::reader("bob"), "pass")]))).await;
    let refused = served.get("/queue/jobs").await;
    assert_eq!(refused.status, 401);
    assert!(refused.headers.contains("www-authenticate: basic realm="), "{}", refused.headers);
    let seen = served.send("GET", "/queue/jobs", &[("authorization", "Basic Ym9iOnBhc3M=")]).await;
    assert!(seen.status == 200 && seen.body.contains("bob"), "{}", seen.body);
    let wrong = served.send("GET", "/queue/jobs", &[("authorization", "Basic Ym9iOnBhc3Q=")]).await;
    assert_eq!(wrong.status, 401);

    let served = Served::start(&database, |pages| pages.access(|_| Access::redirect("/login"))).await;
    let sent = served.get("/queue").await;
    assert!(sent.status == 303 && sent.headers.contains("location: /login"), "{}", sent.headers);
    let served =
        Served::start(&database, |pages| pages.access(|_| Access::redirect("/login\r\nset-cookie: a=b"))).await;
    let refused = served.get("/queue").await;
    assert!(refused.status == 403 && !refused.headers.contains("set-cookie"), "{}", refused.headers);
    assert!(refused.body.contains("an address that is not valid"), "{}", refused.body);

    let served = Served::start(&database, |pages| pages.access(loopback(Access::reader("me")))).await;
    assert_eq!(served.get("/queue").await.status, 200);
}

#[tokio::test]
async fn each_response_has_the_headers_that_protect_it() {
    let database = database();
    let served = Served::to_operator(&database).await;
    for page in PAGES {
        let headers = served.get(page).await.headers;
        for header in [
            "content-security-policy: default-src 'none';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "referrer-policy: same-origin",
        ] {
            assert!(headers.contains(header), "{page} lacks {header}: {headers}");
        }
    }
}

#[tokio::test]
async fn a_change_from_another_site_is_refused_before_any_page_sees_it() {
    let database = database();
    let served = Served::to_operator(&database).await;
    for headers in [
        vec![("sec-fetch-site", "cross-site")],
        vec![("origin", "https://evil.example")],
        vec![],
        vec![("sec-fetch-site", "cross-site"), ("authorization", "Basic x")],
    ] {
        let response = served.send("POST", "/queue/jobs/change", &headers).await;
        assert_eq!(response.status, 403, "{headers:?}");
        assert!(response.body.contains("another site"), "{headers:?}");
    }
    let own = served.send("POST", "/queue/jobs", &[("sec-fetch-site", "same-origin")]).await;
    assert_eq!(own.status, 405);
}

#[tokio::test]
async fn hidden_arguments_are_nowhere_on_the_pages() {
    let database = database();
    sql(
        &mut connect(&database),
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES
         ('q', 'pay', '{\"IBAN\": \"DE-SECRET\", \"amount\": 12345678901234567890}'),
         ('q', 'sign', '{\"key\": \"SECRET\"}'), ('q', 'mail', '{\"deep\": [{\"password\": {\"a\": \"SECRET\"}}]}');
         INSERT INTO procrastinate_diesel_schedules 
             (task_name, periodic_id, cron, time_zone, args, missed_ticks, overlap, created_at, changed_at)
         VALUES ('pay', '', '0 8 * * *', 'UTC', '{\"iban\": \"DE-SECRET\"}', 'procrastinate', 'allow', now(), now())",
    );
    let hide = |pages: AdminPages| {
        let pages = pages.hide_field("password").hide_field_of("pay", "iban").hide_arguments_of("sign");
        pages.access(|_| Access::operator("ann"))
    };
    let served = Served::start(&database, hide).await;
    for page in
        ["jobs", "jobs/1", "jobs/2", "jobs/3", "jobs?status=todo", "schedules/show?task=pay", "schedules/edit?task=pay"]
    {
        let body = served.get(&format!("/queue/{page}")).await.body;
        assert!(!body.contains("SECRET") && body.contains("hidden"), "{page}: {body}");
    }
    assert!(served.get("/queue/jobs/1").await.body.contains("12345678901234567890"));
    // A limit for each key shows the key where it holds a job back.
    sql(
        &mut connect(&database),
        "SELECT procrastinate_diesel_limit_keys_v1('task', 'sign', '{key}', 1, NULL, NULL);
         INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('q', 'sign', '{\"key\": \"SECRET\"}');
         UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 2;
         SELECT count(*) FROM procrastinate_fetch_job_v2('{q}', NULL)",
    );
    let body = served.get("/queue/jobs/4").await.body;
    assert!(body.contains("1 running with its key hidden") && !body.contains("SECRET"), "{body}");
    // A search would tell what is hidden.
    for text in ["SECRET", "12345"] {
        assert!(served.get(&format!("/queue/jobs?text={text}")).await.body.contains("No job matches"));
    }

    // Who edits the schedule does not change what is hidden.
    let form = "task=pay&id=&version=1&cron=0+9+*+*+*&time_zone=UTC&missed=procrastinate&overlap=allow";
    let response = served.post("/queue/schedules/edit", form, &[OWN]).await;
    assert_eq!(response.status, 303, "{}", response.body);
    let schedule = "SELECT cron, args FROM procrastinate_diesel_schedules";
    assert_eq!(rows(&mut connect(&database), schedule), ["0 9 * * * | {\"iban\": \"DE-SECRET\"}"]);

    let served = Served::start(&database, |pages| pages.access(|_| Access::reader("bob").without_arguments())).await;
    for page in ["jobs", "jobs/1"] {
        assert!(!served.get(&format!("/queue/{page}")).await.body.contains("12345"), "{page}");
    }
    assert!(served.get("/queue/jobs?text=12345").await.body.contains("No job matches"));
}
