//! Every action, clicked.

use fantoccini::Locator;
use serde_json::json;
use throwaway_postgres::Database;

use super::Browser;
use crate::admin::Served;
use crate::support::{connect, database, rows, sql};

/// Jobs with the numbers from 1, one of each of these statuses.
fn jobs(statuses: &[&str]) -> Database {
    let database = database();
    for status in statuses {
        sql(
            &mut connect(&database),
            &format!(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, scheduled_at)
                 VALUES ('mails', 'send_mail', '{{}}', '{status}', now() + interval '1 day')"
            ),
        );
    }
    database
}

/// A column of all jobs.
fn column(database: &Database, expression: &str) -> Vec<String> {
    rows(&mut connect(database), &format!("SELECT {expression} FROM procrastinate_jobs ORDER BY id"))
}

#[tokio::test]
async fn a_job_is_changed_on_its_page() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["failed", "todo", "doing", "todo"]);
    let served = Served::to_operator(&database).await;
    for (id, action) in [(1, "retry"), (2, "cancel"), (3, "abort"), (4, "run now")] {
        browser.open(&served.url(&format!("jobs/{id}"))).await;
        browser.click_text("main", action).await;
        let banner = browser.text("[role=status]").await.to_lowercase();
        assert_eq!(banner, format!("{action} job {id}: 1 changed"));
    }
    assert_eq!(column(&database, "status"), ["todo", "cancelled", "doing", "todo"]);
    assert_eq!(column(&database, "abort_requested"), ["false", "false", "true", "false"]);
    assert_eq!(column(&database, "scheduled_at > now()"), ["false", "true", "true", "NULL"]);
}

#[tokio::test]
async fn a_pending_job_gets_another_time_priority_and_queue() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["todo"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("jobs/1")).await;
    browser.click_text("main", "Change").await;
    browser.evaluate("document.querySelector('[type=datetime-local]').value = '2030-01-02T03:04'").await;
    browser.click("[value=reschedule]").await;
    for (field, value, button) in [("[type=number]", "-7", "priority"), ("[maxlength]", "later", "queue")] {
        browser.click_text("main", "Change").await;
        browser.fill(field, value).await;
        browser.click(&format!("[name=action][value={button}]")).await;
        assert!(browser.text("[role=status]").await.ends_with("1 changed"));
    }
    let changed = column(&database, "priority, queue_name, scheduled_at = '2030-01-02 03:04+00'");
    assert_eq!(changed, ["-7 | later | true"]);
}

#[tokio::test]
async fn a_deleted_job_is_gone() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["failed"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("jobs/1")).await;
    browser.click_text("main", "delete").await;
    if browser.text("h1").await.ends_with('?') {
        browser.click_text("main", "Yes, delete").await;
    }
    assert!(
        browser.text("main").await.to_lowercase().contains("delete job 1: 1 changed"),
        "{}",
        browser.text("main").await
    );
    assert!(column(&database, "id").is_empty());
}

#[tokio::test]
async fn a_selection_is_changed_after_a_question() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["failed", "failed", "failed"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("jobs")).await;
    browser.click("[value^='1:']").await;
    browser.click("[value^='3:']").await;
    browser.click_text("main", "retry").await;
    assert_eq!(browser.text("h1").await.to_lowercase(), "retry 2 jobs?");
    browser.click_text("main", "No").await;
    assert_eq!(column(&database, "status"), ["failed", "failed", "failed"]);
    browser.click("[data-all]").await;
    browser.click_text("main", "retry").await;
    assert_eq!(browser.text("h1").await.to_lowercase(), "retry 3 jobs?");
    browser.click_text("main", "Yes, retry").await;
    assert!(browser.text("[role=status]").await.ends_with("3 changed"));
    assert_eq!(column(&database, "status"), ["todo", "todo", "todo"]);
}

