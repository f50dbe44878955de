//! A proxy between a pool and the server that falls silent, as a network that has failed does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use throwaway_postgres::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy that can fall silent on the connections that it has, and passes new ones on.
pub struct SilentProxy {
    url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    server: String,
    /// How often it has fallen silent.
    silences: watch::Sender<usize>,
    /// How many connections clients hold open.
    open: AtomicUsize,
}

impl SilentProxy {
    pub async fn start(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (account, rest) = database.url().rsplit_once('@').unwrap();
        let (server, path) = rest.split_once('/').unwrap();
        let url = format!("{account}@{}/{path}", listener.local_addr().unwrap());
        let server = server.to_owned();
        let shared = Arc::new(Shared { server, silences: watch::Sender::new(0), open: AtomicUsize::new(0) });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, shared.clone()));
        Self { url, shared, _serving: serving }
    }

    /// The URL of the database through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections clients hold open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Passes nothing more on, on the connections that there are.
    pub fn silence(&self) {
        self.shared.silences.send_modify(|silences| *silences += 1);
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(&shared.server).await.unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let silences = shared.silences.subscribe();
        shared.open.fetch_add(1, Ordering::SeqCst);
        connections.spawn(pass_on(from_server, to_client, silences.clone()));
        let shared = shared.clone();
        connections.spawn(async move {
            pass_on(from_client, to_server, silences).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Passes on what is read until it is silenced, and ends when the sender closes its side.
async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silences: watch::Receiver<usize>) {
    let mut buffer = vec![0; 8_192];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !silences.has_changed().unwrap_or(true) && to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}
