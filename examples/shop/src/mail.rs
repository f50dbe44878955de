//! Sends mails to a log, or to a list in tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ShopError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub to: String,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct Mailer {
    outbox: Option<Arc<Mutex<Outbox>>>,
}

#[derive(Debug, Default)]
struct Outbox {
    sent: Vec<Mail>,
    failures: VecDeque<String>,
}

impl Mailer {
    /// Creates a mailer that only logs.
    pub fn log() -> Self {
        Self::default()
    }

    /// Creates a mailer that keeps its mails for tests.
    pub fn outbox() -> Self {
        Self { outbox: Some(Arc::default()) }
    }

    /// Lets the next mail fail that is not set to fail yet.
    pub fn fail_once(&self, reason: &str) {
        self.with_outbox(|outbox| outbox.failures.push_back(reason.to_owned()));
    }

    pub fn sent(&self) -> Vec<Mail> {
        self.with_outbox(|outbox| outbox.sent.clone()).unwrap_or_default()
    }

    /// Sends a mail.
    ///
    /// # Errors
    ///
    /// [`ShopError::Mail`] if the server rejects it.
    pub async fn send(&self, to: &str, text: String) -> Result<(), ShopError> {
        tracing::info!(to, text, "mail");
        let failure = self.with_outbox(|outbox| match outbox.failures.pop_front() {
            Some(reason) => Some(reason),
            None => {
                outbox.sent.push(Mail { to: to.to_owned(), text });
                None
            }
        });
        match failure.flatten() {
            Some(reason) => Err(ShopError::Mail { address: to.to_owned(), reason }),
            None => Ok(()),
        }
    }

    fn with_outbox<T>(&self, call: impl FnOnce(&mut Outbox) -> T) -> Option<T> {
        self.outbox.as_ref().map(|outbox| call(&mut outbox.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
