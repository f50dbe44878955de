//! The form that creates a schedule, or edits one of the database.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Map, Value};

use super::{MISSED_TICKS, OVERLAPS, key, missing, name, query, read};
use crate::admin::action::Action;
use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::address::Address;
use crate::admin::pages::change::allowed;
use crate::admin::pages::forms::FormBody;
use crate::admin::pages::forms::recorded::{Refused, recorded};
use crate::admin::shared::Shared;
use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::models::ProcrastinateSchedule;
use crate::database::statements::actions::Record;
use crate::database::statements::admin::job::MOST_CHARACTERS;
use crate::database::statements::admin::schedules::LockSchedule;
use crate::database::statements::schedules::ScheduleKey;
use crate::error::Error;
use crate::queue::job_manager::sealed::Sealed;
use crate::queue::job_manager::{change_schedule, create_schedule};
use crate::schedule::{MissedTicks, Overlap};
use crate::support::values::{self, exact_arguments};

#[derive(Template)]
#[template(path = "schedules/form.html")]
struct FormPage {
    layout: Layout,
    form: Address,
    is_new: bool,
    /// Whether the arguments can be edited: they are short enough for a form, and not hidden.
    has_args: bool,
    /// The tasks of the program, to choose from.
    tasks: Vec<String>,
    error: Option<String>,
}

impl FormPage {
    fn name(&self) -> String {
        name(self.form.get("task"), self.form.get("id"))
    }

    fn query(&self) -> String {
        query(&key(&self.form))
    }

    /// Whether this program knows no time zone but UTC.
    fn has_only_utc(&self) -> bool {
        !cfg!(feature = "chrono-tz")
    }

    /// The form with what was typed, and what is wrong with it.
    fn refused(self, refused: &Refused) -> Response {
        let page = Self { error: Some(refused.text.clone()), ..self };
        (refused.status, html(&page)).into_response()
    }
}

/// The values that a form has.
struct Values {
    cron: String,
    time_zone: String,
    queue: Option<String>,
    priority: Option<i32>,
    lock: Option<String>,
    queueing_lock: Option<String>,
    start_within: Option<Duration>,
    limit_key: Option<String>,
    missed: MissedTicks,
    max_delay: Option<Duration>,
    overlap: Overlap,
}

impl Values {
    fn read(form: &Address) -> Result<Self, Refused> {
        let text = |field: &str| Some(form.get(field).to_owned()).filter(|text| !text.is_empty());
        let wrong = |what: &str, field: &str, rule: &str| Refused::value(what, form.get(field), rule);
        let priority = text("priority").map(|text| values::priority(&text)).transpose();
        let duration = |field| text(field).map(|text| values::duration(&text)).transpose();
        let max_delay = duration("max_delay");
        let start_within = duration("start_within");
        let missed = text("missed").unwrap_or_else(|| "procrastinate".to_owned());
        let overlap = match form.get("overlap") {
            "" | "allow" => Overlap::Allow,
            "skip" => Overlap::Skip,
            _ => return Err(wrong("overlap", "overlap", "must be allow or skip")),
        };
        Ok(Self {
            cron: form.get("cron").trim().to_owned(),
            time_zone: text("time_zone").map_or_else(|| "UTC".to_owned(), |zone| zone.trim().to_owned()),
            queue: text("queue"),
            priority: priority.map_err(|rule| wrong("priority", "priority", &rule))?,
            lock: text("lock"),
            queueing_lock: text("queueing_lock"),
            start_within: start_within.map_err(|rule| wrong("time to start", "start_within", &rule))?,
            limit_key: text("limit_key"),
            missed: MissedTicks::read(&missed)
                .ok_or_else(|| wrong("missed ticks", "missed", "must be procrastinate, skip, last or all"))?,
            max_delay: max_delay.map_err(|rule| wrong("maximum delay", "max_delay", &rule))?,
            overlap,
        })
    }
}

