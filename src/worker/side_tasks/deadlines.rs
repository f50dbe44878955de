//! Cancels jobs that have not started in time, also in queues that no worker of this crate serves, and frees unique
//! keys.

use crate::database::connection::RenewedConnection;
use crate::database::connection::run::Run;
use crate::database::statements::options::TendJobOptions;
use crate::error::Error;

/// Cancels jobs that have not started in time, deletes the options of jobs that are gone, and deletes unique keys that
/// are free, in small steps.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// The job after which the next step searches for jobs that are gone.
    position: i64,
    /// The job after which the next step searches for jobs that have ended, for their unique keys.
    key_position: i64,
}

impl Deadlines {
    /// Does as many steps as there is work that is due.
    pub(super) async fn check(&mut self, connection: &mut RenewedConnection<'_>) -> Result<(), Error> {
        loop {
            let statement = TendJobOptions { start_after: self.position, start_keys_after: self.key_position };
            let (expired, has_more, position, key_position) = connection.get().await?.load_one(statement).await?;
            (self.position, self.key_position) = (position, key_position);
            if expired > 0 {
                tracing::info!(
                    action = "jobs_expired",
                    count = expired,
                    "cancelled {expired} jobs that had not started in time",
                );
            }
            if !has_more {
                return Ok(());
            }
        }
    }
}
