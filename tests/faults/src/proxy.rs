//! A TCP proxy between one process of the rig and the server.
//!
//! Everything that a client or the server sends is read at once, so bytes of a closed connection can still arrive. Each
//! piece then waits until the state of the network lets it pass.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Failure;

/// The bytes of a piece that is more than the test of a connection or a heartbeat: it stores outcomes.
const LARGE: usize = 150;

/// The state of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Works,
    /// New connections are refused, and the existing ones are cut.
    Refuses,
    /// Every piece arrives later.
    Delays(Duration),
    /// Nothing arrives until the network works again.
    HoldsAll,
    /// Large requests on the connections that exist do not arrive, nor does anything after them. New ones work.
    HoldsOld {
        /// The first connection that works.
        first_new: u64,
    },
    /// The same, and the clients find the connections that exist closed. What they have sent arrives later.
    CutsOld {
        /// The first connection that works.
        first_new: u64,
    },
}

impl Network {
    fn holds_old(self) -> bool {
        matches!(self, Self::HoldsOld { .. } | Self::CutsOld { .. })
    }

    /// Whether the client of this connection finds it closed.
    fn cuts(self, number: u64) -> bool {
        matches!(self, Self::CutsOld { first_new } if number < first_new)
    }
}

/// The receiver of what a half of a connection sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiver {
    Client,
    Server,
}

/// A proxy. Ends with this value, and its connections with it.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
    /// The address of the server.
    server: watch::Sender<SocketAddr>,
    /// How many connections there have been.
    accepted: watch::Receiver<u64>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy before the server at this address.
    pub(crate) async fn start(server: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (network, state) = watch::channel(Network::Works);
        let (count, accepted) = watch::channel(0);
        let (server, address) = watch::channel(server);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, address, state, count));
        Ok(Self { port, network, server, accepted, _serving: serving })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Connects new connections to this server.
    pub(crate) fn redirect(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    /// Holds large requests on the connections that exist. [`cut_old`](Self::cut_old) can follow.
    pub(crate) fn hold_old(&self) {
        self.set(Network::HoldsOld { first_new: *self.accepted.borrow() });
    }

    /// Closes the connections that are held, and goes on to hold what their clients have sent.
    pub(crate) fn cut_old(&self) {
        let network = *self.network.borrow();
        if let Network::HoldsOld { first_new } = network {
            self.set(Network::CutsOld { first_new });
        }
    }
}

async fn serve(
    listener: TcpListener,
    server: watch::Receiver<SocketAddr>,
    network: watch::Receiver<Network>,
    count: watch::Sender<u64>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if *network.borrow() == Network::Refuses {
            continue;
        }
        let number = *count.borrow();
        count.send_replace(number + 1);
        let server = *server.borrow();
        connections.spawn(pass_on(client, server, number, network.clone()));
    }
}

/// Passes everything on, until both sides have ended or the connection is cut.
async fn pass_on(client: TcpStream, server: SocketAddr, number: u64, network: watch::Receiver<Network>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let both = async {
        tokio::join!(
            pass_one_way(from_client, to_server, Receiver::Server, number, network.clone()),
            pass_one_way(from_server, to_client, Receiver::Client, number, network.clone()),
        )
    };
    let mut state = network.clone();
    tokio::select! {
        _ = both => {}
        _ = state.wait_for(|network| *network == Network::Refuses) => {}
    }
}

/// Reads at once, and writes when the network lets it pass. The end of one side is passed on like its bytes.
async fn pass_one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    receiver: Receiver,
    number: u64,
    mut network: watch::Receiver<Network>,
) {
    let [mut cut, mut cut_of_write] = [network.clone(), network.clone()];
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        loop {
            let mut piece = Vec::with_capacity(16 * 1024);
            let read = tokio::select! {
                read = from.read_buf(&mut piece) => read,
                _ = cut.wait_for(|network| network.cuts(number)) => break,
            };
            match read {
                Ok(1..) => drop(sender.send((Instant::now(), piece))),
                _ => break,
            }
        }
    };
    let write = async move {
        let (mut is_open, mut is_stuck) = (true, false);
        while let Some((read_at, piece)) = pieces.recv().await {
            sleep_until(read_at + delay(&network)).await;
            is_stuck = network.borrow().holds_old() && (is_stuck || piece.len() >= LARGE);
            wait_until_open(number, is_stuck && receiver == Receiver::Server, &mut network).await;
            // The other side may be gone. What comes from this one is read and dropped.
            is_open = is_open && to.write_all(&piece).await.is_ok();
        }
        wait_until_open(number, receiver == Receiver::Server, &mut network).await;
        let _ = to.shutdown().await;
    };
    let write = async move {
        tokio::select! {
            () = write => {}
            _ = cut_of_write.wait_for(|network| network.cuts(number)), if receiver == Receiver::Client => {}
        }
    };
    tokio::join!(read, write);
}

fn delay(network: &watch::Receiver<Network>) -> Duration {
    match *network.borrow() {
        Network::Delays(delay) => delay,
        _ => Duration::ZERO,
    }
}

async fn wait_until_open(number: u64, is_stuck: bool, network: &mut watch::Receiver<Network>) {
    let is_open = |network: &Network| match network {
        Network::Works | Network::Delays(_) | Network::Refuses => true,
        Network::HoldsAll => false,
        Network::HoldsOld { first_new } | Network::CutsOld { first_new } => !is_stuck || number >= *first_new,
    };
    let _ = network.wait_for(is_open).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    const REQUEST: [u8; LARGE] = [b'x'; LARGE];

    async fn is_echoed(stream: &mut TcpStream, request: &[u8]) -> bool {
        stream.write_all(request).await.unwrap();
        let mut answer = vec![0; request.len()];
        let answered = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut answer)).await;
        matches!(answered, Ok(Ok(_)))
    }

    #[tokio::test]
    async fn old_connections_are_held_while_new_ones_work_and_their_bytes_arrive_late() {
        let proxy = Proxy::start(echo_server().await).await.unwrap();
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));
        let mut old = connect().await.unwrap();
        assert!(is_echoed(&mut old, &REQUEST).await);
        proxy.hold_old();
        assert!(is_echoed(&mut old, b"small").await);
        assert!(!is_echoed(&mut old, &REQUEST).await);
        assert!(is_echoed(&mut connect().await.unwrap(), &REQUEST).await);
        proxy.set(Network::Works);
        assert_eq!(old.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn what_was_sent_on_a_connection_that_is_cut_arrives_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"a").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
        proxy.hold_old();
        client.write_all(&REQUEST).await.unwrap();
        let held = tokio::time::timeout(Duration::from_millis(300), server.read_u8()).await;
        assert!(held.is_err());
        proxy.cut_old();
        assert!(client.read_u8().await.is_err());
        let held = tokio::time::timeout(Duration::from_millis(300), server.read_u8()).await;
        assert!(held.is_err());
        proxy.set(Network::Works);
        server.read_exact(&mut [0; LARGE]).await.unwrap();
        assert!(server.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn new_connections_go_to_the_server_of_a_redirection() {
        let former = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(former.local_addr().unwrap()).await.unwrap();
        proxy.redirect(echo_server().await);
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert!(is_echoed(&mut stream, &REQUEST).await);
    }

    #[tokio::test]
    async fn a_network_that_refuses_cuts_connections() {
        let proxy = Proxy::start(echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert!(is_echoed(&mut stream, &REQUEST).await);
        proxy.set(Network::Refuses);
        assert!(stream.read_u8().await.is_err());
    }
}
