//! The list of workers.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use chrono::TimeDelta;

use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::statements::admin::overview::{ListOfWorkers, ListedWorker};
use crate::error::Error;

/// The most workers that a page lists.
pub(crate) const MOST_WORKERS: i64 = 500;

/// A worker without a heartbeat for this long is considered stalled, unless other workers have another setting.
pub(crate) const STALLED_AFTER: TimeDelta = TimeDelta::seconds(30);

#[derive(Template)]
#[template(path = "workers.html")]
struct WorkersPage {
    layout: Layout,
    workers: Vec<ListedWorker>,
}

impl WorkersPage {
    fn is_stalled(&self, worker: &ListedWorker) -> bool {
        worker.heartbeat < self.layout.now - STALLED_AFTER
    }
}

/// `GET /workers`
pub(crate) async fn workers(State(shared): State<Arc<Shared>>, mut layout: Layout) -> PageResult {
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let workers = started.reading.load(ListOfWorkers { limit: MOST_WORKERS }).await?;
        started.reading.end().await?;
        Ok::<_, Error>(WorkersPage { layout, workers })
    };
    let page = found.await.map_err(|error| shared.problem(began, &error))?;
    Ok(html(&page))
}
