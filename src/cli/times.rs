//! Times as people say them.

use chrono::TimeDelta;

/// A length of time in the one unit that suits it.
pub(super) fn length(length: TimeDelta) -> String {
    let seconds = length.num_seconds();
    match seconds {
        ..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", (seconds + 30) / 60),
        6_000..172_800 => format!("{} h", (seconds + 1_800) / 3_600),
        172_800..63_072_000 => format!("{} days", (seconds + 43_200) / 86_400),
        _ => format!("{} years", seconds / 31_536_000),
    }
}
