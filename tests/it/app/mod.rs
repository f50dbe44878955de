//! What tasks are called: namespaces, aliases, and tasks that are found without being listed.

mod blueprints;
#[cfg(feature = "discovery")]
mod discovery;
mod refusals;
