//! The queues that a worker serves, and how many jobs of each run at the same time.

use std::collections::HashSet;
use std::iter::once;
use std::sync::Arc;

use super::Worker;
use super::settings::Settings;
use crate::error::Error;
use crate::validation::check_name;

/// Queues that share a number of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueGroup {
    /// `None` means all queues.
    pub(super) queues: Option<Arc<[String]>>,
    /// How many jobs of these queues run at the same time.
    pub(super) concurrency: usize,
}

impl QueueGroup {
    fn contains(&self, queue: &str) -> bool {
        self.queues.as_deref().is_none_or(|queues| queues.iter().any(|other| other == queue))
    }
}

/// The groups of a worker, of which there is at least one. No queue is in two groups.
#[derive(Debug, Clone)]
pub(super) struct QueueGroups(Arc<[QueueGroup]>);

impl QueueGroups {
    pub(super) fn iter(&self) -> impl Iterator<Item = &QueueGroup> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the group of a queue, or the first one if no group has it. A job can move to another queue.
    pub(super) fn of(&self, queue: &str) -> usize {
        match &*self.0 {
            [_] => 0,
            groups => groups.iter().position(|group| group.contains(queue)).unwrap_or(0),
        }
    }

    /// Returns the queues of a group. `None` means all queues.
    pub(super) fn queues(&self, group: usize) -> Option<Vec<String>> {
        self.0.get(group).and_then(|group| group.queues.as_deref()).map(<[String]>::to_vec)
    }
}

impl Settings {
    /// Returns the groups of queues. The queues that share their slots come first.
    pub(super) fn queue_groups(&self) -> QueueGroups {
        let shared = QueueGroup { queues: self.queues.clone(), concurrency: self.concurrency };
        let is_served = self.queues.is_some() || self.own_queues.is_empty();
        let own = self.own_queues.iter();
        let own = own.map(|(queue, concurrency)| QueueGroup {
            queues: Some(Arc::from([queue.clone()])),
            concurrency: *concurrency,
        });
        QueueGroups(is_served.then_some(shared).into_iter().chain(own).collect())
    }

    /// Returns all queues that the worker serves. `None` means all queues of the database.
    pub(super) fn queue_names(&self) -> Option<Arc<[String]>> {
        if self.own_queues.is_empty() {
            return self.queues.clone();
        }
        let own = self.own_queues.iter().map(|(queue, _)| queue);
        Some(self.queues.iter().flat_map(|queues| queues.iter()).chain(own).cloned().collect())
    }

    /// Returns the names of the queues for the log.
    pub(super) fn queue_list(&self) -> String {
        self.queue_names().map_or_else(|| "all".to_owned(), |names| names.join(", "))
    }

    /// Returns the concurrency that the queues share, and those of single queues.
    pub(super) fn concurrencies(&self) -> impl Iterator<Item = usize> {
        once(self.concurrency).chain(self.own_queues.iter().map(|(_, concurrency)| *concurrency))
    }

    pub(super) fn check_queues(&self) -> Result<(), Error> {
        let is_wrong = |concurrency: &usize| *concurrency == 0 || i32::try_from(*concurrency).is_err();
        if let Some(wrong) = self.concurrencies().find(is_wrong) {
            return Err(Error::invalid("concurrency", wrong.to_string(), format!("must be from 1 to {}", i32::MAX)));
        }
        let Some(queues) = self.queue_names() else { return Ok(()) };
        if self.queues.as_ref().is_some_and(|queues| queues.is_empty()) {
            let rule = "must name at least one queue; leave the setting out to serve all queues";
            return Err(Error::invalid("queues", "", rule));
        }
        queues.iter().try_for_each(|queue| check_name("queue name", queue))?;
        let own: HashSet<&str> = self.own_queues.iter().map(|(queue, _)| &**queue).collect();
        match self.queues.iter().flat_map(|queues| queues.iter()).find(|queue| own.contains(&***queue)) {
            Some(queue) => {
                let rule = "must not be in `queues` if `queue` gives it a concurrency of its own";
                Err(Error::invalid("queue", queue.clone(), rule))
            }
            None => Ok(()),
        }
    }
}

