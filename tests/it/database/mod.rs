//! The database: models, plans, large tables, schemas and pools.

#[cfg(all(feature = "bb8", feature = "deadpool"))]
mod ageing;
mod from_url;
mod growth;
mod growth_of_keys;
mod languages;
mod large_table;
mod models;
pub mod plans;
mod pooler;
#[cfg(all(feature = "bb8", feature = "deadpool"))]
mod pools;
mod schemas;
mod sessions;
mod tables_crate;
mod unreadable;
#[cfg(feature = "writable-models")]
mod writable_models;
