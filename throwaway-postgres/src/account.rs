//! The user that runs a cluster if this process runs as root, because PostgreSQL refuses to run as root.

use std::fs;
use std::process::Command;

use crate::Error;

/// A user other than root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Account {
    /// Returns `None` if this process does not run as root. Otherwise returns the user `postgres`, which the server's
    /// packages create, or else `nobody`.
    pub(crate) fn for_server() -> Result<Option<Account>, Error> {
        // The standard library cannot return the current user.
        let id = Command::new("id").arg("-u").output().map_err(|error| Error::io("run `id -u`", &error))?;
        if id.stdout.trim_ascii() != b"0" {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| Error::io("read /etc/passwd", &error))?;
        let account = ["postgres", "nobody"].into_iter().find_map(|name| named(&users, name));
        account.map(Some).ok_or_else(|| {
            Error::new(
                "could not start PostgreSQL: it refuses to run as root, and this machine has neither a user `postgres` \
                 nor a user `nobody`; run this program as an ordinary user, or set DATABASE_URL",
            )
        })
    }
}

/// Finds a user in lines of the form `name:password:user:group:...`.
fn named(users: &str, wanted: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let user = fields.nth(1)?.parse().ok().filter(|user| *user != 0)?;
        let group = fields.next()?.parse().ok()?;
        Some(Account { name: name.to_owned(), user, group })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_the_list_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\nbroken\n";
        let expected = Account { name: "nobody".to_owned(), user: 65534, group: 65533 };
        assert_eq!(named(users, "nobody"), Some(expected));
        assert_eq!(named(users, "postgres"), None);
        assert_eq!(named(users, "broken"), None);
    }

    #[test]
    fn root_under_another_name_does_not_help() {
        assert_eq!(named("postgres:x:0:0::/:/bin/sh", "postgres"), None);
    }
}
