//! Whether the database still has the contract of Procrastinate. The check reads the catalogs, so one process checks it
//! once in a few minutes, in the background.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::database::connection::Connector;
use crate::error::Error;

/// How long a result counts.
const LIFETIME: Duration = Duration::from_secs(300);

/// The newest result, which all visitors share.
#[derive(Debug, Clone, Default)]
pub(crate) struct DriftCheck(Arc<Mutex<Newest>>);

#[derive(Debug, Default)]
struct Newest {
    began: Option<Instant>,
    drift: Option<String>,
}

impl DriftCheck {
    /// What differs, as far as it is known. It begins another check if the last one is too old.
    pub(crate) fn drift(&self, connector: &Connector) -> Option<String> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.began.is_none_or(|began| began.elapsed() >= LIFETIME) {
            newest.began = Some(Instant::now());
            let (check, connector) = (self.clone(), connector.clone());
            tokio::spawn(async move { check.store(connector.check_contract().await) });
        }
        newest.drift.clone()
    }

    /// A database that cannot be checked, for instance through a pooler, counts as it did before.
    fn store(&self, checked: Result<(), Error>) {
        let drift = match checked {
            Ok(()) => None,
            Err(Error::Migration { source }) => Some(source.to_string()),
            Err(error) => {
                tracing::debug!(action = "admin_error", "could not check the contract: {error}");
                return;
            }
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drift = drift;
    }
}
