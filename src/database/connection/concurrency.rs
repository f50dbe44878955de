//! Recognises transactions that were rolled back because of others.

use diesel::result::{DatabaseErrorKind, Error::DatabaseError};

use crate::error::Error;

/// Whether the transaction was rolled back because of others that ran at the same time, so that it may succeed if it is
/// run again: a serialization failure or a deadlock.
pub(super) fn is_of_concurrency(error: &Error) -> bool {
    match error.as_diesel() {
        Some(DatabaseError(DatabaseErrorKind::SerializationFailure, _)) => true,
        Some(DatabaseError(_, information)) => information.details().is_some_and(tells_of_a_deadlock),
        _ => false,
    }
}

/// Recognises a deadlock without a SQLSTATE, which Diesel does not expose.
///
/// In every language of the server, the details have a line for each waiting process. It begins with the number of the
/// process and ends with that of its blocker, which is the one of the next line.
fn tells_of_a_deadlock(details: &str) -> bool {
    let ends = |line: &str| {
        let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
        let first = numbers.next()?.to_owned();
        Some((first, numbers.next_back()?.to_owned()))
    };
    let Some(processes) = details.lines().map(ends).collect::<Option<Vec<_>>>() else { return false };
    let next = processes.iter().cycle().skip(1);
    processes.len() > 1 && processes.iter().zip(next).all(|((_, blocker), (process, _))| blocker == process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadlock_is_recognised_in_every_language() {
        for details in [
            "Process 71 waits for ShareLock on transaction 813; blocked by process 9.\n\
             Process 9 waits for ExclusiveLock on tuple (0,1) of relation 16385 of database 5; blocked by process 71.",
            "Prozess 71 wartet auf ShareLock-Sperre auf Transaktion 813; blockiert von Prozess 9.\n\
             Prozess 9 wartet auf ShareLock-Sperre auf Transaktion 812; blockiert von Prozess 71.",
            "プロセス 71 は ShareLock を トランザクション 813 で待機していましたが、プロセス 9 でブロックされました\n\
             プロセス 9 は ShareLock を トランザクション 812 で待機していましたが、プロセス 71 でブロックされました",
        ] {
            assert!(tells_of_a_deadlock(details), "{details}");
        }
        for details in [
            "",
            "Key (queueing_lock)=(1) already exists.",
            "Failing row contains (1, 1).\nFailing row contains (2, 2).",
            "Process 71 waits for ShareLock on transaction 813; blocked by process 9.",
        ] {
            assert!(!tells_of_a_deadlock(details), "{details}");
        }
    }
}
