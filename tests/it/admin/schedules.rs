//! The pages of schedules.

use procrastinate::admin::{Access, Action};

use super::{OWN, SCRIPT, Served, form};
use crate::support::{connect, database, rows, sql};

const RECORDED: &str =
    "SELECT actor, action, target, details FROM procrastinate_diesel_actions WHERE finished_at IS NOT NULL ORDER BY id";

const ALIVE: &str = "SELECT procrastinate_register_worker_v1()";

#[tokio::test]
async fn a_database_without_schedules_says_what_to_do_next() {
    let database = database();
    let served = Served::to_operator(&database).await;
    let page = served.get("/queue/schedules").await;
    assert!(page.status == 200 && page.body.contains("There are no schedules yet"), "{}", page.body);
    assert!(page.body.contains("./schedules/new"), "{}", page.body);
    assert_eq!(served.get("/queue/schedules/show?task=t").await.status, 404);
    assert_eq!(served.get("/queue/schedules/edit?task=t").await.status, 404);
    assert_eq!(served.get("/queue/schedules?task=%00").await.status, 400);
}

#[tokio::test]
async fn a_schedule_is_listed_with_its_ticks_in_words() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'report'), ('q', 'report');
         SELECT procrastinate_diesel_create_schedule_v1(
             'report', 'a', '{\"cron\": \"30 8 * * mon-fri\", \"time_zone\": \"Europe/Vienna\", \"args\": {\"n\": 1},
             \"missed_ticks\": \"all\", \"overlap\": \"skip\"}', now());
         SELECT procrastinate_diesel_register_schedules_v1(
             '[{\"task_name\": \"clean\", \"periodic_id\": \"\", \"interval_seconds\": 90, \"args\": {},
                \"missed_ticks\": \"procrastinate\"}]');
         INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp, job_id)
         VALUES ('report', 'a', extract(epoch FROM now())::bigint, 1), ('of_python', 'x', 1800000000, NULL);
         UPDATE procrastinate_diesel_schedules SET last_job_id = 2 WHERE task_name = 'report'",
    );
    let served = Served::to_operator(&database).await;
    let page = served.get("/queue/schedules").await.body;
    for text in [
        "at 08:30 from Monday to Friday",
        "30 8 * * mon-fri",
        "Europe/Vienna",
        "missed ticks: defer all",
        "while its last job is not finished: skip the tick",
        "every 1 min 30 s",
        "in code",
        "in the database",
        "jobs/1\"",
        "&#34;x&#34; of of_python",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    let one = served.get("/queue/schedules/show?task=report&id=a").await.body;
    for text in ["08:30:00 CE", "jobs/2\"", "&#34;n&#34;: 1", "schedules/edit?task=report&#38;id=a", "remove"] {
        assert!(one.contains(text), "{text} is not in {one}");
    }
    for text in ["<dd>defer all</dd>", "<dt>While its last job is not finished</dt><dd>skip the tick</dd>"] {
        assert!(one.contains(text), "{text} is not in {one}");
    }
    let form = served.get("/queue/schedules/edit?task=report&id=a").await.body;
    for text in ["\"all\" selected>defer all<", "\"skip\" selected>skip the tick<"] {
        assert!(form.contains(text), "{text} is not in {form}");
    }
    // A build without time zones says so.
    assert_eq!(form.contains("This program knows only UTC"), !cfg!(feature = "chrono-tz"), "{form}");
    let in_code = served.get("/queue/schedules/show?task=clean").await.body;
    assert!(in_code.contains("run now") && !in_code.contains("schedules/edit") && !in_code.contains("remove_schedule"));
    assert_eq!(served.get("/queue/schedules/edit?task=clean").await.status, 409);
    let of_task = served.get("/queue/schedules?task=clean").await.body;
    assert!(!of_task.contains("of_python") && !of_task.contains("Vienna"), "{of_task}");
}