impl Worker {
    /// Serves only these queues, and those of [`queue`](Self::queue). Default: all queues.
    ///
    /// # Example
    ///
    /// See [`Worker`].
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.settings.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Serves this queue with a concurrency of its own, whatever the jobs of other queues do. Call it once for each
    /// such queue. A second call for a queue replaces the first one.
    ///
    /// The worker then serves these queues and those of [`queues`](Self::queues), which share
    /// [`concurrency`](Self::concurrency). It still has one heartbeat and one listening connection.
    /// [`local_buffer`](Self::local_buffer) applies to each of them.
    ///
    /// # Example
    ///
    /// Up to five mails at the same time, one report, and ten jobs of two other queues:
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queue("mails", 5).queue("reports", 1).queues(["default", "images"]).concurrency(10);
    /// # }
    /// ```
    pub fn queue(mut self, queue: impl Into<String>, concurrency: usize) -> Self {
        let queue = queue.into();
        self.settings.own_queues.retain(|(other, _)| *other != queue);
        self.settings.own_queues.push((queue, concurrency));
        self
    }

    /// Serves all queues with one [`concurrency`](Self::concurrency). Use it to override
    /// [`worker_defaults`](crate::AppBuilder::worker_defaults).
    ///
    /// # Example
    ///
    /// ```no_run
    /// # fn example(app: &procrastinate::App) {
    /// let worker = app.worker().queues(["mails"]).all_queues();
    /// # }
    /// ```
    pub fn all_queues(mut self) -> Self {
        self.settings.queues = None;
        self.settings.own_queues.clear();
        self
    }

    /// Describes the queues that the worker serves.
    #[cfg(feature = "cli")]
    pub(crate) fn describe_queues(&self) -> String {
        let groups = self.settings.queue_groups();
        let describe = |group: &QueueGroup| match &group.queues {
            None => "all queues".to_owned(),
            Some(queues) if groups.len() == 1 => queues.join(", "),
            Some(queues) => format!("{} ({})", queues.join(", "), group.concurrency),
        };
        groups.iter().map(describe).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(queues: Option<&[&str]>, own_queues: &[(&str, usize)]) -> Settings {
        Settings {
            queues: queues.map(|queues| queues.iter().map(ToString::to_string).collect()),
            own_queues: own_queues.iter().map(|(queue, concurrency)| ((*queue).to_owned(), *concurrency)).collect(),
            concurrency: 7,
            ..Settings::default()
        }
    }

    #[test]
    fn queues_without_a_concurrency_of_their_own_share_one() {
        let groups = settings(Some(&["a", "b"]), &[("c", 1), ("d", 2)]).queue_groups();
        assert_eq!(groups.iter().map(|group| group.concurrency).collect::<Vec<_>>(), [7, 1, 2]);
        assert_eq!(["a", "b", "c", "d", "elsewhere"].map(|queue| groups.of(queue)), [0, 0, 1, 2, 0]);
        let groups = settings(None, &[("c", 1), ("d", 2)]).queue_groups();
        assert_eq!(["c", "d"].map(|queue| groups.of(queue)), [0, 1]);
        let groups = settings(None, &[]).queue_groups();
        assert_eq!((groups.len(), groups.queues(0)), (1, None));
    }

    #[test]
    fn the_log_lists_the_queues_of_all_groups() {
        assert_eq!(settings(None, &[]).queue_list(), "all");
        assert_eq!(settings(Some(&["a", "b"]), &[("c", 1)]).queue_list(), "a, b, c");
    }

    #[test]
    fn a_worker_listens_to_the_queues_of_all_groups() {
        let names = |settings: Settings| settings.queue_names().map(|queues| queues.join(" "));
        assert_eq!(names(settings(None, &[])), None);
        assert_eq!(names(settings(Some(&["a"]), &[])).as_deref(), Some("a"));
        assert_eq!(names(settings(None, &[("c", 1)])).as_deref(), Some("c"));
        assert_eq!(names(settings(Some(&["a"]), &[("c", 1)])).as_deref(), Some("a c"));
    }

    #[test]
    fn a_queue_is_in_one_group_and_each_concurrency_is_at_least_one() {
        let refusal = |settings: Settings| settings.check_queues().map_err(|error| error.to_string());
        assert_eq!(refusal(settings(Some(&["a"]), &[("c", 1)])), Ok(()));
        assert_eq!(
            refusal(settings(Some(&["a", "c"]), &[("c", 1)])),
            Err("invalid queue \"c\": must not be in `queues` if `queue` gives it a concurrency of its own".to_owned())
        );
        assert_eq!(
            refusal(settings(None, &[("c", 0)])),
            Err("invalid concurrency \"0\": must be from 1 to 2147483647".to_owned())
        );
        assert!(refusal(settings(Some(&[]), &[("c", 1)])).is_err());
        assert!(refusal(settings(None, &[("", 1)])).is_err());
    }
}
