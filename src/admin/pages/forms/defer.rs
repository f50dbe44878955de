//! The form that defers a job by the name of its task.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect};
use serde_json::{Map, Value, json};

use crate::admin::action::Action;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::address::Address;
use crate::admin::pages::change::allowed;
use crate::admin::pages::forms::FormBody;
use crate::admin::pages::forms::recorded::Refused;
use crate::admin::shared::Shared;
use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::statements::actions::{Record, SetExactArgs};
use crate::database::statements::defer::LivingHolders;
use crate::error::Error;
use crate::job::JobId;
use crate::queue::bulk::record::{begin, end, record_of_job};
use crate::queue::defer::if_enqueued::{Deferred, IfEnqueued};
use crate::queue::defer::insert::insert_or_find;
use crate::queue::defer::options::JobOptions;
use crate::queue::defer::{JobToDefer, configure_task};
use crate::support::values::{self, inexact_number};

/// How long after the end of its job a form cannot defer another one.
const SAME_FORM: Duration = Duration::from_secs(3_600);

#[derive(Template)]
#[template(path = "forms/defer.html")]
struct DeferPage {
    layout: Layout,
    form: Address,
    /// The tasks of the program, to choose from.
    tasks: Vec<String>,
    /// Whether the program knows which tasks there are.
    has_tasks: bool,
    error: Option<Refused>,
    /// The job that is in the way.
    holder: Option<JobId>,
}

/// `GET /jobs/defer`
pub(crate) async fn form(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    allowed(&layout, Action::Defer)?;
    shared.need_companions(&mut layout).await?;
    let address = Address::exact(&query.unwrap_or_default());
    let token = format!("{:032x}", fastrand::u128(..));
    let form = Address::of([("task", address.get("task").to_owned()), ("token", token)]);
    Ok(html(&page(&shared, layout, form)))
}

fn page(shared: &Shared, layout: Layout, form: Address) -> DeferPage {
    let tasks = shared.app.tasks_with(|_| true);
    // Every program has the built-in ones.
    let has_tasks = !shared.app.tasks_with(|task| !task.is_builtin).is_empty();
    DeferPage { layout, form, tasks, has_tasks, error: None, holder: None }
}

/// What a form has done.
enum Outcome {
    /// It has deferred or replaced this job, with the ID of the record.
    Done(JobId, i64),
    /// This job was there before.
    Kept(JobId),
    /// It was sent before, and has deferred this job.
    Again(JobId),
}

/// `POST /jobs/defer`
pub(crate) async fn defer(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    FormBody(body): FormBody,
) -> PageResult {
    allowed(&layout, Action::Defer)?;
    shared.need_companions(&mut layout).await?;
    let mut page = page(&shared, layout, Address::read(&body));
    let (error, lock) = match perform(&shared, &page).await {
        Ok(Outcome::Done(id, outcome)) => {
            return Ok(Redirect::to(&format!("{}jobs/{id}?outcome={outcome}", page.layout.root)).into_response());
        }
        Ok(Outcome::Kept(id)) => {
            return Ok(Redirect::to(&format!("{}jobs/{id}?defer=kept", page.layout.root)).into_response());
        }
        Ok(Outcome::Again(id)) => {
            return Ok(Redirect::to(&format!("{}jobs/{id}?defer=again", page.layout.root)).into_response());
        }
        Err(Stop::Refused(refused)) => (refused, None),
        Err(Stop::Failed(error)) => {
            let lock = match &error {
                Error::AlreadyEnqueued { queueing_lock, .. } => Some(queueing_lock.clone()),
                Error::NotUnique { job_id, .. } => {
                    page.holder = *job_id;
                    None
                }
                _ => None,
            };
            (Refused::from(error), lock)
        }
    };
    if let Some(lock) = lock {
        page.holder = holder(&shared, lock).await;
    }
    let status = error.status;
    page.error = Some(error);
    Ok((status, html(&page)).into_response())
}

