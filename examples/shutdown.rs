//! Runs a web server and a worker in one process. One token stops both: the server finishes its requests and the worker
//! its jobs. Ctrl-C does the same.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, DieselConnector, JobStatus, job_manager, task};
use throwaway_postgres::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Takes a moment, so that the worker is asked to stop while it runs.
#[task]
async fn send_newsletter(to: String) {
    println!("writing to {to}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("sent to {to}");
}

async fn subscribe(State(app): State<App>, Path(to): Path<String>) -> Result<String, (StatusCode, String)> {
    let id = app.defer(send_newsletter(to)).await.map_err(|error| {
        // The reason is for the log, not for the visitor.
        println!("{error}");
        (StatusCode::SERVICE_UNAVAILABLE, "please try again".to_owned())
    })?;
    Ok(id.to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    let database = server.create_database("shutdown")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database.url());
    let connector = DieselConnector::new(Pool::builder().max_size(5).build(manager).await?);
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).task::<send_newsletter>().build()?;

    let token = CancellationToken::new();
    let worker = app
        .worker()
        .concurrency(5)
        .shutdown_graceful_timeout(Duration::from_secs(20))
        .with_graceful_shutdown(token.clone().cancelled_owned());
    let worker = tokio::spawn(worker.run());

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let routes = Router::new().route("/subscribe/{to}", post(subscribe)).with_state(app.clone());
    let stopped = token.clone().cancelled_owned();
    let web = tokio::spawn(async move { axum::serve(listener, routes).with_graceful_shutdown(stopped).await });

    // Ctrl-C stops the worker, and here the server too. A second one aborts the jobs.
    tokio::spawn({
        let token = token.clone();
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                token.cancel();
            }
        }
    });

    // A visitor sends a request. The job starts within milliseconds. Then the program is stopped.
    let id: i64 = visit(address, "/subscribe/ada").await?.parse()?;
    while app.perform(job_manager::get_job_status(id)).await? == Some(JobStatus::Todo) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("stopping");
    token.cancel();
    web.await??;
    worker.await??;

    match app.perform(job_manager::get_job_status(id)).await? {
        Some(JobStatus::Succeeded) => Ok(()),
        other => Err(format!("the job has the status {other:?} and not succeeded").into()),
    }
}

/// Sends a request like a browser. Returns the body of the response.
async fn visit(address: std::net::SocketAddr, path: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("POST {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (_, body) = response.split_once("\r\n\r\n").ok_or("the response has no body")?;
    Ok(body.to_owned())
}