/// Sets the values that are given. The operations have setters with the names of the fields.
macro_rules! set {
    ($values:ident, $operation:ident: $($field:ident)+) => {
        $(
            if let Some(value) = $values.$field {
                $operation = $operation.$field(value);
            }
        )+
    };
}

/// The typed arguments. Workers hold numbers as `i64`, `u64` or `f64`, so others are refused.
fn arguments(form: &Address) -> Result<Value, Refused> {
    match form.get("args").trim() {
        "" => Ok(Value::Object(Map::new())),
        text => exact_arguments(text).map_err(|rule| Refused::value("arguments", text, rule)),
    }
}

/// What the record says about the new values.
fn details(form: &Address) -> Value {
    const FIELDS: [&str; 11] = [
        "cron",
        "time_zone",
        "queue",
        "priority",
        "lock",
        "queueing_lock",
        "start_within",
        "limit_key",
        "missed",
        "max_delay",
        "overlap",
    ];
    let fields = FIELDS.into_iter().map(|field| (field.to_owned(), Value::from(form.get(field))));
    Value::Object(fields.filter(|(_, value)| value.as_str().is_some_and(|text| !text.is_empty())).collect())
}

/// `GET /schedules/new`
pub(crate) async fn new(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    allowed(&layout, Action::CreateSchedule)?;
    shared.need_companions(&mut layout).await?;
    let form = Address::exact(&query.unwrap_or_default());
    Ok(html(&FormPage { layout, form, is_new: true, has_args: true, tasks: tasks(&shared), error: None }))
}

fn tasks(shared: &Shared) -> Vec<String> {
    shared.app.tasks_with(|_| true)
}

/// `POST /schedules/new`
pub(crate) async fn create(State(shared): State<Arc<Shared>>, layout: Layout, FormBody(body): FormBody) -> PageResult {
    allowed(&layout, Action::CreateSchedule)?;
    let form = Address::read(&body);
    match create_recorded(&shared, &layout, &form).await {
        Ok(outcome) => Ok(done(&layout, &key(&form), outcome)),
        Err(refused) => {
            let tasks = tasks(&shared);
            Ok(FormPage { layout, form, is_new: true, has_args: true, tasks, error: None }.refused(&refused))
        }
    }
}

async fn create_recorded(shared: &Shared, layout: &Layout, form: &Address) -> Result<i64, Refused> {
    let values = Values::read(form)?;
    let ScheduleKey { task_name, periodic_id } = key(form);
    let record = Record {
        actor: layout.visitor().to_owned(),
        action: Action::CreateSchedule.as_str(),
        target: name(&task_name, &periodic_id),
        details: details(form),
    };
    let mut create = create_schedule(task_name, values.cron)
        .periodic_id(periodic_id)
        .time_zone(values.time_zone)
        .args(arguments(form)?)
        .missed(values.missed)
        .overlap(values.overlap);
    set!(values, create: queue priority lock queueing_lock start_within limit_key max_delay);
    let work = async |connection: &mut Connection| create.execute_pooled(connection).await.map_err(Refused::from);
    recorded(shared, record, work).await
}

/// `GET /schedules/edit`
pub(crate) async fn edit(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    allowed(&layout, Action::ChangeSchedule)?;
    let key = key(&Address::exact(&query.unwrap_or_default()));
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let found = if layout.has_companions { read(&key, &mut started.reading).await? } else { None };
        started.reading.end().await?;
        Ok::<_, Error>(found)
    };
    let found = found.await.map_err(|error| shared.problem(began, &error))?;
    let (row, arguments, characters, _) = found.ok_or_else(|| missing(&key))?;
    if row.schedule.is_in_code() {
        let text = "The schedule is in the code of a program. Pause it, or change the code.";
        return Err(Problem::new(StatusCode::CONFLICT, "This schedule cannot be edited", text));
    }
    let shown = shared.shown_arguments(&layout.access, &key.task_name, &arguments);
    let has_args = characters <= MOST_CHARACTERS && shown == arguments;
    let form = filled(row.schedule, shown);
    Ok(html(&FormPage { layout, form, is_new: false, has_args, tasks: Vec::new(), error: None }))
}

