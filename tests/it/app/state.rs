//! Shared values as parameters of tasks.

use std::sync::{Arc, Mutex};

use procrastinate::{App, AppBuilder, Error, JobContext, Next, RequiredState, State, Task, TaskResult, task};
use serde::{Deserialize, Serialize};
use serde_json::json;
use throwaway_postgres::Database;

use crate::support::{connect, connector, database, jobs};

struct Sender(&'static str);

type Letters = Arc<Mutex<Vec<String>>>;

#[task(lock = "{name}")]
async fn greet(sender: State<Sender>, name: String, letters: State<Letters>) {
    letters.lock().unwrap().push(format!("Dear {name}, yours {}", sender.0));
}

#[task(pass_context)]
fn greet_slowly(
    context: JobContext,
    #[cfg(any())] missing: State<Nonexistent>,
    name: String,
    /// Written by every greeting.
    #[cfg(test)]
    letters: State<Letters>,
    _: State<Sender>,
) -> Result<(), String> {
    letters.lock().unwrap().push(format!("job {} greets {name}", context.job().id));
    Ok(())
}

async fn builder(database: &Database) -> AppBuilder {
    App::builder(connector(database).await)
}

fn refusal(builder: AppBuilder) -> String {
    let error = builder.build().unwrap_err();
    assert!(error.is_invalid(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_task_gets_the_values_of_the_application_and_they_are_not_arguments() {
    let letters = Letters::default();
    let database = database();
    let app = builder(&database).await.state(Sender("Ada")).state(letters.clone());
    let app = app.task::<greet>().task::<greet_slowly>().build().unwrap();
    app.batch_defer([greet("Grace".into()), greet_slowly("Alan".into())]).await.unwrap();
    app.worker().stop_when_empty().run().await.unwrap();
    assert_eq!(*letters.lock().unwrap(), ["Dear Grace, yours Ada", "job 2 greets Alan"]);
    let jobs = jobs(&mut connect(&database));
    assert_eq!(jobs[0].args, json!({ "name": "Grace" }));
    assert_eq!((jobs[0].lock.as_deref(), &jobs[1].args), (Some("Grace"), &json!({ "name": "Alan" })));
}

#[tokio::test]
async fn a_missing_value_is_an_error_when_the_application_is_built() {
    let database = database();
    let error = refusal(builder(&database).await.state(Sender("Ada")).task::<greet>());
    let letters = std::any::type_name::<Letters>();
    let rule = format!("must have a value of the type {letters}; add one with App::builder(…).state(…)");
    assert_eq!(error, format!("invalid state of the task \"greet\": {rule}"));
    let error = refusal(builder(&database).await.state(Letters::default()).task::<greet_slowly>());
    assert!(error.starts_with("invalid state of the task \"greet_slowly\": must have a value of the type"), "{error}");
    assert!(error.contains("state::Sender;"), "{error}");
    assert!(builder(&database).await.state(Sender("Ada")).state(Letters::default()).task::<greet>().build().is_ok());
}

#[tokio::test]
async fn a_value_of_the_worker_or_a_middleware_takes_precedence() {
    async fn as_alan(context: JobContext, next: Next) -> TaskResult {
        next.run(context.with_state(Sender("Alan"))).await
    }

    let letters = Letters::default();
    let database = database();
    let app = builder(&database).await.state(Sender("Ada")).state(letters.clone()).task::<greet>().build().unwrap();
    app.defer(greet("you".into())).await.unwrap();
    app.worker().state(Sender("Grace")).stop_when_empty().run().await.unwrap();
    app.defer(greet("you".into())).await.unwrap();
    app.worker().state(Sender("Grace")).task_middleware(as_alan).stop_when_empty().run().await.unwrap();
    assert_eq!(*letters.lock().unwrap(), ["Dear you, yours Grace", "Dear you, yours Alan"]);
}

#[tokio::test]
async fn a_unit_test_passes_values_to_the_code_alone() {
    let letters = State::new(Letters::default());
    greet::body(State::new(Sender("Ada")), "Grace".into(), letters.clone()).await;
    assert_eq!(*letters.lock().unwrap(), ["Dear Grace, yours Ada"]);
}

#[tokio::test]
async fn a_task_without_the_attribute_lists_the_types_it_needs() {
    #[derive(Serialize, Deserialize)]
    struct Sign {
        document: i64,
    }

    impl Task for Sign {
        const NAME: &'static str = "sign";
        type Output = Result<(), Error>;

        fn required_state() -> Vec<RequiredState> {
            vec![RequiredState::of::<Sender>()]
        }

        async fn run(self, context: JobContext) -> Self::Output {
            let sender: State<Sender> = State::of(&context)?;
            context.state::<Letters>()?.lock().unwrap().push(format!("{}: {}", self.document, sender.0));
            Ok(())
        }
    }

    let database = database();
    assert!(refusal(builder(&database).await.task::<Sign>()).contains("state of the task \"sign\""));
    // The letters are not required, so a worker can have them alone.
    let app = builder(&database).await.state(Sender("Ada")).task::<Sign>().build().unwrap();
    app.defer(Sign { document: 7 }.job()).await.unwrap();
    let letters = Letters::default();
    app.worker().state(letters.clone()).stop_when_empty().run().await.unwrap();
    assert_eq!(*letters.lock().unwrap(), ["7: Ada"]);
}
