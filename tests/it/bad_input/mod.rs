//! Input from outside, as random and as extreme as it can be: it may be refused, but nothing panics, loops or stops.
//!
//! | file | what comes in |
//! |---|---|
//! | `values` | names, arguments, cron expressions, delays and dates |
//! | `rows` | rows that people or other versions have written |
//! | `programs` | command lines, lines of the shell, probes, notifications |
//!
//! Parsers that are private are tested next to them, with `proptest!`. `scripts/fuzz` runs all of them for long.

#[cfg(feature = "cli")]
mod programs;
mod rows;
mod values;
