//! How many endings go out in one exchange. One that the database refuses, be it because of a trigger of the
//! application's, must hold up neither the others nor the fetching.

/// How many endings go out, and whether jobs are fetched with them.
#[derive(Debug)]
pub(crate) struct BatchSize {
    /// How many endings go out at once: fewer after the database has refused some.
    most_endings: usize,
    /// Whether endings are stored and jobs are fetched by turns, because the database has refused a single ending, or to
    /// hand out jobs.
    is_split: bool,
    /// How many endings went out last.
    sent: usize,
}

impl Default for BatchSize {
    fn default() -> Self {
        Self { most_endings: usize::MAX, is_split: false, sent: 0 }
    }
}

impl BatchSize {
    /// How many of the endings go out next, and for how many of the free slots jobs are fetched.
    pub(crate) fn plan(&mut self, endings: usize, free_slots: usize) -> (usize, usize) {
        let is_turn_of_endings = self.is_split && endings > 0 && (self.most_endings > 0 || free_slots == 0);
        let free_slots = if is_turn_of_endings { 0 } else { free_slots };
        let most_endings = if free_slots == 0 { self.most_endings.max(1) } else { self.most_endings };
        self.sent = endings.min(most_endings);
        (self.sent, free_slots)
    }

    pub(crate) fn is_split(&self) -> bool {
        self.is_split
    }

    /// So many endings of so many were stored.
    pub(crate) fn accepted(&mut self, stored: usize, endings: usize) {
        if stored > 0 || endings == 0 {
            self.is_split = false;
        }
        self.most_endings = self.most_endings.saturating_mul(2).max(1);
    }

    /// The database has refused what went out last. Half of the endings go out next, down to a single one. True if that
    /// one is found: it lets the others go first, and jobs be fetched.
    pub(crate) fn refused(&mut self) -> bool {
        self.is_split |= self.sent <= 1;
        self.most_endings = match self.sent {
            0 => 1,
            sent => sent / 2,
        };
        self.sent == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_goes_out_at_once_until_the_database_refuses_and_again_after_it_accepts() {
        let mut pace = BatchSize::default();
        assert_eq!(pace.plan(8, 5), (8, 5));
        assert!(!pace.refused());
        assert_eq!(pace.plan(8, 5), (4, 5));
        assert!(!pace.refused());
        assert_eq!(pace.plan(8, 5), (2, 5));
        pace.accepted(2, 8);
        assert_eq!(pace.plan(6, 5), (4, 5));
    }

    #[test]
    fn a_single_ending_that_is_refused_and_the_fetching_take_turns() {
        let mut pace = BatchSize::default();
        assert_eq!(pace.plan(1, 5), (1, 5));
        assert!(pace.refused());
        // Jobs are fetched without it, then it is tried alone, and so on.
        for _ in 0..3 {
            assert_eq!(pace.plan(1, 5), (0, 5));
            pace.accepted(0, 1);
            assert_eq!(pace.plan(1, 5), (1, 0));
            assert!(pace.refused());
        }
        // With no slot free it goes out all the same.
        assert_eq!(pace.plan(1, 0), (1, 0));
        pace.accepted(1, 1);
        assert_eq!(pace.plan(3, 5), (1, 5));
    }

    #[test]
    fn a_fetching_that_is_refused_does_not_keep_endings_from_being_stored() {
        let mut pace = BatchSize::default();
        assert_eq!(pace.plan(0, 5), (0, 5));
        assert!(!pace.refused());
        assert_eq!(pace.plan(3, 5), (1, 0));
    }
}
