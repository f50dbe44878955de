//! Namespaces and aliases: both sides give a task the same names.

use procrastinate::{App, Blueprint, JobStatus, configure_task, task};
use serde_json::{Value, json};

use super::{Meeting, on_both_databases};
use crate::support::{connect, connector, rows, statuses};

on_both_databases!(a_task_in_namespaces_has_the_names_that_it_has_in_python);

/// As `peer.py` has it.
#[task(namespace = "part:deeper", name = "peer.named", aliases = ["part:deeper:peer.formerly"])]
async fn named() {}

async fn a_task_in_namespaces_has_the_names_that_it_has_in_python(meeting: Meeting) {
    let deeper = Blueprint::new().task::<named>();
    let part = Blueprint::new().add_tasks_from(deeper, "part:deeper");
    let app = App::builder(connector(&meeting.database).await)
        .add_tasks_from(part, "part")
        .add_task_alias::<named>("peer.earliest")
        .build()
        .unwrap();

    let names = meeting.python.ask_one("names_of_parts", json!(null)).await;
    assert_eq!(names, json!(["part:deeper:peer.formerly", "part:deeper:peer.named", "peer.earliest"]));
    let names = names.as_array().unwrap().iter().filter_map(Value::as_str);
    app.batch_defer(names.map(|name| configure_task(name, json!({})))).await.unwrap();
    let theirs = json!([{ "task": "part:deeper:peer.named", "args": {} }, { "task": "peer.earliest", "args": {} }]);
    meeting.python.ask("defer", theirs).await;
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&meeting.database);
    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; 5]);

    app.defer(named()).await.unwrap();
    app.defer(configure_task("peer.earliest", json!({}))).await.unwrap();
    meeting.python.ask("work", json!({ "wait": false })).await;
    assert_eq!(statuses(&mut connection), vec![JobStatus::Succeeded; 7]);
    // A job that Python defers by an alias gets the name of the task.
    let by_alias = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'part:deeper:peer.named'";
    assert_eq!(rows(&mut connection, by_alias), ["4"]);
}
