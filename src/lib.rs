//! A task queue.
