//! The list of queues.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;

use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::jobs::count;
use crate::admin::shared::Shared;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::admin::overview::{ListOfQueues, ListedQueue};
use crate::database::statements::flow_control::ListFlowControlsQuery;
use crate::error::Error;

/// The most queues that a page lists.
pub(crate) const MOST_QUEUES: i64 = 500;

#[derive(Template)]
#[template(path = "queues.html")]
struct QueuesPage {
    layout: Layout,
    queues: Vec<ListedQueue>,
    controls: Vec<ProcrastinateFlowControl>,
}

impl QueuesPage {
    fn count(&self, jobs: &i64) -> String {
        count(*jobs)
    }

    /// The pause or limit of the queue.
    fn control(&self, name: &str) -> Option<&ProcrastinateFlowControl> {
        self.controls.iter().find(|control| control.kind == "queue" && control.name == name)
    }
}

/// `GET /queues`
pub(crate) async fn queues(State(shared): State<Arc<Shared>>, mut layout: Layout) -> PageResult {
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let queues =
            started.reading.load(ListOfQueues { has_companions: layout.has_companions, limit: MOST_QUEUES }).await?;
        let controls =
            if layout.has_companions { started.reading.load(ListFlowControlsQuery).await? } else { Vec::new() };
        started.reading.end().await?;
        Ok::<_, Error>(QueuesPage { layout, queues, controls })
    };
    let page = found.await.map_err(|error| shared.problem(began, &error))?;
    Ok(html(&page))
}