#[tokio::test]
async fn all_that_match_are_changed_after_a_question() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["failed", "todo", "failed", "todo", "todo"]);
    let served = Served::to_operator(&database).await;
    for (status, action, number) in [("Pending", "run now", 3), ("Pending", "cancel", 3), ("Failed", "delete", 2)] {
        browser.open(&served.url("jobs")).await;
        let tabs = browser.client.find_all(Locator::Css(".tabs a")).await.unwrap();
        for tab in tabs {
            if tab.text().await.unwrap().starts_with(status) {
                browser.click_on(&tab).await.unwrap();
                break;
            }
        }
        browser.click_text("main", action).await;
        assert_eq!(browser.text("h1").await.to_lowercase(), format!("{action} {number} jobs?"));
        browser.click_text("main", &format!("Yes, {action}")).await;
        assert!(browser.text("[role=status]").await.ends_with(&format!("{number} changed")));
    }
    assert_eq!(column(&database, "id, status"), ["2 | cancelled", "4 | cancelled", "5 | cancelled"]);
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed_and_the_record_tells_who_did_it() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["todo"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("queues")).await;
    browser.fill("[name=reason]", "the provider is down").await;
    browser.click_text("main", "pause").await;
    let page = browser.text("main").await;
    assert!(page.contains("by ann: the provider is down"), "{page}");
    browser.open(&served.url("jobs/1")).await;
    assert!(browser.text(".reasons").await.contains("the provider is down"));
    browser.open(&served.url("queues")).await;
    browser.click_text("main", "resume").await;
    browser.open(&served.url("actions")).await;
    let page = browser.text("main").await;
    assert!(page.contains("resume queue mails") && page.contains("pause queue mails"), "{page}");
    let paused = "SELECT count(*) FROM procrastinate_diesel_flow_controls WHERE paused_at IS NOT NULL";
    assert_eq!(rows(&mut connect(&database), paused), ["0"]);
}

#[tokio::test]
async fn everything_works_without_scripts() {
    let Some(browser) = Browser::without_scripts().await else { return };
    let database = jobs(&["failed", "failed"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("jobs")).await;
    browser.click("[value^='2:']").await;
    browser.click_text("main", "retry").await;
    browser.click_text("main", "Yes, retry").await;
    assert!(browser.text("[role=status]").await.ends_with("1 changed"));
    assert!(!browser.find("[data-all]").await.is_displayed().await.unwrap());
    assert_eq!(column(&database, "status"), ["failed", "todo"]);
}

#[tokio::test]
async fn a_reader_sees_no_button() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["failed", "todo", "doing"]);
    let served = Served::start(&database, |pages| pages.access(|_| procrastinate::admin::Access::reader("bob"))).await;
    for page in ["overview", "jobs", "jobs/1", "jobs/2", "jobs/3", "queues", "workers", "actions"] {
        browser.open(&served.url(page)).await;
        let found = "document.querySelectorAll('form[method=post] button, [type=checkbox], [name=action]').length";
        assert_eq!(browser.evaluate(found).await, json!(0), "{page}");
    }
}

#[tokio::test]
async fn a_schedule_is_created_edited_run_paused_resumed_and_removed() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&[]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("schedules")).await;
    browser.click_text("main", "Create a schedule").await;
    browser.fill("[name=task]", "report").await;
    browser.fill("[name=cron]", "0 8 * *").await;
    browser.fill("[name=args]", "{\"format\": \"pdf\"}").await;
    browser.click_text("main", "Create").await;
    assert!(browser.text("[role=alert]").await.contains("0 8 * *"), "{}", browser.text("main").await);
    browser.fill("[name=cron]", "0 8 * * mon-fri").await;
    browser.click_text("main", "Create").await;
    assert!(browser.text("h1").await.starts_with("Schedule report"), "{}", browser.text("main").await);
    browser.click_text("main", "Edit").await;
    browser.fill("[name=time_zone]", "Europe/Berlin").await;
    browser.click_text("main", "Save").await;
    let schedule = "SELECT cron, time_zone, args, run_requested_at IS NOT NULL, pause_reason
                    FROM procrastinate_diesel_schedules";
    let now = || rows(&mut connect(&database), schedule);
    assert_eq!(now(), ["0 8 * * mon-fri | Europe/Berlin | {\"format\": \"pdf\"} | false | NULL"]);
    browser.click_text("main", "run now").await;
    browser.fill("[name=reason]", "holidays").await;
    browser.click_text("main", "pause").await;
    assert!(browser.text("main").await.contains("by ann: holidays"), "{}", browser.text("main").await);
    assert_eq!(now(), ["0 8 * * mon-fri | Europe/Berlin | {\"format\": \"pdf\"} | true | holidays"]);
    browser.click_text("main", "resume").await;
    assert!(browser.text("h1").await.ends_with("active"), "{}", browser.text("h1").await);
    browser.click_text("main", "remove").await;
    browser.click_text("main", "Yes, remove it").await;
    assert!(now().is_empty());
}

