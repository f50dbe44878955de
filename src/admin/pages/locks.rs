//! The list of locks.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};

use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::address::{Address, count_up_to};
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::statements::admin::locks::{
    ContendedLocks, HeldLocks, LOCK_CEILING, ListedLock, LocksByName, SEARCHED_JOBS, SEARCHED_QUEUES,
};
use crate::error::Error;

/// The most locks of each kind that a page lists.
const PAGE_SIZE: i64 = 100;

#[derive(Template)]
#[template(path = "locks.html")]
struct LocksPage {
    layout: Layout,
    locks: Vec<ListedLock>,
    /// The lock that the visitor has searched for.
    searched: String,
    /// The last of the held locks of this page, if there are more.
    next: Option<String>,
    /// Whether the page begins at the first lock.
    is_first: bool,
    searched_jobs: i64,
    searched_queues: i64,
}

impl LocksPage {
    fn count(&self, jobs: &i64) -> String {
        count_up_to(*jobs, LOCK_CEILING)
    }
}

/// `GET /locks`
pub(crate) async fn locks(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    let address = Address::read(&query.unwrap_or_default());
    let (searched, after) = (name_of(&address, "lock"), name_of(&address, "after"));
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let (reading, has_companions) = (&mut started.reading, layout.has_companions);
        let mut next = None;
        let mut names = Vec::new();
        if let Some(searched) = &searched {
            names.push(searched.clone());
        } else {
            names = reading.load(HeldLocks { after: after.clone(), limit: PAGE_SIZE + 1 }).await?;
            if i64::try_from(names.len()).is_ok_and(|names| names > PAGE_SIZE) {
                names.pop();
                next = names.last().cloned();
            }
            if after.is_none() {
                let contended = reading.load(ContendedLocks { has_companions, limit: PAGE_SIZE }).await?;
                names.extend(contended.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
            }
        }
        let mut locks = reading.load(LocksByName { names, has_companions }).await?;
        // Those that most jobs wait for come first.
        locks.sort_by_key(|lock| std::cmp::Reverse(lock.pending));
        started.reading.end().await?;
        let searched = searched.unwrap_or_default();
        let (searched_jobs, searched_queues) = (SEARCHED_JOBS, SEARCHED_QUEUES);
        let is_first = after.is_none();
        Ok::<_, Error>(LocksPage { layout, locks, searched, next, is_first, searched_jobs, searched_queues })
    };
    let page = found.await.map_err(|error| shared.problem(began, &error))?;
    Ok(html(&page))
}

/// A lock in the address.
fn name_of(address: &Address, field: &str) -> Option<String> {
    Some(address.get(field).to_owned()).filter(|name| !name.is_empty())
}
