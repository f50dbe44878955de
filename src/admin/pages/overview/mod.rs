//! The first page: how the queue is doing, and what needs attention.
//!
//! | file | contents |
//! |---|---|
//! | `cache` | one overview for all visitors, and when it is read again |
//! | `chart` | what jobs did in the last hour and day |
//! | `attention` | what needs attention, in words |
//! | `drift` | whether the database still has the contract |

mod attention;
pub(crate) mod cache;
mod chart;
mod drift;

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use chrono::{DateTime, Utc};

use self::attention::Attention;
use self::cache::OverviewCache;
use self::chart::Chart;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::queues::failed;
use crate::admin::pages::schedules::Failing;
use crate::admin::pages::workers::STALLED_AFTER;
use crate::admin::pages::{PageResult, address};
use crate::admin::shared::Shared;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::admin::activity::WaitingJob;
use crate::database::statements::admin::overview::{ListedQueue, ListedWorker};

/// What the database said.
#[derive(Debug)]
struct Overview {
    now: DateTime<Utc>,
    has_companions: bool,
    counts: (i64, i64, i64, i64, i64, i64),
    queues: Vec<ListedQueue>,
    workers: Vec<ListedWorker>,
    controls: Vec<ProcrastinateFlowControl>,
    /// The schedules that do not fire.
    failing: Vec<Failing>,
    oldest: Option<WaitingJob>,
    hour: Arc<Chart>,
    day: Arc<Chart>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage<'o> {
    layout: Layout,
    overview: &'o Overview,
    attention: Vec<Attention>,
    charts: [&'o Chart; 2],
}

impl OverviewPage<'_> {
    fn count(&self, jobs: &i64) -> String {
        address::count(*jobs)
    }

    fn failed(&self) -> String {
        address::unsuccessful(self.overview.counts.2, self.overview.has_companions)
    }

    fn failed_of(&self, queue: &ListedQueue) -> String {
        failed(queue, &self.overview.queues, self.overview.has_companions)
    }

    fn is_empty(&self) -> bool {
        self.overview.queues.is_empty() && self.attention.is_empty()
    }

    fn alive(&self) -> usize {
        self.overview.alive()
    }
}

/// `GET /`
pub(crate) async fn overview(
    State(shared): State<Arc<Shared>>,
    Extension(cache): Extension<OverviewCache>,
    mut layout: Layout,
) -> PageResult {
    let cached = cache.current(&shared).await?;
    let overview = &cached.overview;
    (layout.now, layout.has_companions) = (overview.now + cached.age(), overview.has_companions);
    let drift = cache.drift.drift(shared.app.connector());
    let attention = overview.attention(drift.as_deref());
    Ok(html(&OverviewPage { attention, charts: [&overview.hour, &overview.day], layout, overview }))
}

impl Overview {
    fn alive(&self) -> usize {
        self.workers.iter().filter(|worker| worker.heartbeat >= self.now - STALLED_AFTER).count()
    }

    fn attention(&self, drift: Option<&str>) -> Vec<Attention> {
        let state = attention::State {
            now: self.now,
            stalled: self.workers.len() - self.alive(),
            alive: self.alive(),
            pending: self.counts.0,
            queues: &self.queues,
            controls: &self.controls,
            failing: &self.failing,
            failed: self.hour.failures(),
            drift,
        };
        state.attention()
    }
}
