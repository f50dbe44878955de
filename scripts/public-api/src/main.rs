//! Prints the public API of the crate, one item per line, from rustdoc's JSON. See `scripts/check-public-api`.
#![allow(clippy::print_stdout, reason = "it prints the API")]

use std::error::Error;

/// Diesel's definitions of the tables are generated. A test compares them with a migrated database.
const GENERATED: &str = "procrastinate_schema::schema::";

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args_os().nth(1).ok_or("usage: public-api-snapshot RUSTDOC_JSON")?;
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    for item in api.items().map(ToString::to_string).filter(|item| !item.contains(GENERATED)) {
        println!("{item}");
    }
    Ok(())
}
