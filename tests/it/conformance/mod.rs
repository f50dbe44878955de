//! One suite for both connectors: what is done through an application comes to the same in PostgreSQL and in memory.
//!
//! | file | what it does |
//! |---|---|
//! | `side` | an application on one of the two, and what can be observed of it |
//! | `deferring` | jobs that are deferred, fetched and finished without a worker, and what is refused |
//! | `managing` | the operations of the job manager |
//! | `running` | real workers, and those of tests |
//! | `schedules` | the schedules of periodic tasks |
//! | `steps` | what is done in a walk |
//! | `walk` | random operations on both, compared after each of them |
//!
//! A scenario is written once. What is answered and how the tables look then is written down, and both must have written
//! the same: [`on_both`]. That it is right, too, is what the tests of the database are for.

mod deferring;
mod managing;
mod running;
mod schedules;
mod side;
mod steps;
mod walk;

use procrastinate::testing::InMemoryConnector;
use procrastinate::{App, AppBuilder};

use self::side::Side;
use crate::support::{connector, database};

/// Runs a scenario on both, and compares what they have written down.
async fn on_both(tasks: impl Fn(AppBuilder) -> AppBuilder, scenario: impl AsyncFn(&mut Side)) {
    let (mut in_memory, mut in_postgres) = both(tasks).await;
    scenario(&mut in_memory).await;
    in_memory.look();
    scenario(&mut in_postgres).await;
    in_postgres.look();
    assert!(!in_memory.notes.is_empty());
    assert_same(&in_memory, &in_postgres, "in the scenario");
}

/// An application on each of the two.
async fn both(tasks: impl Fn(AppBuilder) -> AppBuilder) -> (Side, Side) {
    let memory = InMemoryConnector::new();
    let in_memory = tasks(App::builder(memory.clone())).build().unwrap();
    let database = database();
    let in_postgres = in_memory.replace_connector(connector(&database).await);
    (Side::in_memory(in_memory, memory), Side::in_postgres(in_postgres, database))
}

/// Compares what both have written down, and shows the lines around the first that differs.
fn assert_same(in_memory: &Side, in_postgres: &Side, context: &str) {
    const AROUND: usize = 12;
    let (found, expected) = (&in_memory.notes, &in_postgres.notes);
    let differs = found.iter().zip(expected).position(|(one, other)| one != other);
    let Some(place) = differs.or((found.len() != expected.len()).then_some(found.len().min(expected.len()))) else {
        return;
    };
    let part = |notes: &[String]| notes[place.saturating_sub(AROUND)..notes.len().min(place + 3)].join("\n  ");
    panic!("they differ {context}.\nin memory:\n  {}\nin PostgreSQL:\n  {}", part(found), part(expected));
}
