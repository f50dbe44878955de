//! Fetching for the tests' own worker.

use diesel::result::QueryResult;

use super::lifecycle::fetched;
use crate::in_memory::{Answer, Store};
use crate::queries::lifecycle::FinishedOrFetched;
use crate::queries::testing::FetchJobAt;

impl Answer for FetchJobAt {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<FinishedOrFetched>> {
        let Self { worker_id, queues, now } = self;
        let ids = store.fetch(worker_id, queues.as_deref(), 1, now)?;
        Ok(ids.into_iter().filter_map(|id| store.job(id)).map(fetched).collect())
    }
}
