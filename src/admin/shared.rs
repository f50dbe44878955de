//! What all pages need.

use std::time::Duration;

use crate::admin::access::Decide;
use crate::app::App;

/// The application, and the settings of the pages.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) app: App,
    pub(crate) decide: Decide,
    pub(crate) trusted_origins: Vec<String>,
    pub(crate) statement_timeout: Duration,
}
