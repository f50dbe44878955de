//! The filter of the list of jobs by age and ID, and how many jobs it searches.

use super::Served;
use crate::support::{connect, database, sql, superuser};

/// The IDs of the listed jobs.
async fn listed(served: &Served, query: &str) -> Vec<u32> {
    let response = served.get(&format!("/queue/jobs?{query}")).await;
    assert_eq!(response.status, 200, "{query}: {}", response.body);
    response.body.split("jobs/").skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect()
}

/// Ten jobs: the first was created ten hours ago, the last one hour ago. Those with an odd ID ended half an hour later.
const TEN_JOBS: &str = "
    INSERT INTO procrastinate_jobs (queue_name, task_name, status)
    SELECT 'q', 't', CASE WHEN n % 2 = 1 THEN 'succeeded' ELSE 'todo' END::procrastinate_job_status
    FROM generate_series(1, 10) AS n;
    DELETE FROM procrastinate_events;
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, 'deferred', now() - (11 - id) * interval '1 hour' FROM procrastinate_jobs;
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, 'succeeded', now() - (11 - id) * interval '1 hour' + interval '30 minutes'
    FROM procrastinate_jobs WHERE status = 'succeeded'";

#[tokio::test]
async fn jobs_are_listed_by_age_and_id() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, TEN_JOBS);
    let served = Served::to_operator(&database).await;
    for (query, expected) in [
        ("id=7", &[7][..]),
        ("id=%237", &[7]),
        ("id=99", &[]),
        ("from=8", &[10, 9, 8]),
        ("from=3&to=5", &[5, 4, 3]),
        ("from=3&to=5&status=todo", &[4]),
        ("from=3&to=5&before=5", &[4, 3]),
        ("created_since=150min", &[10, 9]),
        ("created_before=8h", &[3, 2, 1]),
        ("created_since=5h&created_before=3h&queue=q", &[8, 7]),
        ("created_since=5h&created_before=150min&status=todo", &[8]),
        ("created_since=1d", &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ("created_since=1s", &[]),
        ("created_before=1d", &[]),
        ("ended_since=3h", &[9]),
        ("ended_before=7h&ended_since=9h", &[3]),
        ("ended_before=7h&status=todo", &[]),
    ] {
        assert_eq!(listed(&served, query).await, expected, "{query}");
    }
    let absolute = served.get("/queue/jobs?created_since=2000-01-01T00:00&created_before=2001-01-01%2000:00").await;
    assert!(absolute.status == 200 && absolute.body.contains("No job matches"), "{}", absolute.body);
    for (query, text) in [
        ("created_since=soon", "Created since is &#34;soon&#34;, and must be a length of time"),
        ("ended_before=5", "Ended before is &#34;5&#34;, and must be"),
        ("from=x", "From job is &#34;x&#34;, and must be the ID of a job"),
        ("id=1.5", "Job is &#34;1.5&#34;"),
        ("window=7", "Jobs searched for a page is"),
        ("priority=2147483648", "must be a whole number from -2147483648 to 2147483647"),
        ("before=x", "A job&#39;s ID is a number."),
    ] {
        let refused = served.get(&format!("/queue/jobs?{query}")).await;
        assert!(refused.status == 400 && refused.body.contains(text), "{query}: {}", refused.body);
        assert!(refused.body.contains("<a href=\"./jobs\">All jobs</a>"), "{query}: {}", refused.body);
    }
    let body = served.get("/queue/jobs?created_since=2h&window=100000&text=none").await.body;
    assert!(body.contains("value=\"2h\"") && body.contains("value=\"100000\" selected"), "{body}");
    assert!(body.contains("created_since=2h&#38;window=100000"), "{body}");
}

#[tokio::test]
async fn jobs_without_events_do_not_confuse_a_search_by_age() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, TEN_JOBS);
    sql(&mut connection, "DELETE FROM procrastinate_events WHERE job_id IN (1, 4, 5, 10)");
    let served = Served::to_operator(&database).await;
    assert_eq!(listed(&served, "created_since=150min").await, [10, 9]);
    assert_eq!(listed(&served, "created_before=510min").await, [2, 1]);
}

#[tokio::test]
async fn a_change_of_all_that_match_is_offered_only_if_an_index_finds_them() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, TEN_JOBS);
    let served = Served::to_operator(&database).await;
    assert!(served.get("/queue/jobs?status=todo").await.body.contains("or all that match"));
    for filter in ["created_before=3h", "ended_since=3h", "from=3", "to=8", "id=4", "window=5000"] {
        let body = served.get(&format!("/queue/jobs?status=todo&{filter}")).await.body;
        assert!(!body.contains("or all that match"), "{filter}: {body}");
        let form = format!("action=delete&confirmed=yes&query=status%3Dtodo%26{}", filter.replace('=', "%3D"));
        let refused = served.post("/queue/jobs/change", &form, &[("sec-fetch-site", "same-origin")]).await;
        assert_eq!(refused.status, 400, "{filter}: {}", refused.body);
    }
    assert_eq!(listed(&served, "").await.len(), 10);
}

#[tokio::test]
async fn many_pending_jobs_are_searched_in_windows() {
    let database = database();
    sql(
        &mut superuser(&database),
        "SET session_replication_role = replica;
         INSERT INTO procrastinate_jobs (queue_name, task_name, lock)
         SELECT 'q', 't', CASE WHEN n < 4 THEN 'l' END FROM generate_series(1, 10001) AS n;
         INSERT INTO procrastinate_jobs (queue_name, task_name, status)
         SELECT 'q', 't', 'succeeded' FROM generate_series(1, 5500)",
    );
    let served = Served::to_operator(&database).await;
    let body = served.get("/queue/jobs?status=todo&window=5000").await.body;
    assert!(body.contains("None of the jobs from here to #10502 matches") && body.contains("before=10502"), "{body}");
    assert_eq!(listed(&served, "status=todo&window=5000&before=10502").await.len(), 25);
    assert_eq!(listed(&served, "status=todo").await[0], 10_001);
    // An index has the jobs of a lock.
    assert_eq!(listed(&served, "status=todo&lock=l&window=5000").await, [3, 2, 1]);
}
