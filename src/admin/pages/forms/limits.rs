//! The limits of a queue or task.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::admin::action::Action;
use crate::admin::guard::Problem;
use crate::admin::layout::{Layout, html};
use crate::admin::moment::span;
use crate::admin::pages::actions::outcome_of;
use crate::admin::pages::address::Address;
use crate::admin::pages::change::{allowed, requested, unusable};
use crate::admin::pages::forms::FormBody;
use crate::admin::pages::forms::recorded::{Refused, recorded};
use crate::admin::pages::{PageResult, without_companions};
use crate::admin::shared::Shared;
use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateAction, ProcrastinateFlowControl};
use crate::database::statements::actions::Record;
use crate::database::statements::admin::controls::ControlOfPage;
use crate::error::Error;
use crate::queue::job_manager::sealed::Sealed;
use crate::queue::job_manager::{SetLimit, limit_queue, limit_task, unlimit_queue, unlimit_task};
use crate::support::values;

/// The shortest period in which starts are counted.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// The limits of a queue or task, in words.
pub(crate) fn describe(control: &ProcrastinateFlowControl) -> Vec<String> {
    let limit = |running: Option<i32>, starts: Option<i32>, period: Option<f64>| {
        let running = running.map(|jobs| format!("at most {jobs} running"));
        let starts = starts.zip(period).map(|(jobs, seconds)| format!("at most {jobs} starts in {}", length(seconds)));
        running.into_iter().chain(starts).collect::<Vec<_>>()
    };
    let mut texts = limit(control.max_running, control.max_starts, control.start_period_seconds);
    let of_key = limit(control.key_max_running, control.key_max_starts, control.key_start_period_seconds);
    if let Some(field) = field(control) {
        let key = if field.is_empty() { "key of the jobs" } else { &field };
        texts.extend(of_key.into_iter().map(|text| format!("{text} for each {key}")));
    }
    texts
}

fn length(seconds: f64) -> String {
    let length = Duration::try_from_secs_f64(seconds).ok();
    length.and_then(|length| TimeDelta::from_std(length).ok()).map(span).unwrap_or_default()
}

/// The field of the arguments that has the key of a job. It is empty if the key is given with the job.
fn field(control: &ProcrastinateFlowControl) -> Option<String> {
    let path = control.key_path.as_ref()?;
    Some(path.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("."))
}

/// The limit of all jobs, or of each key, as a form.
struct Scope {
    /// `all` or `key`.
    name: &'static str,
    title: &'static str,
    is_set: bool,
    form: Address,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "forms/limits.html")]
struct LimitsPage {
    layout: Layout,
    kind: &'static str,
    name: String,
    /// The version of the limits that the visitor sees.
    seen: String,
    scopes: [Scope; 2],
    outcome: Option<ProcrastinateAction>,
}

/// A queue or task.
struct Target {
    kind: &'static str,
    name: String,
}

impl Target {
    fn read(form: &Address) -> Result<Self, Problem> {
        let kind = ["queue", "task"].into_iter().find(|kind| *kind == form.get("kind"));
        match (kind, form.get("name")) {
            (Some(kind), name) if !name.is_empty() => Ok(Self { kind, name: name.to_owned() }),
            _ => Err(unusable("A limit is for a queue or a task, which must have a name.".to_owned())),
        }
    }

    fn address(&self, layout: &Layout) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("kind", self.kind).append_pair("name", &self.name);
        format!("{}queues/limit?{}", layout.root, query.finish())
    }
}

/// `GET /queues/limit`
pub(crate) async fn limits(State(shared): State<Arc<Shared>>, layout: Layout, RawQuery(query): RawQuery) -> PageResult {
    if !layout.allows(Action::RemoveLimit) {
        allowed(&layout, Action::SetLimit)?;
    }
    let address = Address::exact(&query.unwrap_or_default());
    let target = Target::read(&address)?;
    Ok(html(&read(&shared, layout, &target, &address).await?))
}

async fn read(shared: &Shared, mut layout: Layout, target: &Target, address: &Address) -> Result<LimitsPage, Problem> {
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        if !layout.has_companions {
            return Ok(None);
        }
        let Target { kind, name } = target;
        let lookup = ControlOfPage { kind, name: name.clone(), locks: false };
        let control = started.reading.load(lookup).await?.pop();
        let outcome = outcome_of(address, &layout, &mut started.reading).await?;
        started.reading.end().await?;
        Ok::<_, Error>(Some((control, outcome)))
    };
    let found = found.await.map_err(|error| shared.problem(began, &error))?;
    let Some((control, outcome)) = found else { return Err(without_companions()) };
    let Target { kind, name } = target;
    let seen = version(control.as_ref());
    Ok(LimitsPage { layout, kind, name: name.clone(), seen, scopes: scopes(control.as_ref()), outcome })
}

/// A text that changes with the pause and limits of a queue or task.
fn version(control: Option<&ProcrastinateFlowControl>) -> String {
    control.map_or_else(|| "none".to_owned(), |control| control.changed_at.timestamp_micros().to_string())
}

/// Locks the pause and limits, and refuses the change if they are not those that the visitor has seen.
async fn check_version(target: &Target, form: &Address, connection: &mut Connection) -> Result<(), Refused> {
    let lookup = ControlOfPage { kind: target.kind, name: target.name.clone(), locks: true };
    let control = connection.load(lookup).await?.pop();
    if form.get("seen") == version(control.as_ref()) {
        return Ok(());
    }
    let limits = control.as_ref().map(describe).unwrap_or_default();
    let limits = if limits.is_empty() { "no limit".to_owned() } else { limits.join(", ") };
    let text = format!(
        "The {} {:?} was changed meanwhile. It has {limits} now. Look at the values below, and send them again.",
        target.kind, target.name
    );
    Err(Refused::new(StatusCode::CONFLICT, text))
}

