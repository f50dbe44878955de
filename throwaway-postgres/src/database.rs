//! A private database, which is dropped with its value.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::client::{self, Failure};
use crate::directory::random_hex;
use crate::server::Shared;
use crate::url::{quote_identifier, with_database};

/// PostgreSQL truncates longer names.
const LONGEST_NAME: usize = 63;
const TEMPLATE_LIMIT: Duration = Duration::from_secs(30);
const TEMPLATE_PAUSE: Duration = Duration::from_millis(50);

/// A database with a unique name, created by [`Server::create_database`](crate::Server::create_database).
///
/// Dropping the value drops the database and closes all connections to it, which blocks for a few milliseconds. Errors
/// are ignored.
///
/// A value in a static is never dropped. On a private cluster its database is removed with the cluster. On a server
/// that `DATABASE_URL` names, the database remains.
///
/// A database keeps its private cluster running.
///
/// ```no_run
/// use throwaway_postgres::Server;
///
/// let database = Server::start()?.create_database("example")?;
/// println!("psql {}", database.url());
/// # Ok::<(), throwaway_postgres::Error>(())
/// ```
pub struct Database {
    name: String,
    url: String,
    superuser_url: String,
    server: Arc<Shared>,
}

impl Database {
    pub(crate) fn create(
        server: &Arc<Shared>,
        name_prefix: &str,
        template: Option<&Database>,
    ) -> Result<Database, Error> {
        let name = unique_name(name_prefix)?;
        // On another server `template1` can contain anything, but `template0` is always empty.
        let source = match template {
            Some(template) => quote_identifier(&template.name),
            None => "template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'".to_owned(),
        };
        let owner = server.owner.as_ref().map_or_else(String::new, |owner| format!("OWNER {}", owner.name));
        let (quoted, strategy) = (quote_identifier(&name), server.strategy);
        let statement = format!("CREATE DATABASE {quoted} {owner} TEMPLATE {source} {strategy}");
        let deadline = Instant::now() + TEMPLATE_LIMIT;
        while let Err(failure) = client::ask(&server.url, &statement) {
            if !failure.is_object_in_use() || Instant::now() > deadline {
                return Err(could_not_create(&server.url, &name, &failure));
            }
            thread::sleep(TEMPLATE_PAUSE);
        }
        let superuser_url = with_database(&server.url, &name);
        let url = server.owner.as_ref().map_or_else(|| superuser_url.clone(), |owner| owner.with_role(&superuser_url));
        Ok(Database { name, url, superuser_url, server: Arc::clone(server) })
    }

    /// Returns the connection URL of this database, for Diesel, tokio-postgres, `psql` and other programs based on
    /// libpq. On a private cluster, the role owns the database and is no superuser.
    ///
    /// ```no_run
    /// # let database = throwaway_postgres::Server::start()?.create_database("example")?;
    /// assert!(database.url().contains(database.name()));
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the connection URL of this database as superuser. On a server that `DATABASE_URL` names, it is the same
    /// as [`url`](Database::url).
    ///
    /// ```no_run
    /// # let database = throwaway_postgres::Server::start()?.create_database("example")?;
    /// assert!(database.superuser_url().contains(database.name()));
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn superuser_url(&self) -> &str {
        &self.superuser_url
    }

    /// Returns the name of this database.
    ///
    /// ```no_run
    /// # let database = throwaway_postgres::Server::start()?.create_database("example")?;
    /// assert!(database.name().starts_with("procrastinate_example_"));
    /// # Ok::<(), throwaway_postgres::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(&self.name));
        // A failure here cannot be handled.
        let _ = client::ask(&self.server.url, &statement);
    }
}

impl fmt::Debug for Database {
    /// Omits the URL, because it contains a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns a random name. A process ID would not be unique among machines or containers that share the server.
fn unique_name(prefix: &str) -> Result<String, Error> {
    let unique = random_hex::<8>()?;
    let room = LONGEST_NAME - "procrastinate__".len() - unique.len();
    let mut prefix = prefix.replace('\0', "");
    while prefix.len() > room {
        prefix.pop();
    }
    Ok(format!("procrastinate_{prefix}_{unique}"))
}

fn could_not_create(url: &str, name: &str, failure: &Failure) -> Error {
    let mut message = format!("could not create the database {name}: {failure}");
    if failure.is_insufficient_privilege() {
        let role = client::ask(url, "SELECT current_user").ok().flatten().unwrap_or_else(|| "the role".to_owned());
        message.push_str(&format!(
            "\nThe role in DATABASE_URL must be allowed to create databases. A superuser can grant it with:\n    \
             ALTER ROLE {} CREATEDB;",
            quote_identifier(&role)
        ));
    }
    Error::new(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail immediately")]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_and_is_unique() {
        let long = "ü".repeat(100);
        for prefix in ["", "short", long.as_str(), "a\0b"] {
            let name = unique_name(prefix).unwrap();
            assert!(name.len() <= LONGEST_NAME && name.starts_with("procrastinate_") && !name.contains('\0'));
            assert_ne!(name, unique_name(prefix).unwrap());
        }
    }
}
