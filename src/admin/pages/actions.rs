//! What operators did.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use chrono::TimeDelta;
use serde_json::Value;

use crate::admin::layout::{Layout, html};
use crate::admin::pages::PageResult;
use crate::admin::pages::address::Address;
use crate::admin::reading::Reading;
use crate::admin::shared::Shared;
use crate::database::models::ProcrastinateAction;
use crate::database::statements::actions::Beyond;
use crate::error::Error;
use crate::queue::bulk::record::list_actions;

/// How many actions a page lists.
const PAGE_SIZE: i64 = 25;

/// How long a page tells the visitor what it has just done.
const OUTCOME_SHOWN: TimeDelta = TimeDelta::minutes(10);

#[derive(Template)]
#[template(path = "actions.html")]
struct ActionsPage {
    layout: Layout,
    actions: Vec<ProcrastinateAction>,
    /// Whether the page begins at the newest action.
    is_first: bool,
    newer: Option<i64>,
    older: Option<i64>,
}

/// `GET /actions`
pub(crate) async fn actions(
    State(shared): State<Arc<Shared>>,
    mut layout: Layout,
    RawQuery(query): RawQuery,
) -> PageResult {
    let address = Address::read(&query.unwrap_or_default());
    let beyond = match (address.get("before").parse(), address.get("after").parse()) {
        (Ok(id), _) => Beyond::Before(id),
        (_, Ok(id)) => Beyond::After(id),
        _ => Beyond::Nothing,
    };
    let mut started = shared.read().await?;
    let began = started.began();
    let found = async {
        started.complete(&mut layout).await?;
        let actions = if layout.has_companions {
            list_actions(beyond, PAGE_SIZE, &mut started.reading).await?
        } else {
            Vec::new()
        };
        started.reading.end().await?;
        Ok::<_, Error>(actions)
    };
    let actions = found.await.map_err(|error| shared.problem(began, &error))?;
    let is_full = i64::try_from(actions.len()).is_ok_and(|actions| actions >= PAGE_SIZE);
    let older = actions.last().map(|action| action.id).filter(|_| is_full || matches!(beyond, Beyond::After(_)));
    let is_first = matches!(beyond, Beyond::Nothing);
    let newer = actions.first().map(|action| action.id).filter(|_| !is_first);
    Ok(html(&ActionsPage { layout, actions, is_first, newer, older }))
}

/// The options of an action in words, such as `reason: too many errors; priority: 7`. Arguments are left out: not every
/// visitor may see them.
pub(crate) fn options(action: &ProcrastinateAction) -> String {
    let all = action.details.as_object().into_iter().flatten();
    let texts = all.filter_map(|(name, value)| {
        let text = match value {
            Value::Null | Value::Bool(false) => return None,
            _ if name == "args" => return None,
            Value::Bool(true) => String::new(),
            Value::String(text) => format!(": {text}"),
            other => format!(": {other}"),
        };
        Some(format!("{}{text}", name.replace('_', " ")))
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// The action that the address names, whose outcome a page shows.
pub(crate) async fn outcome_of(
    address: &Address,
    layout: &Layout,
    reading: &mut Reading,
) -> Result<Option<ProcrastinateAction>, Error> {
    let Ok(id) = address.get("outcome").parse::<i64>() else { return Ok(None) };
    if !layout.has_companions {
        return Ok(None);
    }
    let found = list_actions(Beyond::Before(id.saturating_add(1)), 1, reading).await?;
    // A link from somebody else, or an old one, must not look as if something had just been done.
    let is_own = |action: &ProcrastinateAction| action.id == id && action.actor == layout.visitor();
    let is_new = |action: &ProcrastinateAction| layout.now.signed_duration_since(action.at) < OUTCOME_SHOWN;
    Ok(found.into_iter().find(|action| is_own(action) && is_new(action)))
}
