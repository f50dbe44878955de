//! The form that defers a job.

use procrastinate::admin::{Access, Action, AdminPages};
use procrastinate::{App, task};
use throwaway_postgres::Database;

use super::{OWN, SCRIPT, Served, form};
use crate::support::{connect, connector, database, rows, sql};

const JOBS: &str = "SELECT task_name, queue_name, priority, lock, queueing_lock, args, scheduled_at AT TIME ZONE 'UTC'
                    FROM procrastinate_jobs ORDER BY id";

#[task(queue = "numbers")]
async fn half(number: i64) {
    let _ = number;
}

#[task(queueing_lock = "the-one", if_enqueued = "keep")]
async fn kept() {}

/// Pages of an application with tasks.
async fn with_tasks(database: &Database) -> Served {
    let builder = App::builder(connector(database).await);
    let app = builder.task::<half>().task::<kept>().build().unwrap();
    Served::of(&app, |pages: AdminPages| pages.access(|_| Access::operator("ann"))).await
}

/// The token of a new form.
async fn token(served: &Served) -> String {
    let page = served.get("/queue/jobs/defer").await.body;
    page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_is_deferred_with_exact_arguments_and_recorded() {
    let database = database();
    let mut connection = connect(&database);
    let served = Served::to_operator(&database).await;
    assert!(served.get("/queue/jobs").await.body.contains("./jobs/defer"));
    // Only an application with tasks knows their options.
    let form_of = async |served: &Served| served.get("/queue/jobs/defer").await.body;
    let (known, unknown) = (form_of(&with_tasks(&database).await).await, form_of(&served).await);
    assert!(known.contains("placeholder=\"that of the task\"") && !known.contains("=\"default\""), "{known}");
    assert!(unknown.contains("placeholder=\"default\"") && !unknown.contains("that of the task"), "{unknown}");
    let body = format!(
        "token={}&task=t&queue=q&priority=-2&lock=l&queueing_lock=ql&at=2030-01-31T08:00%2B01:00&args={}",
        token(&served).await,
        form("{\"large\": 123456789012345678901234567890.125, \"small\": 7}"),
    );
    let done = served.post("/queue/jobs/defer", &body, &[OWN]).await;
    assert!(done.status == 303 && done.headers.contains("location: ../jobs/1?outcome=1"), "{}", done.body);
    let args = "{\"large\": 123456789012345678901234567890.125, \"small\": 7}";
    assert_eq!(rows(&mut connection, JOBS), [format!("t | q | -2 | l | ql | {args} | 2030-01-31T07:00:00")]);
    let page = served.get("/queue/jobs/1?outcome=1").await.body;
    assert!(page.contains("defer job 1: done") && page.contains("ann: defer job 1"), "{page}");
    let recorded = "SELECT actor, action, target, details, changed FROM procrastinate_diesel_actions";
    assert_eq!(rows(&mut connection, recorded), ["ann | defer | job 1 | {\"task\": \"t\"} | 1"]);
}

#[tokio::test]
async fn a_form_that_breaks_a_rule_is_shown_with_it_and_defers_nothing() {
    let database = database();
    let mut connection = connect(&database);
    let served = with_tasks(&database).await;
    let long = "x".repeat(200);
    for (body, error) in [
        ("task=half&args=%7B%22number%22%3A+%22x%22%7D".to_owned(), "must fit the task"),
        (
            "task=half&args=%7B".to_owned(),
            "must be a JSON object, such as {&#34;order&#34;: 1}, but it is not complete",
        ),
        ("task=half&args=%7B%0A%22n%22+1%7D".to_owned(), "; look at line 2, column 5"),
        ("task=half&args=%7B%22number%22%3A+1e999%7D".to_owned(), "must be a JSON object"),
        ("task=half&args=%7B%22s%22%3A+%22%5Cu0000%22%7D".to_owned(), "cannot store; look at the field s"),
        ("task=hlaf".to_owned(), "unknown task &#34;hlaf&#34;; the tasks of this application are: "),
        ("task=".to_owned(), "unknown task"),
        ("task=kept&priority=1.5".to_owned(), "invalid priority &#34;1.5&#34;: must be a whole number"),
        ("task=kept&at=tomorrow".to_owned(), "invalid earliest start &#34;tomorrow&#34;: must be a time in ISO 8601"),
        (format!("task=kept&queue={long}"), "must be at most 128 bytes, but is 200"),
    ] {
        let refused = served.post("/queue/jobs/defer", &format!("token=x&limit=&{body}"), &[OWN]).await;
        assert!(refused.status == 400 && refused.body.contains(error), "{body}: {}", refused.body);
        assert!(refused.body.contains("name=\"token\" value=\"x\""), "{body}: {}", refused.body);
    }
    assert_eq!(rows(&mut connection, JOBS), [""; 0]);
    assert_eq!(rows(&mut connection, "SELECT action FROM procrastinate_diesel_actions"), [""; 0]);
    // The options are those of the task.
    for body in ["task=+half%09&args=%7B%22number%22%3A8%7D&queue=+", "task=hlaf&unknown=yes&queue=+mails+"] {
        assert_eq!(served.post("/queue/jobs/defer", body, &[OWN]).await.status, 303, "{body}");
    }
    let expected =
        ["half | numbers | 0 | NULL | NULL | {\"number\": 8} | NULL", "hlaf | mails | 0 | NULL | NULL | {} | NULL"];
    assert_eq!(rows(&mut connection, JOBS), expected);
}

#[tokio::test]
async fn a_taken_queueing_lock_is_shown_with_its_job() {
    let database = database();
    let mut connection = connect(&database);
    let served = with_tasks(&database).await;
    let body = "task=half&args=%7B%22number%22%3A8%7D&queueing_lock=l%26";
    for (status, job) in [(303, "jobs/1"), (409, "href=\"../jobs/1\"")] {
        let token = token(&served).await;
        let response = served.post("/queue/jobs/defer", &format!("token={token}&{body}"), &[OWN]).await;
        let text = response.headers + &response.body;
        assert!(response.status == status && text.contains(job), "{text}");
        assert_eq!(text.contains("a job with the queueing lock &#34;l&#38;&#34; is already pending"), status == 409);
    }
    // The task says that its pending job stays.
    let mut pages = Vec::new();
    for _ in 0..2 {
        let body = format!("token={}&task=kept", token(&served).await);
        let response = served.post("/queue/jobs/defer", &body, &[OWN]).await;
        assert_eq!(response.status, 303, "{}", response.body);
        let location = response.headers.split("location: ..").nth(1).unwrap().split('\r').next().unwrap();
        pages.push(format!("/queue{location}"));
    }
    assert_eq!(pages[1].replace("?defer=kept", "?outcome=2"), pages[0]);
    assert!(served.get(&pages[1]).await.body.contains("the task keeps this one"));
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs"), ["2"]);
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_diesel_actions"), ["2"]);
}

#[tokio::test]
async fn a_form_that_is_sent_twice_at_the_same_time_defers_one_job() {
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let database = database();
        let mut connection = connect(&database);
        sql(
            &mut connection,
            &format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L',
                    current_database(), '{isolation}'); END $$"
            ),
        );
        let served = Served::to_operator(&database).await;
        let body = format!("token={}&task=t&queueing_lock=l", token(&served).await);
        let send = || served.post("/queue/jobs/defer", &body, &[OWN]);
        let (first, second, third) = tokio::join!(send(), send(), send());
        let locations = [first, second, third].map(|response| {
            assert_eq!(response.status, 303, "{isolation}: {}", response.body);
            response.headers.split("location: ../jobs/").nth(1).unwrap().split('\r').next().unwrap().to_owned()
        });
        let again = locations.iter().filter(|location| location.ends_with("?defer=again")).count();
        assert_eq!(again, 2, "{isolation}: {locations:?}");
        assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs"), ["1"], "{isolation}");
        assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_diesel_actions"), ["1"], "{isolation}");
        // With another value it is another form.
        let other = body.replace("queueing_lock=l", "queueing_lock=m");
        let other = served.post("/queue/jobs/defer", &other, &[OWN]).await;
        assert!(other.status == 303 && !other.headers.contains("again"), "{}", other.headers);
        assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_jobs"), ["2"], "{isolation}");
    }
}

