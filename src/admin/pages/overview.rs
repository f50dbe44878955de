//! The first page: how the queue is doing, and what needs attention.

use std::sync::Arc;
use std::time::{Duration, Instant};

use askama::Template;
use axum::Extension;
use axum::extract::State;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::moment::span;
use crate::admin::pages::PageResult;
use crate::admin::pages::address::{count, grouped};
use crate::admin::pages::queues::MOST_QUEUES;
use crate::admin::pages::schedules::{Failing, failing_schedules};
use crate::admin::pages::workers::{MOST_WORKERS, STALLED_AFTER};
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::admin::overview::{
    CountByStatus, ListOfQueues, ListOfWorkers, ListedQueue, ListedWorker, Throughput, ThroughputRow,
};
use crate::database::statements::flow_control::ListFlowControlsQuery;
use crate::error::Error;

/// How old an overview may be.
const LIFETIME: Duration = Duration::from_secs(5);

/// A queue whose first job waits for this long, while none runs, may have no worker.
const LONG_WAIT: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// How many schedules that do not fire are named.
const MOST_SCHEDULES: usize = 5;

/// The chart has a bar for each minute of an hour.
const BARS: i32 = 60;
const BAR_SECONDS: i32 = 60;
const CHART_HEIGHT: i64 = 60;

/// The newest overview. One visitor at a time reads another one, for all.
#[derive(Debug, Clone, Default)]
pub(crate) struct OverviewCache(Arc<Mutex<Option<ReadAt>>>);

/// An overview, and when it was read.
type ReadAt = (Instant, Arc<Overview>);

/// What the database said.
#[derive(Debug)]
struct Overview {
    now: DateTime<Utc>,
    has_companions: bool,
    counts: (i64, i64, i64, i64, i64, i64),
    queues: Vec<ListedQueue>,
    workers: Vec<ListedWorker>,
    controls: Vec<ProcrastinateFlowControl>,
    throughput: Vec<ThroughputRow>,
    /// The schedules that do not fire.
    failing: Vec<Failing>,
}

/// A bar of the chart: how many jobs succeeded and failed in a minute, and its place.
struct Bar {
    x: i32,
    succeeded: i64,
    failed: i64,
    succeeded_y: i64,
    succeeded_height: i64,
    failed_y: i64,
    failed_height: i64,
}

/// Something that needs attention: a text, and the page that says more.
struct Attention {
    text: String,
    link: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage<'o> {
    layout: Layout,
    overview: &'o Overview,
    attention: Vec<Attention>,
    bars: Vec<Bar>,
    succeeded: i64,
    failed: i64,
}

impl OverviewPage<'_> {
    fn count(&self, jobs: &i64) -> String {
        count(*jobs)
    }

    fn grouped(&self, jobs: &i64) -> String {
        grouped(*jobs)
    }

    fn is_empty(&self) -> bool {
        self.overview.queues.is_empty() && self.attention.is_empty()
    }

    fn alive(&self) -> usize {
        self.overview.alive()
    }

    /// The time of the oldest event that the chart is made of, if that is less than an hour ago.
    fn chart_since(&self) -> Option<DateTime<Utc>> {
        let oldest = self.overview.throughput.first().and_then(|row| row.3)?;
        (self.layout.now - oldest < chrono::TimeDelta::hours(1)).then_some(oldest)
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
    let page = OverviewPage {
        attention: attention(&overview),
        bars: bars(&overview.throughput),
        succeeded: overview.throughput.iter().map(|row| row.1).sum(),
        failed: overview.throughput.iter().map(|row| row.2).sum(),
        layout,
        overview: &overview,
    };
    Ok(html(&page))
}

/// The newest overview, or another one if it is too old.
async fn current(shared: &Shared, cache: &OverviewCache, layout: &mut Layout) -> Result<Arc<Overview>, Problem> {
    let mut newest = cache.0.lock().await;
    if let Some((_, overview)) = newest.as_ref().filter(|(read_at, _)| read_at.elapsed() < LIFETIME) {
        return Ok(overview.clone());
    }
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(layout).await?;
        let reading = &mut started.reading;
        let overview = Overview {
            now: layout.now,
            has_companions: layout.has_companions,
            counts: reading.load_one(CountByStatus).await?,
            queues: reading.load(ListOfQueues { has_companions: layout.has_companions, limit: MOST_QUEUES }).await?,
            workers: reading.load(ListOfWorkers { limit: MOST_WORKERS }).await?,
            controls: if layout.has_companions { reading.load(ListFlowControlsQuery).await? } else { Vec::new() },
            throughput: reading.load(Throughput { parts: BARS, part_seconds: BAR_SECONDS }).await?,
            failing: if layout.has_companions { failing_schedules(layout.now, reading).await? } else { Vec::new() },
        };
        started.reading.end().await?;
        Ok::<_, Error>(Arc::new(overview))
    };
    let overview = found.await.map_err(|error| shared.problem(began, &error))?;
    *newest = Some((Instant::now(), overview.clone()));
    Ok(overview)
}

