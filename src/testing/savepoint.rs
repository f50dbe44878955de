//! Savepoints around jobs. If a job aborts the transaction of its test, only the job's own changes are lost.

use super::connections::TestConnection;
use crate::error::Error;
use crate::job::Job;

/// The error for a job that is missing after its run, or whose transaction is gone.
pub(super) fn lost(job: &Job) -> Error {
    let problem = format!(
        "could not find job {job} in the test's transaction, or it is no longer running. Did the pool replace its \
         connection? A pool does that if a connection is returned while its thread panics or inside a transaction, or \
         if it fails the pool's test after a failed statement"
    );
    Error::Testing { problem }
}

/// The savepoint before a job.
pub(super) struct Savepoint {
    is_set: bool,
}

impl Savepoint {
    /// Sets the savepoint, unless the connection is outside of a transaction.
    pub(super) async fn set(connection: &mut impl TestConnection) -> Result<Self, Error> {
        let is_set = connection.is_in_transaction();
        if is_set {
            let set = connection.execute("SAVEPOINT procrastinate_test_job").await;
            set.map_err(|source| Error::database("set a savepoint before the job", source))?;
        }
        Ok(Self { is_set })
    }

    /// Releases the savepoint, or rolls back to it if the transaction is aborted.
    pub(super) async fn release(self, job: &Job, connection: &mut impl TestConnection) -> Result<(), Error> {
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
