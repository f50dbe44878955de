//! Parses a cron expression by the rules of Python's croniter.

use super::field::{DAY, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH, SECOND};
use super::search::Search;
use super::values::Values;
use crate::error::Error;

/// The characters that separate fields.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

/// Names for complete expressions.
const ALIASES: [(&str, &str); 7] = [
    ("@midnight", "0 0 * * *"),
    ("@daily", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The last day for which `W` means the same in every month.
const LAST_NEAREST: u32 = 28;

/// A parsed expression: the values of each field.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) seconds: Values,
    pub(super) minutes: Values,
    pub(super) hours: Values,
    pub(super) days: Values,
    pub(super) months: Values,
    pub(super) weekdays: Values,
    /// Whether hours or minutes are not named, so that the schedule is about an interval rather than a time of day.
    pub(super) keeps_pace: bool,
}

impl Fields {
    /// Parses an expression of five fields, or of six with the second last.
    pub(super) fn read(expression: &str) -> Result<Self, Error> {
        let refuse = |rule: String| Error::invalid("cron expression", expression, rule);
        let lower = expression.to_lowercase();
        let text = ALIASES.iter().find(|(alias, _)| *alias == lower).map_or(lower.as_str(), |(_, meaning)| meaning);
        let texts: Vec<&str> = text.split(BLANKS).filter(|field| !field.is_empty()).collect();
        let (five, second) = match *texts.as_slice() {
            [ref five @ .., second] if five.len() == 5 => (five, Some(second)),
            ref five if five.len() == 5 => (five, None),
            ref other => {
                let rule = format!(
                    "must have five fields (minute, hour, day, month, day of week) or six (second last), not {}",
                    other.len()
                );
                return Err(refuse(rule));
            }
        };
        let read = |field: &Field, text: &str| field.read(text).map_err(|rule| refuse(field.explain(text, &rule)));
        let seconds = second.map_or_else(|| Ok(Values::number(0)), |second| read(&SECOND, second))?;
        let mut fields = Self {
            seconds,
            minutes: read(&MINUTE, five[0])?,
            hours: read(&HOUR, five[1])?,
            days: read(&DAY, five[2])?,
            months: read(&MONTH, five[3])?,
            weekdays: read(&DAY_OF_WEEK, five[4])?,
            keeps_pace: false,
        };
        fields.keeps_pace = (five[0].starts_with('*') && fields.minutes.is_several())
            || (five[1].starts_with('*') && fields.hours.is_several());
        fields.settle_days(five[2], five[4]);
        fields.check_days().map_err(refuse)?;
        Ok(fields)
    }

    /// Decides which day fields restrict the days.
    ///
    /// If one field is `*`, the other one alone decides, and a field that lists all its values counts as `*` too.
    /// Without a `*`, a day needs to match only one of the fields.
    fn settle_days(&mut self, days: &str, weekdays: &str) {
        // The last day of the month counts as one more value.
        let listed = self.days.numbers.len() + usize::from(self.days.last);
        self.days.star |= listed == DAY.size() && weekdays.contains('*');
        self.weekdays.star |= self.weekdays.numbers.len() == DAY_OF_WEEK.size() && days.contains('*');
    }

    fn check_days(&self) -> Result<(), String> {
        if !self.weekdays.nth.is_empty() {
            if self.weekdays.star || !self.weekdays.numbers.is_empty() {
                return Err("field day of week must not mix \"#\" and \"L\" with other values".to_owned());
            }
            if !self.days.star {
                return Err("field day must be \"*\" if field day of week has \"#\" or \"L\"".to_owned());
            }
        }
        if let Some(day) = self.days.nearest {
            if !self.weekdays.star {
                return Err("field day of week must be \"*\" if field day has \"W\"".to_owned());
            }
            if day > LAST_NEAREST {
                return Err(format!("field day must not have \"{day}W\", because not every month has that day"));
            }
        }
        Ok(())
    }

    /// Returns the search for these values.
    pub(super) fn into_search(self) -> Search {
        Search::new([self.seconds, self.minutes, self.hours, self.days, self.months, self.weekdays])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field_and_the_rule() {
        for (expression, rule) in [
            ("0 8 * *", "must have five fields (minute, hour, day, month, day of week) or six (second last), not 4"),
            ("0 8 * * * 60", "field second \"60\" has \"60\", but values must be from 0 to 59"),
            ("0 8 1,32 * *", "field day \"1,32\" has \"32\", but values must be from 1 to 31"),
            ("0 8 * * 8", "field day of week \"8\" has \"8\", but values must be from 0 to 7"),
            ("0 8 * * mo", "field day of week \"mo\" has \"mo\", but values must be numbers or the names sun to sat"),
            ("mon 8 * * *", "field minute \"mon\" has \"mon\", but values must be numbers"),
            ("*/0 8 * * *", "field minute \"*/0\" must have a number of at least 1 after \"/\", not \"0\""),
            ("0 8 * * mon#6", "field day of week \"mon#6\" must have a number from 1 to 5 after \"#\""),
            ("0 8 * * 1-5#2", "field day of week \"1-5#2\" must have one day or a range of names before \"#\""),
            ("0 8 1,15w * *", "field day \"1,15w\" must not have \"W\" in a list"),
            (
                "h 8 * * *",
                "field minute \"h\" must not use \"H\" or \"R\", because programs would not agree on the time",
            ),
            ("0 8 1 * mon#1", "field day must be \"*\" if field day of week has \"#\" or \"L\""),
            ("0 8 15w * 1", "field day of week must be \"*\" if field day has \"W\""),
            ("0 8 * * 5,mon#1", "field day of week must not mix \"#\" and \"L\" with other values"),
            ("0 8 31w * *", "field day must not have \"31W\", because not every month has that day"),
        ] {
            let error = Fields::read(expression).map(drop).map_err(|error| error.to_string());
            assert_eq!(error, Err(format!("invalid cron expression {expression:?}: {rule}")));
        }
    }

    #[test]
    fn a_schedule_without_hours_or_minutes_keeps_its_pace() {
        for (expression, keeps_pace) in [
            ("*/5 * * * *", true),
            ("30 * * * *", true),
            ("0 */2 * * *", true),
            ("*/5 2 * * *", true),
            ("30 2 * * *", false),
            ("0 2,14 * * *", false),
            ("0-30 2 * * *", false),
            ("*/60 2 * * *", false),
        ] {
            let fields = Fields::read(expression);
            assert_eq!(fields.map(|fields| fields.keeps_pace).ok(), Some(keeps_pace), "{expression}");
        }
    }
}
