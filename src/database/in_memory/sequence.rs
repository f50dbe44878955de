//! Sequences of IDs.

/// A sequence of IDs. As in the database, an ID is used up even if it is never stored.
#[derive(Debug, Default)]
pub(super) struct Sequence(i64);

impl Sequence {
    pub(super) fn draw(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
}
