//! Errors whose type does not implement [`std::error::Error`].

use std::error::Error as StdError;
use std::fmt::{self, Debug, Display};

/// Makes an error from a value that can be displayed but does not implement [`std::error::Error`].
///
/// A type that converts from every error cannot be one itself. If a function with [`#[task]`](macro@crate::task)
/// returns such a type, its error becomes a `WrappedError`. In an implementation of [`Task`](crate::Task), write
/// `type Output = Result<(), WrappedError<AppError>>`.
///
/// Its text is that of the inner value. It has no source, so a [`TaskControl`](crate::TaskControl) inside has no
/// effect.
///
/// # Example
///
/// A middleware finds the inner value:
///
/// ```
/// use std::fmt;
/// use procrastinate::{JobContext, Next, TaskResult, WrappedError, task};
///
/// #[derive(Debug)]
/// struct AppError { code: u16 }
///
/// impl fmt::Display for AppError {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         write!(f, "the server returned {}", self.code)
///     }
/// }
///
/// async fn alert(context: JobContext, next: Next) -> TaskResult {
///     let result = next.run(context).await;
///     if let Err(error) = &result
///         && let Some(WrappedError(error)) = error.downcast_ref::<WrappedError<AppError>>()
///     {
///         println!("code {}", error.code);
///     }
///     result
/// }
///
/// #[task(middleware = [alert])]
/// async fn import(file: String) -> Result<(), AppError> {
///     println!("importing {file}");
///     Err(AppError { code: 503 })
/// }
/// # let job = import("a.csv".into());
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WrappedError<E>(pub E);

impl<E: Debug> Debug for WrappedError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Display> Display for WrappedError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Debug + Display> StdError for WrappedError<E> {}

impl<E> From<E> for WrappedError<E> {
    fn from(error: E) -> Self {
        Self(error)
    }
}
