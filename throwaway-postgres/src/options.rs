//! How to start a server.

/// How to start a server. Every option has a default, which [`Server::start`](crate::Server::start) uses.
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
    settings: Vec<(String, String)>,
}

impl Options {
    /// The defaults: `DATABASE_URL` counts, nothing is durable, no further settings.
    ///
    /// ```
    /// use throwaway_postgres::Options;
    ///
    /// assert_eq!(Options::new(), Options::default());
    /// ```
    pub fn new() -> Options {
        Options::default()
    }

    /// Whether a commit is on disk when it has been answered (`fsync`, `synchronous_commit` and `full_page_writes`).
    /// Off by default, which suits tests; benchmarks want it on. It has no effect on a server named by `DATABASE_URL`.
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

    /// Whether to start a cluster of our own even if `DATABASE_URL` is set. Off by default.
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

    /// One more setting for the server's configuration, as on the command line of `postgres` after `-c`; of two values
    /// for one name the last counts. The address and the port are ours to choose. It has no effect on a server named
    /// by `DATABASE_URL`.
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

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn ignores_database_url(&self) -> bool {
        self.ignore_database_url
    }

    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }
}
