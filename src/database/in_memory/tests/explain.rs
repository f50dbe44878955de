//! Why jobs are not running.

use chrono::Utc;

use super::{Both, job_text};
use crate::database::connection::run::{Blocking, complete};
use crate::database::models::ProcrastinateJob;
use crate::queue::explanation::explain;
use crate::queue::explanation::phrase::{Part, Phrase};

impl Both {
    /// Compares why the job is not running, apart from times.
    pub(super) fn explain(&mut self, job: &ProcrastinateJob) {
        let now = Utc::now();
        let expected = complete(explain(job, now, &mut Blocking(&mut self.postgres))).unwrap();
        let found = complete(explain(job, now, &mut self.memory)).unwrap();
        let without_times = |phrases: Vec<Phrase>| -> Vec<Phrase> {
            let parts = |phrase: Phrase| phrase.0.into_iter().filter(|part| !matches!(part, Part::Time(_))).collect();
            phrases.into_iter().map(|phrase| Phrase(parts(phrase))).collect()
        };
        let (found, expected) = (without_times(found), without_times(expected));
        assert_eq!(found, expected, "in memory, and in PostgreSQL, for {}", job_text(job));
        self.told.extend(found.iter().map(|phrase| format!("{:?}", phrase.0)));
    }
}
