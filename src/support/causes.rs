//! The causes of an error.

use std::error::Error;
use std::iter::successors;

/// How many causes are read. An error can name itself as its cause.
const MOST: usize = 100;

/// Returns the error and its causes, the outermost first.
pub(crate) fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    successors(Some(error), |error: &&'e (dyn Error + 'static)| (*error).source()).take(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Looping;

    impl std::fmt::Display for Looping {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("it names itself as its cause")
        }
    }

    impl Error for Looping {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn a_chain_of_causes_has_an_end() {
        assert_eq!(chain(&Looping).count(), MOST);
        assert_eq!(chain(&std::fmt::Error).count(), 1);
    }
}
