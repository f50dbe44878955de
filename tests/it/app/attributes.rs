//! Attributes that Rust has for functions and parameters, on tasks.

use procrastinate::{App, JobStatus, Task, task};
use serde_json::json;

use crate::support::{connect, connector, database, jobs, statuses};

/// A task warns where it is deferred, not where it is defined and registered.
mod outdated {
    #![deny(deprecated)]

    use procrastinate::{AppBuilder, task};

    #[deprecated = "use post"]
    #[task]
    pub(super) async fn mail(to: String) {
        drop(to);
    }

    #[deprecated(note = "use post")]
    #[task(pass_context)]
    pub(super) fn fax(_context: procrastinate::JobContext) {}

    pub(super) fn register(builder: AppBuilder) -> AppBuilder {
        builder.task::<mail>().task::<fax>()
    }
}

#[tokio::test]
async fn a_deprecated_task_warns_its_callers_and_still_runs() {
    let database = database();
    let app = outdated::register(App::builder(connector(&database).await)).build().unwrap();
    #[expect(deprecated, reason = "it is what the test is about")]
    let jobs = [outdated::mail("ada".to_owned()), outdated::fax()];
    app.batch_defer(jobs).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(statuses(&mut connect(&database)), [JobStatus::Succeeded, JobStatus::Succeeded]);
}

#[tokio::test]
async fn an_argument_can_have_conditions_and_documentation() {
    /// Greets.
    #[task]
    async fn greet(
        /// Who is greeted.
        name: String,
        #[cfg(any())] _missing: Nonexistent,
        #[cfg(test)]
        #[serde(default)]
        times: u8,
        #[cfg_attr(test, serde(rename = "loudly"))] is_loud: bool,
    ) -> Result<(), String> {
        if (name.as_str(), times, is_loud) == ("ada", 2, true) { Ok(()) } else { Err(name) }
    }
    let database = database();
    let app = App::builder(connector(&database).await).task::<greet>().build().unwrap();
    app.defer(greet("ada".to_owned(), 2, true)).await.unwrap();
    app.defer(greet { name: "ada".to_owned(), times: 2, is_loud: true }.job()).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    let mut connection = connect(&database);
    assert_eq!(statuses(&mut connection), [JobStatus::Succeeded, JobStatus::Succeeded]);
    assert_eq!(jobs(&mut connection)[0].args, json!({ "name": "ada", "times": 2, "loudly": true }));
}