#[tokio::test]
async fn a_limit_is_set_and_removed() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["todo"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("queues")).await;
    let tops = "[...document.querySelectorAll('form > label')].map((label) => label.getBoundingClientRect().top)";
    let tops = browser.evaluate(tops).await;
    assert_eq!(tops[0], tops[1], "{tops}");
    browser.click("[aria-label='Set limits of mails']").await;
    browser.fill("[name=running]", "many").await;
    browser.click_text("main", "set").await;
    assert!(browser.text("[role=alert]").await.contains("many"));
    browser.fill("[name=running]", "3").await;
    browser.click_text("main", "set").await;
    let limit = "SELECT name, max_running FROM procrastinate_diesel_flow_controls";
    assert_eq!(rows(&mut connect(&database), limit), ["mails | 3"]);
    browser.open(&served.url("queues")).await;
    assert!(browser.text("tbody").await.contains("at most 3 running"), "{}", browser.text("tbody").await);
    browser.click("[aria-label='Set limits of mails']").await;
    browser.click_text("main", "remove").await;
    assert!(rows(&mut connect(&database), limit).is_empty());
}

#[tokio::test]
async fn a_task_is_paused_and_resumed() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["todo"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("tasks")).await;
    browser.fill("[name=reason]", "a bug").await;
    browser.click_text("main", "pause").await;
    assert!(browser.text("tbody").await.contains("by ann: a bug"), "{}", browser.text("tbody").await);
    browser.click_text("main", "resume").await;
    assert!(!browser.text("tbody").await.contains("a bug"));
}

#[tokio::test]
async fn a_job_is_deferred_by_the_name_of_its_task() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&[]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("jobs")).await;
    browser.click_text("main", "Defer a job").await;
    browser.fill("[name=task]", "send_mail").await;
    browser.fill("[name=queue]", "mails").await;
    browser.fill("[name=args]", "{\"customer\": 12345678901234567890123,}").await;
    browser.click_text("main", "Defer").await;
    assert!(browser.text("[role=alert]").await.contains("customer"), "{}", browser.text("main").await);
    browser.fill("[name=args]", "{\"customer\": 12345678901234567890123}").await;
    browser.click_text("main", "Defer").await;
    assert!(browser.text("h1").await.starts_with("Job #"), "{}", browser.text("main").await);
    assert_eq!(
        column(&database, "task_name, queue_name, args"),
        ["send_mail | mails | {\"customer\": 12345678901234567890123}"]
    );
}

#[tokio::test]
async fn the_failed_job_of_a_customer_is_found_by_a_text_and_retried() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["failed", "failed"]);
    let arguments = "UPDATE procrastinate_jobs SET args = '{\"customer\": \"Ada\"}' WHERE id = 1";
    sql(&mut connect(&database), arguments);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("jobs")).await;
    browser.click_text("main", "Filter").await;
    browser.fill("[name=text]", "ada").await;
    browser.click_text("main", "Search").await;
    let found = browser.evaluate("document.querySelectorAll('tbody tr').length").await;
    assert_eq!(found, json!(1), "{}", browser.text("main").await);
    browser.click("td a").await;
    browser.click_text("main", "retry").await;
    assert_eq!(column(&database, "status"), ["todo", "failed"]);
}
