//! A cron expression in words.

use super::expression::Fields;
use super::search::listed;
use super::values::{Nth, Values};
use crate::error::Error;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// More times of day than this are described by their hours and minutes.
const MOST_TIMES: usize = 4;

/// Describes when the expression ticks, as in `at 08:30 from Monday to Friday`.
pub(crate) fn in_words(expression: &str) -> Result<String, Error> {
    let fields = Fields::read(expression)?;
    let (time, is_time_of_day) = time(&fields);
    let days = days(&fields, is_time_of_day);
    Ok(match (days.is_empty(), is_time_of_day) {
        (true, _) => time,
        (false, true) => format!("{time} {days}"),
        (false, false) => format!("{time}, {days}"),
    })
}

/// What the values of a field have in common.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    All,
    /// Every second, third or later value, the same in each round.
    Every(u32),
    /// At least three in a row.
    Range(u32, u32),
    List(Vec<u32>),
}

fn shape(values: &[u32], first: u32, last: u32) -> Shape {
    let size = last - first + 1;
    let gaps: Vec<u32> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    match (values, gaps.as_slice()) {
        _ if values.len() == usize::try_from(size).unwrap_or(usize::MAX) => Shape::All,
        ([low, .., high], [1, _, ..]) if gaps.iter().all(|gap| *gap == 1) => Shape::Range(*low, *high),
        ([low, .., high], [gap, rest @ ..])
            if *low == first
                && high + gap > last
                && size.is_multiple_of(*gap)
                && rest.iter().all(|other| other == gap) =>
        {
            Shape::Every(*gap)
        }
        _ => Shape::List(values.to_vec()),
    }
}

/// Describes the times of a day, and says whether they are listed.
fn time(fields: &Fields) -> (String, bool) {
    let (seconds, minutes) = (listed(&fields.seconds, 0..=59), listed(&fields.minutes, 0..=59));
    let hours = listed(&fields.hours, 0..=23);
    let (of_minutes, of_hours) = (shape(&minutes, 0, 59), shape(&hours, 0, 23));
    let are_hours_alone = minutes == [0] && seconds == [0] && matches!(of_hours, Shape::List(_));
    if seconds.len() * minutes.len() * hours.len() <= MOST_TIMES || are_hours_alone {
        return (times(&seconds, &minutes, &hours), true);
    }
    let text = if seconds == [0] {
        by_minutes(&of_minutes, &of_hours)
    } else {
        let (start, is_every) = frequency("second", &shape(&seconds, 0, 59));
        let of_minute = match of_minutes {
            Shape::All if is_every => String::new(),
            Shape::All => " of each minute".to_owned(),
            Shape::Range(low, high) => format!(" in the minutes {low} to {high}"),
            _ => format!(" in {}", numbers("minute", &minutes)),
        };
        format!("{start}{of_minute}{}", in_hours(&of_hours))
    };
    (text, false)
}

fn times(seconds: &[u32], minutes: &[u32], hours: &[u32]) -> String {
    let mut texts = Vec::new();
    for hour in hours {
        for minute in minutes {
            for second in seconds {
                let second = if seconds == [0] { String::new() } else { format!(":{second:02}") };
                texts.push(format!("{hour:02}:{minute:02}{second}"));
            }
        }
    }
    format!("at {}", and(texts))
}

/// Describes times of day of whole minutes.
fn by_minutes(minutes: &Shape, hours: &Shape) -> String {
    if *minutes == Shape::List(vec![0]) {
        return match hours {
            Shape::All => "every hour".to_owned(),
            Shape::Every(step) => format!("every {step} hours"),
            Shape::Range(low, high) => format!("every hour from {low:02}:00 to {high:02}:00"),
            Shape::List(hours) => times(&[0], &[0], hours),
        };
    }
    let (start, is_every) = frequency("minute", minutes);
    if is_every {
        return format!("{start}{}", in_hours(hours));
    }
    match hours {
        Shape::All => format!("{start} of each hour"),
        Shape::Every(step) => format!("{start}, every {step} hours"),
        Shape::Range(low, high) => format!("{start} of the hours {low} to {high}"),
        Shape::List(hours) => format!("{start} of {}", numbers("hour", hours)),
    }
}

