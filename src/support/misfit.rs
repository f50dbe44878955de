//! Reads values as types. If that fails, the reason does not contain the value, because it may be secret.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a value cannot be read as a type.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// The path to the part that does not fit, or nothing.
    place: String,
    /// The reason without the value.
    reason: String,
    /// The reason as serde gives it, which can contain the value.
    pub(crate) full_reason: String,
}

impl fmt::Display for Misfit {
    /// Writes ` at customer.name: invalid type: string, expected i64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, " at {}", self.place)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Reads a value as this type.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Misfit> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let place = Some(error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
        let full_reason = error.inner().to_string();
        Misfit { place, reason: without_value(&full_reason), full_reason }
    })
}

/// Removes the value from a reason of serde. Names of fields stay.
fn without_value(reason: &str) -> String {
    const WITHOUT_VALUE: [&str; 5] = [
        "missing field `",
        "duplicate field `",
        "unknown field `",
        "invalid length ",
        "data did not match any variant of untagged enum ",
    ];
    const KINDS: [&str; 8] = ["null", "boolean", "integer", "floating point", "number", "string", "sequence", "map"];
    if WITHOUT_VALUE.iter().any(|start| reason.starts_with(start)) {
        return reason.to_owned();
    }
    // What is expected comes last, whatever the value contains.
    let expected = reason.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
    for problem in ["invalid type", "invalid value", "unknown variant"] {
        if let Some(found) = reason.strip_prefix(problem)
            && !expected.is_empty()
        {
            let kind = found.trim_start_matches(": ").split(['"', '`', ',']).next().unwrap_or_default().trim_end();
            let kind = if KINDS.contains(&kind) { format!(": {kind}") } else { String::new() };
            return format!("{problem}{kind}, expected {expected}");
        }
    }
    "its type refused the value; the reason may contain the value and is logged at the level DEBUG".to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Args {
        #[allow(dead_code, reason = "it is only read from JSON")]
        number: u8,
        #[allow(dead_code, reason = "it is only read from JSON")]
        kind: Option<Kind>,
        #[allow(dead_code, reason = "it is only read from JSON")]
        own: Option<Own>,
        #[allow(dead_code, reason = "it is only read from JSON")]
        list: Option<Vec<(bool, char)>>,
        #[allow(dead_code, reason = "it is only read from JSON")]
        map: Option<HashMap<String, Either>>,
    }

    #[derive(Debug, Deserialize)]
    enum Kind {
        Large,
        Small,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Either {
        #[allow(dead_code, reason = "it is only read from JSON")]
        Number(i64),
        #[allow(dead_code, reason = "it is only read from JSON")]
        Flag(bool),
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Own;

    impl TryFrom<String> for Own {
        type Error = String;

        fn try_from(value: String) -> Result<Self, String> {
            if value.is_empty() { Ok(Self) } else { Err(format!("{value} is not empty, expected nothing")) }
        }
    }

    #[test]
    fn a_reason_names_the_place_and_the_type_and_not_the_value() {
        for (args, expected) in [
            (json!({ "number": "s3cret" }), " at number: invalid type: string, expected u8"),
            (json!({ "number": "s3cret, expected s3cret" }), " at number: invalid type: string, expected u8"),
            (json!({ "number": 40414 }), " at number: invalid value: integer, expected u8"),
            (json!({ "number": -40414 }), " at number: invalid value: integer, expected u8"),
            (json!({ "number": 4.0414 }), " at number: invalid type: floating point, expected u8"),
            (json!({ "number": null }), " at number: invalid type: null, expected u8"),
            (json!({ "number": true }), " at number: invalid type: boolean, expected u8"),
            (json!({ "number": ["s3cret"] }), " at number: invalid type: sequence, expected u8"),
            (json!({ "number": { "s3cret": 1 } }), " at number: invalid type: map, expected u8"),
            (json!({ "number": 1, "kind": "s3cret" }), " at kind: unknown variant, expected `Large` or `Small`"),
            (
                json!({ "number": 1, "kind": "`, expected `s3cret" }),
                " at kind: unknown variant, expected `Large` or `Small`",
            ),
            (
                json!({ "number": 1, "list": [[true, "s3cret"]] }),
                " at list[0][1]: invalid value: string, expected a character",
            ),
            (json!({ "number": 1, "list": [["s3cret"]] }), " at list[0][0]: invalid type: string, expected a boolean"),
            (json!({ "number": 1, "list": [[true]] }), " at list[0]: invalid length 1, expected a tuple of size 2"),
            (
                json!({ "number": 1, "map": { "a": "s3cret" } }),
                " at map.a: data did not match any variant of untagged enum Either",
            ),
            (json!({}), ": missing field `number`"),
            (json!("s3cret"), ": invalid type: string, expected struct Args"),
        ] {
            let misfit = read::<Args>(&args).unwrap_err();
            assert_eq!(misfit.to_string(), expected);
            assert!(!misfit.to_string().contains("s3cret") && !misfit.to_string().contains("0414"));
        }
    }

    #[test]
    fn the_words_of_a_type_are_not_repeated() {
        let misfit = read::<Args>(&json!({ "number": 1, "own": "s3cret" })).unwrap_err();
        assert!(misfit.to_string().starts_with(" at own: its type refused the value"), "{misfit}");
        assert_eq!(misfit.full_reason, "s3cret is not empty, expected nothing");
        let misfit = read::<Args>(&json!({ "number": 1, "own": "invalid type: s3cret" })).unwrap_err();
        assert!(misfit.full_reason.contains("s3cret"));
        assert!(
            read::<Args>(&json!({ "number": 1, "kind": "Large", "own": "", "map": { "a": 1, "b": true } })).is_ok()
        );
        assert!(read::<Kind>(&json!("Small")).is_ok());
    }
}
