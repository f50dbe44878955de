//! Statements for the command line.

use std::collections::BTreeSet;

use diesel::result::QueryResult;

use super::explain::count;
use super::manage::PutBack;
use crate::database::in_memory::values::{seconds_before, stored_time};
use crate::database::in_memory::violations::raised;
use crate::database::in_memory::{Answer, Store};
use crate::database::models::{ProcrastinateEvent, ProcrastinateJob, ProcrastinateJobError};
use crate::database::statements::cli::{
    AreTablesOurs, CountOfJobs, CountOfOldJobs, ErrorsOfJob, EventsOfJob, JobSelection, NamesInUse, PageOfJobs,
    RetryJobByContract, ServerInfo,
};

impl Answer for ServerInfo {
    fn answer(self, _: &mut Store) -> QueryResult<Vec<(String, String, Option<String>, String)>> {
        let nothing = || "in memory".to_owned();
        Ok(vec![(nothing(), nothing(), Some(nothing()), nothing())])
    }
}

impl JobSelection {
    fn matches(&self, job: &ProcrastinateJob, store: &Store) -> bool {
        self.filter.passes(job) && (!self.are_stalled || store.is_stalled(job, 30.0))
    }
}

impl Answer for PageOfJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateJob>> {
        let limit = usize::try_from(self.limit).unwrap_or_default();
        let is_on_page = |job: &&ProcrastinateJob| {
            let is_beyond = |beyond| if self.newest_first { job.id < beyond } else { job.id > beyond };
            self.beyond.is_none_or(|beyond| is_beyond(beyond.into())) && self.meant.matches(job, store)
        };
        Ok(if self.newest_first {
            store.jobs().rev().filter(is_on_page).take(limit).cloned().collect()
        } else {
            store.jobs().filter(is_on_page).take(limit).cloned().collect()
        })
    }
}

impl Answer for CountOfJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i64>> {
        Ok(vec![count(store.jobs().filter(|job| self.0.matches(job, store)))])
    }
}

impl Answer for CountOfOldJobs {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i64>> {
        let youngest = seconds_before(store.now(), self.older_than_seconds);
        let old = store.jobs().filter(|job| {
            self.statuses.iter().any(|label| label == job.status.as_str())
                && self.queue.as_ref().is_none_or(|queue| *queue == job.queue_name)
                && store.is_old(job.id, youngest)
        });
        Ok(vec![count(old.take(10_000))])
    }
}

impl Answer for AreTablesOurs {
    fn answer(self, _: &mut Store) -> QueryResult<Vec<bool>> {
        Ok(vec![true])
    }
}

impl Answer for NamesInUse {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(bool, String)>> {
        let newest = store.jobs().rev().take(5_000);
        let names: BTreeSet<(bool, String)> =
            newest.flat_map(|job| [(true, job.queue_name.clone()), (false, job.task_name.clone())]).collect();
        Ok(names.into_iter().collect())
    }
}

impl Answer for EventsOfJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateEvent>> {
        Ok(store.events_of(self.job_id.into()).to_vec())
    }
}

impl Answer for ErrorsOfJob {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateJobError>> {
        Ok(store.errors().filter(|error| self.job_id == error.job_id).cloned().collect())
    }
}

impl Answer for RetryJobByContract {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<String>> {
        let job_id = self.0.job_id;
        let scheduled_at = self.0.retry_at.map(stored_time);
        match store.retry(self.0, scheduled_at)? {
            PutBack::Done(_) => Ok(vec![String::new()]),
            PutBack::QueueingLockTaken(violation) => Err(violation.into()),
            PutBack::NotAllowed => {
                Err(raised(format!("Job was not found or has an invalid status to retry (job id: {job_id})")))
            }
        }
    }
}
