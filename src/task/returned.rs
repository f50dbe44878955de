//! Converts what a function with `#[task]` returns. The expansion of the macro calls
//! `(&&&&Returned::of(&value)).convert(value)`.
//!
//! Rust takes the first method for which it removes the fewest references. So the first rule that fits applies:
//!
//! | trait | returned |
//! |---|---|
//! | [`ByConversion`] | a [`TaskOutput`] |
//! | [`ByWrapping`] | a `Result` with an error that can be displayed and shared between threads |
//! | [`AsText`] | a `Result` with an error that can be displayed |
//! | [`Unsuitable`] | anything else, which does not compile |
#![allow(missing_docs, reason = "only the expansion of the macro uses it")]

use std::fmt::{Debug, Display};
use std::marker::PhantomData;

use crate::task::output::{TaskOutput, TaskResult};
use crate::task::wrapped_error::WrappedError;

/// The type of a returned value.
#[derive(Debug)]
pub struct Returned<R>(PhantomData<R>);

impl<R> Returned<R> {
    #[must_use]
    pub fn of(_: &R) -> Self {
        Self(PhantomData)
    }
}

pub trait ByConversion<R> {
    fn convert(&self, returned: R) -> TaskResult;
}

impl<R: TaskOutput> ByConversion<R> for &&&Returned<R> {
    fn convert(&self, returned: R) -> TaskResult {
        returned.into_result()
    }
}

pub trait ByWrapping<R> {
    fn convert(&self, returned: R) -> TaskResult;
}

impl<T, E: Debug + Display + Send + Sync + 'static> ByWrapping<Result<T, E>> for &&Returned<Result<T, E>> {
    fn convert(&self, returned: Result<T, E>) -> TaskResult {
        returned.map(drop).map_err(|error| WrappedError(error).into())
    }
}

pub trait AsText<R> {
    fn convert(&self, returned: R) -> TaskResult;
}

impl<T, E: Display> AsText<Result<T, E>> for &Returned<Result<T, E>> {
    fn convert(&self, returned: Result<T, E>) -> TaskResult {
        returned.map(drop).map_err(|error| error.to_string().into())
    }
}

pub trait Unsuitable<R> {
    fn convert(&self, returned: R) -> TaskResult
    where
        R: Suitable;
}

impl<R> Unsuitable<R> for Returned<R> {
    fn convert(&self, returned: R) -> TaskResult
    where
        R: Suitable,
    {
        returned.into_result()
    }
}

/// Has the message for a type that no rule fits.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "not a suitable return type of a task",
    note = "return nothing, or a `Result` whose error implements `std::error::Error`, or at least `Display`"
)]
pub trait Suitable: TaskOutput {}
