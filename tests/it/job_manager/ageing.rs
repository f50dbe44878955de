//! Priorities that age.

use std::time::Duration;

use procrastinate::Error;
use procrastinate::job_manager::{age_priorities, list_priority_ageings, stop_ageing};

use super::{Desk, each_way};

each_way!(ageing_is_listed_replaced_and_stopped, invalid_values_are_refused_before_a_statement_is_sent,);

const MINUTE: Duration = Duration::from_secs(60);

async fn ageing_is_listed_replaced_and_stopped(mut desk: Desk) {
    assert!(desk.execute(age_priorities("reports").every(MINUTE).up_to(10)).await.unwrap());
    assert!(!desk.execute(age_priorities("reports").every(MINUTE).step(1).up_to(10)).await.unwrap(), "the same");
    assert!(desk.execute(age_priorities("a").every(Duration::from_millis(1_500)).step(7).up_to(-1)).await.unwrap());
    assert!(desk.execute(age_priorities("reports").every(MINUTE).up_to(i32::MAX)).await.unwrap());
    let ageings = desk.execute(list_priority_ageings()).await.unwrap();
    let settings: Vec<_> = ageings
        .iter()
        .map(|ageing| (ageing.queue_name.as_str(), ageing.every_seconds, ageing.step, ageing.max_priority))
        .collect();
    assert_eq!(settings, [("a", 1.5, 7, -1), ("reports", 60.0, 1, i32::MAX)]);
    assert_eq!(ageings[0].last_aged_at, None);

    assert!(desk.execute(stop_ageing("reports")).await.unwrap());
    assert!(!desk.execute(stop_ageing("reports")).await.unwrap());
    assert!(desk.execute(stop_ageing("a")).await.unwrap());
    assert_eq!(desk.execute(list_priority_ageings()).await.unwrap(), []);
}

async fn invalid_values_are_refused_before_a_statement_is_sent(mut desk: Desk) {
    let ageing = || age_priorities("reports").every(MINUTE).up_to(10);
    let too_long = Duration::from_secs(2_000 * 31_557_600);
    for (operation, expected) in [
        (age_priorities("").every(MINUTE).up_to(10), "must not be empty"),
        (age_priorities("x".repeat(129)).every(MINUTE).up_to(10), "at most 128 bytes"),
        (age_priorities("reports").up_to(10), "must have a period and a maximum"),
        (age_priorities("reports").every(MINUTE), "must have a period and a maximum"),
        (ageing().every(Duration::from_millis(999)), "999ms"),
        (ageing().every(Duration::from_millis(999)), "must be at least a second"),
        (ageing().every(too_long), "must be at most 1,000 years"),
        (ageing().step(0), "step of ageing"),
        (ageing().step(u32::MAX), "4294967295"),
    ] {
        let error = desk.execute(operation).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = desk.execute(stop_ageing("a\0")).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert_eq!(desk.execute(list_priority_ageings()).await.unwrap(), []);
}
