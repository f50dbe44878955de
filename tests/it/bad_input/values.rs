//! Values that an application passes: names, arguments, cron expressions, delays and dates.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use procrastinate::job_manager::{list_jobs, reschedule_job};
use procrastinate::retry::{RetryDecision, RetryStrategy};
use procrastinate::{Cron, JobToDefer, batch_defer_blocking, configure_task};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::cases::check;
use crate::support::{connect, database, jobs, sql};

/// Longer than a search through the calendar takes on a slow machine.
const LONG: Duration = Duration::from_secs(10);

/// Texts of every kind: ordinary ones, control characters, both directions, and lengths around the limits.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        2 => "[a-z]{0,4}",
        2 => proptest::collection::vec(select(vec![
            '\0', '\u{1}', '\u{7f}', '\u{85}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{ffff}', '\u{10ffff}', '\'', '"',
            '\\', '\n', '\t', 'ü', '{', '}', ',', '#', ' ',
        ]), 0..6).prop_map(String::from_iter),
        1 => (select(vec!['a', 'ü', '\u{1f980}']), select(vec![31, 32, 63, 64, 127, 128, 129, 650, 651, 1_300, 2_600, 2_601, 10_000]))
            .prop_map(|(c, len)| c.to_string().repeat(len)),
    ]
}

/// Any JSON that a program can build.
fn json_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![f64::MAX, f64::MIN_POSITIVE, -0.0, 1e308]).prop_map(Value::from),
    ];
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::Bool), number, text().prop_map(Value::String)];
    leaf.prop_recursive(8, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((text(), inner), 0..6).prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

fn arguments() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => prop::collection::vec((text(), json_value()), 0..4).prop_map(|members| Value::Object(Map::from_iter(members))),
        1 => json_value(),
        1 => (1..300_usize).prop_map(|depth| json!({ "deep": nested(depth) })),
    ]
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

fn date() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![
        Just(DateTime::<Utc>::MIN_UTC),
        Just(DateTime::<Utc>::MAX_UTC),
        (DateTime::<Utc>::MIN_UTC.timestamp()..=DateTime::<Utc>::MAX_UTC.timestamp(), 0..2_000_000_000_u32)
            .prop_filter_map("no such time", |(seconds, nanos)| DateTime::from_timestamp(seconds, nanos)),
        (0..4_000_000_000_i64)
            .prop_filter_map("no such time", |seconds| DateTime::from_timestamp(seconds, 999_999_999)),
    ]
}

fn duration() -> impl Strategy<Value = Duration> {
    let nanos = 0..1_000_000_000_u32;
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (any::<u64>(), nanos.clone()).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        (0..100_000_000_000_u64, nanos).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
    ]
}

fn job() -> impl Strategy<Value = JobToDefer> {
    let names = (text(), text(), prop::option::of(text()), prop::option::of(text()));
    let time =
        prop_oneof![Just(None), date().prop_map(|at| Some(Ok(at))), duration().prop_map(|delay| Some(Err(delay))),];
    (names, any::<i32>(), arguments(), time).prop_map(|((task, queue, lock, queueing_lock), priority, args, time)| {
        let job = configure_task(task, args).queue(queue).priority(priority);
        let job = lock.into_iter().fold(job, JobToDefer::lock);
        let job = queueing_lock.into_iter().fold(job, JobToDefer::queueing_lock);
        match time {
            None => job,
            Some(Ok(at)) => job.schedule_at(at),
            Some(Err(delay)) => job.schedule_in(delay),
        }
    })
}

#[test]
fn a_job_of_any_values_is_refused_before_the_database_is_asked_or_not_at_all() {
    check(1_000, &job(), |job| {
        if let Err(error) = job.check() {
            prop_assert!(error.is_invalid(), "{error}");
            prop_assert!(error.to_string().len() < 2_000);
        }
        Ok(())
    });
}

#[test]
fn what_is_not_refused_is_stored_and_read() {
    let database = database();
    let mut connection = connect(&database);
    check(15, &prop::collection::vec(job(), 1..20), |wanted| {
        let mut seen = std::collections::BTreeSet::new();
        let valid: Vec<JobToDefer> = wanted.into_iter().filter(|job| job.check().is_ok()).collect();
        let number = valid.len();
        match batch_defer_blocking(valid, &mut connection) {
            Ok(ids) => prop_assert!(ids.len() == number && ids.iter().all(|id| seen.insert(*id))),
            Err(error) => prop_assert!(error.is_already_enqueued(), "{error}"),
        }
        let read = jobs(&mut connection);
        prop_assert!(read.iter().all(|job| !job.to_string().is_empty()));
        prop_assert_eq!(list_jobs().execute_blocking(&mut connection).unwrap().len(), read.len());
        sql(&mut connection, "DELETE FROM procrastinate_jobs");
        Ok(())
    });
}