#[tokio::test]
async fn many_schedules_have_several_pages() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "SELECT procrastinate_diesel_create_schedule_v1('t', 'n' || lpad(n::text, 3, '0'), '{\"cron\": \"@daily\"}', now())
         FROM generate_series(1, 101) AS n",
    );
    let served = Served::to_operator(&database).await;
    let page = served.get("/queue/schedules").await.body;
    assert!(page.contains("n100") && !page.contains("n101") && page.contains("after=t&#38;after_id=n100"), "{page}");
    let page = served.get("/queue/schedules?after=t&after_id=n100").await.body;
    assert!(page.contains("n101") && !page.contains("n100") && page.contains("First page"), "{page}");
}

#[tokio::test]
async fn a_schedule_is_created_edited_and_removed() {
    let database = database();
    let mut connection = connect(&database);
    let served = Served::to_operator(&database).await;
    assert!(served.get("/queue/schedules/new?task=t").await.body.contains("value=\"t\""));
    let body = "task=t&id=a%2Fb&cron=0+8+*+*+*&time_zone=Europe%2FVienna&args=%7B%22n%22%3A+9007199254740993%7D\
                &queue=q&priority=-3&start_within=1.5h&limit_key=tenant&max_delay=5m&missed=last&overlap=skip";
    let created = served.post("/queue/schedules/new", body, &[OWN]).await;
    assert!(
        created.status == 303 && created.headers.contains("location: ../schedules/show?task=t&id=a%2fb&outcome=1"),
        "{} {}",
        created.headers,
        created.body
    );
    let page = served.get("/queue/schedules/show?task=t&id=a%2Fb&outcome=1").await.body;
    assert!(page.contains("create schedule &#34;a/b&#34; of t: done"), "{page}");
    let columns = "SELECT cron, time_zone, args, queue_name, priority, lock, start_within_seconds, limit_key,
                       max_delay_seconds, missed_ticks, overlap
                   FROM procrastinate_diesel_schedules";
    let expected =
        "0 8 * * * | Europe/Vienna | {\"n\": 9007199254740993} | q | -3 | NULL | 5400 | tenant | 300 | last | skip";
    assert_eq!(rows(&mut connection, columns), [expected]);

    let form = served.get("/queue/schedules/edit?task=t&id=a%2Fb").await.body;
    assert!(
        ["9007199254740993", "value=\"300\"", "value=\"-3\"", "value=\"5400\"", "value=\"tenant\""]
            .iter()
            .all(|part| form.contains(part)),
        "{form}"
    );
    let version = rows(&mut connection, "SELECT version FROM procrastinate_diesel_schedules").remove(0);
    // The ends of lines are those of a browser, and the number is one that no worker holds exactly.
    sql(
        &mut connection,
        "UPDATE procrastinate_diesel_schedules SET args = '{\"a\": 12345678901234567890123, \"b\": 2}'",
    );
    let args = "%7B%0D%0A++++%22a%22%3A+12345678901234567890123%2C%0D%0A++++%22b%22%3A+2%0D%0A%7D";
    let body = format!("task=t&id=a%2Fb&version={version}&cron=@hourly&lock=l&has_args=yes&args={args}");
    let saved = served.post("/queue/schedules/edit", &body, &[OWN]).await;
    assert_eq!(saved.status, 303, "{}", saved.body);
    let expected = "@hourly | NULL | {\"a\": 12345678901234567890123, \"b\": 2} | NULL | NULL | l | NULL \
                    | NULL | NULL | procrastinate | allow";
    assert_eq!(rows(&mut connection, columns), [expected]);
    // Somebody else has changed it meanwhile.
    let refused = served.post("/queue/schedules/edit", &body, &[OWN]).await;
    assert!(refused.status == 409 && refused.body.contains("Somebody has changed"), "{}", refused.body);
    assert!(refused.body.contains("value=\"@hourly\"") && refused.body.contains("value=\"l\""), "{}", refused.body);

    let body = "action=remove_schedule&task=t&id=a%2Fb";
    let confirm = served.post("/queue/schedules/change", body, &[OWN]).await;
    assert!(confirm.status == 200 && confirm.body.contains("Remove the schedule"), "{}", confirm.body);
    let removed = served.post("/queue/schedules/change", &format!("{body}&confirmed=yes"), &[OWN]).await;
    assert!(removed.headers.contains("location: ../schedules?outcome=4"), "{}", removed.headers);
    assert_eq!(rows(&mut connection, columns), [""; 0]);
    let recorded = rows(&mut connection, RECORDED);
    assert_eq!(recorded.len(), 3);
    assert!(recorded[0].starts_with("ann | create_schedule | \"a/b\" of t | {\"cron\": \"0 8 * * *\""), "{recorded:?}");
    assert!(recorded[2].starts_with("ann | remove_schedule | \"a/b\" of t"), "{recorded:?}");
    let gone = served.post("/queue/schedules/change", &format!("{body}&confirmed=yes"), &[OWN]).await;
    assert!(gone.status == 404 && gone.body.contains("there is no such schedule"), "{}", gone.body);
    assert_eq!(rows(&mut connection, RECORDED).len(), 3);
}

