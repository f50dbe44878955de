//! Operations that limit queues and tasks, and the list of pauses and limits.

use std::time::Duration;

use super::operation;
use super::pause::Target;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateFlowControl;
use crate::database::statements::flow_control::{LimitKeysQuery, ListFlowControlsQuery, SetLimitQuery};
use crate::error::Error;
use crate::validation::{check_age, check_text};

/// Limits how many jobs of a queue run at the same time, or start within a period, in all workers together.
///
/// Workers of every language obey the limit with their next fetch. It is exact: a fetch counts the running jobs while
/// no other fetch starts any. A job in a worker's [local buffer](crate::Worker::local_buffer) counts as running, and as
/// started. A job whose worker died counts as running until it is rescued.
///
/// The operation replaces the former limit of the queue. If more jobs are running than the new limit allows, they
/// continue, and none starts until enough of them have finished.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager), and [`Error::Invalid`] if neither number is set.
///
/// # Example
///
/// ```no_run
/// use std::time::Duration;
/// use procrastinate::job_manager::limit_queue;
///
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// // An interface that allows five connections, and a hundred calls a minute.
/// limit_queue("payments").max_running(5).max_starts(100, Duration::from_secs(60)).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn limit_queue(name: impl Into<String>) -> SetLimit {
    SetLimit { target: Target::Queue(name.into()), key: None, max_running: None, max_starts: None }
}

/// Limits how many jobs of a task run at the same time, or start within a period, whatever their queue. See
/// [`limit_queue`].
///
/// # Errors
///
/// Those of [`limit_queue`].
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// procrastinate::job_manager::limit_task("render_video").max_running(2).execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn limit_task(name: impl Into<String>) -> SetLimit {
    SetLimit { target: Target::Task(name.into()), key: None, max_running: None, max_starts: None }
}

/// The operation of [`limit_queue`] and [`limit_task`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{SetLimit, limit_queue};
///
/// let operation: SetLimit = limit_queue("mails").max_running(5);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct SetLimit {
    target: Target,
    key: Option<Key>,
    max_running: Option<u32>,
    max_starts: Option<(u32, Duration)>,
}

operation!(SetLimit -> ());

impl SetLimit {
    /// Limits the jobs of each key instead of all jobs together.
    ///
    /// The key is the value of this field of the job's arguments, such as a customer. Dots separate the names of nested
    /// fields. They have at most 500 bytes. A number is compared as text. Jobs without such a field, or with null or an
    /// empty text, are not limited.
    ///
    /// The keys take turns: the key of which no job has started for the longest time is next, so a key with many jobs
    /// does not hold up the others. The priority still comes first. Within a key, jobs start in the usual order.
    ///
    /// A queue or task can have both a limit for each key and a limit of all jobs. Each operation replaces only the
    /// former limit of its kind. A job has one key: if its queue has a limit for each key, that of its task does not
    /// apply.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use procrastinate::job_manager::limit_task;
    ///
    /// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
    /// limit_task("import").per_key("tenant").max_running(2).execute_blocking(connection)?;
    /// limit_task("import").max_running(50).execute_blocking(connection)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn per_key(mut self, field: impl Into<String>) -> Self {
        self.key = Some(Key::Field(field.into()));
        self
    }

    /// Limits the jobs of each key, as [`per_key`](Self::per_key) does. The key is the
    /// [`limit_key`](crate::JobOptions::limit_key) that was given with the job. Jobs without one are not limited.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use procrastinate::job_manager::limit_queue;
    /// # use procrastinate::task;
    /// # #[task] async fn call(url: String) {}
    ///
    /// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
    /// limit_queue("calls").per_limit_key().max_running(2).execute_blocking(connection)?;
    /// call("https://example.com".to_owned()).queue("calls").limit_key("account-7").defer_blocking(connection)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn per_limit_key(mut self) -> Self {
        self.key = Some(Key::OfJob);
        self
    }

    /// Sets how many jobs may run at the same time, at least 1.
    ///
    /// # Example
    ///
    /// See [`limit_queue`].
    pub fn max_running(mut self, jobs: u32) -> Self {
        self.max_running = Some(jobs);
        self
    }

    /// Sets how many jobs, at least 1, may start within any period of this length.
    ///
    /// The period is a window that moves with the time, so there are never more starts between any two moments that are
    /// this far apart. Starts are counted with a precision of a hundredth of the period, and are never counted too
    /// short. A retried job counts again.
    ///
    /// # Example
    ///
    /// See [`limit_queue`].
    pub fn max_starts(mut self, jobs: u32, period: Duration) -> Self {
        self.max_starts = Some((jobs, period));
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<(), Error> {
        let Self { target, key, max_running, max_starts } = self;
        let (kind, name) = target.check()?;
        let path = key.as_ref().map(key_path).transpose()?;
        if max_running.is_none() && max_starts.is_none() {
            return Err(Error::invalid("limit", name, "must have max_running or max_starts"));
        }
        let max_running = max_running.map(|jobs| number_of_jobs("max_running", jobs)).transpose()?;
        let (max_starts, start_period_seconds) = match max_starts {
            Some((jobs, period)) => {
                check_period(period)?;
                (Some(number_of_jobs("max_starts", jobs)?), Some(period.as_secs_f64()))
            }
            None => (None, None),
        };
        if path.is_some() {
            run.load_one(LimitKeysQuery { kind, name, path, max_running, max_starts, start_period_seconds }).await?;
        } else {
            run.load_one(SetLimitQuery { kind, name, max_running, max_starts, start_period_seconds }).await?;
        }
        Ok(())
    }
}