/// Why nothing was deferred.
enum Stop {
    Refused(Refused),
    Failed(Error),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The pending job with this queueing lock. If it cannot be found, the error stands without it.
async fn holder(shared: &Shared, queueing_lock: String) -> Option<JobId> {
    let mut started = shared.read().await.ok()?;
    let holders = started.reading.load(LivingHolders { queueing_locks: vec![queueing_lock] }).await.ok()?;
    started.reading.end().await.ok()?;
    holders.first().map(|(_, id)| *id)
}

/// The typed arguments: as a value, and as they are written if a value would round a number.
fn arguments(form: &Address) -> Result<(Value, Option<String>), Refused> {
    match form.get("args").trim() {
        "" => Ok((Value::Object(Map::new()), None)),
        text => {
            let args = values::typed_arguments(text).map_err(|rule| Refused::value("arguments", text, rule))?;
            Ok((args, inexact_number(text).map(|_| text.to_owned())))
        }
    }
}

fn options(form: &Address) -> Result<JobOptions, Refused> {
    let mut options = JobOptions::new();
    let text = |field: &str| Some(form.get(field)).filter(|text| !text.is_empty());
    if let Some(queue) = text("queue").map(str::trim).filter(|queue| !queue.is_empty()) {
        options = options.queue(queue);
    }
    if let Some(lock) = text("lock") {
        options = options.lock(lock);
    }
    if let Some(lock) = text("queueing_lock") {
        options = options.queueing_lock(lock);
    }
    if let Some(text) = text("priority") {
        options = options.priority(values::priority(text).map_err(|rule| Refused::value("priority", text, rule))?);
    }
    if let Some(text) = text("at") {
        options = options.schedule_at(values::time(text).map_err(|rule| Refused::value("earliest start", text, rule))?);
    }
    Ok(options)
}

/// A form that was sent twice defers one job: its unique key is that of the form and its values. A task with a unique
/// key keeps it. A task that replaces its pending jobs cannot have one.
fn sent_once(job: JobToDefer, form: &Address) -> (JobToDefer, Option<String>) {
    let (token, options) = (form.get("token"), job.options());
    if token.is_empty() || options.unique.is_some() || options.if_enqueued.is_some_and(IfEnqueued::is_replacing) {
        return (job, None);
    }
    let mut hasher = DefaultHasher::new();
    form.hash(&mut hasher);
    let key = format!("admin form {token} {:016x}", hasher.finish());
    let options = JobOptions::new().unique_for(&key, SAME_FORM);
    (job.configure(&options), Some(key))
}

async fn perform(shared: &Shared, page: &DeferPage) -> Result<Outcome, Stop> {
    let form = &page.form;
    let (args, exact) = arguments(form)?;
    let options = options(form)?;
    let is_any_allowed = !page.has_tasks || !form.get("unknown").is_empty();
    let task = form.get("task").trim();
    let job = match shared.app.configure_task(task, args.clone()) {
        Err(Error::UnknownTask { .. }) if is_any_allowed => configure_task(task, args),
        job => job?,
    };
    let (job, key) = sent_once(job.configure(&options), form);
    let job = job.into_checked_job()?;
    let mut connection = shared.app.connector().get_limited("defer the job", shared.statement_timeout).await?;
    begin(&mut connection).await?;
    let work = async |connection: &mut Connection| {
        let deferred = insert_or_find(job, connection).await?;
        if let Deferred::Kept(id) = deferred {
            return Ok(Outcome::Kept(id));
        }
        let job_id = deferred.id();
        if let Some(args) = exact {
            connection.load(SetExactArgs { job_id, args }).await?;
        }
        let record = Record {
            actor: page.layout.visitor().to_owned(),
            action: Action::Defer.as_str(),
            target: format!("job {job_id}"),
            details: if deferred.is_new() {
                json!({ "task": task })
            } else {
                json!({ "task": task, "replaced": true })
            },
        };
        Ok(Outcome::Done(job_id, record_of_job(record, job_id, connection).await?))
    };
    let done = work(&mut connection).await;
    match end(&mut connection, done).await {
        Err(Error::NotUnique { key: taken, job_id: Some(id), .. }) if Some(&taken) == key.as_ref() => {
            Ok(Outcome::Again(id))
        }
        done => Ok(done?),
    }
}
