//! Cron expressions and their ticks. There is no database and no clock: every time is a parameter.
//!
//! | file | purpose |
//! |---|---|
//! | `mod` | an expression and its ticks |
//! | `expression`, `field`, `values` | parsing, by the rules of Python's croniter |
//! | `search` | the next and the last time that an expression selects |
//! | `local_time` | ticks in a time zone |
//! | `words` | an expression in words |

mod expression;
mod field;
#[cfg(feature = "chrono-tz")]
mod local_time;
mod search;
mod values;
#[cfg(feature = "admin")]
pub(crate) mod words;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use self::expression::Fields;
use self::search::Search;
use crate::error::Error;

/// How a time is shown to people, such as `Mon 2026-11-30 08:00:00 UTC`.
#[cfg(feature = "admin")]
pub(crate) const SHOWN: &str = "%a %Y-%m-%d %H:%M:%S %Z";

/// A cron expression with five fields: minute, hour, day, month and day of week. A sixth field at the end is the
/// second.
///
/// The ticks are those of Python's croniter, which Procrastinate uses, to the second. So programs in both languages
/// agree on them. Default: UTC. With the feature `chrono-tz`, [`in_time_zone`](Self::in_time_zone) sets another time
/// zone.
///
/// | in a field | meaning |
/// |---|---|
/// | `*` | every value; `?` is the same for days |
/// | `5`, `mon`, `jan` | that value; names have three letters in any case; days 0 and 7 of the week are Sunday |
/// | `1,15`, `9-17`, `fri-mon` | a list, a range, a range over the end; a range from a value to itself is all values |
/// | `*/5`, `9-17/2`, `10/15` | every fifth value, every second value of a range, every fifteenth value from 10 on; counted anew in each hour, day, month and so on |
/// | `l` (day) | the last day of the month; also in a list, or at the end of a range |
/// | `15w` or `w15` (day) | the day from Monday to Friday nearest to the 15th, in the same month |
/// | `fri#2`, `mon-wed#1`, `l5` (day of week) | the second Friday of the month, the first Monday, Tuesday and Wednesday, the last Friday |
/// | `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually` | instead of fields |
///
/// If both day fields are set, a day needs to match only one of them.
///
/// Some expressions are refused although croniter accepts them:
///
/// | refused | because |
/// |---|---|
/// | `r`, and `r(1-10)`, `r/5` | they are random, so programs would not agree on the time |
/// | a seventh field, the year | a schedule that ends should be a scheduled job |
/// | `#` or `l5` with other values in the field or with a set day; `15w` with a set day of week | croniter ignores some of it, or fails |
/// | `29w`, `30w`, `31w` | not every month has the day |
/// | `0` as an end of a range of days or months | there is no such day or month |
///
/// # Example
///
/// ```
/// use chrono::{DateTime, Utc};
/// use procrastinate::Cron;
///
/// let cron: Cron = "30 8 * * mon-fri".parse()?;
/// let friday: DateTime<Utc> = "2026-07-31T12:00:00Z".parse().unwrap();
/// let next: Vec<String> = cron.after(friday).take(2).map(|tick| tick.to_string()).collect();
/// assert_eq!(next, ["2026-08-03 08:30:00 UTC", "2026-08-04 08:30:00 UTC"]);
///
/// let error = "61 * * * *".parse::<Cron>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"invalid cron expression "61 * * * *": field minute "61" has "61", but values must be from 0 to 59"#
/// );
/// # Ok::<_, procrastinate::Error>(())
/// ```
#[derive(Clone)]
pub struct Cron {
    expression: String,
    search: Arc<Search>,
    #[cfg(feature = "chrono-tz")]
    local: Option<local_time::Local>,
    #[cfg(feature = "chrono-tz")]
    keeps_pace: bool,
}

impl Cron {
    /// Parses an expression. `str::parse` does the same.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], which names the expression, the field and the rule.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::Cron;
    ///
    /// assert!(Cron::new("*/5 * * * *").is_ok());
    /// assert!(Cron::new("every five minutes").is_err());
    /// ```
    pub fn new(expression: &str) -> Result<Self, Error> {
        let fields = Fields::read(expression)?;
        Ok(Self {
            expression: expression.to_owned(),
            #[cfg(feature = "chrono-tz")]
            local: None,
            #[cfg(feature = "chrono-tz")]
            keeps_pace: fields.keeps_pace,
            search: Arc::new(fields.into_search()),
        })
    }

