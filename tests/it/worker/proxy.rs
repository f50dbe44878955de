//! A proxy between a worker and the server that counts round trips, and cuts a connection at one of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use throwaway_postgres::Database;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The request. The server never gets it.
    Request,
    /// The response. The server has processed the request.
    Answer,
}

/// Ends with this value, and its connections with it.
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    server: String,
    round_trips: watch::Sender<usize>,
    /// No response passes before this round trip was asked for.
    held_until: AtomicUsize,
    /// At which round trip to cut, counted from 1, and what.
    cut: Option<(usize, Cut)>,
}

impl Proxy {
    /// A proxy before the server of this database.
    pub async fn start(database: &Database, cut: Option<(usize, Cut)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, url) = through(database, listener.local_addr().unwrap());
        let shared =
            Arc::new(Shared { server, round_trips: watch::Sender::new(0), held_until: AtomicUsize::new(0), cut });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, shared.clone()));
        Self { url, shared, _serving: serving }
    }

    /// The URL of the database through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often the server was asked for something by now.
    pub fn round_trips(&self) -> usize {
        *self.shared.round_trips.borrow()
    }

    /// Holds all responses back until the server was asked for that many more things. If the client waits for one of
    /// these responses before it asks for the next thing, it waits forever.
    pub fn hold_responses_until(&self, requests: usize) {
        self.shared.held_until.store(self.round_trips() + requests, Ordering::SeqCst);
    }
}

/// The address of the server, and the URL of the database through a proxy at this address.
pub(super) fn through(database: &Database, proxy: SocketAddr) -> (String, String) {
    let (account, rest) = database.url().rsplit_once('@').unwrap();
    let (server, path) = rest.split_once('/').unwrap();
    let url = format!("{account}@{proxy}/{path}");
    (if server.contains(':') { server.to_owned() } else { format!("{server}:5432") }, url)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            // However it ends, both of its connections are closed.
            let _ = pass_on(client, &shared).await;
        });
    }
}

async fn pass_on(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(&shared.server).await?;
    // Small messages are not to wait for each other.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_answer_lost = AtomicBool::new(false);
    tokio::select! {
        ended = pass_requests_on(from_client, to_server, shared, &is_answer_lost) => ended,
        ended = pass_answers_on(from_server, to_client, shared, &is_answer_lost) => ended,
    }
}

async fn pass_requests_on(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    is_answer_lost: &AtomicBool,
) -> io::Result<()> {
    let mut from = BufReader::new(from);
    // The first message has no letter.
    let mut message = Vec::new();
    read_body(&mut from, &mut message).await?;
    to.write_all(&message).await?;
    loop {
        let letter = read_message(&mut from, &mut message).await?;
        // The server responds immediately only to these: sync and a simple query.
        if matches!(letter, b'S' | b'Q') {
            let mut number = 0;
            shared.round_trips.send_modify(|round_trips| {
                *round_trips += 1;
                number = *round_trips;
            });
            match shared.cut {
                Some((at, Cut::Request)) if at == number => return Ok(()),
                Some((at, Cut::Answer)) if at == number => is_answer_lost.store(true, Ordering::SeqCst),
                _ => {}
            }
        }
        to.write_all(&message).await?;
    }
}

async fn pass_answers_on(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    is_answer_lost: &AtomicBool,
) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut message = Vec::new();
    let mut round_trips = shared.round_trips.subscribe();
    loop {
        let letter = read_message(&mut from, &mut message).await?;
        let is_due = |round_trips: &usize| *round_trips >= shared.held_until.load(Ordering::SeqCst);
        round_trips.wait_for(is_due).await.map_err(io::Error::other)?;
        if !is_answer_lost.load(Ordering::SeqCst) {
            to.write_all(&message).await?;
        } else if letter == b'Z' {
            // All is done, and nobody knows.
            return Ok(());
        }
    }
}

/// Puts a message into the buffer, and says by which letter it begins.
pub(super) async fn read_message(from: &mut (impl AsyncRead + Unpin), message: &mut Vec<u8>) -> io::Result<u8> {
    message.clear();
    let letter = from.read_u8().await?;
    message.push(letter);
    read_body(from, message).await?;
    Ok(letter)
}

/// Appends a message to the buffer from its length on.
pub(super) async fn read_body(from: &mut (impl AsyncRead + Unpin), message: &mut Vec<u8>) -> io::Result<()> {
    let length = from.read_u32().await?;
    let start = message.len();
    message.extend(length.to_be_bytes());
    message.resize(start + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[start + 4..]).await?;
    Ok(())
}
