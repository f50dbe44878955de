//! Every page: found by its links, read without a mouse, dark and light, wide and narrow.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::Browser;
use crate::admin::{SCRIPT, Served};
use crate::support::{connect, database, sql};

/// Width in CSS pixels.
const WIDTHS: [(&str, u32); 2] = [("wide", 1280), ("narrow", 400)];

const SCHEMES: [&str; 2] = ["light", "dark"];

/// The pages: a name, the link that leads there, and a text that it shows.
const PAGES: [(&str, &str, &str); 12] = [
    ("overview", "overview", "Needs attention"),
    ("jobs", "jobs", "import_orders"),
    ("queues", "queues", "mails"),
    ("workers", "workers", "stalled"),
    ("actions", "actions", "pause"),
    ("job", "jobs/2", "could not reach"),
    ("schedules", "schedules", "does not fire"),
    ("schedule", "schedules/show?task=make_report", "Next ticks"),
    ("tasks", "tasks", "send_mail"),
    ("locks", "locks", "orders"),
    ("defer", "jobs/defer", "Arguments"),
    ("limits", "queues/limit?kind=queue&name=mails", "Most running jobs"),
];

/// What a shop may have after an hour: jobs of each status, a paused queue, a dead worker, and hostile names.
const SHOP: &str = "
    INSERT INTO procrastinate_workers (id, last_heartbeat) OVERRIDING SYSTEM VALUE
    VALUES (1, now()), (2, now() - interval '1 hour');
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args, status, scheduled_at, attempts, worker_id)
    VALUES ('mails', 'send_mail', 0, NULL, '{\"customer\": 7, \"to\": \"ann@example.com\"}', 'succeeded', NULL, 1, NULL),
           ('mails', 'send_mail', 5, 'customer 8', '{\"customer\": 12345678901234567890}', 'failed', NULL, 3, NULL),
           ('mails', 'send_mail', 0, 'customer 8', '{\"customer\": 8}', 'todo', NULL, 0, NULL),
           ('imports', 'import_orders', 0, 'orders', '{\"file\": \"orders.csv\"}', 'doing', NULL, 0, 1),
           ('imports', 'import_orders', 0, NULL, '{\"file\": \"late.csv\"}', 'doing', NULL, 0, 2),
           ('imports', 'import_orders', 0, NULL, '{}', 'todo', now() + interval '2 days', 0, NULL),
           ('reports', 'make_report', -2, NULL, '{}', 'cancelled', NULL, 0, NULL),
           ('reports', 'make_report', 0, NULL, jsonb_build_object('text', repeat('long ', 200000)), 'failed', NULL, 1, NULL),
           ('reports', 'make_report', 0, NULL, '{}', 'todo', NULL, 0, NULL);
    INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args, status)
    SELECT name, name, name, name, jsonb_build_object(name, name), 'failed'
    FROM (VALUES ('SCRIPT'), (repeat('shop.orders.import.', 6))) AS names (name);
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT 2, type::procrastinate_job_event_type, now() - minutes * interval '1 minute'
    FROM (VALUES ('deferred', 50), ('started', 49), ('deferred_for_retry', 48), ('started', 9), ('failed', 8))
         AS events (type, minutes);
    INSERT INTO procrastinate_diesel_job_errors (job_id, attempt, error, worker_name, duration_seconds)
    SELECT id, 1, 'could not reach the mail server: timeout' || chr(10) || 'SCRIPT', 'SCRIPT', 1.5
    FROM procrastinate_jobs WHERE status = 'failed';
    INSERT INTO procrastinate_diesel_schedules
        (task_name, periodic_id, cron, time_zone, args, missed_ticks, overlap, created_at, changed_at)
    VALUES ('make_report', '', '0 8 * * mon-fri', 'Europe/Berlin', '{\"format\": \"pdf\"}', 'procrastinate', 'allow',
            now() - interval '30 days', now() - interval '30 days'),
           ('SCRIPT', 'SCRIPT', '*/5 * * * *', 'UTC', '{}', 'last', 'skip', now(), now());
    SELECT procrastinate_diesel_set_limit_v1('queue', 'mails', 5, NULL, NULL);
    SELECT procrastinate_diesel_pause_v1('queue', 'mails', 'SCRIPT', 'the provider is down, SCRIPT', false);
    INSERT INTO procrastinate_diesel_actions (actor, action, target, changed, finished_at)
    SELECT 'SCRIPT', action, 'job 2', 1, now() FROM (VALUES ('retry'), ('pause')) AS actions (action)";