#[tokio::test]
async fn of_two_who_save_a_schedule_at_the_same_time_one_is_told_so() {
    for isolation in ["read committed", "repeatable read"] {
        let database = database();
        let mut connection = connect(&database);
        sql(
            &mut connection,
            &format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L',
                    current_database(), '{isolation}'); END $$;
                 SELECT procrastinate_diesel_create_schedule_v1('t', '', '{{\"cron\": \"@daily\"}}', now())"
            ),
        );
        let version = rows(&mut connection, "SELECT version FROM procrastinate_diesel_schedules").remove(0);
        let served = Served::to_operator(&database).await;
        let body = |cron: &str| format!("task=t&version={version}&cron={cron}");
        let (hourly, weekly) = (body("@hourly"), body("@weekly"));
        // Both wait for the row, so both have begun before either ends.
        sql(&mut connection, "BEGIN; SELECT FROM procrastinate_diesel_schedules FOR UPDATE");
        let save = async |body: &str| served.post("/queue/schedules/edit", body, &[OWN]).await;
        let release = async {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                           AND wait_event_type = 'Lock'";
            while rows(&mut connection, waiting) != ["2"] {
                tokio::task::yield_now().await;
                sql(&mut connection, "SELECT pg_stat_clear_snapshot()");
            }
            sql(&mut connection, "COMMIT");
        };
        let (first, second, ()) = tokio::join!(save(&hourly), save(&weekly), release);
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 409], "{isolation}: {} {}", first.body, second.body);
        assert_eq!(rows(&mut connection, RECORDED).len(), 1, "{isolation}");
    }
}

#[tokio::test]
async fn a_form_with_bad_input_names_the_value_and_the_rule_and_keeps_the_rest() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "SELECT procrastinate_diesel_create_schedule_v1('t', 'taken', '{\"cron\": \"@daily\"}', now())",
    );
    let served = Served::to_operator(&database).await;
    for (fields, status, error) in [
        ("cron=61+*+*+*+*", 400, "field minute &#34;61&#34; has &#34;61&#34;, but values must be from 0 to 59"),
        ("cron=@daily&time_zone=Mars", 400, "invalid time zone &#34;Mars&#34;"),
        ("cron=@daily&priority=high", 400, "invalid priority &#34;high&#34;: must be a whole number"),
        ("cron=@daily&max_delay=soon", 400, "invalid maximum delay &#34;soon&#34;: must be a number of seconds"),
        ("cron=@daily&args=%5B1%5D", 400, "invalid arguments &#34;[1]&#34;: must be a JSON object"),
        ("cron=@daily&args=%7B%22timestamp%22%3A1%7D", 400, "must not contain &#34;timestamp&#34;"),
        ("cron=@daily&args=%7B%22a%22%3A123456789012345678901%7D", 400, "which workers would round"),
        ("cron=@daily&missed=never", 400, "invalid missed ticks &#34;never&#34;"),
        ("cron=@daily&overlap=never", 400, "invalid overlap &#34;never&#34;"),
        ("cron=@daily&start_within=soon", 400, "invalid time to start &#34;soon&#34;"),
        ("cron=@daily&id=taken", 409, "it is already in the database"),
        ("", 400, "invalid cron expression"),
    ] {
        let refused = served.post("/queue/schedules/new", &format!("task=t&lock=kept&{fields}"), &[OWN]).await;
        assert!(refused.status == status && refused.body.contains(error), "{fields}: {}", refused.body);
        assert!(refused.body.contains("value=\"kept\"") && refused.body.contains("role=\"alert\""), "{}", refused.body);
    }
    assert_eq!(rows(&mut connection, RECORDED), [""; 0]);
    assert_eq!(rows(&mut connection, "SELECT count(*) FROM procrastinate_diesel_schedules"), ["1"]);
}

