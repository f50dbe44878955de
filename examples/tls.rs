//! A worker whose connections to the database are all encrypted with rustls.
//!
//! The server refuses other connections. Its certificate is made for this example.
#![allow(missing_docs, reason = "nothing here is a public surface")]
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::{ConnectionError, ConnectionResult, QueryableByName};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig};
use futures_util::FutureExt;
use procrastinate::job_manager::get_job_status;
use procrastinate::{App, DieselConnector, JobContext, JobStatus, TaskError, task};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use throwaway_postgres::{Options, Server};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Trusts the servers whose certificates this authority has signed.
fn trust(authority: &str) -> Result<MakeRustlsConnect, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Connects with TLS only, whatever the URL says.
async fn connect(url: &str, tls: MakeRustlsConnect) -> ConnectionResult<AsyncPgConnection> {
    let mut config: tokio_postgres::Config = url.parse().map_err(bad)?;
    config.ssl_mode(SslMode::Require);
    let (client, connection) = config.connect(tls).await.map_err(bad)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

fn bad(error: tokio_postgres::Error) -> ConnectionError {
    // For instance, why the server's certificate is invalid.
    let reason = error.source().map(|reason| format!(": {reason}")).unwrap_or_default();
    ConnectionError::BadConnection(format!("{error}{reason}"))
}

async fn pool(url: &str, tls: MakeRustlsConnect) -> Result<Pool<AsyncPgConnection>, Box<dyn Error>> {
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(move |url| connect(url, tls.clone()).boxed());
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(url, config);
    Ok(Pool::builder().max_size(5).build(manager).await?)
}

#[derive(QueryableByName)]
struct Sessions {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    all: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    encrypted: i64,
}

/// Counts the sessions of this program, while a worker runs.
#[task(pass_context)]
async fn count_sessions(context: JobContext) -> Result<(), TaskError> {
    use diesel_async::RunQueryDsl;

    let pool: &Pool<AsyncPgConnection> = context.state()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let sessions: Sessions = diesel::sql_query(
            "SELECT count(*) AS all, count(*) FILTER (WHERE ssl) AS encrypted
                FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE datname = current_database()",
        )
        .get_result(&mut *pool.get().await?)
        .await?;
        // The worker's heartbeat has a connection that is not in the pool.
        if sessions.all > i64::from(pool.state().connections) {
            println!("{} sessions, {} of them encrypted", sessions.all, sessions.encrypted);
            return if sessions.all == sessions.encrypted { Ok(()) } else { Err("not all are encrypted".into()) };
        }
        if Instant::now() > deadline {
            return Err("there is no connection for heartbeats".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Starts a server that the application's role can only reach with TLS. Returns the certificate of its authority, too.
fn server() -> Result<(Server, String), Box<dyn Error>> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let names = ["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(authority, authority_key))?;

    let rules = "host all postgres 127.0.0.1/32 password\nhostssl all application 127.0.0.1/32 password";
    let options = Options::new()
        .ignore_database_url(true)
        .file("rules", rules)
        .file("server.crt", certificate.pem())
        .file("server.key", key.serialize_pem())
        .setting("hba_file", "rules")
        .setting("ssl", "on")
        .setting("ssl_cert_file", "../server.crt")
        .setting("ssl_key_file", "../server.key");
    Ok((Server::start_with(&options)?, root))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, root) = server()?;
    let database = server.create_database("tls")?;
    let pool = pool(database.url(), trust(&root)?).await?;

    // Everything else is as without TLS: migrations, deferring, and a worker with its heartbeats.
    let connector = DieselConnector::new(pool.clone());
    connector.run_pending_migrations(procrastinate::migrations::MIGRATIONS).await?;
    let app = App::builder(connector).state(pool).task::<count_sessions>().build()?;
    let job = app.defer(count_sessions()).await?;
    app.worker().stop_when_empty().run().await?;

    match app.perform(get_job_status(job)).await? {
        Some(JobStatus::Succeeded) => Ok(()),
        status => Err(format!("the job has the status {status:?}").into()),
    }
}
