//! The first page: how the queue is doing, and what needs attention.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use askama::Template;
use axum::Extension;
use axum::extract::State;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::attention::{self, Attention};
use crate::admin::pages::chart::{Chart, DAY, HOUR, Period};
use crate::admin::pages::drift::DriftCheck;
use crate::admin::pages::queues::{MOST_QUEUES, failed};
use crate::admin::pages::schedules::{Failing, failing_schedules};
use crate::admin::pages::workers::{MOST_WORKERS, STALLED_AFTER};
use crate::admin::pages::{PageResult, address};
use crate::admin::reading::Reading;
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::admin::activity::{Activity, Failures, OldestWaiting, WaitingJob};
use crate::database::statements::admin::controls::ControlsOfPage;
use crate::database::statements::admin::overview::{
    CountByStatus, ListOfQueues, ListOfWorkers, ListedQueue, ListedWorker,
};
use crate::error::Error;

/// How old an overview may be: at least and at most, and how many times as long as it took to read. So the visitors
/// together cost the server a hundredth of one processor at most.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(8)..=Duration::from_secs(60);
const LIFETIME_FACTOR: u32 = 100;

/// How old its charts of the last hour and day may be.
const LIFETIME_OF_HOUR: Duration = Duration::from_secs(30);
const LIFETIME_OF_DAY: Duration = Duration::from_secs(300);

/// The newest overview. One visitor at a time reads another one, for all.
#[derive(Debug, Clone, Default)]
pub(crate) struct OverviewCache {
    newest: Arc<Mutex<Newest>>,
    drift: DriftCheck,
}

/// An overview and its charts, and when they were read.
#[derive(Debug, Default)]
struct Newest {
    overview: Option<Arc<Overview>>,
    /// Until when the overview is new enough.
    until: Option<Instant>,
    hour: Option<(Instant, Arc<Chart>)>,
    day: Option<(Instant, Arc<Chart>)>,
}

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
    let overview = current(&shared, &cache, &mut layout).await?;
    (layout.now, layout.has_companions) = (overview.now, overview.has_companions);
    let drift = cache.drift.drift(shared.app.connector());
    let attention = overview.attention(drift.as_deref());
    Ok(html(&OverviewPage { attention, charts: [&overview.hour, &overview.day], layout, overview: &overview }))
}

/// The newest overview, or another one if it is too old.
async fn current(shared: &Shared, cache: &OverviewCache, layout: &mut Layout) -> Result<Arc<Overview>, Problem> {
    let mut newest = cache.newest.lock().await;
    let is_new = newest.until.is_some_and(|until| Instant::now() < until);
    if let Some(overview) = newest.overview.as_ref().filter(|_| is_new) {
        return Ok(overview.clone());
    }
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(layout).await?;
        let (now, has_companions) = (layout.now, layout.has_companions);
        let reading = &mut started.reading;
        let counts = reading.load_one(CountByStatus { has_companions }).await?;
        let queues = reading.load(ListOfQueues { has_companions, limit: MOST_QUEUES }).await?;
        let workers = reading.load(ListOfWorkers { limit: MOST_WORKERS }).await?;
        let controls = if has_companions { reading.load(ControlsOfPage).await? } else { Vec::new() };
        let failing = if has_companions { failing_schedules(now, reading).await? } else { Vec::new() };
        let oldest = reading.load(OldestWaiting { has_companions }).await?.into_iter().next();
        let hour = chart(HOUR, &mut newest.hour, LIFETIME_OF_HOUR, layout, reading).await?;
        let day = chart(DAY, &mut newest.day, LIFETIME_OF_DAY, layout, reading).await?;
        started.reading.end().await?;
        let overview = Overview { now, has_companions, counts, queues, workers, controls, failing, oldest, hour, day };
        Ok::<_, Error>(Arc::new(overview))
    };
    let overview = found.await.map_err(|error| shared.problem(began, &error))?;
    let lifetime = (began.elapsed() * LIFETIME_FACTOR).clamp(*LIFETIMES.start(), *LIFETIMES.end());
    newest.until = Some(Instant::now() + lifetime);
    newest.overview = Some(overview.clone());
    Ok(overview)
}

/// The newest chart, or another one if it is too old.
async fn chart(
    period: Period,
    newest: &mut Option<(Instant, Arc<Chart>)>,
    lifetime: Duration,
    layout: &Layout,
    reading: &mut Reading,
) -> Result<Arc<Chart>, Error> {
    if let Some((_, chart)) = newest.as_ref().filter(|(read_at, _)| read_at.elapsed() < lifetime) {
        return Ok(chart.clone());
    }
    let Period { parts, part_seconds, .. } = period;
    let rows = reading.load(Activity { parts, part_seconds }).await?;
    let failures =
        if layout.has_companions { Some(reading.load(Failures { parts, part_seconds }).await?) } else { None };
    let chart = Arc::new(Chart::new(period, &rows, failures.as_deref(), layout.now));
    *newest = Some((Instant::now(), chart.clone()));
    Ok(chart)
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
