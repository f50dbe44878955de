//! Statements that pause and limit queues and tasks.

use diesel::result::QueryResult;

use crate::database::in_memory::{Answer, Store};
use crate::database::models::ProcrastinateFlowControl;
#[cfg(feature = "cli")]
use crate::database::statements::flow_control::FetchesPastFlowControl;
#[cfg(any(feature = "cli", feature = "admin"))]
use crate::database::statements::flow_control::FlowControlsExist;
use crate::database::statements::flow_control::{
    LimitKeysQuery, ListFlowControlsQuery, PauseQuery, ResumeQuery, SetLimitQuery,
};

impl Store {
    /// The pause and limit of a queue or task. It has neither at first.
    fn control(&mut self, kind: &str, name: String) -> &mut ProcrastinateFlowControl {
        let changed_at = self.now();
        let target = (kind.to_owned(), name);
        let control = self.flow.controls.entry(target.clone()).or_insert_with(|| ProcrastinateFlowControl {
            kind: target.0,
            name: target.1,
            paused_at: None,
            paused_by: None,
            pause_reason: None,
            skips_ticks: false,
            max_running: None,
            max_starts: None,
            start_period_seconds: None,
            key_path: None,
            key_max_running: None,
            key_max_starts: None,
            key_start_period_seconds: None,
            changed_at,
            keys_changed_at: changed_at,
        });
        control.changed_at = changed_at;
        control
    }

    /// Forgets queues and tasks that are neither paused nor limited.
    fn forget_free(&mut self) {
        let controls = &mut self.flow.controls;
        controls.retain(|_, control| control.is_paused() || is_limited(control) || control.key_path.is_some());
    }
}

fn is_limited(control: &ProcrastinateFlowControl) -> bool {
    control.max_running.is_some() || control.max_starts.is_some()
}

impl Answer for PauseQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let now = store.now();
        let control = store.control(self.kind, self.name);
        let is_new = !control.is_paused();
        control.paused_at.get_or_insert(now);
        control.paused_by = self.paused_by;
        control.pause_reason = self.reason;
        control.skips_ticks = self.skips_ticks;
        Ok(vec![is_new])
    }
}

impl Answer for ResumeQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let target = (self.kind.to_owned(), self.name.clone());
        if !store.flow.controls.get(&target).is_some_and(ProcrastinateFlowControl::is_paused) {
            return Ok(vec![false]);
        }
        let control = store.control(self.kind, self.name);
        control.paused_at = None;
        control.paused_by = None;
        control.pause_reason = None;
        control.skips_ticks = false;
        store.forget_free();
        store.notify_of_room(&target.0, &target.1);
        Ok(vec![true])
    }
}

impl Answer for SetLimitQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let target = (self.kind.to_owned(), self.name.clone());
        let had_limit = store.flow.controls.get(&target).is_some_and(is_limited);
        let has_limit = self.max_running.is_some() || self.max_starts.is_some();
        if !had_limit && !has_limit {
            return Ok(vec![false]);
        }
        let control = store.control(self.kind, self.name);
        control.max_running = self.max_running;
        control.max_starts = self.max_starts;
        control.start_period_seconds = self.start_period_seconds;
        store.forget_free();
        store.notify_of_room(&target.0, &target.1);
        Ok(vec![true])
    }
}

impl Answer for LimitKeysQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let target = (self.kind.to_owned(), self.name.clone());
        let former_path = store.flow.controls.get(&target).and_then(|control| control.key_path.clone());
        let path: Option<Vec<Option<String>>> = self.path.map(|path| path.into_iter().map(Some).collect());
        if former_path.is_none() && path.is_none() {
            return Ok(vec![false]);
        }
        if former_path != path {
            store.flow.keys.remove(&target);
        }
        let control = store.control(self.kind, self.name);
        if former_path != path {
            control.keys_changed_at = control.changed_at;
        }
        control.key_path = path;
        control.key_max_running = self.max_running;
        control.key_max_starts = self.max_starts;
        control.key_start_period_seconds = self.start_period_seconds;
        store.forget_free();
        store.notify_of_room(&target.0, &target.1);
        Ok(vec![true])
    }
}

impl Answer for ListFlowControlsQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<ProcrastinateFlowControl>> {
        Ok(store.flow.controls.values().cloned().collect())
    }
}

#[cfg(any(feature = "cli", feature = "admin"))]
impl Answer for FlowControlsExist {
    fn answer(self, _store: &mut Store) -> QueryResult<Vec<bool>> {
        Ok(vec![true])
    }
}

#[cfg(feature = "cli")]
impl Answer for FetchesPastFlowControl {
    fn answer(self, _store: &mut Store) -> QueryResult<Vec<Option<String>>> {
        Ok(vec![None])
    }
}
