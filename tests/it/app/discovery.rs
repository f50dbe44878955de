//! Tasks that are found without being listed. All tests are one program, so each looks at a module of its own.

use procrastinate::{App, Blueprint, JobStatus, task};

use crate::support::{connect, connector, database, statuses};

mod shop {
    use procrastinate::{periodic, task};

    #[task(aliases = ["old"])]
    pub async fn order(n: i64) {
        let _ = n;
    }

    pub mod mails {
        use super::{periodic, task};

        #[periodic(cron = "@daily")]
        #[task]
        pub fn newsletter() {}

        #[cfg(any())]
        #[task]
        pub async fn not_compiled() {}
    }
}

mod shop_window {
    use procrastinate::task;

    #[task]
    pub async fn decorate() {}
}

const SHOP: &str = concat!(module_path!(), "::shop");

#[tokio::test]
async fn all_tasks_of_a_module_and_those_in_it_are_found_and_run() {
    let database = database();
    let app = App::builder(connector(&database).await).discover_tasks_in(SHOP).build().unwrap();
    assert_eq!(app.task_names(), ["newsletter", "order"]);
    app.defer(shop::order(1)).await.unwrap();
    app.defer(app.configure_task("old", serde_json::json!({ "n": 2 })).unwrap()).await.unwrap();
    app.periodic_deferrer().defer_due(chrono::Utc::now()).await;
    app.worker().stop_when_empty().run().await.unwrap();
    let statuses = statuses(&mut connect(&database));
    assert!(statuses.len() >= 2 && statuses.iter().all(|status| *status == JobStatus::Succeeded), "{statuses:?}");
}

#[tokio::test]
async fn a_discovered_task_that_is_also_added_explicitly_is_no_duplicate() {
    let database = database();
    let builder = App::builder(connector(&database).await).discover_tasks_in(SHOP).discover_tasks_in(SHOP);
    let app = builder.task::<shop::order>().build().unwrap();
    assert_eq!(app.task_names(), ["newsletter", "order"]);
}

mod parts {
    use procrastinate::task;

    #[task]
    pub async fn found() {}

    #[task(namespace = "part")]
    pub async fn in_a_namespace() {}
}

#[tokio::test]
async fn a_task_that_is_found_stays_in_the_namespace_that_it_was_given() {
    let database = database();
    let part = Blueprint::new().task::<parts::in_a_namespace>();
    let module = concat!(module_path!(), "::parts");
    let builder = App::builder(connector(&database).await);
    let app = builder.discover_tasks_in(module).add_tasks_from(part, "part").build().unwrap();
    assert_eq!(app.task_names(), ["found", "part:in_a_namespace"]);
}

#[tokio::test]
async fn a_module_without_tasks_has_none() {
    let database = database();
    let app = App::builder(connector(&database).await).discover_tasks_in("it::nowhere").build().unwrap();
    assert_eq!(app.task_names(), [""; 0]);
}

#[tokio::test]
async fn tasks_in_functions_and_in_other_modules_are_found_when_all_are_wanted() {
    #[task]
    async fn in_a_function() {}

    let database = database();
    // In all tests together some tasks have one name.
    let error = App::builder(connector(&database).await).discover_tasks().build().unwrap_err();
    assert!(matches!(error, procrastinate::Error::DuplicateTask { .. }), "{error}");
    let app = App::builder(connector(&database).await).discover_tasks_in(module_path!());
    let app = app.add_tasks_from(Blueprint::new().task::<parts::in_a_namespace>(), "part").build().unwrap();
    assert_eq!(app.task_names(), ["decorate", "found", "in_a_function", "newsletter", "order", "part:in_a_namespace"]);
    drop((in_a_function(), shop_window::decorate()));
}
