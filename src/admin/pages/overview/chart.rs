//! Charts of the last hour and the last day: how many jobs ended, and how long jobs waited before they started.

use chrono::{DateTime, TimeDelta, Utc};

use crate::admin::pages::address::grouped;
use crate::admin::pages::tasks::length;
use crate::database::statements::admin::CEILING;
use crate::database::statements::admin::activity::ActivityRow;

/// A period that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    /// As in *the last hour*.
    pub(crate) name: &'static str,
    /// As in *in each minute*.
    pub(crate) part_name: &'static str,
    pub(crate) parts: i32,
    pub(crate) part_seconds: i32,
}

pub(crate) const HOUR: Period = Period { name: "hour", part_name: "minute", parts: 60, part_seconds: 60 };
pub(crate) const DAY: Period = Period { name: "day", part_name: "hour", parts: 24, part_seconds: 3_600 };

const WIDTH: i32 = 600;
const HEIGHT: i32 = 60;

/// What jobs did in a part of a period.
#[derive(Debug, Clone, Default, PartialEq)]
struct Part {
    succeeded: f64,
    failed: f64,
    is_estimate: bool,
    median_wait: Option<f64>,
    high_wait: Option<f64>,
}

/// What jobs did in a period, from the newest part to the oldest.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) period: Period,
    parts: Vec<Part>,
    now: DateTime<Utc>,
    are_failures_exact: bool,
}

/// A part of the period: its numbers as texts, and two bars in each of two pictures.
pub(crate) struct Bar {
    pub(crate) since: DateTime<Utc>,
    pub(crate) succeeded: String,
    pub(crate) failed: String,
    pub(crate) median: String,
    pub(crate) high: String,
    pub(crate) x: i32,
    pub(crate) width: i32,
    /// The place of a bar: its top and its height.
    pub(crate) succeeded_bar: (i32, i32),
    pub(crate) failed_bar: (i32, i32),
    pub(crate) median_bar: (i32, i32),
    pub(crate) high_bar: (i32, i32),
}

impl Chart {
    /// The failures were counted if they are not above the ceiling. Otherwise, they are estimated, too.
    pub(crate) fn new(
        period: Period,
        rows: &[ActivityRow],
        failures: Option<&[(i32, i64)]>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut parts = vec![Part::default(); usize::try_from(period.parts).unwrap_or_default()];
        let place = |part: i32| usize::try_from(part).ok();
        for row in rows {
            if let Some(part) = place(row.part).and_then(|place| parts.get_mut(place)) {
                *part = Part {
                    succeeded: row.succeeded,
                    failed: row.failed,
                    is_estimate: !row.is_exact,
                    median_wait: row.median_wait.map(|seconds| seconds.max(0.0)),
                    high_wait: row.high_wait.map(|seconds| seconds.max(0.0)),
                };
            }
        }
        let counted = failures.filter(|failures| failures.iter().map(|(_, jobs)| jobs).sum::<i64>() <= CEILING);
        if let Some(counted) = counted {
            parts.iter_mut().for_each(|part| part.failed = 0.0);
            for (part, jobs) in counted {
                if let Some(part) = place(*part).and_then(|place| parts.get_mut(place)) {
                    #[allow(clippy::cast_precision_loss, reason = "it is at most the ceiling")]
                    let jobs = *jobs as f64;
                    part.failed = jobs;
                }
            }
        }
        let are_failures_exact = counted.is_some() || parts.iter().all(|part| !part.is_estimate);
        Self { period, parts, now, are_failures_exact }
    }

    pub(crate) fn is_estimate(&self) -> bool {
        self.parts.iter().any(|part| part.is_estimate)
    }

    fn failed(&self) -> f64 {
        self.parts.iter().map(|part| part.failed).sum()
    }

    /// How many jobs failed, and whether that is an estimate.
    pub(crate) fn failures(&self) -> (i64, bool) {
        #[allow(clippy::cast_possible_truncation, reason = "a larger number of jobs does not exist")]
        let failed = self.failed().round() as i64;
        (failed, !self.are_failures_exact)
    }

    /// What the first picture shows, in words.
    pub(crate) fn ended(&self) -> String {
        let succeeded: f64 = self.parts.iter().map(|part| part.succeeded).sum();
        let most = self.parts.iter().map(|part| part.succeeded + part.failed).fold(0.0, f64::max);
        let text = format!(
            "{} jobs succeeded, {} failed.",
            number(succeeded, self.is_estimate()),
            number(self.failed(), !self.are_failures_exact)
        );
        if most == 0.0 {
            return text;
        }
        format!("{text} The most in one {} are {}.", self.period.part_name, number(most, self.is_estimate()))
    }