fn scopes(control: Option<&ProcrastinateFlowControl>) -> [Scope; 2] {
    let number = |number: Option<i32>| number.map(|number| number.to_string()).unwrap_or_default();
    let seconds = |seconds: Option<f64>| seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
    let all = Address::of([
        ("running", number(control.and_then(|control| control.max_running))),
        ("starts", number(control.and_then(|control| control.max_starts))),
        ("per", seconds(control.and_then(|control| control.start_period_seconds))),
    ]);
    let of_key = Address::of([
        ("running", number(control.and_then(|control| control.key_max_running))),
        ("starts", number(control.and_then(|control| control.key_max_starts))),
        ("per", seconds(control.and_then(|control| control.key_start_period_seconds))),
        ("field", control.and_then(field).unwrap_or_default()),
    ]);
    let is_limited = |control: &ProcrastinateFlowControl| control.max_running.or(control.max_starts).is_some();
    [
        Scope {
            name: "all",
            title: "All jobs together",
            is_set: control.is_some_and(is_limited),
            form: all,
            error: None,
        },
        Scope {
            name: "key",
            title: "The jobs of each key",
            is_set: control.is_some_and(|control| control.key_path.is_some()),
            form: of_key,
            error: None,
        },
    ]
}

/// `POST /queues/limit`: sets or removes a limit.
pub(crate) async fn change(State(shared): State<Arc<Shared>>, layout: Layout, FormBody(body): FormBody) -> PageResult {
    let form = Address::exact(&body);
    let target = Target::read(&form)?;
    let action = requested(&[Action::SetLimit, Action::RemoveLimit], form.get("action"), &layout)?;
    let is_removal = action == Action::RemoveLimit;
    match perform(&shared, &layout, action, &target, &form).await {
        Ok(outcome) => Ok(Redirect::to(&format!("{}&outcome={outcome}", target.address(&layout))).into_response()),
        Err(refused) => {
            let mut page = read(&shared, layout, &target, &Address::default()).await?;
            let scope = &mut page.scopes[usize::from(form.get("scope") == "key")];
            scope.error = Some(refused.text);
            if !is_removal {
                scope.form = form;
            }
            Ok((refused.status, html(&page)).into_response())
        }
    }
}

async fn perform(
    shared: &Shared,
    layout: &Layout,
    action: Action,
    target: &Target,
    form: &Address,
) -> Result<i64, Refused> {
    let record = |details: Value| Record {
        actor: layout.visitor().to_owned(),
        action: action.as_str(),
        target: format!("{} {}", target.kind, target.name),
        details,
    };
    if action == Action::RemoveLimit {
        let is_of_key = form.get("scope") == "key";
        let unlimit = if target.kind == "queue" { unlimit_queue(&target.name) } else { unlimit_task(&target.name) };
        let unlimit = if is_of_key { unlimit.per_key() } else { unlimit };
        let work = async |connection: &mut Connection| {
            check_version(target, form, connection).await?;
            if unlimit.execute_pooled(connection).await? {
                return Ok(());
            }
            Err(Refused::nothing_to_do("there is no such limit any more"))
        };
        return recorded(shared, record(json!({ "for_each_key": is_of_key })), work).await;
    }
    let (limit, details) = typed_limit(target, form)?;
    let work = async |connection: &mut Connection| {
        check_version(target, form, connection).await?;
        limit.execute_pooled(connection).await?;
        Ok(())
    };
    recorded(shared, record(details), work).await
}

/// The limit that the form has, and what its record says. The rules name the fields as the form does.
fn typed_limit(target: &Target, form: &Address) -> Result<(SetLimit, Value), Refused> {
    let is_of_key = form.get("scope") == "key";
    let text = |field: &str| Some(form.get(field).trim()).filter(|text| !text.is_empty());
    let wrong = |what: &str, field: &str, rule: String| Refused::value(what, form.get(field), rule);
    let together = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    let number = |what: &str, field: &str| {
        text(field).map(values::number_of_jobs).transpose().map_err(|rule| wrong(what, field, rule))
    };
    let (running, starts) = (number("number of running jobs", "running")?, number("number of starts", "starts")?);
    let period = text("per").map(values::duration).transpose().map_err(|rule| wrong("period", "per", rule))?;
    if period.is_some_and(|period| period < SHORTEST_PERIOD) {
        return Err(wrong("period", "per", "must be at least 10 ms".to_owned()));
    }
    let field = text("field").filter(|_| is_of_key);
    if field.is_some_and(|field| field.split('.').any(str::is_empty)) {
        let rule = "must be names, separated by single dots, such as customer.id";
        return Err(wrong("field", "field", rule.to_owned()));
    }
    let mut limit = if target.kind == "queue" { limit_queue(&target.name) } else { limit_task(&target.name) };
    if let Some(jobs) = running {
        limit = limit.max_running(jobs);
    }
    match (starts, period) {
        (Some(jobs), Some(period)) => limit = limit.max_starts(jobs, period),
        (None, None) if running.is_some() => {}
        (None, None) => return Err(together("Set the most running jobs, or the most starts in each period.")),
        _ => return Err(together("A number of starts and their period must be set together.")),
    }
    limit = match field {
        _ if !is_of_key => limit,
        Some(field) => limit.per_key(field),
        None => limit.per_limit_key(),
    };
    let details = json!({
        "running": running,
        "starts": starts,
        "period_seconds": period.map(|period| period.as_secs_f64()),
        "for_each_key": is_of_key,
        "field": field,
    });
    Ok((limit, details))
}
