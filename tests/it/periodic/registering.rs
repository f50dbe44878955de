//! What is checked when an application with periodic tasks is built.

use std::time::Duration;

use procrastinate::{App, AppBuilder, Error, MissedTicks, Overlap, PeriodicTask, periodic, task};

use crate::support::{connector, database};

#[task]
async fn report(timestamp: i64, customer: String) {
    drop((timestamp, customer));
}

#[task]
async fn clean_up() {}

fn customer_report(cron: &str) -> PeriodicTask {
    PeriodicTask::new::<report>(cron).arg("customer", "Ada")
}

async fn builder() -> AppBuilder {
    App::builder(connector(&database()).await).task::<report>()
}

async fn refusal(periodic_task: PeriodicTask) -> String {
    let error = builder().await.task::<clean_up>().periodic(periodic_task).build().unwrap_err();
    assert!(error.is_invalid(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn invalid_values_are_refused_with_the_value_and_the_rule() {
    for (periodic_task, expected) in [
        (
            customer_report("0 25 * * *"),
            r#"invalid cron expression "0 25 * * *": field hour "25" has "25", but values must be from 0 to 23"#,
        ),
        (customer_report("@daily").periodic_id("x".repeat(129)), "must be at most 128 bytes, but is 129"),
        (
            PeriodicTask::new::<report>("@daily"),
            r#"invalid arguments of the task "report": must fit the task, with "timestamp" added, and do not: missing field `customer`"#,
        ),
        (
            customer_report("@daily").arg("customer", 5),
            "and do not at customer: invalid type: integer, expected a string",
        ),
        (
            customer_report("@daily").arg("timestamp", 5),
            r#"of the task "report": must not contain "timestamp", which is the tick of the periodic task"#,
        ),
        (PeriodicTask::new::<clean_up>("@daily").args([5]), "must be a JSON object with the arguments by name"),
        (customer_report("@daily").queue(""), r#"invalid queue name "": must not be empty"#),
    ] {
        let refusal = refusal(periodic_task).await;
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[cfg(feature = "chrono-tz")]
#[tokio::test]
async fn a_time_zone_that_does_not_exist_is_refused() {
    assert!(refusal(customer_report("@daily").time_zone("Mars")).await.starts_with(r#"invalid time zone "Mars": "#));
}

#[tokio::test]
async fn a_task_that_was_not_added_cannot_have_a_schedule() {
    let error = builder().await.periodic(PeriodicTask::new::<clean_up>("@daily")).build().unwrap_err();
    assert!(matches!(&error, Error::UnknownTask { name, .. } if name == "clean_up"), "{error}");
}

#[tokio::test]
async fn schedules_of_one_task_need_names_of_their_own() {
    let build = async |one: &str, other: &str| {
        builder()
            .await
            .periodic(customer_report("@daily").periodic_id(one))
            .periodic(customer_report("@hourly").periodic_id(other))
            .build()
    };
    assert!(build("", "b").await.is_ok());
    let error = build("b", "b").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"invalid periodic_id "b": must be different for each schedule of the task "report""#
    );
}

#[tokio::test]
async fn a_task_with_schedule_options_cannot_be_periodic() {
    use procrastinate::{JobContext, JobOptions, Task};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Later {}

    impl Task for Later {
        const NAME: &'static str = "later";
        type Output = ();

        fn defaults() -> JobOptions {
            JobOptions::new().schedule_in(Duration::from_secs(60))
        }

        fn periodic() -> Vec<PeriodicTask> {
            vec![PeriodicTask::new::<Self>("@daily")]
        }

        async fn run(self, _context: JobContext) {}
    }

    let error = builder().await.task::<Later>().build().unwrap_err().to_string();
    assert!(error.ends_with("must not be set for the periodic task \"later\"; remove it"), "{error}");
}

#[tokio::test]
async fn an_interval_is_in_whole_seconds_and_has_no_time_zone() {
    let refusal_of = async |schedule: PeriodicTask| refusal(schedule.arg("customer", "Ada")).await;
    assert_eq!(
        refusal_of(PeriodicTask::every::<report>(Duration::from_millis(1_500))).await,
        "invalid interval \"1.5s\": must be a whole number of seconds, at least 1"
    );
    #[cfg(feature = "chrono-tz")]
    assert_eq!(
        refusal_of(PeriodicTask::every::<report>(Duration::from_secs(60)).time_zone("Europe/Vienna")).await,
        "invalid time zone \"Europe/Vienna\": must not be set for a schedule with an interval, which counts seconds"
    );
}

#[tokio::test]
async fn the_attribute_can_be_above_and_below_and_repeated() {
    #[periodic(cron = "0 8 * * *", periodic_id = "a", args(customer = "Ada", depth = 3))]
    #[task(queue = "reports")]
    #[periodic(
        cron = "0 9 * * *",
        periodic_id = "b",
        queue = "slow",
        priority = -1,
        lock = "l",
        queueing_lock = "q",
        limit_key = "tenant",
        start_within = Duration::from_secs(90),
        overlap = Overlap::Skip,
        max_delay = Duration::from_secs(60),
        missed = MissedTicks::All,
        args(customer = String::from("Grace"), depth = 4, note = Some("n".to_owned())),
    )]
    #[procrastinate::periodic(cron = "0 10 * * *", args(customer = "Alan", depth = 5))]
    async fn detailed(timestamp: i64, customer: String, depth: u8, note: Option<String>) {
        drop((timestamp, customer, depth, note));
    }

    let app = App::builder(connector(&database()).await).task::<detailed>().build().unwrap();
    // The function still makes jobs, and the code can still be called.
    assert!(detailed(0, "x".into(), 1, None).check().is_ok());
    detailed::body(0, "x".into(), 1, None).await;
    assert_eq!(app.task_names(), ["detailed"]);
    let schedules = format!("{:?}", app.periodic_deferrer());
    for expected in [
        r#"{"customer": String("Ada"), "depth": Number(3)}"#,
        r#"queue: Some("slow")"#,
        r#"{"customer": String("Alan"), "depth": Number(5)}"#,
        "missed: All",
        "overlap: Skip",
        r#"limit_key: Some("tenant")"#,
        "deadline: Some(Within(90s))",
    ] {
        assert!(schedules.contains(expected), "{expected} in {schedules}");
    }
}

#[tokio::test]
async fn a_schedule_may_be_of_another_type_that_has_the_name_of_a_task() {
    mod elsewhere {
        #[procrastinate::task(name = "report")]
        pub(super) async fn namesake(timestamp: i64) {
            let _ = timestamp;
        }
    }
    let schedule = || PeriodicTask::new::<elsewhere::namesake>("@daily");
    let app = builder().await.periodic(schedule().arg("customer", "Ada")).build().unwrap();
    assert_eq!(app.task_names(), ["report"]);
    // The arguments must fit the task that the workers run.
    assert!(refusal(schedule()).await.ends_with("and do not: missing field `customer`"));
}
