//! Mounts the queue's commands alongside a program's own: `shop take-order`, `shop queue worker`, `shop queue
//! list_jobs` and so on. With arguments it runs that program on `DATABASE_URL`. Without arguments it runs a series of
//! commands.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::process::ExitCode;

use clap::Parser;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::bb8::Pool;
use procrastinate::{App, DieselConnector, cli, task};
use throwaway_postgres::Server;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[task(queue = "mails")]
async fn send_confirmation(order: i64) -> Result<(), String> {
    println!("confirmed order {order}");
    if order == 13 { Err("the customer has no address".to_owned()) } else { Ok(()) }
}

/// The shop.
#[derive(Parser)]
#[command(name = "shop")]
enum Shop {
    /// Take an order
    TakeOrder { number: i64 },
    /// Run workers and manage the queue
    Queue(cli::Commands),
}

/// Builds the application: its pool, its tasks, and the default settings of its workers.
fn build(database_url: &str) -> Result<App, Failure> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(database_url);
    let pool = Pool::builder().max_size(5).build_unchecked(manager);
    let builder = App::builder(DieselConnector::new(pool)).task::<send_confirmation>();
    Ok(builder.worker_defaults(|worker| worker.queues(["mails"]).concurrency(5)).build()?)
}

async fn run(shop: Shop, app: &App) -> Result<ExitCode, Failure> {
    match shop {
        Shop::TakeOrder { number } => {
            app.defer(send_confirmation(number)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Shop::Queue(commands) => Ok(commands.run(app).await),
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    if std::env::args_os().len() > 1 {
        let shop = Shop::parse();
        return run(shop, &build(&std::env::var("DATABASE_URL")?)?).await;
    }

    let server = Server::start()?;
    let database = server.create_database("cli")?;
    let app = build(database.url())?;
    for (line, is_well) in [
        ("queue schema apply", true),
        ("queue healthchecks", true),
        ("take-order 7", true),
        ("take-order 13", true),
        ("queue defer send_confirmation {\"order\":8} --priority 5", true),
        ("queue defer send_postcard", false),
        ("queue worker --one-shot", true),
        ("queue list_jobs status=failed details", true),
        ("queue show 2", true),
        ("queue shell retry 2", true),
        ("queue why 2", true),
        ("queue list_queues", true),
    ] {
        println!("\n$ shop {line}");
        let shop = Shop::try_parse_from(["shop"].into_iter().chain(line.split(' ')))?;
        let code = run(shop, &app).await?;
        if (code == ExitCode::SUCCESS) != is_well {
            return Err(format!("unexpected exit status of `shop {line}`: {code:?}").into());
        }
    }
    Ok(ExitCode::SUCCESS)
}
