//! What operators do on the pages.

use procrastinate::admin::{Access, Action};

use super::{OWN, Served};
use crate::support::{connect, database, rows, sql};

const STATUSES: &str = "SELECT id, status FROM procrastinate_jobs ORDER BY id";

#[tokio::test]
async fn a_job_is_retried_and_its_page_says_who_did_it() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 't', 'failed')");
    let served = Served::to_operator(&database).await;
    let response = served.post("/queue/jobs/1/change", "action=retry", &[OWN]).await;
    assert!(
        response.status == 303 && response.headers.contains("location: ../../jobs/1?outcome=1"),
        "{}",
        response.headers
    );
    let page = served.get("/queue/jobs/1?outcome=1").await.body;
    assert!(page.contains("retry job 1: 1 changed") && page.contains("ann: retry job 1"), "{page}");
    assert_eq!(rows(&mut connection, STATUSES), ["1 | todo"]);
    // Once more, as after a click on "back".
    served.post("/queue/jobs/1/change", "action=retry", &[OWN]).await;
    let page = served.get("/queue/jobs/1?outcome=2").await.body;
    assert!(page.contains("0 changed, 1 left as they are"), "{page}");
    // A task has no jobs yet.
    for (action, other) in [("pause", "resume"), ("resume", "pause")] {
        let form = format!("action={action}&kind=task&name=import+orders");
        assert_eq!(served.post("/queue/queues/change", &form, &[OWN]).await.status, 303);
        let page = served.get("/queue/queues").await.body.to_lowercase();
        assert_eq!(page.contains(&format!("{other} the task import orders")), action == "pause", "{page}");
    }
    let unknown = served.post("/queue/queues/change", "action=pause&kind=lock&name=q", &[OWN]).await;
    assert_eq!(unknown.status, 400);
    let actions = served.get("/queue/actions").await.body;
    assert!(actions.contains("ann") && actions.contains("retry job 1"), "{actions}");
}

#[tokio::test]
async fn a_pending_job_gets_another_time_priority_and_queue() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')");
    let served = Served::to_operator(&database).await;
    for body in [
        "action=reschedule&value=2050-01-31T12%3A00",
        "action=priority&value=-7",
        "action=queue&value=other",
        "action=run_now",
    ] {
        if body == "action=run_now" {
            let changed = "SELECT queue_name, priority, scheduled_at = '2050-01-31 12:00 UTC' FROM procrastinate_jobs";
            assert_eq!(rows(&mut connection, changed), ["other | -7 | true"]);
        }
        assert_eq!(served.post("/queue/jobs/1/change", body, &[OWN]).await.status, 303, "{body}");
    }
    assert_eq!(rows(&mut connection, "SELECT scheduled_at FROM procrastinate_jobs"), ["NULL"]);
    let page = served.get("/queue/jobs/1").await.body;
    assert!(page.contains("min=\"-2147483648\" max=\"2147483647\""), "{page}");
    for body in ["action=reschedule&value=soon", "action=priority&value=high", "action=none", "action=pause", ""] {
        let refused = served.post("/queue/jobs/1/change", body, &[OWN]).await;
        assert!(refused.status == 400 && refused.body.contains("Nothing was changed"), "{body}: {}", refused.body);
    }
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_diesel_actions"), ["4"]);
}

