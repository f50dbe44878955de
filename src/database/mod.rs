//! Everything that knows SQL.
//!
//! | folder | what it holds |
//! |---|---|
//! | `models` | the rows of the tables, for reading |
//! | `migrations` | what creates the tables and functions |
//! | `statements` | every statement of the crate, as a value |
//! | `notification` | channels, and the messages on them |
//! | `in_memory` | the tables without a database, for tests |
//! | `connection` | where a statement runs |

pub(crate) mod connection;
#[cfg(feature = "testing")]
pub(crate) mod in_memory;
pub mod migrations;
pub mod models;
pub(crate) mod notification;
pub(crate) mod statements;
