//! The admin pages, as a client of HTTP sees them.

mod access;
mod browser;
mod changes;
mod defer;
mod filters;
mod growth;
mod limits;
mod lists;
mod overview;
mod pages;
mod schedules;

use std::net::SocketAddr;

use procrastinate::App;
use procrastinate::admin::{Access, AdminPages};
use throwaway_postgres::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::connector;

/// A text that would be a script if a page did not escape it.
pub const SCRIPT: &str = "<script>alert(\"x\")</script>&'";

/// The header of a request that a page itself has sent.
pub const OWN: (&str, &str) = ("sec-fetch-site", "same-origin");

/// The text as a value in a query.
pub fn form(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A response: its status, its headers in lower case, and its body. `body` is without the marks around names, which
/// `marked` has.
pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: String,
    pub marked: String,
}

/// Pages under `/queue` that are served until this is dropped.
pub struct Served {
    pub address: SocketAddr,
    _server: JoinSet<()>,
}

impl Served {
    /// Serves the pages of this database to an operator.
    pub async fn to_operator(database: &Database) -> Self {
        Self::start(database, |pages| pages.access(|_| Access::operator("ann"))).await
    }

    pub async fn start(database: &Database, change: impl FnOnce(AdminPages) -> AdminPages) -> Self {
        Self::of(&App::builder(connector(database).await).build().unwrap(), change).await
    }

    /// Serves the pages of this application.
    pub async fn of(app: &App, change: impl FnOnce(AdminPages) -> AdminPages) -> Self {
        let router = axum::Router::new().nest_service("/queue", change(AdminPages::new(app)).router());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).await.unwrap();
        });
        Self { address, _server: server }
    }

    /// The address of a page, for a browser.
    pub fn url(&self, page: &str) -> String {
        format!("http://{}/queue/{page}", self.address)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[]).await
    }

    /// Sends a request without a body.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send_with(method, path, headers, "").await
    }

    /// Sends a form.
    pub async fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Response {
        self.send_with("POST", path, headers, body).await
    }

    async fn send_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request +=
            &format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        let response = String::from_utf8(response).unwrap();
        let (headers, body) = response.split_once("\r\n\r\n").unwrap();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        let unmarked = body.replace("<bdi>", "").replace("</bdi>", "");
        Response { status, headers: headers.to_lowercase(), body: unmarked, marked: body.to_owned() }
    }
}
