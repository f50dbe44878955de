//! A proxy before the server that recognizes one request by a part of its SQL. It holds the request back until the test
//! lets it arrive, or passes it on and loses the response. All other requests pass.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use throwaway_postgres::Database;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::proxy::{read_body, read_message, through};
use crate::support::within_patience;

/// What to do with the next request whose SQL contains a text.
#[derive(Clone, Copy)]
enum Plan {
    /// Hold it back. The client learns nothing.
    Hold(&'static str),
    /// Pass it on, and close the connection when the server has responded.
    LoseResponse(&'static str),
}

/// Ends with this value, and its connections with it.
pub struct HoldingProxy {
    url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    server: String,
    plan: Mutex<Option<Plan>>,
    /// A permit for each request that the plan has caught.
    caught: Semaphore,
    /// A permit to let a held request arrive.
    let_go: Semaphore,
    /// A permit for each held request that the server has processed.
    processed: Semaphore,
}

impl HoldingProxy {
    /// A proxy before the server of this database.
    pub async fn start(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, url) = through(database, listener.local_addr().unwrap());
        let [caught, let_go, processed] = [0; 3].map(Semaphore::new);
        let shared = Arc::new(Shared { server, plan: Mutex::new(None), caught, let_go, processed });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, shared.clone()));
        Self { url, shared, _serving: serving }
    }

    /// The URL of the database through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds back the next request whose SQL contains this text.
    pub fn hold(&self, sql: &'static str) {
        *self.shared.plan.lock().unwrap() = Some(Plan::Hold(sql));
    }

    /// Loses the response to the next request whose SQL contains this text.
    pub fn lose_response(&self, sql: &'static str) {
        *self.shared.plan.lock().unwrap() = Some(Plan::LoseResponse(sql));
    }

    /// Waits until the plan has caught a request.
    pub async fn caught(&self) {
        within_patience(self.shared.caught.acquire()).await.unwrap().forget();
    }

    /// Lets the held request arrive, and waits until the server has processed it.
    pub async fn let_arrive(&self) {
        self.shared.let_go.add_permits(1);
        within_patience(self.shared.processed.acquire()).await.unwrap().forget();
    }
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
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_response_lost = AtomicBool::new(false);
    tokio::select! {
        ended = pass_requests_on(BufReader::new(from_client), to_server, shared, &is_response_lost) => ended,
        ended = pass_responses_on(BufReader::new(from_server), to_client, shared, &is_response_lost) => ended,
    }
}

async fn pass_requests_on(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    is_response_lost: &AtomicBool,
) -> io::Result<()> {
    // The first message has no letter.
    let mut message = Vec::new();
    read_body(&mut from, &mut message).await?;
    to.write_all(&message).await?;
    // The prepared statements by name.
    let mut statements: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    loop {
        let letter = read_message(&mut from, &mut message).await?;
        let mut texts = message[5..].split(|byte| *byte == 0).map(<[u8]>::to_vec);
        if letter == b'P' {
            statements.insert(texts.next().unwrap(), texts.next().unwrap());
        } else if letter == b'B'
            && let Some(sql) = texts.nth(1).and_then(|name| statements.get(&name))
            && let Some(plan) = shared.take_plan(sql)
        {
            let mut request = message.clone();
            while read_message(&mut from, &mut message).await? != b'S' {
                request.extend_from_slice(&message);
            }
            request.extend_from_slice(&message);
            shared.caught.add_permits(1);
            if let Plan::Hold(_) = plan {
                shared.let_go.acquire().await.unwrap().forget();
            }
            is_response_lost.store(true, Ordering::SeqCst);
            to.write_all(&request).await?;
            // The other half ends the connection.
            return std::future::pending().await;
        }
        to.write_all(&message).await?;
    }
}

async fn pass_responses_on(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    is_response_lost: &AtomicBool,
) -> io::Result<()> {
    let mut message = Vec::new();
    loop {
        let letter = read_message(&mut from, &mut message).await?;
        if !is_response_lost.load(Ordering::SeqCst) {
            to.write_all(&message).await?;
        } else if letter == b'Z' {
            shared.processed.add_permits(1);
            return Ok(());
        }
    }
}

impl Shared {
    /// Takes the plan if it is about this SQL.
    fn take_plan(&self, sql: &[u8]) -> Option<Plan> {
        self.plan.lock().unwrap().take_if(|plan| {
            let (Plan::Hold(part) | Plan::LoseResponse(part)) = plan;
            sql.windows(part.len()).any(|window| window == part.as_bytes())
        })
    }
}