impl Overview {
    fn alive(&self) -> usize {
        self.workers.iter().filter(|worker| worker.heartbeat >= self.now - STALLED_AFTER).count()
    }
}

/// What needs attention, the most urgent first.
fn attention(overview: &Overview) -> Vec<Attention> {
    let mut found = Vec::new();
    let mut add = |text: String, link: &str| found.push(Attention { text, link: link.to_owned() });
    let stalled = overview.workers.len() - overview.alive();
    if stalled > 0 {
        let which = if stalled == 1 { "One worker has".to_owned() } else { format!("{stalled} workers have") };
        add(format!("{which} sent no heartbeat for {}. Others rescue their jobs.", span(STALLED_AFTER)), "workers");
    }
    let pending = overview.counts.0;
    if overview.alive() == 0 && pending > 0 {
        let jobs = if pending == 1 { "one job is".to_owned() } else { format!("{} jobs are", count(pending)) };
        add(format!("No worker is alive, and {jobs} pending."), "workers");
    }
    for control in overview.controls.iter().filter(|control| control.paused_at.is_some()) {
        let reason = control.pause_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        add(format!("The {} {} is paused{reason}.", control.kind, control.name), "queues");
    }
    let is_paused = |name: &str| {
        overview
            .controls
            .iter()
            .any(|control| control.kind == "queue" && control.name == name && control.paused_at.is_some())
    };
    for queue in overview.queues.iter().filter(|queue| queue.running == 0 && !is_paused(&queue.name)) {
        let Some(since) = queue.waiting_since else { continue };
        let waited = overview.now.signed_duration_since(since);
        if waited > LONG_WAIT && overview.alive() > 0 {
            let text = format!(
                "No job of the queue {} runs, and its first one has been pending for {}. Does a worker serve it?",
                queue.name,
                span(waited)
            );
            add(text, "queues");
        }
    }
    add_schedules(overview, &mut add);
    let failed: i64 = overview.throughput.iter().map(|row| row.2).sum();
    if failed > 0 {
        let which = if failed == 1 { "One job has".to_owned() } else { format!("{} jobs have", grouped(failed)) };
        add(format!("{which} failed in the last hour."), "jobs?status=failed");
    }
    found
}

/// Adds the schedules that do not fire. If no worker is alive, that is reason enough.
fn add_schedules(overview: &Overview, add: &mut impl FnMut(String, &str)) {
    let failing = &overview.failing;
    if overview.alive() == 0 && !failing.is_empty() {
        let which = if failing.len() == 1 { "One schedule does" } else { "Schedules do" };
        return add(format!("{which} not fire, because no worker is alive."), "schedules");
    }
    for schedule in failing.iter().take(MOST_SCHEDULES) {
        add(format!("The schedule {}: {}", schedule.name, schedule.text), &schedule.link);
    }
    if failing.len() > MOST_SCHEDULES {
        let more = failing.len() - MOST_SCHEDULES;
        let which = if more == 1 { "One more schedule does".to_owned() } else { format!("{more} more schedules do") };
        add(format!("{which} not fire."), "schedules");
    }
}

/// The bars of the chart, the newest on the right.
fn bars(rows: &[ThroughputRow]) -> Vec<Bar> {
    let most = rows.iter().map(|(_, succeeded, failed, _)| succeeded + failed).max().unwrap_or(0).max(1);
    // A bar that is not empty is seen.
    let height = |jobs: i64| if jobs == 0 { 0 } else { (jobs * CHART_HEIGHT / most).max(1) };
    rows.iter()
        .map(|&(part, succeeded, failed, _)| {
            let (succeeded_height, failed_height) = (height(succeeded), height(failed));
            Bar {
                x: (BARS - 1 - part) * 10,
                succeeded,
                failed,
                succeeded_y: CHART_HEIGHT - succeeded_height,
                succeeded_height,
                failed_y: CHART_HEIGHT - succeeded_height - failed_height,
                failed_height,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bar_is_on_the_right_and_none_is_invisible() {
        let bars = bars(&[(0, 1_000, 0, None), (59, 0, 1, None)]);
        assert_eq!((bars[0].x, bars[0].succeeded_height, bars[0].failed_height), (590, 60, 0));
        assert_eq!((bars[1].x, bars[1].failed_height, bars[1].failed_y), (0, 1, 59));
    }
}
