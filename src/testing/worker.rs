//! A worker that runs jobs when a test asks for it.

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
use crate::database::statements::schedules::{ListSchedulesQuery, RegisterSchedulesQuery};
use crate::error::Error;
use crate::periodic::Timetable;
use crate::queue::defer::tick::defer_periodic_job;
use crate::queue::job_manager::{register_worker, unregister_worker};
use crate::support::clock;
use crate::worker::storage::finish_and_fetch;
use crate::worker::{JobRunner, Outcome, Worker};

/// The maximum number of jobs in one run.
const MOST_JOBS: usize = 1_000;

impl App {
    /// Creates a worker for tests, with the application's [worker defaults](crate::AppBuilder::worker_defaults).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a default is invalid.
    ///
    /// # Example
    ///
    /// See [`TestWorker`].
    pub fn test_worker(&self) -> Result<TestWorker, Error> {
        self.worker().into_test_worker()
    }
}

impl Worker {
    /// Turns this worker into a worker for tests. It keeps its queues, state, middleware, timeout and `delete_jobs`.
    /// The other settings do not apply.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a setting is invalid.
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
        let timetable = Timetable::new(jobs.app().scheduled_tasks());
        let clock = Clock::Offset(TimeDelta::zero());
        Ok(TestWorker { jobs, clock, timetable, moved_from: None, has_started: false, is_registered: false })
    }
}

/// A worker that runs jobs when a test asks for it: one after the other, and at a time that the test chooses.
///
/// Fetching, middleware, retries, errors and outcomes are the same as in a [`Worker`]. It holds a connection from the
/// application's pool only between jobs. So the pool can have a single connection, in a transaction that the test rolls
/// back at its end.
///
/// # Time
///
/// The worker uses the real time until you [set](Self::at) or [advance](Self::advance) its clock. Its time decides
/// which jobs are due and when retries are due, and `schedule_in` inside a job counts from it. After an advance, the
/// next run defers the periodic ticks that were passed, as a delayed worker would. See
/// [`MissedTicks`](crate::MissedTicks).
///
/// # Differences from production
///
/// No notifications are sent, and no job is aborted while it runs. PostgreSQL's `now()` returns the same time in the
/// whole transaction.
///
/// If a statement of a task fails outside of a transaction of its own, PostgreSQL aborts the whole test transaction.
/// The worker then rolls back to where the job started, so everything the task did before the statement is lost too.
///
/// # Example
///
/// ```no_run
/// use procrastinate::{App, DieselConnector, task, testing};
/// # #[task(retry = 3)] async fn greet(name: String) -> Result<(), String> { println!("Hello, {name}"); Ok(()) }
///
/// # async fn example(database_url: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let pool = testing::test_pool(database_url).await?;
/// // Build the application as your program does.
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
    timetable: Timetable,
    /// The time before the clock was advanced, since periodic tasks were last deferred.
    moved_from: Option<DateTime<Utc>>,
    /// Whether the worker's start time was applied to the ticks.
    has_started: bool,
    /// Whether the schedules in the code were written to the database.
    is_registered: bool,
}

/// The worker's clock.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// The real time plus an offset.
    Offset(TimeDelta),
    /// A fixed time.
    Fixed(DateTime<Utc>),
}

