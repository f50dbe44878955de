//! Names that cannot be, or that would say two things.

use procrastinate::{App, AppBuilder, Blueprint, Error, PeriodicTask, task};

use crate::support::{connector, database};

async fn builder() -> AppBuilder {
    App::builder(connector(&database()).await)
}

fn refusal(builder: AppBuilder) -> String {
    let error = builder.build().unwrap_err();
    assert!(error.is_invalid(), "{error}");
    error.to_string()
}

#[task]
async fn plain() {}

#[task(name = "plain")]
async fn namesake() {}

#[task(namespace = "part")]
async fn packed() {}

#[task(aliases = ["plain"])]
async fn formerly_plain() {}

#[task(aliases = ["old"])]
async fn renamed() {}

#[task(aliases = ["old"])]
async fn renamed_too() {}

#[tokio::test]
async fn a_name_or_alias_of_two_tasks_is_refused_and_both_are_named() {
    let in_both = |name: &str, one: &str, other: &str| {
        let module = module_path!();
        format!(
            "could not build the application: the tasks {module}::{one} and {module}::{other} are both named \"{name}\"; \
             rename one with #[task(name = \"…\")] or give it a namespace with #[task(namespace = \"…\")]"
        )
    };
    assert_eq!(refusal(builder().await.task::<plain>().task::<namesake>()), in_both("plain", "plain", "namesake"));
    assert_eq!(
        refusal(builder().await.task::<plain>().task::<formerly_plain>()),
        in_both("plain", "plain", "formerly_plain")
    );
    assert_eq!(
        refusal(builder().await.task::<formerly_plain>().task::<plain>()),
        in_both("plain", "formerly_plain", "plain")
    );
    assert_eq!(
        refusal(builder().await.task::<renamed>().task::<renamed_too>()),
        in_both("old", "renamed", "renamed_too")
    );
    assert_eq!(
        refusal(builder().await.task::<plain>().task::<renamed>().add_task_alias::<renamed>("plain")),
        in_both("plain", "plain", "renamed")
    );
    let builtin = "procrastinate.builtin_tasks.remove_old_jobs";
    assert!(refusal(builder().await.task::<plain>().add_task_alias::<plain>(builtin)).starts_with(
        "could not build the application: the tasks procrastinate::app::builtin_tasks::RemoveOldJobs and "
    ));
}

#[tokio::test]
async fn a_name_that_one_task_has_twice_is_allowed() {
    let builder = builder().await.task::<renamed>();
    let app = builder.add_task_alias::<renamed>("old").add_task_alias::<renamed>("renamed").build().unwrap();
    assert_eq!(app.task_names(), ["renamed"]);
}

#[tokio::test]
async fn a_task_that_is_added_twice_is_refused() {
    let twice = format!("({}::plain) was added twice", module_path!());
    assert_eq!(
        refusal(builder().await.task::<plain>().task::<plain>()),
        format!("could not build the application: the task \"plain\" {twice}")
    );
    let parts = || Blueprint::new().task::<packed>();
    assert_eq!(
        refusal(builder().await.add_tasks_from(parts(), "part").add_tasks_from(parts(), "part")),
        format!(
            "could not build the application: the task \"part:packed\" ({}::packed) was added twice",
            module_path!()
        )
    );
}

#[tokio::test]
async fn a_task_without_the_namespace_of_its_blueprint_is_refused() {
    #[task(namespace = "parts")]
    async fn elsewhere() {}

    let rule = "must begin with \"part:\", because its blueprint is added with the namespace \"part\"; add \
                #[task(namespace = \"part\")]";
    let part = Blueprint::new().task::<packed>().task::<plain>();
    assert_eq!(refusal(builder().await.add_tasks_from(part, "part")), format!("invalid task name \"plain\": {rule}"));
    let part = Blueprint::new().task::<elsewhere>();
    assert_eq!(
        refusal(builder().await.add_tasks_from(part, "part")),
        format!("invalid task name \"parts:elsewhere\": {rule}")
    );
    // Also a part of a part.
    let part = Blueprint::new().add_tasks_from(Blueprint::new().task::<packed>(), "part");
    assert!(refusal(builder().await.add_tasks_from(part, "other")).contains("\"other:\""));
}

#[tokio::test]
async fn an_invalid_namespace_or_alias_is_refused() {
    let part = || Blueprint::new().task::<packed>();
    assert_eq!(refusal(builder().await.add_tasks_from(part(), "")), r#"invalid namespace "": must not be empty"#);
    assert!(
        refusal(builder().await.add_tasks_from(part(), "n".repeat(129)))
            .ends_with("must be at most 128 bytes, but is 129")
    );
    assert!(builder().await.add_tasks_from(Blueprint::new(), "n".repeat(128)).build().is_ok());
    assert_eq!(
        refusal(builder().await.task::<plain>().add_task_alias::<plain>("")),
        r#"invalid alias of a task "": must not be empty"#
    );
    assert_eq!(
        refusal(builder().await.task::<plain>().add_task_alias::<plain>("a\0")),
        r#"invalid alias of a task "a\0": must not contain the NUL character, which PostgreSQL cannot store"#
    );
}

#[tokio::test]
async fn an_alias_or_a_schedule_of_a_task_that_was_not_added_is_refused() {
    let unknown = r#"unknown task "renamed"; the tasks of this application are: plain"#;
    assert_eq!(refusal(builder().await.task::<plain>().add_task_alias::<renamed>("a")), unknown);
    let part = Blueprint::new().periodic(PeriodicTask::new::<renamed>("@daily"));
    assert_eq!(refusal(builder().await.task::<plain>().add_tasks_from(part, "a")), unknown);
    let error = builder().await.add_task_alias::<renamed>("a").build().unwrap_err();
    assert!(matches!(&error, Error::UnknownTask { known, .. } if known.is_empty()), "{error}");
}
