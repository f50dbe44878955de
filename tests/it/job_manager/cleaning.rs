//! Deleting old jobs.
