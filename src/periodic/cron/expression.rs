//! The fields of a cron expression, read by the rules of Python's croniter, and written for the library that searches.

use super::field::{DAY, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH, SECOND};
use super::values::Values;
use crate::error::Error;

/// What characters stand between fields.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

/// Names for whole expressions.
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

/// An expression that was read: for each field what it asks for.
#[derive(Debug)]
pub(super) struct Fields {
    seconds: Values,
    minutes: Values,
    hours: Values,
    days: Values,
    months: Values,
    weekdays: Values,
    /// Whether it names no hours, or no minutes: it is about a pace more than about times of day.
    pub(super) keeps_pace: bool,
}

impl Fields {
    /// Reads an expression of five fields, or of six with seconds last.
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
                    "it has {} fields, and there are five (minute, hour, day, month, day of week) or six (second last)",
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

    /// A field of days that lists all there are is a `*` if the other one has a `*`: then the other one alone decides.
    /// Without that, either of two fields may say that a day is meant.
    fn settle_days(&mut self, days: &str, weekdays: &str) {
        // The last day counts as one more, whichever it is.
        let listed = self.days.numbers.len() + usize::from(self.days.last);
        self.days.star |= listed == DAY.size() && weekdays.contains('*');
        self.weekdays.star |= self.weekdays.numbers.len() == DAY_OF_WEEK.size() && days.contains('*');
    }

    fn check_days(&self) -> Result<(), String> {
        if !self.weekdays.nth.is_empty() {
            if self.weekdays.star || !self.weekdays.numbers.is_empty() {
                return Err("its field day of week must not mix \"#\" and \"L\" with other values".to_owned());
            }
            if !self.days.star {
                return Err("beside \"#\" or \"L\" in its field day of week, its field day must be \"*\"".to_owned());
            }
        }
        if let Some(day) = self.days.nearest {
            if !self.weekdays.star {
                return Err("beside \"W\" in its field day, its field day of week must be \"*\"".to_owned());
            }
            if day > LAST_NEAREST {
                return Err(format!(
                    "its field day must not ask for the weekday nearest to the {day}: not every month has that day"
                ));
            }
        }
        Ok(())
    }

    /// The same schedule, as the library that searches wants it: seconds first, every value by number.
    pub(super) fn pattern(&self) -> String {
        let fields = [&self.seconds, &self.minutes, &self.hours, &self.days, &self.months, &self.weekdays];
        fields.map(Values::pattern).join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_with_seconds_first_and_every_value_by_number() {
        for (expression, pattern) in [
            ("*/20 9-11 * * *", "0 0,20,40 9,10,11 * * *"),
            ("0 0 1,15,l jan-mar ? 30", "30 0 0 1,15,L 1,2,3 *"),
            ("0 0 ? * fri-mon", "0 0 0 * * 0,1,5,6"),
            ("0 0 w15 * *", "0 0 0 15W * *"),
            ("0 0 * * mon#2,l5", "0 0 0 * * 1#2,5#L"),
            ("@weekly", "0 0 0 * * 0"),
        ] {
            assert_eq!(Fields::read(expression).map(|fields| fields.pattern()).ok().as_deref(), Some(pattern));
        }
    }

    #[test]
    fn what_is_refused_is_named_with_the_column_and_the_rule() {
        for (expression, rule) in [
            (
                "0 8 * *",
                "it has 4 fields, and there are five (minute, hour, day, month, day of week) or six (second last)",
            ),
            ("0 8 * * * 60", "its field second \"60\" has \"60\", and the values are 0 to 59"),
            ("0 8 1,32 * *", "its field day \"1,32\" has \"32\", and the values are 1 to 31"),
            ("0 8 * * 8", "its field day of week \"8\" has \"8\", and the values are 0 to 7"),
            (
                "0 8 * * mo",
                "its field day of week \"mo\" has \"mo\", which is no value of this field; its names are sun to sat",
            ),
            ("mon 8 * * *", "its field minute \"mon\" has \"mon\", which is no value of this field"),
            ("*/0 8 * * *", "its field minute \"*/0\" must have a whole number from 1 on after \"/\", not \"0\""),
            ("0 8 * * mon#6", "its field day of week \"mon#6\" must have a number from 1 to 5 after \"#\""),
            ("0 8 * * 1-5#2", "its field day of week \"1-5#2\" must have one day, or a range of names, before \"#\""),
            ("0 8 1,15w * *", "its field day \"1,15w\" must not have \"W\" in a list"),
            ("h 8 * * *", "its field minute \"h\" must not use \"H\" or \"R\": programs would not agree on the time"),
            ("0 8 1 * mon#1", "beside \"#\" or \"L\" in its field day of week, its field day must be \"*\""),
            ("0 8 15w * 1", "beside \"W\" in its field day, its field day of week must be \"*\""),
            ("0 8 * * 5,mon#1", "its field day of week must not mix \"#\" and \"L\" with other values"),
            (
                "0 8 31w * *",
                "its field day must not ask for the weekday nearest to the 31: not every month has that day",
            ),
        ] {
            let error = Fields::read(expression).map(drop).map_err(|error| error.to_string());
            assert_eq!(error, Err(format!("invalid cron expression {expression:?}: {rule}")));
        }
    }

    #[test]
    fn a_schedule_keeps_its_pace_if_it_names_no_hours_or_no_minutes() {
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