/// The form with the values of a schedule.
fn filled(schedule: ProcrastinateSchedule, arguments: String) -> Address {
    let number = |number: Option<String>| number.unwrap_or_default();
    Address::of([
        ("task", schedule.task_name),
        ("id", schedule.periodic_id),
        ("version", schedule.version.to_string()),
        ("cron", schedule.cron.unwrap_or_default()),
        ("time_zone", schedule.time_zone.unwrap_or_default()),
        ("args", arguments),
        ("queue", schedule.queue_name.unwrap_or_default()),
        ("priority", number(schedule.priority.map(|priority| priority.to_string()))),
        ("lock", schedule.lock.unwrap_or_default()),
        ("queueing_lock", schedule.queueing_lock.unwrap_or_default()),
        ("start_within", number(schedule.start_within_seconds.map(|seconds| seconds.to_string()))),
        ("limit_key", schedule.limit_key.unwrap_or_default()),
        ("missed", schedule.missed_ticks),
        ("max_delay", number(schedule.max_delay_seconds.map(|seconds| seconds.to_string()))),
        ("overlap", schedule.overlap),
    ])
}

/// `POST /schedules/edit`
pub(crate) async fn save(State(shared): State<Arc<Shared>>, layout: Layout, FormBody(body): FormBody) -> PageResult {
    allowed(&layout, Action::ChangeSchedule)?;
    let form = Address::exact(&body);
    match save_recorded(&shared, &layout, &form).await {
        Ok(outcome) => Ok(done(&layout, &key(&form), outcome)),
        Err(refused) => {
            let has_args = !form.get("has_args").is_empty();
            Ok(FormPage { layout, form, is_new: false, has_args, tasks: Vec::new(), error: None }.refused(&refused))
        }
    }
}

async fn save_recorded(shared: &Shared, layout: &Layout, form: &Address) -> Result<i64, Refused> {
    let values = Values::read(form)?;
    let key = key(form);
    let record = Record {
        actor: layout.visitor().to_owned(),
        action: Action::ChangeSchedule.as_str(),
        target: name(&key.task_name, &key.periodic_id),
        details: details(form),
    };
    let mut change = change_schedule(&key.task_name, &key.periodic_id)
        .cron(values.cron)
        .time_zone(values.time_zone)
        .reset_options()
        .reset_max_delay()
        .missed(values.missed)
        .overlap(values.overlap);
    set!(values, change: queue priority lock queueing_lock start_within limit_key max_delay);
    let work = async |connection: &mut Connection| {
        let locked = connection.load(LockSchedule { key }).await?.pop();
        let Some((version, old_args)) = locked else {
            return change.execute_pooled(connection).await.map_err(Refused::from);
        };
        if form.get("version") != version.to_string() {
            let text = "Somebody has changed the schedule meanwhile. Open it again to see the new values.";
            return Err(Refused::new(StatusCode::CONFLICT, text));
        }
        // A browser sends the ends of lines in its own way. Arguments that nobody has changed stay exactly as they are.
        let is_typed = !form.get("has_args").is_empty() && form.get("args").replace('\r', "").trim() != old_args.trim();
        let change = if is_typed { change.args(arguments(form)?) } else { change };
        change.execute_pooled(connection).await.map_err(Refused::from)
    };
    recorded(shared, record, work).await
}

/// Leads to the page of the schedule, which says what was done.
fn done(layout: &Layout, key: &ScheduleKey, outcome: i64) -> Response {
    Redirect::to(&format!("{}schedules/show?{}&outcome={outcome}", layout.root, query(key))).into_response()
}
