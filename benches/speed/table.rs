//! Medians, ratios, and Markdown tables.

use std::fmt;

/// The maximum width of the middle half of a figure, as a share of its median. Wider rows are marked. With fewer than
/// five rounds, all of them count.
const SPREAD_BOUND: f64 = 0.2;

/// The probability that the interval of a ratio contains its median. It takes six rounds.
const CONFIDENCE: f64 = 0.95;

/// The note below a table with ratios.
const INTERVAL_NOTE: &str = "In brackets: where the median of the ratio lies with a probability of 95 %. With five \
    rounds it is 94 %, with three 75 %.";

/// A figure that was measured in several rounds.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) median: f64,
    pub(crate) highest: f64,
    /// The bounds of the middle half.
    middle: (f64, f64),
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        // With an even number of rounds, the median is between two of them.
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { lowest: at(0), median, highest: at(last), middle: (at(last / 4), at((3 * last).div_ceil(4))) }
    }

    fn is_wide(self) -> bool {
        self.middle.1 - self.middle.0 > SPREAD_BOUND * self.median
    }
}

/// Formats `12,345 (11,987 to 12,400)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} to {})", number(self.median), number(self.lowest), number(self.highest))
    }
}

/// Formats whole numbers from 100, with commas between thousands, and two decimals below.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 99.5 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The ratio of two figures of the same round, over all rounds.
struct Ratio {
    median: f64,
    /// The bounds of the confidence interval of the median. `None` with a single round.
    interval: Option<(f64, f64)>,
}

impl Ratio {
    fn of(ours: &[f64], others: &[f64]) -> Self {
        let mut ratios: Vec<f64> = ours.iter().zip(others).map(|(ours, other)| ours / other).collect();
        ratios.sort_by(f64::total_cmp);
        let left_out = left_out(ratios.len());
        let interval = (ratios.len() > 1).then(|| (ratios[left_out], ratios[ratios.len() - 1 - left_out]));
        Self { median: Spread::of(&ratios).median, interval }
    }
}

/// Formats `1.05 [0.98, 1.12], no difference can be told`.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", number(self.median))?;
        let Some((low, high)) = self.interval else { return Ok(()) };
        write!(f, " [{}, {}]", number(low), number(high))?;
        if low <= 1.0 && high >= 1.0 { write!(f, ", no difference can be told") } else { Ok(()) }
    }
}

/// Returns how many of the lowest and of the highest values the confidence interval leaves out.
///
/// The median lies outside of what remains only if so few values are on one side of it. That number follows the
/// binomial distribution, whatever the distribution of the values.
fn left_out(values: usize) -> usize {
    let mut ways = 0.5_f64.powi(i32::try_from(values).unwrap_or(i32::MAX));
    let mut outside = 0.0;
    for left_out in 0..values / 2 {
        outside += 2.0 * ways;
        if outside > 1.0 - CONFIDENCE {
            return left_out.saturating_sub(1);
        }
        #[allow(clippy::cast_precision_loss, reason = "a few dozen rounds")]
        let factor = (values - left_out) as f64 / (left_out + 1) as f64;
        ways *= factor;
    }
    0
}

/// A Markdown table with a title.
pub(crate) struct Table {
    title: String,
    lines: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
        Self { title: title.into(), lines: vec![head], notes: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().collect());
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Returns a cell with the ratio of figures of the same rounds, and explains its interval below the table.
    pub(crate) fn ratio(&mut self, ours: &[f64], others: &[f64]) -> String {
        if ours.len() > 1 && self.notes.iter().all(|note| note != INTERVAL_NOTE) {
            self.note(INTERVAL_NOTE);
        }
        Ratio::of(ours, others).to_string()
    }

    /// Adds a row that compares the crate with other figures of the same rounds, and further cells. Marks the row if
    /// the other figures differ too much.
    pub(crate) fn compare(&mut self, what: &str, ours: &[f64], others: &[f64], more: impl IntoIterator<Item = String>) {
        let other = Spread::of(others);
        let mark = if other.is_wide() { " (!)" } else { "" };
        let ratio = self.ratio(ours, others);
        let cells = [what.to_owned(), Spread::of(ours).to_string(), format!("{other}{mark}"), ratio];
        self.row(cells.into_iter().chain(more));
        if other.is_wide() && self.notes.iter().all(|note| !note.starts_with("(!)")) {
            self.note(format!(
                "(!) Too noisy to tell: between rounds even the middle half of this figure differs by more than {:.0} % \
                 of its median.",
                100.0 * SPREAD_BOUND
            ));
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        for (index, line) in self.lines.iter().enumerate() {
            writeln!(f, "| {} |", line.join(" | "))?;
            if index == 0 {
                writeln!(f, "|{}", "---|".repeat(line.len()))?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}