/// What a job's key is.
#[derive(Debug, Clone)]
enum Key {
    Field(String),
    OfJob,
}

/// The path is part of an index, so its length is limited, in bytes.
const LONGEST_FIELD: usize = 500;

/// The path in the arguments, which is empty for the key that is given with the job.
fn key_path(key: &Key) -> Result<Vec<String>, Error> {
    let Key::Field(key) = key else { return Ok(Vec::new()) };
    check_text("field of per_key", Some(key))?;
    let path: Vec<String> = key.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(Error::invalid("field of per_key", key, "must be names, separated by single dots"));
    }
    if key.len() > LONGEST_FIELD {
        return Err(Error::invalid("field of per_key", key, format!("must have at most {LONGEST_FIELD} bytes")));
    }
    Ok(path)
}

fn number_of_jobs(what: &'static str, jobs: u32) -> Result<i32, Error> {
    let number = i32::try_from(jobs).ok().filter(|jobs| *jobs > 0);
    number.ok_or_else(|| Error::invalid(what, jobs.to_string(), "must be between 1 and 2,147,483,647"))
}

fn check_period(period: Duration) -> Result<(), Error> {
    if period < Duration::from_millis(10) {
        return Err(Error::invalid("period of max_starts", format!("{period:?}"), "must be at least 10 ms"));
    }
    check_age("period of max_starts", period)
}

/// Removes the limit of all jobs of a queue. The operation returns whether there was one.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// procrastinate::job_manager::unlimit_queue("payments").execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn unlimit_queue(name: impl Into<String>) -> RemoveLimit {
    RemoveLimit { target: Target::Queue(name.into()), per_key: false }
}

/// Removes the limit of all jobs of a task. The operation returns whether there was one.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # fn example(connection: &mut diesel::PgConnection) -> Result<(), procrastinate::Error> {
/// procrastinate::job_manager::unlimit_task("render_video").execute_blocking(connection)?;
/// # Ok(())
/// # }
/// ```
pub fn unlimit_task(name: impl Into<String>) -> RemoveLimit {
    RemoveLimit { target: Target::Task(name.into()), per_key: false }
}

/// The operation of [`unlimit_queue`] and [`unlimit_task`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{RemoveLimit, unlimit_queue};
///
/// let operation: RemoveLimit = unlimit_queue("mails");
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct RemoveLimit {
    target: Target,
    per_key: bool,
}

operation!(RemoveLimit -> bool);

impl RemoveLimit {
    /// Removes the limit for each key instead of the limit of all jobs.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::job_manager::{RemoveLimit, unlimit_task};
    ///
    /// let operation: RemoveLimit = unlimit_task("import").per_key();
    /// ```
    pub fn per_key(mut self) -> Self {
        self.per_key = true;
        self
    }

    async fn perform<R: Run>(self, run: &mut R) -> Result<bool, Error> {
        let (kind, name) = self.target.check()?;
        let (max_running, max_starts, start_period_seconds) = (None, None, None);
        if self.per_key {
            let path = None;
            return run
                .load_one(LimitKeysQuery { kind, name, path, max_running, max_starts, start_period_seconds })
                .await;
        }
        run.load_one(SetLimitQuery { kind, name, max_running, max_starts, start_period_seconds }).await
    }
}

/// Lists what is paused or limited, sorted by kind and name.
///
/// # Errors
///
/// Those of [every operation](crate::job_manager).
///
/// # Example
///
/// ```no_run
/// # async fn example(app: procrastinate::App) -> Result<(), procrastinate::Error> {
/// for control in app.perform(procrastinate::job_manager::list_flow_controls()).await? {
///     println!("{} {}: paused since {:?}", control.kind, control.name, control.paused_at);
/// }
/// # Ok(())
/// # }
/// ```
pub fn list_flow_controls() -> ListFlowControls {
    ListFlowControls {}
}

/// The operation of [`list_flow_controls`].
///
/// # Example
///
/// ```
/// use procrastinate::job_manager::{ListFlowControls, list_flow_controls};
///
/// let operation: ListFlowControls = list_flow_controls();
/// ```
#[derive(Debug, Clone)]
#[must_use = "an operation does nothing until it is executed on a connection"]
pub struct ListFlowControls {}

operation!(ListFlowControls -> Vec<ProcrastinateFlowControl>);

impl ListFlowControls {
    async fn perform<R: Run>(self, run: &mut R) -> Result<Vec<ProcrastinateFlowControl>, Error> {
        run.load(ListFlowControlsQuery).await
    }
}
