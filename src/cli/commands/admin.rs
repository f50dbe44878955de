//! `admin`: serves the admin pages.

use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use crate::admin::{Access, AdminPages, basic_auth, loopback};
use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::session::Session;

/// The environment variable with the password. An option would show it in the list of processes.
const PASSWORD: &str = "PROCRASTINATE_ADMIN_PASSWORD";

/// The user that signs in with the password.
const USER: &str = "admin";

/// Serve the admin pages until it is stopped
///
/// By default only this machine can open them, without a password. With PROCRASTINATE_ADMIN_PASSWORD, the user "admin"
/// signs in with that password. Other addresses than those of this machine need it, and HTTPS in front of it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  admin\n  PROCRASTINATE_ADMIN_PASSWORD=… admin --address 0.0.0.0:8080")]
pub(crate) struct Admin {
    /// The address to listen on, such as localhost:8080
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = host_and_port)]
    address: String,

    /// Let visitors change nothing
    #[arg(long)]
    read_only: bool,

    /// Hide the value of a field in the arguments of all tasks; can be repeated
    #[arg(long, value_name = "NAME")]
    hide_field: Vec<String>,

    /// Hide all arguments of a task; can be repeated
    #[arg(long, value_name = "TASK")]
    hide_arguments_of: Vec<String>,
}

/// Checks that a port follows the name or the address of a host.
fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("must be a host and a port, such as localhost:8080".to_owned()),
    }
}

impl Admin {
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let access = |name: &str| if self.read_only { Access::reader(name) } else { Access::operator(name) };
        let pages = AdminPages::new(&session.app);
        let pages = self.hide_field.iter().fold(pages, AdminPages::hide_field);
        let pages = self.hide_arguments_of.iter().fold(pages, AdminPages::hide_arguments_of);
        let addresses = self.addresses().await?;
        let password = std::env::var(PASSWORD).ok();
        let pages = match &password {
            Some(password) if password.is_empty() => {
                return Err(Failure::usage(format!("{PASSWORD} is empty; set another password, or none")));
            }
            Some(password) => pages.access(basic_auth([(access(USER), password)])),
            // A name can have several addresses.
            None if addresses.iter().all(|address| address.ip().is_loopback()) => {
                pages.access(loopback(access("local")))
            }
            None => {
                let message = format!("{} is not an address of this machine alone", self.address);
                return Err(Failure::usage(format!("{message}; set {PASSWORD}")));
            }
        };
        // It listens on the first that it can.
        let listener = TcpListener::bind(&*addresses).await.map_err(|source| {
            let message = format!("could not listen on {}: {source}", self.address);
            Failure::failed(message, "set another address with --address")
        })?;
        session.output.note(format!("Serving the admin pages on http://{}/", listener.local_addr()?));
        let service = pages.router().into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).await?;
        Ok(())
    }

    /// The addresses of the host.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let found = lookup_host(&self.address).await.map(Iterator::collect::<Vec<_>>);
        let reason = match found {
            Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
            Ok(_) => "the host has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("could not find the address of {}: {reason}", self.address);
        Err(Failure::failed(message, "set another address with --address"))
    }
}
