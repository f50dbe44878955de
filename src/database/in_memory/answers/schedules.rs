//! Statements about the schedules of periodic tasks.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::result::QueryResult;
use serde_json::{Map, Value};

use crate::database::in_memory::values::{stored_args, stored_time};
use crate::database::in_memory::{Answer, Store};
use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::schedules::{
    ChangeScheduleQuery, CreateScheduleQuery, ListSchedulesQuery, PauseScheduleQuery, RegisterSchedulesQuery,
    RemoveScheduleQuery, ResumeScheduleQuery, RunScheduleQuery, ScheduleKey,
};

/// After this time, a schedule that no worker has in its code any more can be removed.
const REMOVABLE_AFTER: TimeDelta = TimeDelta::hours(2);

/// After this time, a worker writes again that it has a schedule in its code.
const SEEN_LONG_AGO: TimeDelta = TimeDelta::minutes(30);

impl Store {
    fn at(&self, at: Option<DateTime<Utc>>) -> DateTime<Utc> {
        at.map_or(self.now(), stored_time)
    }

    fn new_schedule(&mut self, key: &ScheduleKey, at: DateTime<Utc>) -> ProcrastinateSchedule {
        ProcrastinateSchedule {
            task_name: key.task_name.clone(),
            periodic_id: key.periodic_id.clone(),
            cron: None,
            interval_seconds: None,
            time_zone: None,
            args: Value::Object(Map::new()),
            queue_name: None,
            priority: None,
            lock: None,
            queueing_lock: None,
            start_within_seconds: None,
            limit_key: None,
            missed_ticks: "procrastinate".to_owned(),
            max_delay_seconds: None,
            overlap: "allow".to_owned(),
            ticks_after: None,
            paused_at: None,
            paused_by: None,
            pause_reason: None,
            run_requested_at: None,
            last_job_id: None,
            seen_in_code_at: None,
            created_at: at,
            changed_at: at,
            version: self.schedule_versions.draw(),
        }
    }

    /// Changes a schedule if there is one that passes the test. It returns a row if so.
    fn change_schedule(
        &mut self,
        key: &ScheduleKey,
        passes: impl Fn(&ProcrastinateSchedule) -> bool,
        change: impl FnOnce(&mut ProcrastinateSchedule),
    ) -> Vec<bool> {
        let Some(schedule) = self.schedules.get_mut(key).filter(|schedule| passes(schedule)) else {
            return Vec::new();
        };
        change(schedule);
        self.listeners.tell_of_schedules();
        vec![true]
    }
}

/// Sets the values of a schedule, by column. Other columns stay.
fn set_values(schedule: &mut ProcrastinateSchedule, values: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let Value::Object(values) = values else { return };
    for (column, value) in values {
        match column.as_str() {
            "cron" => schedule.cron = text(value),
            "interval_seconds" => schedule.interval_seconds = value.as_i64(),
            "time_zone" => schedule.time_zone = text(value),
            "args" => schedule.args = stored_args(value.clone()),
            "queue_name" => schedule.queue_name = text(value),
            "priority" => schedule.priority = value.as_i64().and_then(|priority| i32::try_from(priority).ok()),
            "lock" => schedule.lock = text(value),
            "queueing_lock" => schedule.queueing_lock = text(value),
            "start_within_seconds" => schedule.start_within_seconds = value.as_f64(),
            "limit_key" => schedule.limit_key = text(value),
            "missed_ticks" => schedule.missed_ticks = text(value).unwrap_or_default(),
            "max_delay_seconds" => schedule.max_delay_seconds = value.as_i64(),
            "overlap" => schedule.overlap = text(value).unwrap_or_default(),
            _ => {}
        }
    }
}

impl Answer for CreateScheduleQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let at = store.at(self.at);
        let mut schedule = store.new_schedule(&self.key, at);
        if store.schedules.contains_key(&self.key) {
            return Ok(vec![false]);
        }
        set_values(&mut schedule, &self.values);
        schedule.ticks_after = Some(at);
        store.schedules.insert(self.key, schedule);
        store.listeners.tell_of_schedules();
        Ok(vec![true])
    }
}

