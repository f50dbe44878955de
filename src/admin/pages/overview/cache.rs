//! One overview for all visitors of a process.
//!
//! A visitor who finds an overview that is a little too old gets it without waiting, and has another one read in the
//! background. Only if nobody has looked for some time, the visitor waits.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::Mutex as Turn;

use super::Overview;
use super::chart::{Chart, DAY, HOUR, Period};
use super::drift::DriftCheck;
use crate::admin::guard::Problem;
use crate::admin::pages::queues::MOST_QUEUES;
use crate::admin::pages::schedules::failing_schedules;
use crate::admin::pages::workers::MOST_WORKERS;
use crate::admin::reading::Reading;
use crate::admin::shared::Shared;
use crate::database::connection::run::Run;
use crate::database::statements::admin::activity::{Activity, Failures, OldestWaiting};
use crate::database::statements::admin::controls::ControlsOfPage;
use crate::database::statements::admin::overview::{CountByStatus, ListOfQueues, ListOfWorkers};
use crate::error::Error;

/// How old an overview may be: at least and at most, and how many times as long as it took to read. So the visitors
/// together cost the server a hundredth of one processor at most.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(8)..=Duration::from_secs(60);
const LIFETIME_FACTOR: u32 = 100;

/// How old its charts of the last hour and day may be.
const LIFETIME_OF_HOUR: Duration = Duration::from_secs(30);
const LIFETIME_OF_DAY: Duration = Duration::from_secs(300);

/// The newest overview. Only who has the turn writes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct OverviewCache {
    newest: Arc<Mutex<Newest>>,
    turn: Arc<Turn<()>>,
    pub(super) drift: DriftCheck,
}

/// An overview and its charts, and when they were read.
#[derive(Debug, Default)]
struct Newest {
    overview: Option<Cached>,
    hour: CachedChart,
    day: CachedChart,
}

/// A chart, and when it was read.
type CachedChart = Option<(Instant, Arc<Chart>)>;

/// An overview, and when it was read.
#[derive(Debug, Clone)]
pub(super) struct Cached {
    pub(super) overview: Arc<Overview>,
    read_at: Instant,
    lifetime: Duration,
}

impl Cached {
    pub(super) fn age(&self) -> Duration {
        self.read_at.elapsed()
    }

    fn is_younger_than(&self, lifetimes: u32) -> bool {
        self.age() < self.lifetime * lifetimes
    }
}

impl OverviewCache {
    /// The newest overview, or another one if it is much too old.
    pub(super) async fn current(&self, shared: &Arc<Shared>) -> Result<Cached, Problem> {
        if let Some(cached) = self.cached(2) {
            if !cached.is_younger_than(1) {
                self.read_in_background(shared);
            }
            return Ok(cached);
        }
        let _turn = self.turn.lock().await;
        match self.cached(1) {
            Some(of_another_visitor) => Ok(of_another_visitor),
            None => self.read(shared).await,
        }
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest overview if it is younger than that.
    fn cached(&self, lifetimes: u32) -> Option<Cached> {
        self.newest().overview.clone().filter(|cached| cached.is_younger_than(lifetimes))
    }

    /// Reads another overview if nobody does. If that fails, the next visitor reads it, and is told why.
    fn read_in_background(&self, shared: &Arc<Shared>) {
        let Ok(turn) = self.turn.clone().try_lock_owned() else { return };
        let (cache, shared) = (self.clone(), shared.clone());
        tokio::spawn(async move {
            if cache.read(&shared).await.is_err() {
                cache.newest().overview = None;
            }
            drop(turn);
        });
    }

    /// Reads another overview. The caller has the turn.
    async fn read(&self, shared: &Shared) -> Result<Cached, Problem> {
        let mut started = shared.read().await?;
        let began = started.began();
        let found = async {
            let (now, has_companions) = started.page_time().await?;
            let reading = &mut started.reading;
            let counts = reading.load_one(CountByStatus { has_companions }).await?;
            let queues = reading.load(ListOfQueues { has_companions, limit: MOST_QUEUES }).await?;
            let workers = reading.load(ListOfWorkers { limit: MOST_WORKERS }).await?;
            let controls = if has_companions { reading.load(ControlsOfPage).await? } else { Vec::new() };
            let failing = if has_companions { failing_schedules(now, reading).await? } else { Vec::new() };
            let oldest = reading.load(OldestWaiting { has_companions }).await?.into_iter().next();
            let at = (now, has_companions);
            let hour = self.chart((HOUR, LIFETIME_OF_HOUR), |newest| &mut newest.hour, at, reading).await?;
            let day = self.chart((DAY, LIFETIME_OF_DAY), |newest| &mut newest.day, at, reading).await?;
            started.reading.end().await?;
            let counted =
                Overview { now, has_companions, counts, queues, workers, controls, failing, oldest, hour, day };
            Ok::<_, Error>(Arc::new(counted))
        };
        let overview = found.await.map_err(|error| shared.problem(began, &error))?;
        let lifetime = (began.elapsed() * LIFETIME_FACTOR).clamp(*LIFETIMES.start(), *LIFETIMES.end());
        let cached = Cached { overview, read_at: Instant::now(), lifetime };
        self.newest().overview = Some(cached.clone());
        Ok(cached)
    }

    /// The newest chart of a period, or another one if it is too old.
    async fn chart(
        &self,
        (period, lifetime): (Period, Duration),
        place: fn(&mut Newest) -> &mut CachedChart,
        (now, has_companions): (DateTime<Utc>, bool),
        reading: &mut Reading,
    ) -> Result<Arc<Chart>, Error> {
        let newest = place(&mut self.newest()).clone();
        if let Some((_, chart)) = newest.filter(|(read_at, _)| read_at.elapsed() < lifetime) {
            return Ok(chart);
        }
        let Period { parts, part_seconds, .. } = period;
        let rows = reading.load(Activity { parts, part_seconds }).await?;
        let failures = if has_companions { Some(reading.load(Failures { parts, part_seconds }).await?) } else { None };
        let chart = Arc::new(Chart::new(period, &rows, failures.as_deref(), now));
        *place(&mut self.newest()) = Some((Instant::now(), chart.clone()));
        Ok(chart)
    }
}
