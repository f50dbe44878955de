//! Random operations, held against what the contract promises.
//!
//! | file | what it does |
//! |---|---|
//! | `model` | the contract's rules over maps in memory, written for plainness |
//! | `calls` | the operations of the contract and of the crate as statements |
//! | `choices` | random statements, made smaller when a test fails |
//! | `expected` | what each statement must return, and what it makes of the model |
//! | `tables` | the tables as lines of text, and the model from them |
//! | `history` | what must hold after transactions that ran at the same time |
//! | `sessions` | connections whose statements may wait for each other |
//! | `steps` | random statements in random transactions, alone and at the same time |
//! | `isolation` | workers and clients on databases whose default isolation level is a higher one |
//! | `fetchers` | many connections that call the stored functions at the same time |
//! | `flow` | fetches while pauses and limits are set and removed |
//! | `limits` | many connections that fetch jobs under a limit at the same time |
//! | `workers` | many workers at the same time |
//!
//! What is done depends on a seed alone, and a test that fails prints it. With `PROCRASTINATE_TEST_SEED` set to a number
//! only that seed is used.

mod calls;
mod choices;
mod expected;
mod fetchers;
mod flow;
mod history;
mod isolation;
mod limits;
mod model;
mod sessions;
mod steps;
mod tables;
mod workers;

use std::ops::Range;

use diesel::PgConnection;
use throwaway_postgres::Database;

pub use self::model::Functions;
pub use self::steps::play_alone;
use crate::cases::SEED;
use crate::support::{self, sql};

/// Random numbers that depend on a seed only (splitmix64). When a test panics while it holds this, the seed is printed.
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// One generator for each of the seeds; or one for the seed that was asked for.
    pub fn each(seeds: Range<u64>) -> impl Iterator<Item = Self> {
        let chosen = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
        let seeds = chosen.map_or(seeds, |seed: u64| seed..seed + 1);
        seeds.map(|seed| Self { seed, state: seed })
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, but not including, the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A generator for another thread, which depends on the same seed.
    fn fork(&mut self) -> Self {
        Self { seed: self.seed, state: self.next() }
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was seed {0}: run it again with {SEED}={0}", self.seed);
        }
    }
}

/// A connection with a time limit, because a function that searches repeatedly might never end.
fn connect(database: &Database) -> PgConnection {
    let mut connection = support::connect(database);
    sql(&mut connection, "SET statement_timeout = '20s'");
    connection
}