#[tokio::test]
async fn only_who_may_defer_jobs_has_the_form() {
    let database = database();
    let mut connection = connect(&database);
    let reader = Served::start(&database, |pages| pages.access(|_| Access::reader("bob"))).await;
    let support =
        Served::start(&database, |pages| pages.access(|_| Access::operator("eve").except([Action::Defer]))).await;
    for served in [&reader, &support] {
        assert!(!served.get("/queue/jobs").await.body.contains("jobs/defer"));
        assert_eq!(served.get("/queue/jobs/defer").await.status, 403);
        assert_eq!(served.post("/queue/jobs/defer", "task=t", &[OWN]).await.status, 403);
    }
    let operator = Served::to_operator(&database).await;
    let other_site = [("sec-fetch-site", "cross-site")];
    assert_eq!(operator.post("/queue/jobs/defer", "task=t", &other_site).await.status, 403);
    assert_eq!(rows(&mut connection, JOBS), [""; 0]);
}

#[tokio::test]
async fn what_is_typed_into_the_form_is_text() {
    let database = database();
    let served = Served::to_operator(&database).await;
    let text = form(SCRIPT);
    let args = form(&serde_json::json!({ SCRIPT: SCRIPT }).to_string());
    let body = format!("token={text}&task={text}&queue={text}&lock={text}&queueing_lock={text}&args={args}");
    let refused = served.post("/queue/jobs/defer", &format!("{body}&at={text}&priority=1"), &[OWN]).await;
    assert_eq!(refused.status, 400);
    let done = served.post("/queue/jobs/defer", &body, &[OWN]).await;
    assert_eq!(done.status, 303, "{}", done.body);
    let other = format!("{body}&priority=2");
    let taken = served.post("/queue/jobs/defer", &other, &[OWN]).await;
    assert_eq!(taken.status, 409, "{}", taken.body);
    for response in [refused, taken, served.get("/queue/jobs/1?outcome=1").await, served.get("/queue/actions").await] {
        assert!(!response.body.contains("<script>"), "{}", response.body);
    }
    assert!(served.get("/queue/jobs/1").await.body.contains("&#60;script&#62;"));
}
