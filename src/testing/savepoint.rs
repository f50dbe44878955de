//! A job that spoils the transaction of its test costs what it did itself.

use super::connections::TestConnection;
use crate::error::Error;
use crate::job::Job;

/// What there is to say when the job, or the transaction that it was in, is not there any more.
pub(super) fn lost(job: &Job) -> Error {
    let problem = format!(
        "job {job} is gone from the test's transaction, or is not running any more. A pool replaces a connection that is \
         given back while its thread panics or in the middle of a transaction, and one that fails the pool's test at \
         check-out after a statement has failed"
    );
    Error::Testing { problem }
}

/// Where to go back to when a job spoils the transaction that the test is in.
pub(super) struct Savepoint {
    is_set: bool,
}

impl Savepoint {
    /// Outside of a transaction none is needed.
    pub(super) async fn set(connection: &mut impl TestConnection) -> Result<Self, Error> {
        let is_set = connection.is_in_transaction();
        if is_set {
            let set = connection.execute("SAVEPOINT procrastinate_test_job").await;
            set.map_err(|source| Error::database("set a savepoint before the job", source))?;
        }
        Ok(Self { is_set })
    }

    /// Goes back if the transaction is spoilt.
    pub(super) async fn leave(self, job: &Job, connection: &mut impl TestConnection) -> Result<(), Error> {
        if !self.is_set {
            return Ok(());
        }
        let sql = match connection.execute("SELECT").await {
            Ok(()) => "RELEASE SAVEPOINT procrastinate_test_job",
            Err(_) => "ROLLBACK TO SAVEPOINT procrastinate_test_job; RELEASE SAVEPOINT procrastinate_test_job",
        };
        connection.execute(sql).await.map_err(|_| lost(job))
    }
}