impl TestWorker {
    /// Sets the clock to this time, which stays fixed until it is advanced.
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
        self.clock = Clock::Fixed(time);
        self
    }

    /// Advances the clock.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut worker = app.test_worker()?;
    /// // The first attempts, then those that follow within the hour.
    /// let first = worker.run_until_empty().await?;
    /// worker.advance(std::time::Duration::from_secs(3_600));
    /// let second = worker.run_until_empty().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn advance(&mut self, duration: Duration) {
        self.note_move();
        let duration = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        self.clock = match self.clock {
            Clock::Offset(ahead) => Clock::Offset(ahead.checked_add(&duration).unwrap_or(TimeDelta::MAX)),
            Clock::Fixed(time) => Clock::Fixed(time.checked_add_signed(duration).unwrap_or(DateTime::<Utc>::MAX_UTC)),
        };
    }

    /// Advances the clock to this time, which then stays fixed.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example(app: procrastinate::App) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut worker = app.test_worker()?.at("2030-01-01T07:59:00Z".parse()?);
    /// worker.advance_to("2030-01-01T08:00:00Z".parse()?);
    /// // The ticks until eight o'clock.
    /// let ran = worker.run_until_empty().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn advance_to(&mut self, time: DateTime<Utc>) {
        self.note_move();
        self.clock = Clock::Fixed(time);
    }

    /// Returns the worker's time.
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
            Clock::Offset(ahead) => clock::now().checked_add_signed(ahead).unwrap_or(DateTime::<Utc>::MAX_UTC),
            Clock::Fixed(time) => time,
        }
    }

    /// Runs due jobs until there are none left, including the jobs that they defer. A job that stops its
    /// [worker](crate::JobContext::worker) is the last one.
    ///
    /// # Errors
    ///
    /// - the errors of the database
    /// - [`Error::Testing`] after a thousand jobs
    /// - [`Error::Testing`] if a job has disappeared after its run, because the pool has replaced the connection of the
    ///   test's transaction
    ///
    /// A failed job is not an error.
    ///
    /// # Example
    ///
    /// See [`TestWorker`].
    pub async fn run_until_empty(&mut self) -> Result<JobRuns, Error> {
        let mut source = self.source();
        self.run(&mut source, MOST_JOBS).await
    }

    /// Runs the next due job. Returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// The same as [`run_until_empty`](Self::run_until_empty).
    ///
    /// # Example
    ///
    /// See [`JobRun`].
    pub async fn run_one(&mut self) -> Result<Option<JobRun>, Error> {
        let mut source = self.source();
        self.run_next(&mut source).await
    }

    /// Does the same as [`run_until_empty`](Self::run_until_empty), on blocking connections from a function, for
    /// example from a pool with one connection. The jobs can use the connection in between.
    ///
    /// # Errors
    ///
    /// The same as [`run_until_empty`](Self::run_until_empty), and [`Error::Testing`] inside a tokio runtime, where
    /// blocking is not allowed.
    ///
    /// # Example
    ///
    /// With r2d2, Diesel's `TestCustomizer` starts the transaction that is rolled back. The pool must not test the
    /// connection. After a failed statement it would replace it.
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
            return Err(problem("must not block the tokio runtime; use run_until_empty in an async test"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| problem(&format!("could not create a runtime: {error}")))?;
        runtime.block_on(self.run(&mut FromFn(get), MOST_JOBS))
    }

    fn source(&self) -> FromApp {
        FromApp(self.jobs.app().connector().clone())
    }

    /// Remembers the time before the clock is advanced.
    fn note_move(&mut self) {
        self.apply_start();
        self.moved_from.get_or_insert(self.now());
    }

    /// Applies the start time of the worker, so that earlier ticks are not deferred.
    fn apply_start(&mut self) {
        if !std::mem::replace(&mut self.has_started, true) {
            let now = self.now();
            self.timetable.entries_mut().for_each(|entry| entry.start_at(now));
        }
    }

    async fn run<L: ConnectionSource>(&mut self, source: &mut L, most: usize) -> Result<JobRuns, Error> {
        let mut jobs = Vec::new();
        while let Some(ran) = self.run_next(source).await? {
            jobs.push(ran);
            if self.jobs.is_stopping() {
                break;
            }
            if jobs.len() == most {
                let last = jobs.last().map(ToString::to_string).unwrap_or_default();
                let problem = format!(
                    "there are still due jobs after {most} jobs, the last of which was {last}. \
                     Does a task defer itself or retry without a limit or delay?"
                );
                return Err(Error::Testing { problem });
            }
        }
        Ok(JobRuns(jobs))
    }

    /// Fetches a job, runs it and stores its outcome. The worker is registered during that time.
    async fn run_next<L: ConnectionSource>(&mut self, source: &mut L) -> Result<Option<JobRun>, Error> {
        self.apply_start();
        let mut connection = source.get().await?;
        self.defer_periodic_jobs(&mut connection).await?;
        let worker_id = register_worker().perform(&mut connection).await?;
        let Some(fetched) = self.fetch(worker_id, &mut connection).await? else {
            unregister_worker(worker_id).perform(&mut connection).await?;
            return Ok(None);
        };
        let savepoint = Savepoint::set(&mut connection).await?;
        drop(connection);

        let ran = clock::at(self.now(), self.jobs.run(worker_id, fetched)).await;

        let mut connection = source.get().await?;
        savepoint.release(&ran.job, &mut connection).await?;
        let result = finish_and_fetch(&mut connection, ran.statement).await?;
        unregister_worker(worker_id).perform(&mut connection).await?;
        let ending = match result {
            _ if result.lost.contains(&ran.job.id) => return Err(lost(&ran.job)),
            _ if result.not_retried.contains(&ran.job.id) => {
                let error = "could not retry the job: its queueing lock is taken, or it was cancelled".to_owned();
                JobOutcome::Failed { error }
            }
            _ => JobOutcome::from(ran.outcome),
        };
        Ok(Some(JobRun { job: ran.job, ending }))
    }

    /// Defers the jobs of the ticks that were passed, and those that were requested.
    async fn defer_periodic_jobs(&mut self, connection: &mut impl TestConnection) -> Result<(), Error> {
        if !std::mem::replace(&mut self.is_registered, true)
            && let Some(schedules) = self.timetable.rows_of_code()
        {
            connection.load_one(RegisterSchedulesQuery { schedules }).await?;
        }
        let rows = connection.load(ListSchedulesQuery { key: None }).await?;
        self.timetable.update(rows.into_iter().map(|(schedule, _)| schedule));
        let (now, moved_from) = (self.now(), self.moved_from.take());
        for entry in self.timetable.entries_mut() {
            entry.start_at(moved_from.unwrap_or(now));
            if let Some(job) = entry.requested_job(now) {
                defer_periodic_job(job?, connection).await?;
                entry.forget_request();
            }
            if moved_from.is_some() {
                entry.follow(now);
            }
            while let Some(tick) = entry.ticks.first() {
                defer_periodic_job(entry.schedule.at(tick)?, connection).await?;
                entry.ticks.forget_first();
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
            Outcome::NotStarted => Self::Aborted { error: "the job was not started".to_owned() },
        }
    }
}
