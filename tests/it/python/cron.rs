//! Cron expressions, compared with croniter, by which Procrastinate computes ticks.

use std::io::Write;
use std::process::{Command, Stdio};

use chrono::{DateTime, Utc};
use procrastinate::Cron;
use serde_json::json;

use super::peer::{DIRECTORY, python};

/// Around the ends of months and years, leap days, and moments within a minute.
const STARTS: [&str; 14] = [
    "2026-11-22T18:00:00Z",
    "2026-11-22T17:59:59Z",
    "2026-06-15T12:34:56Z",
    "2024-02-28T23:59:59Z",
    "2024-02-29T00:00:00Z",
    "2024-02-29T12:00:01Z",
    "2023-02-28T23:59:00Z",
    "2025-12-31T23:59:59Z",
    "2026-01-01T00:00:00Z",
    "2026-01-31T08:00:00Z",
    "2026-03-31T23:59:30Z",
    "2026-04-30T00:00:00Z",
    "2027-08-29T06:07:08Z",
    "2096-03-01T00:00:00Z",
];

/// What users write, and what they get wrong.
const EXPRESSIONS: &str = include_str!("cron_expressions.txt");

/// Why an expression that croniter accepts may be refused: the list in the documentation of `Cron`, by a part of the rule.
const DEPARTURES: [&str; 7] = [
    "must not use \"H\" or \"R\"",
    "(second last), not 7",
    "must not mix \"#\" and \"L\" with other values",
    "field day must be \"*\"",
    "field day of week must be \"*\"",
    "not every month has that day",
    "has \"0\", but values must be from 1 to",
];

/// What croniter says of an expression: nothing if it refuses it; else for each start the ticks after and the last before.
type Answer = Option<Vec<(Vec<i64>, Option<i64>)>>;

