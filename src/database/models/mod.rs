//! The queue's tables as Diesel models, for reading.
//!
//! | model | table | holds |
//! |---|---|---|
//! | [`ProcrastinateJob`] | `procrastinate_jobs` | one row per job, until it is deleted |
//! | [`ProcrastinateEvent`] | `procrastinate_events` | what happened to each job, and when |
//! | [`ProcrastinateWorker`] | `procrastinate_workers` | running workers and their heartbeats |
//! | [`ProcrastinatePeriodicDefer`] | `procrastinate_periodic_defers` | the latest tick of each schedule |
//! | [`ProcrastinateFlowControl`] | `procrastinate_diesel_flow_controls` | paused and limited queues and tasks |
//! | [`ProcrastinateJobError`] | `procrastinate_diesel_job_errors` | the errors of failed attempts |
//! | [`ProcrastinateJobOptions`] | `procrastinate_diesel_job_options` | options that few jobs have |
//! | [`ProcrastinatePriorityAgeing`] | `procrastinate_diesel_priority_ageings` | queues whose priorities age |
//! | [`ProcrastinateAction`] | `procrastinate_diesel_actions` | who did what in the admin pages |
//! | [`ProcrastinateSchedule`] | `procrastinate_diesel_schedules` | the schedules of periodic tasks |
//!
//! Query them like your own tables, joins included (see
//! [`allow_with_procrastinate!`](crate::allow_with_procrastinate)). The models implement neither `Insertable` nor
//! `AsChangeset`, except in tests with the feature `writable-models`.
//!
//! Diesel cannot prevent `diesel::update` on these tables. Do not write to them. Defer jobs, and change them with the
//! [job manager](crate::job_manager).
//!
//! # Example
//!
//! ```
//! use diesel::prelude::*;
//! use procrastinate::models::ProcrastinateWorker;
//!
//! fn workers(connection: &mut PgConnection) -> QueryResult<Vec<ProcrastinateWorker>> {
//!     ProcrastinateWorker::query().load(connection)
//! }
//! ```

mod action;
mod conditions;
mod event;
mod flow_control;
mod job;
mod job_error;
mod job_options;
mod periodic_defer;
mod priority_ageing;
mod schedule;
pub(crate) mod stored;
mod worker;
#[cfg(feature = "writable-models")]
mod writable;

pub use action::{ActionsOnJob, ProcrastinateAction};
pub use conditions::{JobsDeferredBefore, JobsFinishedBefore, JobsPendingSince, StalledJobs};
pub use event::ProcrastinateEvent;
pub use flow_control::ProcrastinateFlowControl;
pub use job::ProcrastinateJob;
pub use job_error::ProcrastinateJobError;
pub use job_options::ProcrastinateJobOptions;
pub use periodic_defer::ProcrastinatePeriodicDefer;
pub use priority_ageing::ProcrastinatePriorityAgeing;
pub use schedule::ProcrastinateSchedule;
pub use worker::ProcrastinateWorker;
#[cfg(feature = "writable-models")]
pub use writable::{NewProcrastinateEvent, NewProcrastinateJob, NewProcrastinatePeriodicDefer, NewProcrastinateWorker};
