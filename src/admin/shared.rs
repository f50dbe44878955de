//! What all pages need.

use std::time::Duration;

use crate::admin::access::{Access, Decide};
use crate::admin::hiding::{HIDDEN, Hiding};
use crate::app::App;

/// The application, and the settings of the pages.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) app: App,
    pub(crate) decide: Decide,
    pub(crate) trusted_origins: Vec<String>,
    pub(crate) statement_timeout: Duration,
    pub(crate) hiding: Hiding,
}

impl Shared {
    /// The arguments of a task, as JSON, as far as this visitor may see them.
    pub(crate) fn shown_arguments(&self, access: &Access, task: &str, arguments: &str) -> String {
        if access.sees_arguments() { self.hiding.shown(task, arguments) } else { HIDDEN.to_owned() }
    }

    /// Whether a visitor may search in all arguments. Where some are hidden, a search would tell what is in them.
    pub(crate) fn may_search_arguments(&self, access: &Access) -> bool {
        access.sees_arguments() && self.hiding.is_empty()
    }
}
