//! What tasks are called: namespaces, aliases, and tasks that are found without being listed.

mod attributes;
mod blueprints;
#[cfg(feature = "discovery")]
mod discovery;
mod refusals;
mod state;
