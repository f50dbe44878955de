//! Fetching for the tests' own worker.

use diesel::result::QueryResult;

use super::finish_and_fetch::fetched;
use crate::database::in_memory::{Answer, Store};
use crate::database::statements::finish_and_fetch::FinishedOrFetched;
use crate::database::statements::testing::FetchJobAt;

impl Answer for FetchJobAt {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<FinishedOrFetched>> {
        let Self { worker_id, queues, now } = self;
        let ids = store.fetch(worker_id, queues.as_deref(), 1, now)?;
        Ok(ids.into_iter().filter_map(|id| store.job(id)).map(fetched).collect())
    }
}
