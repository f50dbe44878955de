//! The admin pages in Chromium without a window, clicked through as a visitor does. The tests need Debian's package
//! `chromium-driver`. Where it is missing they say that they are skipped, and fail with `PROCRASTINATE_REQUIRE_BROWSER=1`.

mod actions;
mod driver;
mod refresh;
mod tour;

use std::time::{Duration, Instant};

use fantoccini::Locator;
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use serde_json::{Value, json};

use self::driver::Browser;
use crate::support::PATIENCE;

impl Browser {
    /// Opens a page under this address.
    async fn open(&self, address: &str) {
        self.client.goto(address).await.unwrap();
    }

    /// Clicks on the first element that a selector finds.
    async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.click_on(&element).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Clicks on an element, and waits for the page to which it leads.
    async fn click_on(&self, element: &Element) -> Result<(), CmdError> {
        let script = "return window.isFormerPage = arguments[0].matches('a[href], form button')";
        let leads = self.client.execute(script, vec![serde_json::to_value(element).unwrap()]).await?;
        element.click().await?;
        if leads == json!(true) {
            self.wait_until("window.isFormerPage === undefined && document.readyState === 'complete'").await;
        }
        Ok(())
    }

    /// Clicks on the first link or button with this text, within what a selector finds.
    async fn click_text(&self, within: &str, text: &str) {
        let selector = format!("{within} :is(a, button, summary)");
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            for element in self.client.find_all(Locator::Css(&selector)).await.unwrap() {
                // A refresh or the next page may have replaced it meanwhile.
                if element.text().await.is_ok_and(|found| found.trim() == text) && self.click_on(&element).await.is_ok()
                {
                    return;
                }
            }
        }
        panic!("{within} has no link and no button {text:?}: {}", self.text("main").await);
    }

    /// Types into a field.
    async fn fill(&self, selector: &str, text: &str) {
        let field = self.find(selector).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn find(&self, selector: &str) -> Element {
        match self.client.find(Locator::Css(selector)).await {
            Ok(element) => element,
            Err(error) => panic!("{selector}: {error}\n{}", self.text("main").await),
        }
    }

    /// What a visitor reads in the element. Empty if there is none.
    async fn text(&self, selector: &str) -> String {
        // In one step, because the next page may come in between.
        let found =
            self.client.execute("return document.querySelector(arguments[0])?.innerText ?? ''", vec![json!(selector)]);
        found.await.unwrap().as_str().unwrap().to_owned()
    }

    /// Evaluates an expression in the page.
    async fn evaluate(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression}"), Vec::new()).await.unwrap()
    }

    /// Waits until an expression is true in the page.
    async fn wait_until(&self, expression: &str) {
        let start = Instant::now();
        let script = format!("return {expression}");
        // A page that is on its way cannot be asked.
        while !self.client.execute(&script, Vec::new()).await.is_ok_and(|value| value == json!(true)) {
            assert!(start.elapsed() < PATIENCE, "{expression}: {}", self.text("main").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
