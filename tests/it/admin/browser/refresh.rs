//! What changes while a page is open.

use serde_json::json;
use throwaway_postgres::Database;

use super::Browser;
use crate::admin::Served;
use crate::support::{connect, database, sql};

/// Defers a job to this queue.
fn defer(database: &Database, queue: &str) {
    let insert =
        format!("INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('{queue}', 'send', '{{}}')");
    sql(&mut connect(database), &insert);
}

async fn page(path: &str) -> Option<(Browser, Database, Served)> {
    let browser = Browser::start().await?;
    let database = database();
    defer(&database, "first");
    let served = Served::to_operator(&database).await;
    browser.open(&served.url(path)).await;
    Some((browser, database, served))
}

impl Browser {
    /// Lets the page refresh now, as when the visitor comes back to it.
    async fn come_back(&self) {
        self.evaluate("document.dispatchEvent(new Event('visibilitychange'))").await;
    }

    /// Waits until the page shows a text. The script needs no other reason to look than that the visitor came back.
    async fn wait_for(&self, text: &str) {
        self.wait_until(&format!("document.querySelector('main').textContent.includes('{text}')")).await;
    }
}

#[tokio::test]
async fn a_page_shows_what_is_new_and_keeps_the_focus() {
    let Some((browser, database, _served)) = page("jobs").await else { return };
    browser.evaluate("document.querySelector('td a').focus()").await;
    defer(&database, "second");
    sql(&mut connect(&database), "UPDATE procrastinate_jobs SET status = 'failed' WHERE id = 1");
    browser.come_back().await;
    browser.wait_for("second").await;
    assert_eq!(browser.evaluate("document.activeElement.textContent").await, json!("#1"));
    let rows = "[...document.querySelectorAll('tbody tr')].map((row) => row.innerText.replace(/\\s+/g, ' '))";
    let rows = browser.evaluate(rows).await;
    assert!(rows[0].as_str().unwrap().contains("#2 pending send second"), "{rows}");
    assert!(rows[1].as_str().unwrap().contains("#1 failed send first"), "{rows}");
    // The times are still those of the visitor's zone.
    let title = browser.evaluate("document.querySelector('tbody time').title").await;
    assert!(title.as_str().unwrap().contains("GMT+5:30"), "{title}");
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn an_open_page_is_refreshed_every_few_seconds() {
    let Some((browser, database, _served)) = page("queues").await else { return };
    defer(&database, "second");
    browser.wait_for("second").await;
}

#[tokio::test]
async fn nothing_that_the_visitor_has_typed_or_chosen_is_lost() {
    let Some((browser, database, _served)) = page("jobs").await else { return };
    browser.click_text("main", "Filter").await;
    browser.fill("[name=queue]", "fir").await;
    browser.click("td [name=id]").await;
    defer(&database, "second");
    browser.come_back().await;
    assert_eq!(browser.evaluate("document.querySelector('[name=queue]').value").await, json!("fir"));
    browser.fill("[name=queue]", "").await;
    // The box is still checked.
    browser.come_back().await;
    assert_eq!(browser.evaluate("document.querySelector('td [name=id]').checked").await, json!(true));
    assert!(!browser.text("main").await.contains("second"));
    browser.click("td [name=id]").await;
    browser.evaluate("document.activeElement.blur()").await;
    browser.come_back().await;
    browser.wait_for("second").await;
    assert_eq!(browser.evaluate("document.querySelector('details').open").await, json!(true));
}

#[tokio::test]
async fn the_refresh_can_be_stopped_and_stays_so_on_the_next_page() {
    let Some((browser, database, served)) = page("queues").await else { return };
    browser.click(".live").await;
    browser.open(&served.url("jobs")).await;
    assert_eq!(browser.evaluate("document.querySelector('.live').ariaPressed").await, json!("false"));
    defer(&database, "second");
    browser.come_back().await;
    assert!(!browser.text("main").await.contains("second"));
    browser.click(".live").await;
    browser.wait_for("second").await;
}

#[tokio::test]
async fn a_page_says_that_its_server_is_gone_and_recovers() {
    let Some((browser, database, served)) = page("queues").await else { return };
    sql(&mut connect(&database), "ALTER TABLE procrastinate_jobs RENAME TO gone");
    browser.come_back().await;
    browser.wait_until("document.querySelector('.live').textContent.startsWith('live: status 5')").await;
    assert!(browser.text("main").await.contains("first"));
    let banner = browser.text("main > [role=status]").await;
    let (begin, end) = ("These numbers are from ", "The page could not be refreshed: status 503.");
    assert!(banner.starts_with(begin) && banner.ends_with(end), "{banner}");
    let time = banner[begin.len()..].split(". ").next().unwrap();
    assert!(time.len() == 8 && time.matches(':').count() == 2, "{banner}");
    let mut problems = String::new();
    for scheme in ["light", "dark"] {
        browser.look_like(400, scheme).await;
        browser.check_accessibility(scheme, &mut problems).await;
    }
    assert!(problems.is_empty(), "{problems}");
    // It stays one banner, and the focus stays where it is when it goes.
    browser.evaluate("document.querySelector('th a').focus()").await;
    browser.come_back().await;
    browser.wait_until("document.querySelectorAll('.stale').length === 1").await;
    sql(&mut connect(&database), "ALTER TABLE gone RENAME TO procrastinate_jobs");
    defer(&database, "second");
    browser.come_back().await;
    browser.wait_for("second").await;
    assert_eq!(browser.text(".live").await, "live");
    assert_eq!(browser.text("main > [role=status]").await, "");
    assert_eq!(browser.evaluate("document.activeElement.textContent").await, json!("first"));
    drop(served);
}
