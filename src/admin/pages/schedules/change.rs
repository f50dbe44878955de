//! Runs, pauses, resumes and removes a schedule.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use serde_json::json;

use super::{ACTIONS, key, name, query};
use crate::admin::action::Action;
use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::address::Address;
use crate::admin::pages::change::requested;
use crate::admin::pages::forms::FormBody;
use crate::admin::pages::forms::recorded::{Refused, recorded};
use crate::admin::shared::Shared;
use crate::database::connection::Connection;
use crate::database::statements::actions::Record;
use crate::database::statements::schedules::ScheduleKey;
use crate::queue::job_manager::sealed::Sealed;
use crate::queue::job_manager::{pause_schedule, remove_schedule, resume_schedule, run_schedule_now};

#[derive(Template)]
#[template(path = "schedules/remove.html")]
struct RemovePage {
    layout: Layout,
    key: ScheduleKey,
}

impl RemovePage {
    fn name(&self) -> String {
        name(&self.key.task_name, &self.key.periodic_id)
    }

    fn query(&self) -> String {
        query(&self.key)
    }
}

/// `POST /schedules/change`
pub(crate) async fn change(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    FormBody(body): FormBody,
) -> PageResult {
    let form = Address::exact(&body);
    let action = requested(&ACTIONS, form.get("action"), &layout)?;
    let key = key(&form);
    if action == Action::RemoveSchedule && form.get("confirmed").is_empty() {
        shared.need_companions(&mut layout).await?;
        return Ok(html(&RemovePage { layout, key }));
    }
    let done = perform(&shared, &layout, action, &key, form.get("reason").trim()).await;
    let outcome = done.map_err(|refused| refused.into_problem("The schedule could not be changed"))?;
    let page = match (action, form.get("from")) {
        (Action::RemoveSchedule, _) | (_, "list") => "schedules?".to_owned(),
        _ => format!("schedules/show?{}&", query(&key)),
    };
    Ok(Redirect::to(&format!("{}{page}outcome={outcome}", layout.root)).into_response())
}

async fn perform(
    shared: &Shared,
    layout: &Layout,
    action: Action,
    key: &ScheduleKey,
    reason: &str,
) -> Result<i64, Refused> {
    let ScheduleKey { task_name, periodic_id } = key;
    let record = Record {
        actor: layout.visitor().to_owned(),
        action: action.as_str(),
        target: name(task_name, periodic_id),
        details: if reason.is_empty() { json!({}) } else { json!({ "reason": reason }) },
    };
    let work = async |connection: &mut Connection| {
        match action {
            Action::PauseSchedule => {
                let pause = pause_schedule(task_name, periodic_id).by(layout.visitor());
                let pause = if reason.is_empty() { pause } else { pause.reason(reason) };
                if !pause.execute_pooled(connection).await? {
                    let text = "it is paused already; resume it to pause it for another reason";
                    return Err(Refused::nothing_to_do(text));
                }
            }
            Action::ResumeSchedule => {
                if !resume_schedule(task_name, periodic_id).execute_pooled(connection).await? {
                    return Err(Refused::nothing_to_do("it is not paused"));
                }
            }
            Action::RemoveSchedule => remove_schedule(task_name, periodic_id).execute_pooled(connection).await?,
            _ => run_schedule_now(task_name, periodic_id).execute_pooled(connection).await?,
        }
        Ok::<_, Refused>(())
    };
    recorded(shared, record, work).await
}