fn ask_croniter(questions: &[(String, Vec<DateTime<Utc>>)], count: usize) -> Option<Vec<Answer>> {
    let mut process = Command::new(python()?)
        .arg(format!("{DIRECTORY}/ticks.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    let lines: String = questions
        .iter()
        .map(|(expression, starts)| {
            let starts: Vec<i64> = starts.iter().map(DateTime::timestamp).collect();
            json!({ "expression": expression, "starts": starts, "count": count }).to_string() + "\n"
        })
        .collect();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = process.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn our_answer(expression: &str, starts: &[DateTime<Utc>], count: usize) -> Result<Answer, String> {
    let cron = Cron::new(expression).map_err(|error| error.to_string())?;
    let answers = starts.iter().map(|start| {
        let after: Vec<i64> = cron.after(*start).take(count).map(|tick| tick.timestamp()).collect();
        (after, cron.last_until(*start).map(|tick| tick.timestamp()))
    });
    Ok(Some(answers.collect()))
}

/// Compares, and returns how many of the expressions had ticks and how many were refused by croniter.
fn assert_that_croniter_agrees(questions: &[(String, Vec<DateTime<Utc>>)], count: usize) -> Option<(usize, usize)> {
    let answers = ask_croniter(questions, count)?;
    assert_eq!(answers.len(), questions.len());
    let mut differences = Vec::new();
    let mut accepted = 0;
    for ((expression, starts), theirs) in questions.iter().zip(&answers) {
        match (our_answer(expression, starts, count), theirs) {
            (Ok(ours), Some(_)) if ours == *theirs => accepted += 1,
            (Err(_), None) => {}
            (Err(rule), Some(_)) if DEPARTURES.iter().any(|departure| rule.contains(departure)) => {}
            (ours, theirs) => differences.push(format!("{expression:?}: ours {ours:?}, theirs {theirs:?}")),
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    Some((accepted, answers.iter().filter(|answer| answer.is_none()).count()))
}

#[test]
fn the_ticks_of_what_users_write_are_those_of_croniter() {
    let starts: Vec<DateTime<Utc>> = STARTS.map(|start| start.parse().unwrap()).to_vec();
    let expressions = EXPRESSIONS.lines().filter(|line| !line.starts_with("//"));
    let questions: Vec<_> = expressions.map(|expression| (unescaped(expression), starts.clone())).collect();
    let Some((accepted, refused)) = assert_that_croniter_agrees(&questions, 6) else { return };
    assert!(accepted > 100 && refused > 50, "{accepted} accepted, {refused} refused");
}

/// Tabs and similar characters are in the table as JSON writes them.
fn unescaped(line: &str) -> String {
    if line.contains('\\') { serde_json::from_str(&format!("\"{line}\"")).unwrap() } else { line.to_owned() }
}

#[test]
fn the_ticks_of_generated_expressions_are_those_of_croniter() {
    let mut random = Random(0x5eed);
    let questions: Vec<_> = (0..500)
        .map(|_| {
            let starts = vec![random.time(), random.pick(&STARTS).parse().unwrap()];
            (random.expression(), starts)
        })
        .collect();
    let Some((accepted, refused)) = assert_that_croniter_agrees(&questions, 4) else { return };
    assert!(accepted > 250 && refused > 25, "{accepted} accepted, {refused} refused");
}

#[test]
fn an_expression_that_never_matches_has_no_ticks() {
    let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    for expression in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30,31 2 * */7"] {
        let cron = Cron::new(expression).unwrap();
        assert_eq!((cron.after(now).next(), cron.last_until(now)), (None, None), "{expression}");
    }
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    /// From 0 up to and without `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick<'v>(&mut self, values: &[&'v str]) -> &'v str {
        values[usize::try_from(self.below(values.len().try_into().unwrap())).unwrap()]
    }

    /// A second from 1990 to 2060.
    fn time(&mut self) -> DateTime<Utc> {
        let seconds = 631_152_000 + self.below(2_208_988_800);
        DateTime::from_timestamp(seconds.try_into().unwrap(), 0).unwrap()
    }

    fn expression(&mut self) -> String {
        let names = ["jan", "Feb", "MAR", "jun", "sep", "dec"];
        let weekdays = ["sun", "Mon", "tue", "WED", "thu", "fri", "sat"];
        let mut columns = vec![
            self.column(0, 59, &[]),
            self.column(0, 23, &[]),
            self.day(),
            self.column(1, 12, &names),
            self.day_of_week(&weekdays),
        ];
        if self.below(3) == 0 {
            columns.push(self.column(0, 59, &[]));
        }
        columns.join(" ")
    }

    fn day(&mut self) -> String {
        match self.below(14) {
            0 => "l".to_owned(),
            1 => format!("{}w", self.below(31)),
            2 => format!("{},L", self.below(31) + 1),
            3 => format!("{}-l", self.below(32)),
            4 => "?".to_owned(),
            _ => self.column(1, 31, &[]),
        }
    }

    fn day_of_week(&mut self, weekdays: &[&str]) -> String {
        match self.below(14) {
            0 => format!("{}#{}", self.below(8), self.below(6)),
            1 => format!("{}-{}#{}", self.pick(weekdays), self.pick(weekdays), self.below(5) + 1),
            2 => format!("l{}", self.below(9)),
            3 => format!("{}#1,L{}", self.pick(weekdays), self.below(7)),
            4 => "?".to_owned(),
            _ => self.column(0, 7, weekdays),
        }
    }

    fn column(&mut self, first: u64, last: u64, names: &[&str]) -> String {
        if self.below(3) == 0 {
            return "*".to_owned();
        }
        let items: Vec<String> = (0..=self.below(5) / 3).map(|_| self.item(first, last, names)).collect();
        items.join(",")
    }

    fn item(&mut self, first: u64, last: u64, names: &[&str]) -> String {
        let step = 1 + self.below(last + 2);
        match self.below(40) {
            0 => self
                .pick(&["", "-1", "*/0", "1/", "/5", "1-2-3", "x", "5-*", "*-5", "h", "l-3", "w", "1//2", "07"])
                .to_owned(),
            1..8 => format!("*/{step}"),
            8..13 => format!("{}/{step}", self.value(first, last, names)),
            13..23 => format!("{}-{}", self.value(first, last, names), self.value(first, last, names)),
            23..31 => format!("{}-{}/{step}", self.value(first, last, names), self.value(first, last, names)),
            _ => self.value(first, last, names),
        }
    }

    /// Now and then one that is out of range.
    fn value(&mut self, first: u64, last: u64, names: &[&str]) -> String {
        match self.below(60) {
            0 => (last + 1).to_string(),
            1 => first.saturating_sub(1).to_string(),
            2..12 if !names.is_empty() => self.pick(names).to_owned(),
            _ => (first + self.below(last - first + 1)).to_string(),
        }
    }
}
