//! The limits of queues and tasks.

use procrastinate::admin::{Access, Action};

use super::{OWN, SCRIPT, Served, form};
use crate::support::{connect, database, rows, sql};

const LIMITS: &str = "SELECT kind, name, max_running, max_starts, start_period_seconds, key_path, key_max_running
                      FROM procrastinate_diesel_flow_controls ORDER BY kind, name";

/// The version of the limits that the form shows.
async fn seen(served: &Served, target: &str) -> String {
    let page = served.get(&format!("/queue/queues/limit?{target}")).await.body;
    let (_, rest) = page.split_once("name=\"seen\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

const RECORDED: &str = "SELECT actor, action, target FROM procrastinate_diesel_actions ORDER BY id";

#[tokio::test]
async fn a_limit_is_set_changed_and_removed() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('a&b', 't')");
    let served = Served::to_operator(&database).await;
    let queues = served.get("/queue/queues").await.body;
    assert!(queues.contains("queues/limit?kind=queue&amp;name=a%26b"), "{queues}");
    assert!(queues.contains(">set limits</a>") && !queues.contains("selected>task"), "{queues}");
    let target = "kind=queue&name=a%26b";
    let page = served.get(&format!("/queue/queues/limit?{target}")).await.body;
    assert!(page.contains("Limits of the queue a&#38;b") && !page.contains("remove_limit"), "{page}");
    for (body, location) in [
        ("action=limit&scope=all&running=5&starts=100&per=1m", "outcome=1"),
        ("action=limit&scope=key&field=customer.id&running=2", "outcome=2"),
        ("action=limit&scope=all&running=7", "outcome=3"),
    ] {
        let seen = seen(&served, target).await;
        let done = served.post("/queue/queues/limit", &format!("{target}&seen={seen}&{body}"), &[OWN]).await;
        let location = format!("location: ../queues/limit?kind=queue&name=a%26b&{location}");
        assert!(done.status == 303 && done.headers.contains(&location), "{} {}", done.headers, done.body);
    }
    assert_eq!(rows(&mut connection, LIMITS), ["queue | a&b | 7 | NULL | NULL | [\"customer\",\"id\"] | 2"]);
    let page = served.get(&format!("/queue/queues/limit?{target}&outcome=3")).await.body;
    for text in ["limit queue a&#38;b: done", "value=\"7\"", "value=\"customer.id\"", "remove_limit"] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    let queues = served.get("/queue/queues").await.body;
    assert!(
        queues.contains("at most 7 running") && queues.contains("at most 2 running for each customer.id"),
        "{queues}"
    );
    for scope in ["all", "key"] {
        let body = format!("{target}&action=remove_limit&scope={scope}&seen={}", seen(&served, target).await);
        assert_eq!(served.post("/queue/queues/limit", &body, &[OWN]).await.status, 303);
    }
    assert_eq!(rows(&mut connection, LIMITS), [""; 0]);
    let recorded = rows(&mut connection, RECORDED);
    let limit = "ann | limit | queue a&b";
    let remove = "ann | remove_limit | queue a&b";
    assert_eq!(recorded, [limit, limit, limit, remove, remove]);
}

#[tokio::test]
async fn a_limit_of_a_task_is_listed_below_the_queues() {
    let database = database();
    let mut connection = connect(&database);
    let served = Served::to_operator(&database).await;
    let body = "kind=task&name=resize&seen=none&action=limit&scope=key&starts=3&per=90";
    assert_eq!(served.post("/queue/queues/limit", body, &[OWN]).await.status, 303);
    assert_eq!(rows(&mut connection, LIMITS), ["task | resize | NULL | NULL | NULL | [] | NULL"]);
    let queues = served.get("/queue/queues").await.body;
    assert!(queues.contains("resize") && queues.contains("starts in 1 min 30 s for each key of the jobs"), "{queues}");
}

#[tokio::test]
async fn a_limit_that_breaks_a_rule_is_shown_with_it() {
    let database = database();
    let mut connection = connect(&database);
    let served = Served::to_operator(&database).await;
    for (body, error) in [
        ("scope=all&running=many", "invalid number of running jobs &#34;many&#34;: must be a whole number"),
        (
            "scope=all&running=0",
            "invalid number of running jobs &#34;0&#34;: must be a whole number from 1 to 2147483647",
        ),
        ("scope=all&running=2147483648", "must be a whole number from 1 to 2147483647"),
        ("scope=all&running=8&starts=5&per=1ms", "invalid period &#34;1ms&#34;: must be at least 10 ms"),
        ("scope=all&running=8&starts=5", "must be set together"),
        ("scope=all&running=8&starts=5&per=often", "invalid period &#34;often&#34;"),
        ("scope=key&running=8&field=a..b", "invalid field &#34;a..b&#34;: must be names, separated by single dots"),
        ("scope=all", "Set the most running jobs, or the most starts in each period."),
    ] {
        let refused = served
            .post("/queue/queues/limit", &format!("kind=task&name=t&seen=none&action=limit&{body}"), &[OWN])
            .await;
        assert!(refused.status == 400 && refused.body.contains(error), "{body}: {}", refused.body);
        let is_kept = !body.contains("running=8") || refused.body.contains("value=\"8\"");
        assert!(is_kept && refused.body.contains("role=\"alert\""), "{body}: {}", refused.body);
    }
    for query in ["kind=job&name=t", "kind=task", ""] {
        let refused = served.get(&format!("/queue/queues/limit?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(!refused.body.contains("Nothing was changed"), "{query}: {}", refused.body);
    }
    assert_eq!(rows(&mut connection, LIMITS), [""; 0]);
    assert_eq!(rows(&mut connection, RECORDED), [""; 0]);
}

#[tokio::test]
async fn visitors_set_only_the_limits_that_they_may() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')");
    let reader = Served::start(&database, |pages| pages.access(|_| Access::reader("bob"))).await;
    assert!(!reader.get("/queue/queues").await.body.contains("queues/limit"));
    let support =
        Served::start(&database, |pages| pages.access(|_| Access::operator("eve").only([Action::SetLimit]))).await;
    for (served, body, status) in [
        (&reader, "action=limit", 403),
        (&reader, "action=remove_limit", 403),
        (&support, "action=limit", 303),
        (&support, "action=remove_limit", 403),
    ] {
        let body = format!("kind=queue&name=q&seen=none&scope=all&running=1&{body}");
        assert_eq!(served.post("/queue/queues/limit", &body, &[OWN]).await.status, status, "{body}");
    }
    assert_eq!(reader.get("/queue/queues/limit?kind=queue&name=q").await.status, 403);
    let page = support.get("/queue/queues/limit?kind=queue&name=q").await.body;
    assert!(page.contains("value=\"limit\"") && !page.contains("remove_limit"), "{page}");
}

#[tokio::test]
async fn names_and_keys_of_limits_are_text() {
    let database = database();
    let name = form(SCRIPT);
    let served = Served::to_operator(&database).await;
    let body = format!("kind=task&name={name}&seen=none&action=limit&scope=key&running=1&field={name}");
    assert_eq!(served.post("/queue/queues/limit", &body, &[OWN]).await.status, 303);
    let wrong = body.replace("running=1", &format!("running={name}"));
    let refused = served.post("/queue/queues/limit", &wrong, &[OWN]).await;
    let limit = format!("/queue/queues/limit?kind=task&name={name}");
    for response in [served.get("/queue/queues").await, served.get(&limit).await, refused] {
        assert!(!response.body.contains("<script>"), "{}", response.body);
        assert!(response.body.contains("&#60;script&#62;"), "{}", response.body);
    }
}

#[tokio::test]
async fn a_limit_that_somebody_else_has_changed_is_not_overwritten() {
    let database = database();
    let mut connection = connect(&database);
    let served = Served::to_operator(&database).await;
    let body = |seen: &str, action: &str| format!("kind=queue&name=q&seen={seen}&scope=all&running=9&action={action}");
    for (change, limits) in [
        ("SELECT procrastinate_diesel_set_limit_v1('queue', 'q', 3, NULL, NULL)", "at most 3 running"),
        ("SELECT procrastinate_diesel_set_limit_v1('queue', 'q', 4, NULL, NULL)", "at most 4 running"),
        ("SELECT procrastinate_diesel_set_limit_v1('queue', 'q', NULL, NULL, NULL)", "no limit"),
    ] {
        let seen = seen(&served, "kind=queue&name=q").await;
        sql(&mut connection, change);
        let before = rows(&mut connection, LIMITS);
        for action in ["limit", "remove_limit"] {
            let refused = served.post("/queue/queues/limit", &body(&seen, action), &[OWN]).await;
            let text = format!("was changed meanwhile. It has {limits} now");
            assert!(refused.status == 409 && refused.body.contains(&text), "{action}: {}", refused.body);
        }
        assert_eq!(rows(&mut connection, LIMITS), before);
    }
    let nothing = served.post("/queue/queues/limit", &body("none", "remove_limit"), &[OWN]).await;
    assert!(nothing.status == 409 && nothing.body.contains("no such limit any more"), "{}", nothing.body);
    assert_eq!(rows(&mut connection, RECORDED), [""; 0]);
}
