//! Serves the admin pages of a bookshop's queue. With the argument `serve` it goes on until it is stopped. Otherwise it
//! opens its own first page once.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::admin::{Access, AdminPages, loopback};
use procrastinate::{App, DieselConnector, task};
use throwaway_postgres::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[task(queue = "mails")]
async fn confirm(order: i64) -> Result<(), String> {
    if order % 4 == 0 { Err(format!("the address of order {order} is unknown")) } else { Ok(()) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("admin")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<confirm>().build()?;
    for order in 1..=10 {
        app.defer(confirm(order)).await?;
    }
    app.worker().stop_when_empty().run().await?;

    // Everybody on this machine is an operator.
    let pages = AdminPages::new(&app).access(loopback(Access::operator("developer")));
    let router = Router::new().nest_service("/queue", pages.router());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address}/queue");
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    if std::env::args().nth(1).as_deref() == Some("serve") {
        serving.await??;
        return Ok(());
    }

    let page = open(address, "/queue").await?;
    let attention = page.lines().find(|line| line.contains("failed in the last hour")).unwrap_or_default();
    println!("{attention}");
    if !attention.contains("2 jobs have failed") {
        return Err("the page does not say which jobs have failed".into());
    }
    Ok(())
}

async fn open(address: SocketAddr, path: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}
