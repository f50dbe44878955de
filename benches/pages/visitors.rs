//! Requests over HTTP, and the processor time that visitors cost.

use std::fs::read_to_string;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Measured;
use crate::database::LargeDatabase;

/// What the visitors look at.
const SEEN: [&str; 10] = [
    "/",
    "/",
    "/",
    "/jobs",
    "/jobs?status=failed",
    "/jobs?status=todo&queue=queue-7",
    "/queues",
    "/tasks",
    "/workers",
    "/jobs/1001",
];

/// How long they look before it counts, and while it does.
const LOOKED: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(60)];

/// When the script of the pages refreshes: after so many times as long as the page took, but not earlier and not later.
const FACTOR: f64 = 400.0;
const PERIODS: [f64; 2] = [10.0, 60.0];

/// How long a page takes, with its connection.
pub(crate) async fn get(address: SocketAddr, page: &str) -> Measured<Duration> {
    let started_at = Instant::now();
    response(address, page).await?;
    Ok(started_at.elapsed())
}

async fn response(address: SocketAddr, page: &str) -> Measured<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {page} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    if !response.starts_with("HTTP/1.1 200 ") {
        return Err(format!("{page} answered: {}", response.lines().next().unwrap_or_default()).into());
    }
    Ok(response)
}

/// Has ten visitors look at the pages, and says what that cost.
pub(crate) async fn cost(address: SocketAddr, database: &LargeDatabase) -> Measured<String> {
    for page in SEEN {
        tokio::spawn(look(address, page));
    }
    sleep(LOOKED[0]).await;
    let sessions = database.sessions().await?;
    let before = used(&sessions)?;
    sleep(LOOKED[1]).await;
    // A session that the pool has opened meanwhile counts as a whole.
    let used = used(&database.sessions().await?)? - before;
    Ok(format!(
        "Ten visitors cost {:.2} % of one processor, server and this process together, in a minute.",
        100.0 * used.as_secs_f64() / LOOKED[1].as_secs_f64()
    ))
}

/// Looks at a page until the program ends.
async fn look(address: SocketAddr, page: &str) -> Measured<()> {
    loop {
        let response = response(address, page).await?;
        let took = response.split_once("dur=").and_then(|(_, rest)| rest.split("\r\n").next()?.parse::<f64>().ok());
        let period = took.ok_or("the page does not say how long it took")? * FACTOR / 1e3;
        sleep(Duration::from_secs_f64(period.clamp(PERIODS[0], PERIODS[1]))).await;
    }
}

/// The processor time of this process, and of these ones.
fn used(sessions: &[i32]) -> Measured<Duration> {
    let names = sessions.iter().map(ToString::to_string).chain(["self".to_owned()]);
    names.map(|name| cpu_time(&name)).sum()
}

/// The processor time of a process, which the kernel counts in hundredths of a second.
fn cpu_time(process: &str) -> Measured<Duration> {
    let stat = read_to_string(format!("/proc/{process}/stat"))?;
    // The program's name, in parentheses, can contain spaces. The third field follows it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}
