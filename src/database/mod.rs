//! Everything that contains SQL.
//!
//! | folder | purpose |
//! |---|---|
//! | `models` | the rows of the tables, for reading |
//! | `migrations` | the tables and functions |
//! | `statements` | every statement of the crate, as a value |
//! | `notification` | channels and their messages |
//! | `in_memory` | the tables without a database, for tests |
//! | `connection` | connections that run statements |

pub(crate) mod connection;
#[cfg(feature = "testing")]
pub(crate) mod in_memory;
pub mod migrations;
pub mod models;
pub(crate) mod notification;
pub(crate) mod statements;