#[tokio::test]
async fn a_schedule_is_run_paused_and_resumed_also_in_code() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "SELECT procrastinate_diesel_register_schedules_v1(
             '[{\"task_name\": \"clean\", \"periodic_id\": \"\", \"cron\": \"@daily\", \"args\": {},
                \"missed_ticks\": \"procrastinate\"}]')",
    );
    let served = Served::to_operator(&database).await;
    for (body, location) in [
        ("action=pause_schedule&task=clean&reason=no+disk", "location: ../schedules/show?task=clean&outcome=1"),
        ("action=run_schedule&task=clean&from=list", "location: ../schedules?outcome=2"),
    ] {
        let done = served.post("/queue/schedules/change", body, &[OWN]).await;
        assert!(done.headers.contains(location), "{} {}", done.headers, done.body);
    }
    let page = served.get("/queue/schedules").await.body;
    for text in ["paused", "by ann: no disk", "resume: clean", "will run now"] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    served.post("/queue/schedules/change", "action=resume_schedule&task=clean", &[OWN]).await;
    let page = served.get("/queue/schedules/show?task=clean&outcome=3").await.body;
    assert!(page.contains("resume schedule clean: done") && page.contains("pause"), "{page}");
    let recorded = rows(&mut connection, RECORDED);
    let expected = [
        "ann | pause_schedule | clean | {\"reason\": \"no disk\"}",
        "ann | run_schedule | clean | {}",
        "ann | resume_schedule | clean | {}",
    ];
    assert_eq!(recorded, expected);
    let refused =
        served.post("/queue/schedules/change", "action=remove_schedule&task=clean&confirmed=yes", &[OWN]).await;
    assert!(refused.status == 409 && refused.body.contains("pause it instead"), "{}", refused.body);
    let unknown = served.post("/queue/schedules/change", "action=explode&task=clean", &[OWN]).await;
    assert_eq!(unknown.status, 400);
}