async fn shop() -> (throwaway_postgres::Database, Served) {
    let database = database();
    sql(&mut connect(&database), &SHOP.replace("SCRIPT", &SCRIPT.replace('\'', "''")));
    let served = Served::to_operator(&database).await;
    (database, served)
}

#[tokio::test]
async fn every_page_is_accessible_and_fits_in_each_width_and_scheme() {
    let Some(browser) = Browser::start().await else { return };
    let (_database, served) = shop().await;
    let mut problems = String::new();
    for (name, link, text) in PAGES {
        for (width_name, width) in WIDTHS {
            for scheme in SCHEMES {
                browser.look_like(width, scheme).await;
                browser.open(&served.url("")).await;
                browser.follow(link).await;
                assert!(browser.text("main").await.contains(text), "{name}: {}", browser.text("main").await);
                let case = format!("{name}-{width_name}-{scheme}");
                browser.check(&case, width, &mut problems).await;
                // The scheme changes only colours, and the width only places.
                if (width_name == "wide") == (scheme == "light") {
                    browser.check_accessibility(&case, &mut problems).await;
                }
                browser.photograph(&case, width).await;
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

#[tokio::test]
async fn an_empty_queue_is_accessible_too() {
    let Some(browser) = Browser::start().await else { return };
    let database = database();
    let served = Served::to_operator(&database).await;
    let mut problems = String::new();
    for page in ["overview", "jobs", "queues", "workers", "actions", "jobs/1"] {
        browser.look_like(400, "light").await;
        browser.open(&served.url(page)).await;
        let case = format!("empty-{}", page.replace('/', "-"));
        browser.check(&case, 400, &mut problems).await;
        browser.check_accessibility(&case, &mut problems).await;
        browser.photograph(&case, 400).await;
    }
    assert!(problems.is_empty(), "{problems}");
}

#[tokio::test]
async fn long_names_do_not_push_buttons_off() {
    let Some(browser) = Browser::start().await else { return };
    let database = database();
    sql(&mut connect(&database), &LONG.replace("NAME", &"n".repeat(128)));
    let served = Served::to_operator(&database).await;
    browser.look_like(1280, "light").await;
    let mut problems = String::new();
    for page in ["overview", "jobs", "jobs/1", "queues", "tasks", "locks", "schedules", "workers", "actions"] {
        browser.open(&served.url(page)).await;
        browser.check(page, 1280, &mut problems).await;
        let hidden = "[...document.querySelectorAll('.scroll')].map((box) => box.scrollWidth - box.clientWidth)";
        let hidden = browser.evaluate(hidden).await;
        browser.photograph(&format!("long-{}", page.replace("/", "-")), 1280).await;
        if hidden.as_array().unwrap().iter().any(|pixels| pixels != &json!(0)) {
            let _ = writeln!(problems, "{page}: {hidden} pixels are hidden");
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

/// Names as long as they can be, with all that a row can show.
const LONG: &str = "
    SELECT procrastinate_register_worker_v1();
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args, status, attempts, worker_id)
    SELECT name, name, 7, name || n, '{\"NAME\": \"NAME\"}',
           (CASE n WHEN 1 THEN 'doing' ELSE 'todo' END)::procrastinate_job_status, 3, CASE n WHEN 1 THEN 1 END
    FROM generate_series(1, 3) AS n, (VALUES ('NAME'), (left('mNAME', 128))) AS names (name);
    SELECT procrastinate_diesel_create_schedule_v1('NAME', 'NAME', '{\"cron\": \"0,5,10,15,20,25,30 8-20 1-20 * mon-fri\",
        \"missed_ticks\": \"all\", \"overlap\": \"skip\"}', now());
    UPDATE procrastinate_diesel_schedules SET run_requested_at = now() - interval '1 hour', paused_at = now(),
        paused_by = 'NAME', pause_reason = 'NAME';
    SELECT procrastinate_diesel_limit_keys_v1(kind, 'NAME', '{NAME}', 1, 2, 60),
           procrastinate_diesel_pause_v1(kind, 'NAME', 'NAME', 'NAME', false)
    FROM (VALUES ('queue'), ('task')) AS kinds (kind);
    INSERT INTO procrastinate_diesel_actions (actor, action, target, changed, finished_at)
    VALUES ('NAME', 'pause_schedule', 'NAME', 1, now())";

#[tokio::test]
async fn the_content_is_reached_with_the_keyboard() {
    let Some(browser) = Browser::start().await else { return };
    let (_database, served) = shop().await;
    browser.open(&served.url("jobs")).await;
    browser.find("body").await.send_keys("\u{e004}").await.unwrap();
    assert_eq!(browser.evaluate("document.activeElement.textContent").await, json!("Skip to the content"));
    browser.client.active_element().await.unwrap().send_keys("\u{e007}").await.unwrap();
    browser.client.active_element().await.unwrap().send_keys("\u{e004}").await.unwrap();
    assert_eq!(browser.evaluate("document.activeElement.closest('main') !== null").await, json!(true));
}

#[tokio::test]
async fn a_time_is_shown_in_the_zone_of_the_visitor() {
    let Some(browser) = Browser::start().await else { return };
    let (database, served) = shop().await;
    let at = "UPDATE procrastinate_events SET at = '2026-03-04 20:00:00+00'";
    sql(&mut connect(&database), at);
    browser.open(&served.url("jobs/2")).await;
    let title = browser.evaluate("document.querySelector('.timeline time').title").await;
    assert!(title.as_str().unwrap().contains("Mar 5, 2026, 1:30:00"), "{title}");
}

impl Browser {
    /// Follows the link to this page, from the page that is open.
    async fn follow(&self, link: &str) {
        if let Some((list, _)) = link.split_once('/') {
            self.click(&format!("header a[href$='{list}']")).await;
        }
        self.click(&format!("a[href$='{link}']")).await;
    }

    /// Sets the width of the window, and whether the visitor likes dark or light pages.
    pub(super) async fn look_like(&self, width: u32, scheme: &str) {
        self.size(width, 900).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", features).await;
    }

    async fn size(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Notes what is wrong with the page that is open.
    async fn check(&self, case: &str, width: u32, problems: &mut String) {
        for complaint in self.complaints().await {
            // The page of a job that is not there has that status.
            if !complaint.contains("status of 404") {
                let _ = writeln!(problems, "{case}: {complaint}");
            }
        }
        let needed = self.evaluate("document.documentElement.scrollWidth").await;
        if needed.as_u64().unwrap() > u64::from(width) {
            let _ = writeln!(problems, "{case}: it is {needed} wide");
        }
    }

    /// Notes what is not accessible on the page that is open.
    pub(super) async fn check_accessibility(&self, case: &str, problems: &mut String) {
        if let Some(axe) = axe() {
            self.client.execute(&format!("{axe}; window.axe = axe"), Vec::new()).await.unwrap();
            let found = self
                .client
                .execute_async(
                    "const done = arguments[0];
                     axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }).then(
                       (found) => done(found.violations.map((rule) => `${rule.id}: ${rule.nodes[0].html}`)))",
                    Vec::new(),
                )
                .await
                .unwrap();
            for violation in found.as_array().unwrap() {
                let _ = writeln!(problems, "{case}: {violation}");
            }
        }
    }

    /// Keeps a picture of the whole page in `target/screenshots`.
    async fn photograph(&self, case: &str, width: u32) {
        let height = self.evaluate("document.documentElement.scrollHeight").await.as_u64().unwrap();
        self.size(width, u32::try_from(height).unwrap().clamp(400, 4_000)).await;
        let picture = self.client.screenshot().await.unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("{case}.png")), picture).unwrap();
    }
}

/// The script of axe, which checks pages for accessibility: the file that `AXE` names.
fn axe() -> Option<String> {
    let path = std::env::var("AXE").ok()?;
    Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
}