    /// Uses the clock of a time zone. The name is one of the IANA database, such as `Europe/Vienna`. Default: UTC.
    ///
    /// When the clock changes, a time of day that is skipped runs right after the gap. A time that occurs twice runs
    /// the first time only. Schedules that name no hours or no minutes, such as `*/5 * * * *`, keep their pace instead.
    ///
    /// Procrastinate has no time zones. Do not set one for a task that Python workers defer too.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that is not in the database.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::Cron;
    ///
    /// // There is no 2:30 in Vienna on the night when daylight saving time starts.
    /// let cron = Cron::new("30 2 * * *")?.in_time_zone("Europe/Vienna")?;
    /// let ticks = cron.after("2026-03-28T00:00:00Z".parse().unwrap());
    /// let ticks: Vec<String> = ticks.take(3).map(|tick| tick.to_rfc3339()).collect();
    /// assert_eq!(ticks, ["2026-03-28T01:30:00+00:00", "2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]);
    /// # Ok::<_, procrastinate::Error>(())
    /// ```
    #[cfg(feature = "chrono-tz")]
    pub fn in_time_zone(mut self, name: &str) -> Result<Self, Error> {
        self.local = Some(local_time::Local::new(name, self.search.clone(), self.keeps_pace)?);
        Ok(self)
    }

    /// Iterates over the ticks after this time, earliest first.
    ///
    /// The iterator is endless, except for expressions without ticks, such as `0 0 30 2 *`.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::Cron;
    ///
    /// let mut ticks = Cron::new("0 0 29 2 *")?.after("2026-01-01T00:00:00Z".parse().unwrap());
    /// assert_eq!(ticks.next().unwrap().to_string(), "2028-02-29 00:00:00 UTC");
    /// assert_eq!(Cron::new("0 0 30 2 *")?.after("2026-01-01T00:00:00Z".parse().unwrap()).next(), None);
    /// # Ok::<_, procrastinate::Error>(())
    /// ```
    pub fn after(&self, time: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let cron = self.clone();
        std::iter::successors(cron.next(time), move |tick| cron.next(*tick))
    }

    /// Iterates over the ticks after `from`, up to and including `to`, earliest first.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::Cron;
    ///
    /// let noon = "2026-01-01T12:00:00Z".parse().unwrap();
    /// let one = "2026-01-01T13:00:00Z".parse().unwrap();
    /// assert_eq!(Cron::new("*/20 * * * *")?.between(noon, one).count(), 3);
    /// # Ok::<_, procrastinate::Error>(())
    /// ```
    pub fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        self.after(from).take_while(move |tick| *tick <= to)
    }

    /// Returns the last tick at or before this time, or `None` if there is none.
    ///
    /// # Example
    ///
    /// ```
    /// use procrastinate::Cron;
    ///
    /// let tick = Cron::new("0 8 * * *")?.last_until("2026-01-01T07:59:59Z".parse().unwrap());
    /// assert_eq!(tick.unwrap().to_string(), "2025-12-31 08:00:00 UTC");
    /// # Ok::<_, procrastinate::Error>(())
    /// ```
    #[must_use]
    pub fn last_until(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        #[cfg(feature = "chrono-tz")]
        if let Some(local) = &self.local {
            return local.last_until(time);
        }
        let found = self.search.at_or_before(time.naive_utc())?;
        Some(found.and_utc())
    }

    /// Returns the expression as it was passed.
    ///
    /// # Example
    ///
    /// ```
    /// assert_eq!(procrastinate::Cron::new("@daily")?.as_str(), "@daily");
    /// # Ok::<_, procrastinate::Error>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.expression
    }

    /// The name of the time zone, unless it is UTC.
    pub(crate) fn time_zone(&self) -> Option<&'static str> {
        #[cfg(feature = "chrono-tz")]
        return self.local.as_ref().map(local_time::Local::name);
        #[cfg(not(feature = "chrono-tz"))]
        None
    }

    /// Formats a time as the clock of the schedule shows it.
    #[cfg(feature = "admin")]
    pub(crate) fn shown(&self, time: DateTime<Utc>) -> String {
        #[cfg(feature = "chrono-tz")]
        if let Some(local) = &self.local {
            return local.shown(time);
        }
        time.format(SHOWN).to_string()
    }

    fn next(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        #[cfg(feature = "chrono-tz")]
        if let Some(local) = &self.local {
            return local.next(time);
        }
        let found = self.search.after(time.naive_utc())?;
        Some(found.and_utc())
    }
}

impl FromStr for Cron {
    type Err = Error;

    fn from_str(expression: &str) -> Result<Self, Error> {
        Self::new(expression)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Cron");
        shown.field("expression", &self.expression);
        #[cfg(feature = "chrono-tz")]
        shown.field("time_zone", &self.time_zone());
        shown.finish()
    }
}
