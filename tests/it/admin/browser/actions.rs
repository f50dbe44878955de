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
        let banner = browser.text("[role=status]").await;
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
    assert!(browser.text("main").await.contains("delete job 1: 1 changed"), "{}", browser.text("main").await);
    assert!(column(&database, "id").is_empty());
}

#[tokio::test]
async fn a_selection_is_changed_after_a_question() {
    let Some(browser) = Browser::start().await else { return };
    let database = jobs(&["failed", "failed", "failed"]);
    let served = Served::to_operator(&database).await;
    browser.open(&served.url("jobs")).await;
    browser.click("[value='1']").await;
    browser.click("[value='3']").await;
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
                tab.click().await.unwrap();
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
    browser.click("[value='2']").await;
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
