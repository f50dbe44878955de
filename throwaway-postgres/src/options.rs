//! Options for starting a server.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Options for starting a server. [`Server::start`](crate::Server::start) uses the defaults.
///
/// ```
/// use throwaway_postgres::Options;
///
/// let options = Options::new().durable(true).setting("shared_buffers", "256MB");
/// assert_ne!(options, Options::default());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    durable: bool,
    ignore_database_url: bool,
    parent_directory: Option<PathBuf>,
    settings: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

impl Options {
    /// Creates the default options: `DATABASE_URL` is used if set, commits are not durable, and there are no more
    /// settings.
    ///
    /// ```
    /// use throwaway_postgres::Options;
    ///
    /// assert_eq!(Options::new(), Options::default());
    /// ```
    pub fn new() -> Options {
        Options::default()
    }

    /// Whether commits are durable (`fsync`, `synchronous_commit` and `full_page_writes`). Default: false, which suits
    /// tests. Set it for benchmarks. It has no effect on a server that `DATABASE_URL` names.
    ///
    /// ```
    /// use throwaway_postgres::Options;
    ///
    /// assert_eq!(Options::new().durable(false), Options::new());
    /// ```
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Options {
        self.durable = durable;
        self
    }

    /// Whether to start a private cluster even if `DATABASE_URL` is set. Default: false.
    ///
    /// ```
    /// use throwaway_postgres::Options;
    ///
    /// let options = Options::new().ignore_database_url(true);
    /// assert_ne!(options, Options::new());
    /// ```
    #[must_use]
    pub fn ignore_database_url(mut self, ignore: bool) -> Options {
        self.ignore_database_url = ignore;
        self
    }

    /// Sets where the directory of a private cluster is created. Default: `POSTGRES_DIRECTORY`, unless the cluster is
    /// [durable](Self::durable), or else [`std::env::temp_dir`]. Use it to fill up the disk of a server. The user that
    /// runs the server needs access to it.
    ///
    /// ```
    /// use throwaway_postgres::Options;
    ///
    /// let options = Options::new().parent_directory("/dev/shm");
    /// assert_ne!(options, Options::new());
    /// ```
    #[must_use]
    pub fn parent_directory(mut self, directory: impl Into<PathBuf>) -> Options {
        self.parent_directory = Some(directory.into());
        self
    }

    /// Adds a setting of the server, like `-c` on the command line of `postgres`. A later value for a name replaces an
    /// earlier one. The address and the port cannot be set. It has no effect on a server that `DATABASE_URL` names.
    ///
    /// ```
    /// use throwaway_postgres::Options;
    ///
    /// let options = Options::new().setting("log_statement", "all").setting("jit", "off");
    /// assert_ne!(options, Options::new());
    /// ```
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Options {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds a file that only the server can read, next to its data directory. A setting finds it as `../name` if its
    /// paths are relative to the data directory, as those of TLS are. `hba_file` and `ident_file` find it as `name`. It
    /// has no effect on a server that `DATABASE_URL` names.
    ///
    /// ```
    /// use throwaway_postgres::Options;
    ///
    /// let options = Options::new().file("rules", "host all all 127.0.0.1/32 password").setting("hba_file", "rules");
    /// assert_ne!(options, Options::new());
    /// ```
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, contents: impl Into<String>) -> Options {
        self.files.push((name.into(), contents.into()));
        self
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn ignores_database_url(&self) -> bool {
        self.ignore_database_url
    }

    /// Where the directory of the cluster is created. `environment` is the value of `POSTGRES_DIRECTORY`.
    pub(crate) fn parent(&self, environment: Option<OsString>) -> PathBuf {
        let named = environment.filter(|directory| !directory.is_empty() && !self.durable).map(PathBuf::from);
        self.parent_directory.clone().or(named).unwrap_or_else(env::temp_dir)
    }

    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    pub(crate) fn files(&self) -> &[(String, String)] {
        &self.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_the_one_of_the_options_or_of_the_environment_or_the_temporary_one() {
        let named = || Some(OsString::from("/named"));
        assert_eq!(Options::new().parent(named()), PathBuf::from("/named"));
        assert_eq!(Options::new().parent_directory("/chosen").parent(named()), PathBuf::from("/chosen"));
        for (options, environment) in
            [(Options::new(), None), (Options::new(), Some(OsString::new())), (Options::new().durable(true), named())]
        {
            assert_eq!(options.parent(environment), env::temp_dir());
        }
    }
}