#[test]
fn arguments_that_are_nested_very_deep_are_refused() {
    // Serializing a value needs a stack for its depth, whichever library does it.
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(|| {
        for depth in [126, 127, 10_000] {
            let args = Value::Object(Map::from_iter([("deep".to_owned(), nested(depth))]));
            assert_eq!(configure_task("task", args).check().is_ok(), depth == 126, "{depth}");
        }
    });
    thread.unwrap().join().unwrap();
}

/// Fields of the right and of wrong characters, numbers of any size, names, and anything else.
fn cron_expression() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        6 => (0..70_u32).prop_map(|number| number.to_string()),
        3 => Just("*".to_owned()),
        3 => select(vec!["mon", "SUN", "fri", "jan", "Dec", "l", "L", "w", "?", "7", "0", "31", "29", "30", "2"]).prop_map(str::to_owned),
        1 => any::<u64>().prop_map(|number| number.to_string()),
        1 => select(vec!["", "-", "/", "#", ",", "99999999999999999999", "-1", "1.5", "٣", "r", "h"]).prop_map(str::to_owned),
    ];
    let joined = (atom.clone(), prop::collection::vec((select(vec!["-", "/", ",", "#", "", "w", "l"]), atom), 0..3))
        .prop_map(|(first, rest)| rest.into_iter().fold(first, |text, (sign, atom)| format!("{text}{sign}{atom}")));
    let fields = prop::collection::vec(prop_oneof![2 => Just("*".to_owned()), 3 => joined], 5..7)
        .prop_map(|fields| fields.join(" "));
    prop_oneof![
        8 => fields,
        1 => text(),
        1 => "[@a-z0-9*/,#?lw -]{0,30}",
        1 => select(vec!["@daily", "@reboot", "@", "0 0 30 2 *", "0 0 29 2 mon#5", "59 23 31 12 *", "* * 31 2,4,6,9,11 *"])
            .prop_map(str::to_owned),
    ]
}

#[test]
fn any_cron_expression_is_refused_or_has_its_next_tick_soon() {
    let zone = select(vec!["UTC", "Europe/Vienna", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"]);
    check(300, &(cron_expression(), date(), zone), |(expression, time, zone)| {
        let began_at = Instant::now();
        let cron = match Cron::new(&expression) {
            Ok(cron) => cron,
            Err(error) => {
                prop_assert!(error.is_invalid(), "{error}");
                return Ok(());
            }
        };
        #[cfg(feature = "chrono-tz")]
        let cron = if zone == "UTC" { cron } else { cron.in_time_zone(zone).unwrap() };
        #[cfg(not(feature = "chrono-tz"))]
        let _ = zone;
        let ticks: Vec<_> = cron.after(time).take(3).collect();
        prop_assert!(ticks.is_sorted() && ticks.iter().all(|tick| *tick > time), "{:?} after {}", ticks, time);
        let last = cron.last_until(time);
        prop_assert!(last.is_none_or(|last| last <= time), "{:?} until {}", last, time);
        prop_assert!(began_at.elapsed() < LONG, "it took {:?}", began_at.elapsed());
        Ok(())
    });
}

#[test]
fn delays_of_any_size_keep_to_their_limit() {
    let strategy = (any::<u32>(), any::<u32>(), any::<u32>(), duration(), any::<f64>(), any::<u32>());
    check(2_000, &strategy, |(wait, linear, exponential, longest, jitter, attempts)| {
        let strategy = RetryStrategy::new().wait(wait).linear_wait(linear).exponential_wait(exponential);
        let strategy = strategy.max_wait(longest).jitter(jitter);
        prop_assert!(strategy.wait_after(attempts) <= longest);
        let shown = format!("{strategy:?} {}", RetryDecision::retry_in(longest));
        prop_assert!(!shown.is_empty());
        Ok(())
    });
}

#[test]
fn a_job_is_rescheduled_to_any_date_that_is_not_refused() {
    let database = database();
    let mut connection = connect(&database);
    let id = configure_task("task", json!({})).defer_blocking(&mut connection).unwrap();
    check(60, &date(), |at| {
        match reschedule_job(id).schedule_at(at).execute_blocking(&mut connection) {
            Ok(()) => prop_assert!(jobs(&mut connection)[0].scheduled_at.is_some()),
            Err(error) => prop_assert!(error.is_invalid(), "{error}"),
        }
        Ok(())
    });
}
