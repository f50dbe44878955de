//! What an orchestrator asks a running worker over HTTP: whether it is alive, and whether it is ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::app::App;
use crate::cli::terminal::failure::Failure;
use crate::queue::job_manager::check_connection;
use crate::task::worker_handle::WorkerHandle;
use crate::worker::Worker;

/// How long a question, and the database's answer to it, may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest question, in bytes.
const LONGEST: usize = 8_192;

/// How many questions are answered at a time; the others wait.
const AT_A_TIME: usize = 16;

/// Answers `GET /live` and `GET /ready` for a worker.
#[derive(Debug)]
pub(crate) struct Probe {
    listener: TcpListener,
    app: App,
    worker: WorkerHandle,
    /// The worker's loop comes round more often than this, or it is stuck.
    longest_turn: Duration,
}

impl Probe {
    pub(crate) async fn bind(address: SocketAddr, app: App, worker: &Worker) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|source| {
            let message = format!("could not listen for probes on {address}: {source}");
            Failure::failed(message, "give another address with --health-address")
        })?;
        Ok(Self { listener, app, worker: worker.handle(), longest_turn: worker.longest_turn() })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.listener.local_addr()?)
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self) {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        let mut conversations = JoinSet::new();
        while let Ok(place) = places.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (app, worker, longest_turn) = (self.app.clone(), self.worker.clone(), self.longest_turn);
                    conversations.spawn(async move {
                        let _place = place;
                        // Whoever asks too slowly, or goes away, gets no answer.
                        let _ = timeout(3 * PATIENCE, converse(stream, &app, &worker, longest_turn)).await;
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

async fn converse(
    mut stream: TcpStream,
    app: &App,
    worker: &WorkerHandle,
    longest_turn: Duration,
) -> std::io::Result<()> {
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
        (Some("GET" | "HEAD"), Some("/live")) => {
            liveness(worker.last_turn(), worker.last_fetch(), Instant::now(), longest_turn)
        }
        (Some("GET" | "HEAD"), Some("/ready")) => {
            let (status, said) = readiness(app, worker).await;
            (status, said.to_owned())
        }
        (Some("GET" | "HEAD"), _) => ("404 Not Found", "there are /live and /ready".to_owned()),
        _ => ("405 Method Not Allowed", "there is GET".to_owned()),
    };
    let body = if line.starts_with("HEAD") { String::new() } else { format!("{said}\n") };
    let length = said.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

const NOT: &str = "503 Service Unavailable";

/// Alive is a worker whose loop comes round. It does so while the database is away, too: to start the worker anew would not
/// help there.
fn liveness(
    last_turn: Option<Instant>,
    last_fetch: Option<Instant>,
    now: Instant,
    longest_turn: Duration,
) -> (&'static str, String) {
    let ago = |then: Instant| now.saturating_duration_since(then).as_secs();
    match last_turn {
        None => ("200 OK", "starting".to_owned()),
        Some(turn) if now.saturating_duration_since(turn) > longest_turn => {
            (NOT, format!("not alive: the worker's loop has not come round for {} s", ago(turn)))
        }
        Some(_) => {
            let fetch = last_fetch.map_or("not yet".to_owned(), |fetch| format!("{} s ago", ago(fetch)));
            ("200 OK", format!("alive; looked for jobs {fetch}"))
        }
    }
}

/// Ready is a worker that was not told to stop, and whose database answers and has the queue's tables.
async fn readiness(app: &App, worker: &WorkerHandle) -> (&'static str, &'static str) {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::liveness;

    #[test]
    fn a_worker_is_alive_while_its_loop_comes_round() {
        let longest = Duration::from_secs(35);
        let turn = Instant::now();
        let after = |seconds| turn + Duration::from_secs(seconds);
        assert_eq!(liveness(None, None, after(100), longest).0, "200 OK");
        assert_eq!(liveness(Some(turn), None, after(35), longest).1, "alive; looked for jobs not yet");
        let busy = liveness(Some(after(90)), Some(turn), after(100), longest);
        assert_eq!(busy, ("200 OK", "alive; looked for jobs 100 s ago".to_owned()));
        let stuck = liveness(Some(turn), Some(turn), after(36), longest);
        assert_eq!(stuck.0, "503 Service Unavailable");
        assert!(stuck.1.contains("36 s"), "{}", stuck.1);
    }
}