#[tokio::test]
async fn visitors_change_only_the_schedules_that_they_may() {
    let database = database();
    let mut connection = connect(&database);
    sql(&mut connection, "SELECT procrastinate_diesel_create_schedule_v1('t', '', '{\"cron\": \"@daily\"}', now())");
    let reader = Served::start(&database, |pages| pages.access(|_| Access::reader("bob"))).await;
    for page in ["/queue/schedules", "/queue/schedules/show?task=t"] {
        let body = reader.get(page).await.body;
        assert!(!body.contains("name=\"action\"") && !body.contains("schedules/new"), "{page}: {body}");
        assert!(!body.contains("schedules/edit"), "{page}: {body}");
    }
    for page in ["/queue/schedules/new", "/queue/schedules/edit?task=t"] {
        assert_eq!(reader.get(page).await.status, 403, "{page}");
    }
    for (path, body) in [
        ("/queue/schedules/new", "task=u&cron=@daily"),
        ("/queue/schedules/edit", "task=t&cron=@hourly"),
        ("/queue/schedules/change", "task=t&action=run_schedule"),
        ("/queue/schedules/change", "task=t&action=remove_schedule&confirmed=yes"),
    ] {
        assert_eq!(reader.post(path, body, &[OWN]).await.status, 403, "{path} {body}");
    }
    let support =
        Served::start(&database, |pages| pages.access(|_| Access::operator("eve").only([Action::RunSchedule]))).await;
    let page = support.get("/queue/schedules").await.body;
    assert!(page.contains("value=\"run_schedule\"") && !page.contains("value=\"pause_schedule\""), "{page}");
    assert_eq!(support.post("/queue/schedules/change", "task=t&action=run_schedule", &[OWN]).await.status, 303);
    assert_eq!(support.post("/queue/schedules/change", "task=t&action=pause_schedule", &[OWN]).await.status, 403);
    let other_site = [("sec-fetch-site", "cross-site")];
    assert_eq!(support.post("/queue/schedules/change", "task=t&action=run_schedule", &other_site).await.status, 403);
    assert_eq!(rows(&mut connection, RECORDED), ["eve | run_schedule | t | {}"]);
}

#[tokio::test]
async fn schedules_that_do_not_fire_say_why_here_and_on_the_overview() {
    let database = database();
    let mut connection = connect(&database);
    let create = |task: &str, more: &str| {
        format!(
            "SELECT procrastinate_diesel_create_schedule_v1('{task}', '', '{{\"cron\": \"* * * * *\"{more}}}',
                now() - interval '1 hour');"
        )
    };
    let fine = "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id)
                VALUES ('fine', extract(epoch FROM now())::bigint - 60, NULL);";
    sql(
        &mut connection,
        &[
            &create("fine", ""),
            fine,
            &create("missed", ""),
            &create("locked", ", \"queueing_lock\": \"l\""),
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('q', 'x', 'l');",
            "SELECT procrastinate_diesel_create_schedule_v1('pending', '', '{\"cron\": \"@yearly\"}', now());",
            "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'pending');
             INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id)
             VALUES ('pending', extract(epoch FROM now())::bigint - 1210, 2);",
            "SELECT procrastinate_diesel_create_schedule_v1('never', '', '{\"cron\": \"0 0 30 2 *\"}', now());",
            "SELECT procrastinate_diesel_create_schedule_v1('unreadable', '', '{\"cron\": \"often\"}', now());",
            "SELECT procrastinate_diesel_create_schedule_v1('asked', '', '{\"cron\": \"@yearly\"}', now());
             UPDATE procrastinate_diesel_schedules SET run_requested_at = now() - interval '5 minutes'
             WHERE task_name = 'asked';",
            "SELECT procrastinate_diesel_register_schedules_v1(
                 '[{\"task_name\": \"gone\", \"periodic_id\": \"\", \"cron\": \"@yearly\", \"args\": {},
                    \"missed_ticks\": \"procrastinate\"}]');
             UPDATE procrastinate_diesel_schedules SET seen_in_code_at = now() - interval '3 hours'
             WHERE task_name = 'gone';",
            &create("paused", ""),
            "UPDATE procrastinate_diesel_schedules SET paused_at = now() WHERE task_name = 'paused';",
        ]
        .concat(),
    );
    let served = Served::to_operator(&database).await;
    let idle = served.get("/queue").await.body;
    assert!(idle.contains("Schedules do not fire, because no worker is alive."), "{idle}");
    assert!(served.get("/queue/schedules").await.body.contains("became no job, because no worker is alive."));

    sql(&mut connection, ALIVE);
    let page = served.get("/queue/schedules").await.body;
    for text in [
        "became no job, although a worker is alive. Does a worker have the task?",
        "because a pending job has its queueing lock.",
        "its last job has been pending for 20 min",
        "it never ticks again.",
        "must have five fields",
        "somebody asked to run it 5 min",
        "no worker has had it in its code for 3 h.",
    ] {
        assert_eq!(page.matches(text).count(), 1, "{text}: {page}");
    }
    assert_eq!((page.matches("does not fire").count(), page.matches("not served").count()), (6, 1), "{page}");
    assert!(served.get("/queue/schedules/show?task=gone").await.body.contains("remove_schedule"));
    let fresh = Served::to_operator(&database).await;
    let overview = fresh.get("/queue").await.body;
    assert!(overview.contains("The schedule gone: no worker has had it in its code"), "{overview}");
    assert!(overview.contains("2 more schedules do not fire."), "{overview}");
}

