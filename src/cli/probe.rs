//! What an orchestrator asks a running worker over HTTP: whether it is alive, and whether it is ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::failure::Failure;
use crate::app::App;
use crate::job_manager::check_connection;
use crate::worker_handle::WorkerHandle;

/// How long a question, and the database's answer to it, may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest question, in bytes.
const LONGEST: usize = 8_192;

/// How many questions are answered at a time; the others wait.
const AT_A_TIME: usize = 16;

/// Answers `GET /live` and `GET /ready` for a worker.
#[derive(Debug)]
pub(super) struct Probe {
    listener: TcpListener,
    app: App,
    worker: WorkerHandle,
}

impl Probe {
    pub(super) async fn bind(address: SocketAddr, app: App, worker: WorkerHandle) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|source| {
            let message = format!("could not listen for probes on {address}: {source}");
            Failure::failed(message, "give another address with --health-address")
        })?;
        Ok(Self { listener, app, worker })
    }

    pub(super) fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.listener.local_addr()?)
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(self) {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let mut conversations = JoinSet::new();
        while let Ok(place) = places.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (app, worker) = (self.app.clone(), self.worker.clone());
                    conversations.spawn(async move {
                        let _place = place;
                        // Whoever asks too slowly, or goes away, gets no answer.
                        let _ = timeout(3 * PATIENCE, converse(stream, &app, &worker)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(action = "probe_error", "could not accept a probe: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while conversations.try_join_next().is_some() {}
        }
    }
}

async fn converse(mut stream: TcpStream, app: &App, worker: &WorkerHandle) -> std::io::Result<()> {
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") && question.len() < LONGEST {
        let mut part = [0; 1_024];
        let length = stream.read(&mut part).await?;
        if length == 0 {
            return Ok(());
        }
        question.extend_from_slice(&part[..length]);
    }
    let line = String::from_utf8_lossy(&question);
    let mut words = line.split_whitespace();
    let (status, said) = match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some("/live")) => ("200 OK", "alive"),
        (Some("GET" | "HEAD"), Some("/ready")) => readiness(app, worker).await,
        (Some("GET" | "HEAD"), _) => ("404 Not Found", "there are /live and /ready"),
        _ => ("405 Method Not Allowed", "there is GET"),
    };
    let body = if line.starts_with("HEAD") { String::new() } else { format!("{said}\n") };
    let length = said.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Ready is a worker that was not told to stop, and whose database answers and has the queue's tables.
async fn readiness(app: &App, worker: &WorkerHandle) -> (&'static str, &'static str) {
    const NOT: &str = "503 Service Unavailable";
    if worker.is_stopping() {
        return (NOT, "stopping");
    }
    match timeout(PATIENCE, app.execute(check_connection())).await {
        Ok(Ok(true)) => ("200 OK", "ready"),
        Ok(Ok(false)) => (NOT, "the queue's tables are not there"),
        Ok(Err(error)) => {
            tracing::debug!(action = "probe_error", "not ready: {error}");
            (NOT, "the database does not answer")
        }
        Err(_) => (NOT, "the database does not answer in time"),
    }
}