/// Describes the values of minutes or seconds, and says whether that begins with *every*.
fn frequency(unit: &str, shape: &Shape) -> (String, bool) {
    match shape {
        Shape::All => (format!("every {unit}"), true),
        Shape::Every(step) => (format!("every {step} {unit}s"), true),
        Shape::Range(low, high) => (format!("at the {unit}s {low} to {high}"), false),
        Shape::List(values) => (format!("at {}", numbers(unit, values)), false),
    }
}

/// Describes the hours of something that happens more than once in each.
fn in_hours(hours: &Shape) -> String {
    match hours {
        Shape::All => String::new(),
        Shape::Range(low, high) => format!(" from {low:02}:00 to {high:02}:59"),
        Shape::Every(step) => format!(" in {}", numbers("hour", &(0..24).step_by(as_usize(*step)).collect::<Vec<_>>())),
        Shape::List(hours) => match hours.as_slice() {
            [hour] => format!(" from {hour:02}:00 to {hour:02}:59"),
            hours => format!(" in {}", numbers("hour", hours)),
        },
    }
}

/// Describes the days. A day that matches only one of two fields counts.
fn days(fields: &Fields, is_time_of_day: bool) -> String {
    let is_every_day =
        is_every(&fields.days, 31) && !only_weekdays(fields) || is_every(&fields.weekdays, 7) && !only_days(fields);
    let months = listed(&fields.months, 1..=12);
    let of_months = match shape(&months, 1, 12) {
        Shape::All => None,
        Shape::Range(low, high) => Some(format!("from {} to {}", month(low), month(high))),
        _ => Some(and(months.iter().map(|number| month(*number).to_owned()).collect())),
    };
    let in_months = of_months.as_ref().map_or(String::new(), |months| {
        if months.starts_with("from") { format!(" {months}") } else { format!(" in {months}") }
    });
    if is_every_day {
        let start = if is_time_of_day { "every day" } else { "" };
        return format!("{start}{in_months}").trim_start().to_owned();
    }
    if only_weekdays(fields) {
        return format!("{}{in_months}", weekdays(&fields.weekdays));
    }
    let of_month = match &of_months {
        Some(months) if !months.starts_with("from") => format!(" of {months}"),
        _ => " of the month".to_owned(),
    };
    let in_months = if of_month == " of the month" { in_months } else { String::new() };
    let days = format!("{}{of_month}{in_months}", days_of_month(&fields.days));
    if only_days(fields) { days } else { format!("{days}, and also {}", weekdays(&fields.weekdays)) }
}

fn is_every(values: &Values, size: usize) -> bool {
    values.star || values.numbers.len() == size
}

/// Whether the field of the day says nothing.
fn only_weekdays(fields: &Fields) -> bool {
    fields.days.star && !fields.weekdays.star
}

/// Whether the field of the day of the week says nothing.
fn only_days(fields: &Fields) -> bool {
    fields.weekdays.star && !fields.days.star
}

fn days_of_month(days: &Values) -> String {
    if let Some(day) = days.nearest {
        return format!("on the day from Monday to Friday nearest to the {}", ordinal(day));
    }
    let numbers: Vec<u32> = days.numbers.iter().copied().collect();
    let step = numbers.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(0);
    let is_stepped =
        numbers.len() > 3 && step > 1 && numbers.iter().copied().eq((1..=31).step_by(as_usize(step))) && !days.last;
    match shape(&numbers, 1, 31) {
        _ if is_stepped => format!("on every {} day from the 1st", ordinal(step)),
        Shape::Range(low, high) if !days.last => format!("from the {} to the {}", ordinal(low), ordinal(high)),
        _ => {
            let mut texts: Vec<String> = numbers.into_iter().map(ordinal).collect();
            if days.last {
                texts.push("last day".to_owned());
            }
            format!("on the {}", and(texts))
        }
    }
}

fn weekdays(values: &Values) -> String {
    if !values.nth.is_empty() {
        let texts = values.nth.iter().map(|(day, nth)| {
            let nth = match nth {
                Nth::Number(number) => ["first", "second", "third", "fourth", "fifth"][as_usize(number - 1).min(4)],
                Nth::Last => "last",
            };
            format!("{nth} {}", weekday(*day))
        });
        return format!("on the {} of the month", and(texts.collect()));
    }
    let has = |day: u32| values.numbers.contains(&(day % 7));
    // From Monday on, as calendars show them.
    let days: Vec<u32> = (1..=7).filter(|day| has(*day)).collect();
    let length = u32::try_from(days.len()).unwrap_or(0);
    let start = (1..=7).find(|start| length > 2 && (*start..start + length).all(has));
    match start {
        Some(start) => format!("from {} to {}", weekday(start), weekday(start + length - 1)),
        None => format!("on {}", and(days.iter().map(|day| format!("{}s", weekday(*day))).collect())),
    }
}