    /// What the second picture shows, in words.
    pub(crate) fn waited(&self) -> String {
        let medians = self.parts.iter().filter_map(|part| part.median_wait);
        let highest = |waits: &mut dyn Iterator<Item = f64>| waits.reduce(f64::max);
        let mut sorted: Vec<f64> = medians.collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(median), Some(high)) =
            (sorted.get(sorted.len() / 2), highest(&mut self.parts.iter().filter_map(|part| part.high_wait)))
        else {
            return "No job has started.".to_owned();
        };
        format!(
            "In a typical {part}, half of the jobs waited at most {}. In the worst {part}, 95 % waited at most {}.",
            length(*median),
            length(high),
            part = self.period.part_name
        )
    }

    /// The bars, the oldest first, on the left.
    pub(crate) fn bars(&self) -> Vec<Bar> {
        let most_jobs = self.parts.iter().map(|part| part.succeeded + part.failed).fold(0.0, f64::max);
        let longest = self.parts.iter().filter_map(|part| part.high_wait).fold(0.0, f64::max);
        let step = WIDTH / self.period.parts;
        let bar = |(index, part): (i32, &Part)| {
            let (succeeded, failed) = (height(part.succeeded, most_jobs), height(part.failed, most_jobs));
            let [median, high] = [part.median_wait, part.high_wait].map(|wait| height(wait.unwrap_or(0.0), longest));
            let text = |wait: Option<f64>| wait.map_or_else(String::new, length);
            Bar {
                since: self.now - TimeDelta::seconds(i64::from(index + 1) * i64::from(self.period.part_seconds)),
                succeeded: number(part.succeeded, part.is_estimate),
                failed: number(part.failed, part.is_estimate && !self.are_failures_exact),
                median: text(part.median_wait),
                high: text(part.high_wait),
                x: (self.period.parts - 1 - index) * step,
                width: step - 2,
                succeeded_bar: (HEIGHT - succeeded, succeeded),
                failed_bar: ((HEIGHT - succeeded - failed).max(0), failed),
                median_bar: (HEIGHT - median, median),
                high_bar: (HEIGHT - high, high),
            }
        };
        let mut bars: Vec<_> = (0..).zip(&self.parts).map(bar).collect();
        bars.reverse();
        bars
    }
}

/// The height of a bar. One that is not empty is seen.
fn height(value: f64, most: f64) -> i32 {
    if value <= 0.0 || most <= 0.0 {
        return 0;
    }
    // In this range no number is cut.
    #[allow(clippy::cast_possible_truncation, reason = "it is at most the height of the picture")]
    let height = (value / most * f64::from(HEIGHT)) as i32;
    height.clamp(1, HEIGHT)
}

/// A number of jobs. An estimate has three digits that count.
fn number(jobs: f64, is_estimate: bool) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "a larger number of jobs does not exist")]
    let mut whole = jobs.round() as i64;
    if !is_estimate {
        return grouped(whole);
    }
    let unit = 10_i64.pow(whole.unsigned_abs().max(1).ilog10().saturating_sub(2));
    whole = (whole + unit / 2) / unit * unit;
    format!("≈ {}", grouped(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(part: i32, succeeded: f64, failed: f64) -> ActivityRow {
        ActivityRow { part, succeeded, failed, is_exact: true, median_wait: Some(1.0), high_wait: Some(4.0) }
    }

    #[test]
    fn the_newest_bar_is_on_the_right_and_none_is_invisible() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let chart = Chart::new(HOUR, &[row(0, 1_000.0, 0.0), row(59, 0.0, 1.0)], None, now);
        let bars = chart.bars();
        assert_eq!(bars.len(), 60);
        assert_eq!((bars[59].x, bars[59].succeeded_bar, bars[59].failed_bar), (590, (0, 60), (0, 0)));
        assert_eq!((bars[0].x, bars[0].failed_bar, bars[0].median_bar), (0, (59, 1), (45, 15)));
        assert_eq!(bars[0].since, now - TimeDelta::hours(1));
        assert_eq!(chart.ended(), "1\u{202f}000 jobs succeeded, 1 failed. The most in one minute are 1\u{202f}000.");
    }

    #[test]
    fn estimates_are_marked_and_counted_failures_are_not() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let rows = [ActivityRow { is_exact: false, ..row(3, 123_456.0, 700.0) }];
        let chart = Chart::new(DAY, &rows, Some(&[(3, 5)]), now);
        assert_eq!(chart.ended().split(". ").next(), Some("≈ 123\u{202f}000 jobs succeeded, 5 failed"));
        let chart = Chart::new(DAY, &rows, Some(&[(3, CEILING + 1)]), now);
        assert!(chart.ended().contains("≈ 700 failed"), "{}", chart.ended());
        let chart = Chart::new(DAY, &[], Some(&[]), now);
        assert_eq!(chart.ended(), "0 jobs succeeded, 0 failed.");
        assert_eq!(chart.waited(), "No job has started.");
    }
}
