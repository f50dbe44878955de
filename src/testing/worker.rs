//! A worker that does what a test tells it to, when a test tells it to.

use std::ops::DerefMut;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::connections::{ConnectionSource, FromApp, FromFn, TestConnection};
use super::ran::{JobOutcome, JobRun, JobRuns};
use super::savepoint::{Savepoint, lost};
use crate::app::App;
use crate::database::connection::pool::PoolError;
use crate::database::statements::finish_and_fetch::{FetchedJob, FinishAndFetchJobs};
use crate::error::Error;
use crate::periodic::Ticks;
use crate::queue::defer::tick::defer_periodic_job;
use crate::queue::job_manager::{register_worker, unregister_worker};
use crate::support::clock;
use crate::worker::storage::finish_and_fetch;
use crate::worker::{JobRunner, Outcome, Worker};

/// How many jobs are run in one go at most.
const MOST_JOBS: usize = 1_000;

impl App {
    /// A worker for tests, with the application's [worker defaults](crate::AppBuilder::worker_defaults).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a default that cannot be.
    ///
    /// # Example
    ///
    /// See [`TestWorker`].
    pub fn test_worker(&self) -> Result<TestWorker, Error> {
        self.worker().into_test_worker()
    }
}

impl Worker {
    /// A worker for tests with these settings: its queues, state, middleware, timeout and `delete_jobs`. The others are for
    /// workers that run by themselves.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a setting that cannot be.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
    /// let ran = app.worker().queues(["mails"]).into_test_worker()?.run_until_empty().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_test_worker(self) -> Result<TestWorker, Error> {
        let jobs = self.into_job_runner()?;
        let ticks = jobs.app().schedules().iter().map(|_| Ticks::default()).collect();
        Ok(TestWorker { jobs, clock: Clock::Running(TimeDelta::zero()), ticks, is_moved: false, is_settled: false })
    }
}

/// A worker that runs jobs when a test tells it to: one after the other, each to its end, at a time of the test's choosing.
///
/// Fetching, middleware, retries, errors and endings are those of any [`Worker`]. It has a connection from the
/// application's pool only between jobs, so the pool may have a single one, in a transaction that the test rolls back:
/// what the test, the application and its jobs do is all in there, and gone at the end.
///
/// # Time
///
/// The worker sees the real time, unless it [stands at another one](Self::at), and until it is [moved](Self::advance). Its
/// time decides which jobs are due and counts for what the jobs themselves defer and for when they are tried again. The
/// ticks of periodic tasks that a move passes are deferred by the next run, as by a worker that was held up meanwhile:
/// see [`MissedTicks`](crate::MissedTicks).
///
/// # What is not like production
///
/// Nobody is told of the jobs, and no job is aborted while it runs. What happens in the transaction has one and the same
/// time for PostgreSQL's `now()`. When a task's statement fails outside of a transaction of the task's own, PostgreSQL
/// wants the whole transaction rolled back: the worker rolls back to where the job started, and with the failed statement
/// goes whatever the task did before it.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{App, DieselConnector, task, testing};
/// # #[task(retry = 3)] async fn greet(name: String) -> Result<(), String> { println!("Hello, {name}"); Ok(()) }
///
/// # async fn example(database_url: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let pool = testing::test_pool(database_url).await?;
/// // Here stands what the application does to set itself up.
/// let app = App::builder(DieselConnector::new(pool.clone())).task::<greet>().build()?;
///
/// app.defer(greet("Ada".into())).await?;
/// let ran = app.test_worker()?.run_until_empty().await?.expect_success();
/// assert_eq!(ran.task_names(), ["greet"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestWorker {
    jobs: JobRunner,
    clock: Clock,
    /// For each schedule of the application.
    ticks: Vec<Ticks>,
    /// Whether the time has been moved since periodic tasks were deferred.
    is_moved: bool,
    /// Whether the ticks have taken note of the time at which the worker starts.
    is_settled: bool,
}

/// The worker's time.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// So much later than it is.
    Running(TimeDelta),
    /// Always the same.
    Standing(DateTime<Utc>),
}