#[tokio::test]
async fn a_selection_and_all_that_match_are_confirmed_first() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         SELECT CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 't', 'failed' FROM generate_series(1, 6) AS n;
         UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = 3",
    );
    let served = Served::to_operator(&database).await;
    let confirm = served.post("/queue/jobs/change", "action=retry&id=1&id=3&query=status%3Dfailed", &[OWN]).await;
    assert!(confirm.status == 200 && confirm.body.contains("retry 2 jobs?"), "{}", confirm.body);
    assert!(rows(&mut connection, STATUSES)[0].ends_with("failed"));
    let body = "action=retry&id=1&id=3&query=status%3Dfailed&confirmed=yes&selected=2";
    let done = served.post("/queue/jobs/change", body, &[OWN]).await;
    assert!(done.headers.contains("location: ../jobs?status=failed&outcome=1"), "{}", done.headers);
    let page = served.get("/queue/jobs?status=failed&outcome=1").await.body;
    assert!(page.contains("1 changed, 1 left as they are"), "{page}");

    let query = "query=status%3Dfailed%26queue%3Deven";
    let confirm = served.post("/queue/jobs/change", &format!("action=delete&{query}"), &[OWN]).await;
    assert!(confirm.body.contains("delete 3 jobs?") && confirm.body.contains("even"), "{}", confirm.body);
    assert!(confirm.body.contains("name=\"newest\" value=\"6\""), "{}", confirm.body);
    // A job that comes after the confirmation was shown is not meant.
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('even', 't', 'failed')",
    );
    let body = format!("action=delete&{query}&confirmed=yes&selected=3&newest=6");
    served.post("/queue/jobs/change", &body, &[OWN]).await;
    assert_eq!(rows(&mut connection, STATUSES), ["1 | todo", "3 | succeeded", "5 | failed", "7 | failed"]);
    for query in ["", "query=queue%3Dodd", "query=status%3Dfailed%26text%3Dx"] {
        let refused = served.post("/queue/jobs/change", &format!("action=delete&confirmed=yes&{query}"), &[OWN]).await;
        assert_eq!(refused.status, 400, "{query}");
    }
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')");
    let served = Served::to_operator(&database).await;
    let paused = served.post("/queue/queues/change", "action=pause&kind=queue&name=q&reason=no+mail", &[OWN]).await;
    assert_eq!(paused.status, 303, "{}", paused.body);
    assert!(paused.headers.contains("location: ../queues?outcome=1"), "{}", paused.headers);
    let page = served.get("/queue/queues?outcome=1").await.body;
    assert!(page.contains("pause queue q: done"), "{page}");
    assert!(page.contains("by ann") && page.contains("no mail") && page.contains("Resume the queue q"), "{page}");
    served.post("/queue/queues/change", "action=resume&kind=queue&name=q", &[OWN]).await;
    assert!(served.get("/queue/queues").await.body.contains("Pause the queue q"));
    let recorded = "SELECT actor, action, target, details FROM procrastinate_diesel_actions ORDER BY id";
    let expected = ["ann | pause | queue q | {\"reason\": \"no mail\"}", "ann | resume | queue q | {}"];
    assert_eq!(rows(&mut connection, recorded), expected);
    // A task has no jobs yet.
    for (action, other) in [("pause", "resume"), ("resume", "pause")] {
        let form = format!("action={action}&kind=task&name=import+orders");
        assert_eq!(served.post("/queue/queues/change", &form, &[OWN]).await.status, 303);
        let page = served.get("/queue/queues").await.body.to_lowercase();
        assert_eq!(page.contains(&format!("{other} the task import orders")), action == "pause", "{page}");
    }
    let unknown = served.post("/queue/queues/change", "action=pause&kind=lock&name=q", &[OWN]).await;
    assert_eq!(unknown.status, 400);
    let actions = served.get("/queue/actions").await.body;
    assert!(
        actions.contains("pause queue q")
            && actions.contains("reason: no mail")
            && actions.contains("done")
            && !actions.contains("0 changed"),
        "{actions}"
    );
    let nameless = served.post("/queue/queues/change", "action=pause&kind=queue&name=", &[OWN]).await;
    assert_eq!(nameless.status, 400, "{}", nameless.body);
}

#[tokio::test]
async fn visitors_do_only_what_the_application_allows() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 't', 'failed'), ('q', 't', 'todo')",
    );
    let reader = Served::start(&database, |pages| pages.access(|_| Access::reader("bob"))).await;
    for page in ["/queue/jobs", "/queue/jobs/1", "/queue/jobs/2", "/queue/queues", "/queue/actions"] {
        let body = reader.get(page).await.body;
        assert!(!body.contains("method=\"post\"") || page == "/queue/jobs", "{page}: {body}");
        assert!(!body.contains("name=\"action\""), "{page}: {body}");
    }
    for (path, body) in [
        ("/queue/jobs/1/change", "action=retry"),
        ("/queue/jobs/2/change", "action=queue&value=x"),
        ("/queue/jobs/change", "action=delete&id=1&confirmed=yes"),
        ("/queue/queues/change", "action=pause&kind=queue&name=q"),
    ] {
        let refused = reader.post(path, body, &[OWN]).await;
        assert!(refused.status == 403 && refused.body.contains("does not allow you"), "{path}: {}", refused.body);
    }
    let support = Served::start(&database, |pages| {
        pages.access(|_| Access::operator("eve").only([Action::Retry, Action::Delete]).except([Action::Delete]))
    })
    .await;
    assert!(support.get("/queue/jobs/1").await.body.contains("value=\"retry\""));
    assert_eq!(support.post("/queue/jobs/1/change", "action=delete", &[OWN]).await.status, 403);
    assert_eq!(support.post("/queue/jobs/1/change", "action=retry", &[OWN]).await.status, 303);
    assert_eq!(rows(&mut connection, STATUSES), ["1 | todo", "2 | todo"]);
}

#[tokio::test]
async fn a_job_that_has_another_status_than_the_visitor_has_seen_is_left_as_it_is() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 't', 'failed'), ('q', 't', 'todo')",
    );
    let served = Served::to_operator(&database).await;
    let statuses = "SELECT status FROM procrastinate_jobs ORDER BY id";
    // The page was opened while job 1 was pending, and job 2 was running.
    for (path, form) in [
        ("jobs/1/change", "action=delete&seen=todo"),
        ("jobs/change", "action=delete&id=1:todo&confirmed=yes"),
        ("jobs/2/change", "action=abort&seen=doing"),
    ] {
        assert_eq!(served.post(&format!("/queue/{path}"), form, &[OWN]).await.status, 303, "{path} {form}");
        assert_eq!(rows(&mut connection, statuses), ["failed", "todo"], "{path} {form}");
    }
    // To abort pending jobs is to cancel them, for which there is another right.
    for (path, form) in [
        ("jobs/2/change", "action=abort"),
        ("jobs/2/change", "action=abort&seen=todo"),
        ("jobs/change", "action=abort&query=status%3Dtodo&confirmed=yes"),
        ("jobs/change", "action=retry&id=1:failed&id=2:todo&confirmed=yes"),
        ("jobs/2/change", "action=queue&value=&seen=todo"),
        ("queues/change", "kind=queue&name=q"),
        ("queues/limit", "kind=queue&name=q&scope=all&running=3"),
    ] {
        let response = served.post(&format!("/queue/{path}"), form, &[OWN]).await;
        assert_eq!(response.status, 400, "{path} {form}: {}", response.body);
        assert!(response.body.contains("Nothing was changed"), "{path} {form}: {}", response.body);
    }
    assert_eq!(rows(&mut connection, statuses), ["failed", "todo"]);
    assert!(rows(&mut connection, "SELECT name FROM procrastinate_diesel_flow_controls").is_empty());
}

