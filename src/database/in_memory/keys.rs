//! Limits for each key of a queue or task, and the turns of the keys.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::controls::Target;
use super::flow::{WAIT_FOR_END, count, is_recent, target_of, until_room};
use super::store::Store;
use crate::database::models::{ProcrastinateFlowControl, ProcrastinateJob};
use crate::job::JobStatus;
use crate::support::json::text_at;

/// A key of a queue or task. The key is empty for jobs without one, which are not limited.
pub(super) type KeyOfJob = (Target, String);

/// When it was last the turn of a key, and its first job.
type Turn = (u64, i64);

/// How many more jobs of each key may start.
pub(super) struct KeyRooms(HashMap<KeyOfJob, usize>);

impl KeyRooms {
    /// Whether there is room for another job of the key.
    pub(super) fn has_room(&self, key: &KeyOfJob) -> bool {
        self.0.get(key) != Some(&0)
    }

    /// Counts a job that starts.
    pub(super) fn take(&mut self, key: &KeyOfJob) {
        if let Some(room) = self.0.get_mut(key) {
            *room -= 1;
        }
    }
}

impl Store {
    /// Whether anything has a limit for each key.
    pub(super) fn has_keys(&self) -> bool {
        self.flow.controls.values().any(|control| control.key_path.is_some())
    }

    /// The key of a job, if its queue or else its task has a limit for each key.
    pub(super) fn key_of(&self, job: &ProcrastinateJob) -> Option<KeyOfJob> {
        ["queue", "task"].into_iter().find_map(|kind| {
            let target = target_of(job, kind);
            let path = self.flow.controls.get(&target)?.key_path.as_ref()?;
            let key = self.key_at(job, path);
            Some((target, key))
        })
    }

    /// The key at this path in the arguments of a job, or with an empty path the one that was given with it.
    pub(super) fn key_at(&self, job: &ProcrastinateJob, path: &[Option<String>]) -> String {
        if path.is_empty() {
            let given = self.options_of(job.id).and_then(|options| options.limit_key.clone());
            return given.unwrap_or_default();
        }
        text_at(&job.args, path)
    }

    /// How many more jobs of each of these jobs' keys may start.
    pub(super) fn key_rooms(&self, jobs: &[&ProcrastinateJob], now: DateTime<Utc>) -> KeyRooms {
        let mut running: HashMap<KeyOfJob, usize> = HashMap::new();
        for key in self.jobs().filter(|job| job.status == JobStatus::Doing).filter_map(|job| self.key_of(job)) {
            *running.entry(key).or_default() += 1;
        }
        let keys = jobs.iter().filter_map(|job| self.key_of(job)).filter(|(_, key)| !key.is_empty());
        let room = |key: &KeyOfJob| {
            let control = self.flow.controls.get(&key.0)?;
            let running = running.get(key).copied().unwrap_or_default();
            let running = control.key_max_running.map(|most| count(most).saturating_sub(running));
            let starts = self.key_starts(key, control, now).len();
            let starts = control.key_max_starts.map(|most| count(most).saturating_sub(starts));
            running.into_iter().chain(starts).min()
        };
        KeyRooms(keys.filter_map(|key| room(&key).map(|room| (key, room))).collect())
    }

    /// The starts of a key that count at this time.
    fn key_starts(&self, key: &KeyOfJob, control: &ProcrastinateFlowControl, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let seconds = control.key_start_period_seconds.unwrap_or_default();
        let known = self.flow.keys.get(&key.0).and_then(|keys| keys.get(&key.1));
        let starts = known.into_iter().flat_map(|key| &key.starts).copied();
        starts.filter(|start| is_recent(*start, now, seconds)).collect()
    }

    /// Sorts startable jobs, which are in the usual order. The first jobs of all keys come before their second ones.
    /// For that, the jobs of a priority exchange their places.
    pub(super) fn in_turn<'a>(&self, jobs: Vec<&'a ProcrastinateJob>) -> Vec<&'a ProcrastinateJob> {
        let turns = self.turns();
        let mut rounds: HashMap<KeyOfJob, usize> = HashMap::new();
        // Each with its round, its key's turn, and its place.
        let mut by_priority: BTreeMap<i32, Vec<(usize, Turn, usize)>> = BTreeMap::new();
        for (place, job) in jobs.iter().enumerate() {
            let Some(key) = self.key_of(job) else { continue };
            let turn = turns.get(&key).copied().unwrap_or_default();
            let round = rounds.entry(key).or_default();
            by_priority.entry(job.priority).or_default().push((*round, turn, place));
            *round += 1;
        }
        let mut sorted = jobs.clone();
        for mut turns in by_priority.into_values() {
            let places: Vec<usize> = turns.iter().map(|(.., place)| *place).collect();
            turns.sort_unstable();
            for (place, (.., from)) in places.into_iter().zip(turns) {
                sorted[place] = jobs[from];
            }
        }
        sorted
    }

    /// Records that these jobs have started. It was the turn of their keys, in the order of their former turns.
    pub(super) fn count_key_starts(&mut self, job_ids: &[i64], now: DateTime<Utc>) {
        if !self.has_keys() {
            return;
        }
        let turns = self.turns();
        let mut started: BTreeMap<Turn, (KeyOfJob, usize)> = BTreeMap::new();
        for key in job_ids.iter().filter_map(|id| self.key_of(self.job(*id)?)) {
            let turn = turns.get(&key).copied().unwrap_or_default();
            started.entry(turn).or_insert((key, 0)).1 += 1;
        }
        for ((target, key), jobs) in started.into_values() {
            let Some(control) = self.flow.controls.get(&target) else { continue };
            let seconds = control.key_start_period_seconds.filter(|_| control.key_max_starts.is_some());
            self.flow.turns += 1;
            let turn = self.flow.turns;
            let key = self.flow.keys.entry(target).or_default().entry(key).or_default();
            key.turn = turn;
            key.starts.retain(|start| seconds.is_some_and(|seconds| is_recent(*start, now, seconds)));
            if seconds.is_some() {
                key.starts.extend(std::iter::repeat_n(now, jobs));
            }
        }
    }

    /// When it was last the turn of each key, and its first job: of those whose turn it never was, the key with the
    /// oldest job comes first.
    fn turns(&self) -> HashMap<KeyOfJob, Turn> {
        let mut turns = HashMap::new();
        for job in self.jobs() {
            let Some(key) = self.key_of(job) else { continue };
            let last = self.flow.keys.get(&key.0).and_then(|keys| keys.get(&key.1)).map_or(0, |key| key.turn);
            turns.entry(key).or_insert((last, job.id));
        }
        turns
    }

    /// When a pending job of these, whose key is full, may be able to start.
    pub(super) fn wait_for_keys(&self, jobs: &[&ProcrastinateJob], now: DateTime<Utc>) -> Option<Duration> {
        let rooms = self.key_rooms(jobs, now);
        let full = jobs.iter().filter_map(|job| self.key_of(job)).filter(|key| !rooms.has_room(key));
        full.filter_map(|key| {
            let control = self.flow.controls.get(&key.0)?;
            let starts = self.key_starts(&key, control, now);
            if control.key_max_starts.is_some_and(|most| starts.len() >= count(most)) {
                return until_room(starts, control.key_start_period_seconds, now);
            }
            Some(WAIT_FOR_END)
        })
        .min()
    }
}
