//! Health probes of a running worker over HTTP: `/live` and `/ready`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::app::App;
use crate::cli::terminal::failure::Failure;
use crate::queue::job_manager::check_connection;
use crate::task::worker_handle::WorkerHandle;
use crate::worker::Worker;

/// How long to wait for the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(3);

/// A server for `GET /live` and `GET /ready`.
#[derive(Debug)]
pub(crate) struct Probe {
    listener: TcpListener,
    subject: Subject,
}

/// The state that the probe checks.
#[derive(Debug, Clone)]
struct Subject {
    app: App,
    worker: WorkerHandle,
    /// If the loop has not run for this long, it is stuck.
    longest_turn: Duration,
}

impl Probe {
    pub(crate) async fn bind(address: SocketAddr, app: App, worker: &Worker) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|source| {
            let message = format!("could not listen for health probes on {address}: {source}");
            Failure::failed(message, "set another address with --health-address")
        })?;
        let subject = Subject { app, worker: worker.handle(), longest_turn: worker.longest_turn() };
        Ok(Self { listener, subject })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves requests until it is dropped.
    pub(crate) async fn serve(self) {
        let router = Router::new()
            .route("/live", get(live))
            .route("/ready", get(ready))
            .fallback(async || (StatusCode::NOT_FOUND, "the paths are /live and /ready\n"))
            .with_state(self.subject);
        if let Err(error) = axum::serve(self.listener, router).await {
            tracing::warn!(action = "probe_error", "the health probe stopped: {error}");
        }
    }
}

async fn live(State(Subject { worker, longest_turn, .. }): State<Subject>) -> (StatusCode, String) {
    let (status, text) = liveness(worker.last_turn(), worker.last_fetch(), Instant::now(), longest_turn);
    (status, text + "\n")
}

async fn ready(State(Subject { app, worker, .. }): State<Subject>) -> (StatusCode, String) {
    let (status, text) = readiness(&app, &worker).await;
    (status, format!("{text}\n"))
}

/// Whether the worker's loop runs. It also runs while the database is unreachable, because a restart of the worker
/// would not help then.
fn liveness(
    last_turn: Option<Instant>,
    last_fetch: Option<Instant>,
    now: Instant,
    longest_turn: Duration,
) -> (StatusCode, String) {
    let ago = |then: Instant| now.saturating_duration_since(then).as_secs();
    match last_turn {
        None => (StatusCode::OK, "starting".to_owned()),
        Some(turn) if now.saturating_duration_since(turn) > longest_turn => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not alive: the worker's loop has been stuck for {} s", ago(turn)),
        ),
        Some(_) => {
            let fetch = last_fetch.map_or("never".to_owned(), |fetch| format!("{} s ago", ago(fetch)));
            (StatusCode::OK, format!("alive; fetched jobs: {fetch}"))
        }
    }
}

/// Whether the worker is not shutting down, and the database is reachable and has the queue's tables.
async fn readiness(app: &App, worker: &WorkerHandle) -> (StatusCode, &'static str) {
    const NOT_READY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    if worker.is_stopping() {
        return (NOT_READY, "shutting down");
    }
    match timeout(DATABASE_TIMEOUT, app.perform(check_connection())).await {
        Ok(Ok(true)) => (StatusCode::OK, "ready"),
        Ok(Ok(false)) => (NOT_READY, "the queue's tables do not exist"),
        Ok(Err(error)) => {
            tracing::debug!(action = "probe_error", "not ready: {error}");
            (NOT_READY, "the database is unreachable")
        }
        Err(_) => (NOT_READY, "the database did not respond in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{StatusCode, liveness};

    #[test]
    fn a_worker_is_alive_while_its_loop_runs() {
        let longest = Duration::from_secs(35);
        let turn = Instant::now();
        let after = |seconds| turn + Duration::from_secs(seconds);
        assert_eq!(liveness(None, None, after(100), longest).0, StatusCode::OK);
        assert_eq!(liveness(Some(turn), None, after(35), longest).1, "alive; fetched jobs: never");
        let busy = liveness(Some(after(90)), Some(turn), after(100), longest);
        assert_eq!(busy, (StatusCode::OK, "alive; fetched jobs: 100 s ago".to_owned()));
        let stuck = liveness(Some(turn), Some(turn), after(36), longest);
        assert_eq!(stuck.0, StatusCode::SERVICE_UNAVAILABLE);
        assert!(stuck.1.contains("36 s"), "{}", stuck.1);
    }
}