#[tokio::test]
async fn a_queue_whose_name_begins_with_a_blank_is_another_one() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         VALUES (' q', 't', 'failed'), ('q', 't', 'failed')",
    );
    let served = Served::to_operator(&database).await;
    let form = "action=delete&query=status%3Dfailed%26queue%3D%2520q&confirmed=yes";
    assert_eq!(served.post("/queue/jobs/change", form, &[OWN]).await.status, 303);
    assert_eq!(rows(&mut connection, "SELECT queue_name FROM procrastinate_jobs"), ["q"]);
}

#[tokio::test]
async fn what_changes_nothing_is_not_recorded() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_diesel_schedules 
             (task_name, periodic_id, cron, time_zone, args, missed_ticks, overlap, created_at, changed_at)
         VALUES ('t', '', '0 8 * * *', 'UTC', '{}', 'procrastinate', 'allow', now(), now())",
    );
    let served = Served::to_operator(&database).await;
    for (path, body, text) in [
        ("queues", "action=resume&kind=queue&name=q", "the queue &#34;q&#34; is not paused"),
        ("queues", "action=resume&kind=task&name=t", "the task &#34;t&#34; is not paused"),
        ("schedules", "action=resume_schedule&task=t", "it is not paused"),
        ("schedules", "action=resume_schedule&task=unknown", "unknown"),
    ] {
        let refused = served.post(&format!("/queue/{path}/change"), body, &[OWN]).await;
        assert!(
            refused.body.contains("Nothing was changed") && refused.body.contains(text),
            "{body}: {}",
            refused.body
        );
    }
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_diesel_actions"), ["0"]);
    // The first reason stays.
    for (path, body) in [("queues", "action=pause&kind=queue&name=q"), ("schedules", "action=pause_schedule&task=t")] {
        for (reason, status) in [("first", 303), ("second", 409)] {
            let body = format!("{body}&reason={reason}");
            let response = served.post(&format!("/queue/{path}/change"), &body, &[OWN]).await;
            assert_eq!(response.status, status, "{body}: {}", response.body);
        }
    }
    let reasons = "SELECT pause_reason FROM procrastinate_diesel_flow_controls UNION ALL SELECT pause_reason FROM \
                   procrastinate_diesel_schedules";
    assert_eq!(rows(&mut connection, reasons), ["first", "first"]);
    let beyond = served.get("/queue/actions?before=-1").await.body;
    assert!(beyond.contains("no actions beyond this one") && !beyond.contains("Nobody"), "{beyond}");
}

#[tokio::test]
async fn a_running_job_can_be_retried_only_if_its_worker_is_gone() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "SELECT procrastinate_register_worker_v1();
         INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't');
         UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1",
    );
    let served = Served::to_operator(&database).await;
    let retry = "value=\"retry\"";
    let page = served.get("/queue/jobs/1").await.body;
    assert!(page.contains("value=\"abort\"") && !page.contains(retry), "{page}");
    sql(&mut connection, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'");
    let page = served.get("/queue/jobs/1").await.body;
    assert!(page.contains(retry), "{page}");
}

#[tokio::test]
async fn a_confirmation_says_if_not_all_jobs_were_counted() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER;
         INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         SELECT CASE WHEN n % 50000 = 0 THEN 'rare' ELSE 'q' END, 't', status::procrastinate_job_status
         FROM generate_series(1, 100000) AS n, unnest('{todo, failed}'::text[]) AS status;
         ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER",
    );
    sql(&mut connection, "VACUUM procrastinate_jobs");
    let served = Served::to_operator(&database).await;
    let confirm = async |status: &str, action: &str| {
        let body = format!("action={action}&query=status%3D{status}%26queue%3Drare");
        served.post("/queue/jobs/change", &body, &[OWN]).await.body
    };
    for (status, action) in [("todo", "cancel"), ("failed", "retry")] {
        let page = confirm(status, action).await;
        assert!(page.contains(&format!("{action} 2 jobs?")) && page.contains("name=\"selected\""), "{page}");
        let other =
            format!("INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 't', '{status}')");
        sql(&mut connection, &other);
        let page = confirm(status, action).await;
        assert!(page.contains(&format!("{action} at least")) && !page.contains("name=\"selected\""), "{page}");
    }
}
