//! Statements about options that few jobs have.

use diesel::result::QueryResult;

use crate::database::in_memory::{Answer, Store};
#[cfg(any(feature = "cli", feature = "admin"))]
use crate::database::models::ProcrastinateJobOptions;
#[cfg(any(feature = "cli", feature = "admin"))]
use crate::database::statements::options::OptionsOfJobs;
use crate::database::statements::options::{TendJobOptions, TendedJobOptions};

impl Answer for TendJobOptions {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<TendedJobOptions>> {
        let now = store.now();
        let expired = store.expire(now)?;
        store.forget_options();
        store.tend_unique_keys();
        // A unique key that is free is as good as deleted.
        Ok(vec![(i32::try_from(expired).unwrap_or(i32::MAX), false, 0, 0)])
    }
}

#[cfg(any(feature = "cli", feature = "admin"))]
impl Answer for OptionsOfJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateJobOptions>> {
        Ok(self.job_ids.iter().filter_map(|id| store.options.get(id)).cloned().collect())
    }
}
