//! The checker with hand-made ledgers: it finds what is broken, and nothing else.
