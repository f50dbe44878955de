//! The list of queues.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Redirect};
use serde_json::json;

use crate::admin::action::Action;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::actions::outcome_of;
use crate::admin::pages::address::{Address, count, count_up_to, grouped};
use crate::admin::pages::change::{requested, unusable};
use crate::admin::pages::forms::FormBody;
use crate::admin::pages::forms::recorded::{Refused, recorded};
use crate::admin::shared::Shared;
use crate::database::connection::Connection;
use crate::database::connection::run::Run;
use crate::database::models::{ProcrastinateAction, ProcrastinateFlowControl};
use crate::database::statements::actions::Record;
use crate::database::statements::admin::FAILED_CEILING;
use crate::database::statements::admin::controls::{ControlsOfPage, MOST_CONTROLS};
use crate::database::statements::admin::overview::{ListOfQueues, ListedQueue};
use crate::error::Error;
use crate::queue::job_manager::sealed::Sealed;
use crate::queue::job_manager::{pause_queue, pause_task, resume_queue, resume_task};

/// The most queues that a page lists.
pub(crate) const MOST_QUEUES: i64 = 500;

#[derive(Template)]
#[template(path = "queues.html")]
struct QueuesPage {
    layout: Layout,
    queues: Vec<ListedQueue>,
    controls: Vec<ProcrastinateFlowControl>,
    outcome: Option<ProcrastinateAction>,
}

impl ListedQueue {
    /// How many of its jobs are pending.
    pub(crate) fn pending(&self) -> String {
        count_up_to(self.pending, self.ceiling)
    }

    /// How many of its jobs are scheduled.
    pub(crate) fn scheduled(&self) -> String {
        count_up_to(self.scheduled, self.ceiling)
    }
}

/// How many jobs of a queue have failed. A count of all queues together that has stopped is a minimum for each.
pub(crate) fn failed(queue: &ListedQueue, queues: &[ListedQueue], has_companions: bool) -> String {
    let has_stopped = queues.iter().map(|queue| queue.failed).sum::<i64>() > FAILED_CEILING;
    let plus = if queue.failed > 0 && (has_stopped || !has_companions) { "+" } else { "" };
    format!("{}{plus}", grouped(queue.failed))
}

impl QueuesPage {
    fn failed(&self, queue: &ListedQueue) -> String {
        failed(queue, &self.queues, self.layout.has_companions)
    }

    fn count(&self, jobs: &i64) -> String {
        count(*jobs)
    }

    fn is_paused(&self, name: &str) -> bool {
        self.control(name).is_some_and(|control| control.paused_at.is_some())
    }

    /// Whether there may be more pauses and limits than the page knows.
    fn has_more_controls(&self) -> bool {
        i64::try_from(self.controls.len()).is_ok_and(|controls| controls >= MOST_CONTROLS)
    }

    /// The limited tasks, and the queues that are not listed.
    fn others(&self) -> Vec<&ProcrastinateFlowControl> {
        let is_listed = |control: &ProcrastinateFlowControl| {
            control.kind == "queue" && self.queues.iter().any(|queue| queue.name == control.name)
        };
        self.controls.iter().filter(|control| !is_listed(control)).collect()
    }

    /// The pause or limit of the queue.
    fn control(&self, name: &str) -> Option<&ProcrastinateFlowControl> {
        self.controls.iter().find(|control| control.kind == "queue" && control.name == name)
    }
}

/// `GET /queues`
pub(crate) async fn queues(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    let address = Address::read(&query.unwrap_or_default());
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let queues =
            started.reading.load(ListOfQueues { has_companions: layout.has_companions, limit: MOST_QUEUES }).await?;
        let controls = if layout.has_companions { started.reading.load(ControlsOfPage).await? } else { Vec::new() };
        let outcome = outcome_of(&address, &layout, &mut started.reading).await?;
        started.reading.end().await?;
        Ok::<_, Error>(QueuesPage { layout, queues, controls, outcome })
    };
    let page = found.await.map_err(|error| shared.problem(began, &error))?;
    Ok(html(&page))
}

/// `POST /queues/change`: pauses or resumes a queue or task.
pub(crate) async fn change_queue(
    State(shared): State<Arc<Shared>>,
    layout: Layout,
    FormBody(body): FormBody,
) -> PageResult {
    let form = Address::exact(&body);
    let (kind, name, reason) = (form.get("kind"), form.get("name"), form.get("reason").trim());
    let is_task = match kind {
        "queue" => false,
        "task" => true,
        _ => return Err(unusable(format!("The kind is {kind:?}, and must be queue or task."))),
    };
    let action = requested(&[Action::Pause, Action::Resume], form.get("action"), &layout)?;
    let record = Record {
        actor: layout.visitor().to_owned(),
        action: action.as_str(),
        target: format!("{kind} {name}"),
        details: if reason.is_empty() { json!({}) } else { json!({ "reason": reason }) },
    };
    let work = async |connection: &mut Connection| {
        if action == Action::Resume {
            let resume = if is_task { resume_task(name) } else { resume_queue(name) };
            if !resume.execute_pooled(connection).await? {
                return Err(Refused::nothing_to_do(format!("the {kind} {name:?} is not paused")));
            }
        } else {
            let pause = if is_task { pause_task(name) } else { pause_queue(name) };
            let pause = pause.by(layout.visitor());
            let pause = if reason.is_empty() { pause } else { pause.reason(reason) };
            if !pause.execute_pooled(connection).await? {
                let text = format!("the {kind} {name:?} is paused already; resume it to pause it for another reason");
                return Err(Refused::nothing_to_do(text));
            }
        }
        Ok(())
    };
    let done = recorded(&shared, record, work).await;
    let outcome = done.map_err(|refused| refused.into_problem(&format!("The {kind} could not be changed")))?;
    let page = if is_task { "tasks" } else { "queues" };
    Ok(Redirect::to(&format!("{}{page}?outcome={outcome}", layout.root)).into_response())
}
