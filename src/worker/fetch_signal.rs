//! A signal to the loop to fetch jobs.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The groups of queues of which the loop should fetch jobs. The heartbeat thread and the rescuer set it, and the loop
/// takes it.
#[derive(Debug)]
pub(super) struct FetchSignal {
    is_set: Notify,
    /// Whether it is set for each group.
    groups: Box<[AtomicBool]>,
}

impl FetchSignal {
    pub(super) fn new(groups: usize) -> Self {
        Self { is_set: Notify::new(), groups: (0..groups).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Signals one group.
    pub(super) fn set(&self, group: usize) {
        if let Some(group) = self.groups.get(group) {
            group.store(true, Ordering::Release);
        }
        self.is_set.notify_one();
    }

    /// Signals every group.
    pub(super) fn set_all(&self) {
        for group in &self.groups {
            group.store(true, Ordering::Release);
        }
        self.is_set.notify_one();
    }

    /// Waits until it is set. Dropping the future loses nothing.
    pub(super) async fn wait(&self) {
        self.is_set.notified().await;
    }

    /// Takes the groups for which it is set.
    pub(super) fn take(&self) -> impl Iterator<Item = usize> {
        self.groups
            .iter()
            .enumerate()
            .filter(|(_, is_set)| is_set.swap(false, Ordering::Acquire))
            .map(|(group, _)| group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_group_is_signalled_once() {
        let signal = FetchSignal::new(3);
        signal.set(1);
        signal.set(1);
        signal.wait().await;
        assert_eq!(signal.take().collect::<Vec<_>>(), [1]);
        signal.set_all();
        signal.wait().await;
        assert_eq!(signal.take().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(signal.take().count(), 0);
    }
}