#[tokio::test]
async fn names_and_arguments_of_schedules_are_text() {
    let database = database();
    let mut connection = connect(&database);
    let script = SCRIPT.replace('\'', "''");
    sql(
        &mut connection,
        &format!(
            "{ALIVE};
             INSERT INTO procrastinate_diesel_schedules (task_name, periodic_id, cron, time_zone, args, queue_name, lock,
                queueing_lock, missed_ticks, overlap, paused_at, paused_by, pause_reason, created_at, changed_at)
             VALUES ('{script}', '{script}', '{script}', '{script}', jsonb_build_object('{script}', '{script}'),
                '{script}', '{script}', '{script}', 'last', 'skip', now(), '{script}', '{script}', now(), now()),
                ('{script}', 'b{script}', '{script}', '{script}', '{{}}', NULL, NULL, NULL, 'all', 'allow', NULL, NULL,
                NULL, now(), now());
             INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
             VALUES ('{script}', 'c{script}', 1)"
        ),
    );
    let served = Served::to_operator(&database).await;
    let name = form(SCRIPT);
    let show = format!("/queue/schedules/show?task={name}&id={name}");
    let edit = format!("/queue/schedules/edit?task={name}&id={name}");
    let new = format!("/queue/schedules/new?task={name}");
    for page in ["/queue", "/queue/schedules", &show, &edit, &new] {
        let response = served.get(page).await;
        assert_eq!(response.status, 200, "{page}: {}", response.body);
        assert!(!response.body.contains("<script>"), "{page}: {}", response.body);
        assert!(response.body.contains("&#60;script&#62;"), "{page}: {}", response.body);
    }
    // What is shown can be used: the name in a link and in a form is the name of the schedule.
    let list = served.get("/queue/schedules").await.body;
    let link = list.split("href=\"./schedules/show?").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    assert_eq!(served.get(&format!("/queue/schedules/show?{link}")).await.status, 200, "{link}");
    let body = format!("action=resume_schedule&task={name}&id={name}");
    assert_eq!(served.post("/queue/schedules/change", &body, &[OWN]).await.status, 303);
    let body = format!("task={name}&id={name}&cron={name}&time_zone={name}&args={name}&lock={name}&priority={name}");
    let refused = served.post("/queue/schedules/new", &body, &[OWN]).await;
    assert!(refused.status == 400 && !refused.body.contains("<script>"), "{}", refused.body);
}

#[tokio::test]
async fn a_database_of_pythons_alone_shows_the_ticks_of_its_programs() {
    let database = database();
    let mut connection = connect(&database);
    sql(
        &mut connection,
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't');
         INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id)
         VALUES ('t', 1700000000, NULL), ('t', 1800000000, 1);
         DROP TABLE procrastinate_diesel_job_options, procrastinate_diesel_schedules",
    );
    let served = Served::to_operator(&database).await;
    let page = served.get("/queue/schedules").await;
    assert!(page.status == 200 && page.body.contains("2027-01-15 08:00:00 UTC"), "{}", page.body);
    assert!(page.body.contains("jobs/1\"") && !page.body.contains("schedules/new"), "{}", page.body);
    assert_eq!(page.body.matches("<tr>").count(), 2, "{}", page.body);
    assert_eq!(served.get("/queue/schedules/show?task=t").await.status, 404);
}
