//! The shop's program. `shop` runs the pages and the worker, `shop web` only the pages, and `shop worker` only the
//! worker.
//!
//! `DATABASE_URL` names the database. `PORT` is the port of the pages. Default: 8000.
#![allow(clippy::print_stdout, reason = "it prints its address")]

use std::error::Error;

use procrastinate::App;
use shop::mail::Mailer;
use shop::queue::{migrations, pool, queue};
use shop::{Shop, web};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let database_url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to the shop's database")?;
    let shop = Shop { pool: pool(&database_url).await?, mailer: Mailer::log() };
    let queue = queue(&shop)?;
    // Several processes can do this at the same time.
    queue.connector().run_pending_migrations(migrations()).await?;

    match std::env::args().nth(1).as_deref() {
        None => {
            // In one program, both handle the signal and shut down. If one of them fails, the program ends.
            tokio::try_join!(serve(shop), work(queue)).map(drop)
        }
        Some("web") => serve(shop).await,
        Some("worker") => work(queue).await,
        Some(other) => {
            Err(format!("unknown argument {other:?}: must be \"web\" or \"worker\", or nothing for both").into())
        }
    }
}

async fn serve(shop: Shop) -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(8000), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, web::pages(shop)).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

async fn work(queue: App) -> Result<(), Box<dyn Error>> {
    queue.worker().run().await?;
    Ok(())
}

/// Waits for SIGINT or SIGTERM, like the worker.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
