//! The types of errors that a task can return.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicUsize, Ordering};

use procrastinate::retry::RetryStrategy;
use procrastinate::{App, JobContext, JobStatus, JobToDefer, Next, Task, TaskControl, TaskResult, WrappedError, task};
use serde::{Deserialize, Serialize};

use crate::support::{connect, connector, database, errors, job, statuses};

/// Converts from every error, so it cannot be one. Most applications with a web server have one like this.
#[derive(Debug)]
struct AppError {
    code: u16,
    cause: String,
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for AppError {
    fn from(error: E) -> Self {
        Self { code: 500, cause: error.into().to_string() }
    }
}

impl Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.cause)
    }
}

/// Like `anyhow::Error` and `eyre::Report`: it converts from every error, and into a boxed one.
#[derive(Debug)]
struct Report(Box<dyn StdError + Send + Sync>);

impl<E: StdError + Send + Sync + 'static> From<E> for Report {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<Report> for Box<dyn StdError + Send + Sync> {
    fn from(report: Report) -> Self {
        report.0
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, thiserror::Error)]
enum OwnError {
    #[error("could not read the file")]
    Unreadable(#[source] std::io::Error),
}

/// Cannot be shared between threads.
struct Counted(Cell<u8>);

impl Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counted to {}", self.0.get())
    }
}

fn gone() -> std::io::Error {
    std::io::Error::other("it is gone")
}

/// Runs the job, and returns the error that is stored with it.
async fn error_of<T: Task>(job: JobToDefer) -> String {
    let database = database();
    let app = App::builder(connector(&database).await).task::<T>().build().unwrap();
    let id = app.defer(job).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [JobStatus::Failed]);
    errors(&mut connection, id).join(", ")
}

#[tokio::test]
async fn an_enum_of_the_application() {
    #[task]
    async fn fail() -> Result<(), OwnError> {
        Err(OwnError::Unreadable(gone()))
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: could not read the file: it is gone");
}

#[tokio::test]
async fn an_error_that_converts_from_all_others() {
    #[task]
    async fn fail() -> Result<u8, AppError> {
        Err(gone())?
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: 500: it is gone");
}

#[tokio::test]
async fn an_error_that_converts_from_all_others_in_a_blocking_task() {
    #[task]
    fn fail() -> Result<(), AppError> {
        Err(gone())?
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: 500: it is gone");
}

#[tokio::test]
async fn a_report_that_converts_into_a_boxed_error() {
    #[task]
    async fn fail() -> Result<(), Report> {
        Err(OwnError::Unreadable(gone()))?
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: could not read the file: it is gone");
}

#[tokio::test]
async fn a_boxed_error() {
    #[task]
    async fn fail() -> Result<(), Box<dyn StdError + Send + Sync>> {
        Err(OwnError::Unreadable(gone()))?
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: could not read the file: it is gone");
}

#[tokio::test]
async fn a_boxed_error_that_is_not_shared_between_threads() {
    #[task]
    async fn fail() -> Result<(), Box<dyn StdError + Send>> {
        Err(Box::new(OwnError::Unreadable(gone())))
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: could not read the file");
}

#[tokio::test]
async fn an_error_without_debug_that_is_not_shared_between_threads() {
    #[task]
    async fn fail() -> Result<(), Counted> {
        Err(Counted(Cell::new(3)))
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: counted to 3");
}

#[tokio::test]
async fn a_text() {
    #[task]
    async fn fail() -> Result<(), String> {
        Err("no paper".to_owned())
    }
    #[task]
    async fn fail_briefly() -> Result<(), &'static str> {
        Err("no ink")
    }
    assert_eq!(error_of::<fail>(fail()).await, "1: no paper");
    assert_eq!(error_of::<fail_briefly>(fail_briefly()).await, "1: no ink");
}

#[tokio::test]
async fn a_task_without_the_attribute_wraps_its_error() {
    #[derive(Serialize, Deserialize)]
    struct Fail;

    impl Task for Fail {
        const NAME: &'static str = "fail";
        type Output = Result<(), WrappedError<AppError>>;

        async fn run(self, _context: JobContext) -> Self::Output {
            Err(AppError::from(gone()))?
        }
    }
    // `Fail` has no fields, and a job's arguments are an object.
    let job = procrastinate::configure_task(Fail::NAME, serde_json::json!({}));
    assert!(error_of::<Fail>(job).await.starts_with("1: "));
    assert_eq!(format!("{:?}", WrappedError(AppError::from(gone()))), format!("{:?}", AppError::from(gone())));
}

#[tokio::test]
async fn middleware_and_retry_strategies_find_the_wrapped_error() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);

    async fn look(context: JobContext, next: Next) -> TaskResult {
        let result = next.run(context).await;
        if let Err(error) = &result
            && let Some(WrappedError(error)) = error.downcast_ref::<WrappedError<AppError>>()
        {
            SEEN.fetch_add(error.code.into(), Ordering::SeqCst);
        }
        result
    }

    #[task(middleware = [look], retry = RetryStrategy::new().max_attempts(1).retry_on::<WrappedError<AppError>>())]
    async fn fail() -> Result<(), AppError> {
        Err(gone())?
    }

    let database = database();
    let app = App::builder(connector(&database).await).task::<fail>().build().unwrap();
    let id = app.defer(fail()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(job(&mut connect(&database), id).attempts, 2);
    assert_eq!(SEEN.load(Ordering::SeqCst), 1_000);
}

#[tokio::test]
async fn an_error_that_converts_into_a_boxed_one_keeps_its_control() {
    #[task]
    async fn give_up() -> Result<(), Report> {
        Err(TaskControl::discard().because("the customer is gone"))?
    }
    assert_eq!(error_of::<give_up>(give_up()).await, "1: the task discarded its job: the customer is gone");
}
