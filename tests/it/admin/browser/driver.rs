//! Starts Chromium and its driver.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write, stderr};
use std::process::Stdio;
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::{ParseError, Url};

/// With this variable set to 1, tests fail where the driver is missing.
const REQUIRE: &str = "PROCRASTINATE_REQUIRE_BROWSER";

/// A browser of its own for one test. It ends with this.
pub struct Browser {
    pub client: Client,
    session: String,
    port: u16,
    _driver: Child,
}

impl Browser {
    /// A browser with the time zone of India. Where there is no driver: `None`, and a line on standard error says which
    /// test is skipped and why.
    pub async fn start() -> Option<Self> {
        Self::with_preferences(json!({})).await
    }

    /// One that runs no scripts.
    pub async fn without_scripts() -> Option<Self> {
        Self::with_preferences(json!({ "profile.managed_default_content_settings.javascript": 2 })).await
    }

    async fn with_preferences(preferences: Value) -> Option<Self> {
        let program = std::env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".to_owned());
        let mut driver = match Command::new(&program).arg("--port=0").stdout(Stdio::piped()).kill_on_drop(true).spawn()
        {
            Ok(driver) => driver,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
                assert!(!required, "{REQUIRE} is set, but there is no `{program}`");
                let thread = std::thread::current();
                // Not `eprintln!`: the harness shows that of failed tests only.
                let _ = writeln!(stderr(), "skipped: {}: no `{program}`", thread.name().unwrap_or("a browser test"));
                return None;
            }
            Err(error) => panic!("could not start `{program}`: {error}"),
        };
        let port = port(&mut driver).await;
        let Value::Object(capabilities) = json!({
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                // Chromium refuses to run as root with a sandbox.
                "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en"],
                "prefs": preferences,
            },
        }) else {
            unreachable!("it is an object")
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        let session = client.session_id().await.unwrap().expect("a session");
        let browser = Self { client, session, port, _driver: driver };
        browser.command("Emulation.setTimezoneOverride", json!({ "timezoneId": "Asia/Kolkata" })).await;
        Some(browser)
    }

    /// Sends a command of Chromium's own.
    pub async fn command(&self, name: &'static str, parameters: Value) -> Value {
        self.client.issue_cmd(Own("goog/cdp/execute", json!({ "cmd": name, "params": parameters }))).await.unwrap()
    }

    /// What the browser complained of, such as a script that the headers forbid.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.client.issue_cmd(Own("se/log", json!({ "type": "browser" }))).await.unwrap();
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// The port that the driver has chosen and prints.
async fn port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let mut printed = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.rsplit_once("started successfully on port ") {
            return port.trim_end_matches('.').parse().unwrap();
        }
        let _ = writeln!(printed, "{line}");
    }
    panic!("the driver ended: {printed}")
}

impl Drop for Browser {
    /// Chromium ends with its session, and not with its driver.
    fn drop(&mut self) {
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = write!(stream, "DELETE /session/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", self.session);
        let _ = stream.read(&mut [0; 1]);
    }
}

/// A command that WebDriver does not have: its address below the session, and what it is sent.
#[derive(Debug)]
struct Own(&'static str, Value);

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (axum::http::Method, Option<String>) {
        (axum::http::Method::POST, Some(self.1.to_string()))
    }
}