fn weekday(day: u32) -> &'static str {
    WEEKDAYS[as_usize(day % 7)]
}

fn month(number: u32) -> &'static str {
    MONTHS[as_usize((number + 11) % 12)]
}

fn as_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number / 10) {
        (_, 1) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// As in `minute 5`, or `the minutes 5 and 10`.
fn numbers(unit: &str, values: &[u32]) -> String {
    match values {
        [value] => format!("{unit} {value}"),
        values => format!("the {unit}s {}", and(values.iter().map(u32::to_string).collect())),
    }
}

/// As in `1, 2 and 3`.
fn and(mut texts: Vec<String>) -> String {
    match texts.pop() {
        Some(last) if !texts.is_empty() => format!("{} and {last}", texts.join(", ")),
        last => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn an_expression_is_described_in_words() {
        for (expression, expected) in [
            ("* * * * *", "every minute"),
            ("*/5 * * * *", "every 5 minutes"),
            ("@hourly", "every hour"),
            ("30 * * * *", "at minute 30 of each hour"),
            ("5,35 * * * *", "at the minutes 5 and 35 of each hour"),
            ("*/25 * * * *", "at the minutes 0, 25 and 50 of each hour"),
            ("0-10 * * * *", "at the minutes 0 to 10 of each hour"),
            ("0 */2 * * *", "every 2 hours"),
            ("15 */2 * * *", "at minute 15, every 2 hours"),
            ("0 9-17 * * mon-fri", "every hour from 09:00 to 17:00, from Monday to Friday"),
            ("*/15 9-17 * * 1-5", "every 15 minutes from 09:00 to 17:59, from Monday to Friday"),
            ("*/15 9 * * *", "at 09:00, 09:15, 09:30 and 09:45 every day"),
            ("*/10 9 * * *", "every 10 minutes from 09:00 to 09:59"),
            ("@daily", "at 00:00 every day"),
            ("30 8 * * mon-fri", "at 08:30 from Monday to Friday"),
            ("0 8,20 * * *", "at 08:00 and 20:00 every day"),
            ("0 1,3,5,8,13 * * *", "at 01:00, 03:00, 05:00, 08:00 and 13:00 every day"),
            ("15 1,3,5,8,13 * * *", "at minute 15 of the hours 1, 3, 5, 8 and 13"),
            ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day"),
            ("0 8 * * fri-mon", "at 08:00 from Friday to Monday"),
            ("0 8 * * 0,6", "at 08:00 on Saturdays and Sundays"),
            ("0 8 * * 1", "at 08:00 on Mondays"),
            ("0 8 * * fri#2", "at 08:00 on the second Friday of the month"),
            ("0 8 * * l5", "at 08:00 on the last Friday of the month"),
            ("0 8 1 * *", "at 08:00 on the 1st of the month"),
            ("0 8 1,15,l * *", "at 08:00 on the 1st, 15th and last day of the month"),
            ("0 8 1-7 * *", "at 08:00 from the 1st to the 7th of the month"),
            ("0 8 */2 * *", "at 08:00 on every 2nd day from the 1st of the month"),
            ("0 8 15w * *", "at 08:00 on the day from Monday to Friday nearest to the 15th of the month"),
            ("0 8 13 * 5", "at 08:00 on the 13th of the month, and also on Fridays"),
            ("0 8 1-31 * 5", "at 08:00 every day"),
            ("@yearly", "at 00:00 on the 1st of January"),
            ("0 0 1 */3 *", "at 00:00 on the 1st of January, April, July and October"),
            ("0 0 1 4-9 *", "at 00:00 on the 1st of the month from April to September"),
            ("0 8 * 12 *", "at 08:00 every day in December"),
            ("*/5 * * 6-8 *", "every 5 minutes, from June to August"),
            ("* * * * * *", "every second"),
            ("* * * * * */10", "every 10 seconds"),
            ("* * * * * 30", "at second 30 of each minute"),
            ("0 8 * * * 30", "at 08:00:30 every day"),
            ("0,30 * * * * */10", "every 10 seconds in the minutes 0 and 30"),
        ] {
            assert_eq!(in_words(expression).ok().as_deref(), Some(expected), "{expression}");
        }
        assert!(in_words("0 8 * *").is_err());
    }
}
