//! The record of who did what.

use std::time::Duration;

use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use serde_json::{Map, Value};

use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateAction;
use crate::database::statements::Statement;
use crate::database::statements::actions::{ActionsOnJobQuery, Beyond, PageOfActions, Record, RecordAction};
use crate::error::Error;
use crate::job::JobId;
use crate::validation::check_text;

impl Record {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_text("actor", Some(&self.actor))?;
        check_text("target", Some(&self.target))?;
        // Such as the reason of a pause.
        let mut texts = self.details.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_str);
        texts.try_for_each(|text| check_text("value", Some(text)))
    }
}

/// Records an action that the same transaction does, and returns its ID.
pub(crate) async fn record<R: Run>(record: Record, run: &mut R) -> Result<i64, Error> {
    record.check()?;
    run.load_one(RecordAction { record, job_id: None }).await
}

/// Records an action that the same transaction has done to a job, and returns its ID.
pub(crate) async fn record_of_job<R: Run>(record: Record, job_id: JobId, run: &mut R) -> Result<i64, Error> {
    record.check()?;
    run.load_one(RecordAction { record, job_id: Some(job_id) }).await
}

/// Does something and records it, both or neither. It returns the ID of the record, and what was done. An error is not
/// recorded.
pub(crate) async fn recorded<T, E: From<Error>>(
    what: Record,
    connection: &mut Connection,
    work: impl AsyncFnOnce(&mut Connection) -> Result<T, E>,
) -> Result<(i64, T), E> {
    what.check()?;
    begin(connection).await?;
    // In memory there are no transactions, and the record is refused.
    let done = match record(what, connection).await {
        Ok(id) => work(connection).await.map(|output| (id, output)),
        Err(error) => Err(error.into()),
    };
    end(connection, done).await
}

/// How long a transaction that is given up may take to roll back.
const ROLLBACK_PATIENCE: Duration = Duration::from_secs(1);

/// With a higher isolation level, the second of two operators could fail. With the time limit, an operator soon hears
/// that another transaction holds what they change.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '5s'";

/// Begins a transaction for an action and its record.
pub(crate) async fn begin(connection: &mut Connection) -> Result<(), Error> {
    let is_nested = connection.is_in_transaction();
    let Some(pooled) = connection.database_mut() else { return Ok(()) };
    let connection: &mut AsyncPgConnection = pooled;
    // The transaction of a test goes on.
    let begun = if is_nested {
        AnsiTransactionManager::begin_transaction(connection).await
    } else {
        AnsiTransactionManager::begin_transaction_sql(connection, BEGIN).await
    };
    begun.map_err(failed)
}

/// Commits after a success. Otherwise it rolls back.
pub(crate) async fn end<T, E: From<Error>>(connection: &mut Connection, output: Result<T, E>) -> Result<T, E> {
    let Some(pooled) = connection.database_mut() else { return output };
    let connection: &mut AsyncPgConnection = pooled;
    match output {
        Ok(output) => AnsiTransactionManager::commit_transaction(connection)
            .await
            .map(|()| output)
            .map_err(|error| failed(error).into()),
        Err(error) => {
            // If this fails too, or a statement still runs, the connection is closed. The first error says more.
            let rollback = AnsiTransactionManager::rollback_transaction(connection);
            if tokio::time::timeout(ROLLBACK_PATIENCE, rollback).await.is_err() {
                pooled.discard_later();
            }
            Err(error)
        }
    }
}

fn failed(source: diesel::result::Error) -> Error {
    Error::database(RecordAction::ACTION, source)
}

/// A page of the actions, newest first.
pub(crate) async fn list_actions<R: Run>(
    beyond: Beyond,
    limit: i64,
    run: &mut R,
) -> Result<Vec<ProcrastinateAction>, Error> {
    run.load(PageOfActions { beyond, limit }).await
}

/// The newest actions that have changed a job, before another action if one is given.
pub(crate) async fn list_actions_on_job<R: Run>(
    job_id: JobId,
    before: Option<i64>,
    limit: i32,
    run: &mut R,
) -> Result<Vec<ProcrastinateAction>, Error> {
    run.load(ActionsOnJobQuery { job_id, before, limit }).await
}