impl TestWorker {
    /// Has the worker stand at this time, until it is moved.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut worker = app.test_worker()?.at("2030-01-01T08:00:00Z".parse()?);
    /// let ran = worker.run_until_empty().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.clock = Clock::Standing(time);
        self
    }

    /// Moves the worker's time on.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut worker = app.test_worker()?;
    /// // The first attempts; then those that follow within the hour.
    /// let first = worker.run_until_empty().await?;
    /// worker.advance(std::time::Duration::from_secs(3_600));
    /// let second = worker.run_until_empty().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn advance(&mut self, duration: Duration) {
        self.settle();
        let duration = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        self.clock = match self.clock {
            Clock::Running(ahead) => Clock::Running(ahead.checked_add(&duration).unwrap_or(TimeDelta::MAX)),
            Clock::Standing(time) => {
                Clock::Standing(time.checked_add_signed(duration).unwrap_or(DateTime::<Utc>::MAX_UTC))
            }
        };
        self.is_moved = true;
    }

    /// Moves the worker's time to this one, where it stands from then on.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut worker = app.test_worker()?.at("2030-01-01T07:59:00Z".parse()?);
    /// worker.advance_to("2030-01-01T08:00:00Z".parse()?);
    /// // What comes round at eight o'clock.
    /// let ran = worker.run_until_empty().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn advance_to(&mut self, time: DateTime<Utc>) {
        self.settle();
        self.clock = Clock::Standing(time);
        self.is_moved = true;
    }

    /// The worker's time.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(worker: &procrastinate::testing::TestWorker) {
    /// println!("it is {}", worker.now());
    /// # }
    /// ```
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self.clock {
            Clock::Running(ahead) => clock::now().checked_add_signed(ahead).unwrap_or(DateTime::<Utc>::MAX_UTC),
            Clock::Standing(time) => time,
        }
    }

    /// Runs jobs that are due until there are no more, those included that they defer. Where a job tells its
    /// [worker](crate::JobContext::worker) to stop, it is the last one.
    ///
    /// # Errors
    ///
    /// Those of the database. [`Error::Testing`] after a thousand jobs, and where a job is gone at its end, as it is when
    /// the pool has replaced the connection in whose transaction the test is. A job that fails is none.
    ///
    /// # Example
    ///
    /// See [`TestWorker`].
    pub async fn run_until_empty(&mut self) -> Result<JobRuns, Error> {
        let mut lender = self.lender();
        self.run(&mut lender, MOST_JOBS).await
    }

    /// Runs the next job that is due; `None`: there is none.
    ///
    /// # Errors
    ///
    /// As [`run_until_empty`](Self::run_until_empty).
    ///
    /// # Example
    ///
    /// See [`JobRun`].
    pub async fn run_one(&mut self) -> Result<Option<JobRun>, Error> {
        let mut lender = self.lender();
        self.run_next(&mut lender).await
    }

    /// As [`run_until_empty`](Self::run_until_empty), on blocking connections that a function gets: from a pool of one, so
    /// that the jobs can have it in between, or any other way.
    ///
    /// # Errors
    ///
    /// As [`run_until_empty`](Self::run_until_empty), and [`Error::Testing`] within a runtime of tokio's, where nothing may
    /// block.
    ///
    /// # Example
    ///
    /// With r2d2, where Diesel's `TestCustomizer` starts the transaction that is rolled back. The pool must not test the
    /// connection: it would replace it where a job's statement has failed.
    ///
    /// ```no_run
    /// use diesel::pg::PgConnection;
    /// use diesel::r2d2::{ConnectionManager, Pool, TestCustomizer};
    ///
    /// # fn example(app: procrastinate::App, database_url: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder()
    ///     .max_size(1)
    ///     .test_on_check_out(false)
    ///     .connection_customizer(Box::new(TestCustomizer))
    ///     .build(ConnectionManager::<PgConnection>::new(database_url))?;
    /// let ran = app.test_worker()?.run_until_empty_blocking(|| pool.get())?.expect_success();
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_until_empty_blocking<G, E>(&mut self, get: impl FnMut() -> Result<G, E>) -> Result<JobRuns, Error>
    where
        G: DerefMut<Target: LoadConnection<Backend = Pg>>,
        E: Into<PoolError>,
    {
        let problem = |problem: &str| Error::Testing { problem: problem.to_owned() };
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(problem("it would block tokio's runtime: in an async test use run_until_empty"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| problem(&format!("it has no runtime for its jobs: {error}")))?;
        runtime.block_on(self.run(&mut FromFn(get), MOST_JOBS))
    }

    fn lender(&self) -> FromApp {
        FromApp(self.jobs.app().connector().clone())
    }

    /// Takes note of the time at which the worker starts: ticks up to then are no concern of its.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let now = self.now();
        for (schedule, ticks) in self.jobs.app().schedules().iter().zip(&mut self.ticks) {
            ticks.follow(schedule, now);
            while ticks.first().is_some() {
                ticks.forget_first();
            }
        }
    }

    async fn run<L: ConnectionSource>(&mut self, lender: &mut L, most: usize) -> Result<JobRuns, Error> {
        let mut jobs = Vec::new();
        while let Some(ran) = self.run_next(lender).await? {
            jobs.push(ran);
            if self.jobs.is_stopping() {
                break;
            }
            if jobs.len() == most {
                let last = jobs.last().map(ToString::to_string).unwrap_or_default();
                let problem = format!(
                    "there are still jobs after {most} of them, the last of which was {last}. \
                     Does a task defer itself without end, or is it tried again at once and for ever?"
                );
                return Err(Error::Testing { problem });
            }
        }
        Ok(JobRuns(jobs))
    }

    /// Takes a job, runs it, and stores how it ended. The worker is registered while it does.
    async fn run_next<L: ConnectionSource>(&mut self, lender: &mut L) -> Result<Option<JobRun>, Error> {
        self.settle();
        let mut connection = lender.lend().await?;
        self.defer_periodic_jobs(&mut connection).await?;
        let worker_id = register_worker().perform(&mut connection).await?;
        let Some(fetched) = self.fetch(worker_id, &mut connection).await? else {
            unregister_worker(worker_id).perform(&mut connection).await?;
            return Ok(None);
        };
        let savepoint = Savepoint::set(&mut connection).await?;
        drop(connection);

        let ran = clock::at(self.now(), self.jobs.run(worker_id, fetched)).await;

        let mut connection = lender.lend().await?;
        savepoint.leave(&ran.job, &mut connection).await?;
        let answer = finish_and_fetch(&mut connection, ran.ending).await?;
        unregister_worker(worker_id).perform(&mut connection).await?;
        let ending = match answer {
            _ if answer.lost.contains(&ran.job.id) => return Err(lost(&ran.job)),
            _ if answer.not_retried.contains(&ran.job.id) => {
                let error = "it was to be tried again, but its queueing lock is taken or it was called off".to_owned();
                JobOutcome::Failed { error }
            }
            _ => JobOutcome::from(ran.outcome),
        };
        Ok(Some(JobRun { job: ran.job, ending }))
    }

    async fn defer_periodic_jobs(&mut self, connection: &mut impl TestConnection) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_moved) {
            return Ok(());
        }
        let now = self.now();
        for (schedule, ticks) in self.jobs.app().schedules().iter().zip(&mut self.ticks) {
            ticks.follow(schedule, now);
            while let Some(tick) = ticks.first() {
                defer_periodic_job(schedule.at(tick), connection).await?;
                ticks.forget_first();
            }
        }
        Ok(())
    }

    async fn fetch(&self, worker_id: i64, connection: &mut impl TestConnection) -> Result<Option<FetchedJob>, Error> {
        let fetch = FinishAndFetchJobs::new(worker_id, self.jobs.queues(), 1);
        let statement = FinishAndFetchJobs { due_at: Some(self.now()), ..fetch };
        Ok(finish_and_fetch(connection, statement).await?.fetched.pop())
    }
}

impl From<Outcome> for JobOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed { error } => Self::Failed { error },
            Outcome::Aborted { error } => Self::Aborted { error },
            Outcome::Retried { error, decision }
            | Outcome::Interrupted { error, decision }
            | Outcome::Snoozed { error, decision } => Self::Retried { error, decision },
            Outcome::NotStarted => Self::Aborted { error: "it was not started".to_owned() },
        }
    }
}