impl Answer for ChangeScheduleQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let (at, version) = (store.at(self.at), store.schedule_versions.draw());
        let is_in_database = |schedule: &ProcrastinateSchedule| !schedule.is_in_code();
        let rows = store.change_schedule(&self.key, is_in_database, |schedule| {
            let old_times = (schedule.cron.clone(), schedule.time_zone.clone());
            set_values(schedule, &self.values);
            if old_times != (schedule.cron.clone(), schedule.time_zone.clone()) {
                schedule.ticks_after = Some(at);
            }
            schedule.changed_at = at;
            schedule.version = version;
        });
        Ok(vec![!rows.is_empty()])
    }
}

impl Answer for PauseScheduleQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let at = store.at(self.at);
        let is_active = |schedule: &ProcrastinateSchedule| !schedule.is_paused();
        Ok(store.change_schedule(&self.key, is_active, |schedule| {
            schedule.paused_at = Some(at);
            schedule.paused_by = self.by;
            schedule.pause_reason = self.reason;
        }))
    }
}

impl Answer for ResumeScheduleQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let at = store.at(self.at);
        Ok(store.change_schedule(&self.key, ProcrastinateSchedule::is_paused, |schedule| {
            schedule.paused_at = None;
            schedule.paused_by = None;
            schedule.pause_reason = None;
            schedule.ticks_after = Some(at);
        }))
    }
}

impl Answer for RemoveScheduleQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let removable = store.at(self.at).checked_sub_signed(REMOVABLE_AFTER).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let is_removable =
            |schedule: &ProcrastinateSchedule| schedule.seen_in_code_at.is_none_or(|seen_at| seen_at < removable);
        let rows = store.change_schedule(&self.key, is_removable, |_| {});
        if !rows.is_empty() {
            store.schedules.remove(&self.key);
        }
        Ok(rows)
    }
}

impl Answer for RunScheduleQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<bool>> {
        let at = store.at(self.at);
        Ok(store.change_schedule(
            &self.key,
            |_| true,
            |schedule| {
                schedule.run_requested_at.get_or_insert(at);
            },
        ))
    }
}

impl Answer for ListSchedulesQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<(ProcrastinateSchedule, Option<i64>)>> {
        let last_tick = |key: &ScheduleKey| {
            let is_its_own = |task_name: &str, id: &str| task_name == key.task_name && id == key.periodic_id;
            let ticks = store.periodic_defers().filter(|tick| is_its_own(&tick.task_name, &tick.periodic_id));
            ticks.filter_map(|tick| tick.defer_timestamp).max()
        };
        let wanted = store.schedules.iter().filter(|(key, _)| self.key.as_ref().is_none_or(|wanted| wanted == *key));
        Ok(wanted.map(|(key, schedule)| (schedule.clone(), last_tick(key))).collect())
    }
}

impl Answer for RegisterSchedulesQuery {
    fn answer(self, store: &mut Store) -> QueryResult<Vec<i32>> {
        let now = store.now();
        let seen_long_ago = now.checked_sub_signed(SEEN_LONG_AGO).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let mut written = 0;
        for values in self.schedules.as_array().into_iter().flatten() {
            let text = |column: &str| values[column].as_str().unwrap_or_default().to_owned();
            let key = ScheduleKey { task_name: text("task_name"), periodic_id: text("periodic_id") };
            let Some(known) = store.schedules.get_mut(&key) else {
                let mut schedule = store.new_schedule(&key, now);
                set_values(&mut schedule, values);
                schedule.seen_in_code_at = Some(now);
                store.schedules.insert(key, schedule);
                store.listeners.tell_of_schedules();
                written += 1;
                continue;
            };
            let Some(seen_at) = known.seen_in_code_at else { continue };
            let mut changed = known.clone();
            set_values(&mut changed, values);
            let is_different = changed != *known;
            if is_different || seen_at < seen_long_ago {
                changed.seen_in_code_at = Some(now);
                changed.changed_at = if is_different { now } else { known.changed_at };
                *known = changed;
                written += 1;
            }
        }
        Ok(vec![written])
    }
}
