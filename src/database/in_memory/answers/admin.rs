//! Statements of the admin pages, which need a database.

use diesel::result::{Error, QueryResult};

use crate::database::in_memory::{Answer, Store};
use crate::database::statements::Statement;
use crate::database::statements::admin::PageTime;
use crate::database::statements::admin::activity::{Activity, Failures, OldestWaiting};
use crate::database::statements::admin::controls::{ControlOfPage, ControlsOfPage};
use crate::database::statements::admin::job::{ErrorsOfPage, EventsOfPage, JobOfPage, JobsOfLock};
use crate::database::statements::admin::jobs::{CountMatching, EndOfWindow, FirstJobSince, ListOfJobs, NewestJob};
use crate::database::statements::admin::locks::{ContendedLocks, HeldLocks, LocksByName};
use crate::database::statements::admin::overview::{CountByStatus, IsWorkerAlive, ListOfQueues, ListOfWorkers};
use crate::database::statements::admin::schedules::{
    ArgumentsOfSchedule, ListOfSchedules, LockSchedule, ScheduleOfPage, TicksWithoutSchedule,
};
use crate::database::statements::admin::tasks::{CountsOfTasks, MeasuredTasks, NamesOfTasks};

/// These statements fail in memory.
macro_rules! need_a_database {
    ($($statement:ident),* $(,)?) => {
        $(
            impl Answer for $statement {
                fn answer(self, _: &mut Store) -> QueryResult<Vec<<Self as Statement>::Row>> {
                    Err(Error::QueryBuilderError("the admin pages need a database; this queue is in memory".into()))
                }
            }
        )*
    };
}

need_a_database!(
    PageTime,
    ControlsOfPage,
    ControlOfPage,
    JobOfPage,
    EventsOfPage,
    ErrorsOfPage,
    JobsOfLock,
    ListOfJobs,
    EndOfWindow,
    FirstJobSince,
    CountMatching,
    NewestJob,
    CountByStatus,
    ListOfQueues,
    ListOfWorkers,
    IsWorkerAlive,
    ListOfSchedules,
    ScheduleOfPage,
    ArgumentsOfSchedule,
    LockSchedule,
    TicksWithoutSchedule,
    NamesOfTasks,
    CountsOfTasks,
    MeasuredTasks,
    HeldLocks,
    ContendedLocks,
    LocksByName,
    Activity,
    Failures,
    OldestWaiting,
);
