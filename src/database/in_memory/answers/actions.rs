//! Statements of the admin pages, which need PostgreSQL.

use diesel::result::{Error, QueryResult};

use crate::database::in_memory::{Answer, Store};
use crate::database::models::ProcrastinateAction;
use crate::database::statements::actions::{
    ActionsOnJobQuery, BeginAction, ChangeJobsByIdQuery, ChangeSelectedJobsQuery, EndAction, PageOfActions,
    RecordAction, SetExactArgs, StepRow,
};

fn refusal<R>() -> QueryResult<Vec<R>> {
    Err(Error::QueryBuilderError("the admin pages need PostgreSQL, and the queue is in memory".into()))
}

macro_rules! refused {
    ($($statement:ident -> $row:ty,)+) => {
        $(
            impl Answer for $statement {
                fn answer(self, _: &mut Store) -> QueryResult<Vec<$row>> {
                    refusal()
                }
            }
        )+
    };
}

refused! {
    RecordAction -> i64,
    SetExactArgs -> bool,
    BeginAction -> (i64, i64, i64),
    EndAction -> bool,
    ChangeJobsByIdQuery -> StepRow,
    ChangeSelectedJobsQuery -> StepRow,
    PageOfActions -> ProcrastinateAction,
    ActionsOnJobQuery -> ProcrastinateAction,
}
