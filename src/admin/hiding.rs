//! Arguments that the pages do not show.

use std::collections::BTreeSet;

/// What stands in the place of a hidden value.
pub(crate) const HIDDEN: &str = "\"hidden\"";

/// Which arguments are hidden from every visitor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hiding {
    /// The names of fields in lower case, of all tasks or of one.
    fields: BTreeSet<(Option<String>, String)>,
    /// The tasks without any arguments.
    tasks: BTreeSet<String>,
}

impl Hiding {
    pub(crate) fn hide_field(&mut self, task: Option<String>, name: &str) {
        self.fields.insert((task, name.to_lowercase()));
    }

    pub(crate) fn hide_all_of(&mut self, task: String) {
        self.tasks.insert(task);
    }

    /// Whether nothing is hidden at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.tasks.is_empty()
    }

    /// The arguments of a task as far as they may be shown. They can be cut anywhere.
    pub(crate) fn shown(&self, task: &str, arguments: &str) -> String {
        if self.tasks.contains(task) {
            return HIDDEN.to_owned();
        }
        let is_hidden = |field: &str| {
            let field = field.to_lowercase();
            let of = |task: Option<&str>| self.fields.contains(&(task.map(str::to_owned), field.clone()));
            of(None) || of(Some(task))
        };
        without_values(arguments, is_hidden)
    }
}

/// Replaces the values of some fields, at any depth. The rest stays as it is: each digit of a number, and each space.
fn without_values(json: &str, is_hidden: impl Fn(&str) -> bool) -> String {
    let mut shown = String::with_capacity(json.len());
    let (mut copied, mut at) = (0, 0);
    while let Some(start) = json[at..].find('"').map(|quote| at + quote) {
        at = end_of_string(json, start);
        let Some(value) = value_behind(json, at) else { continue };
        if !serde_json::from_str::<String>(&json[start..at]).is_ok_and(|name| is_hidden(&name)) {
            continue;
        }
        shown.push_str(&json[copied..value]);
        shown.push_str(HIDDEN);
        at = end_of_value(json, value);
        copied = at;
    }
    shown.push_str(&json[copied..]);
    shown
}

/// Where the value of a field begins whose name ends here. Nowhere, if this is not the name of a field.
fn value_behind(json: &str, end: usize) -> Option<usize> {
    let rest = json[end..].trim_start().strip_prefix(':')?.trim_start();
    Some(json.len() - rest.len())
}

/// Where a string ends that begins here, or the text.
fn end_of_string(json: &str, start: usize) -> usize {
    let mut is_escaped = false;
    for (index, byte) in json.bytes().enumerate().skip(start + 1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    json.len()
}

/// Where a value ends that begins here, or the text.
fn end_of_value(json: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = json.as_bytes().get(at) {
        match byte {
            b'"' => {
                at = end_of_string(json, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' | b' ' | b'\n' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hiding() -> Hiding {
        let mut hiding = Hiding::default();
        hiding.hide_field(None, "Password");
        hiding.hide_field(Some("pay".into()), "iban");
        hiding.hide_all_of("sign".into());
        hiding
    }

    #[test]
    fn the_values_of_hidden_fields_are_replaced_at_any_depth() {
        for (arguments, expected) in [
            (r#"{"a": 1, "password": "x"}"#, r#"{"a": 1, "password": "hidden"}"#),
            (r#"{"PASSWORD": {"a": ["}", 1]}, "b": 2}"#, r#"{"PASSWORD": "hidden", "b": 2}"#),
            (
                r#"{"u": [{"password": [1, [2]], "n": 12345678901234567890.10}]}"#,
                r#"{"u": [{"password": "hidden", "n": 12345678901234567890.10}]}"#,
            ),
            ("{\n    \"password\": -1.5e3\n}", "{\n    \"password\": \"hidden\"\n}"),
            (r#"{"password":null,"q":"password"}"#, r#"{"password":"hidden","q":"password"}"#),
            (
                r#"{"a\"b": "\"password\": 1", "password": "\\\"", "c": ""}"#,
                r#"{"a\"b": "\"password\": 1", "password": "hidden", "c": ""}"#,
            ),
            (r#"{"iban": "DE1"}"#, r#"{"iban": "DE1"}"#),
            (r#"["password", 1]"#, r#"["password", 1]"#),
            ("", ""),
        ] {
            assert_eq!(hiding().shown("other", arguments), expected);
        }
    }

    #[test]
    fn a_field_or_all_can_be_hidden_of_one_task() {
        let arguments = r#"{"iban": "DE1", "amount": 7}"#;
        assert_eq!(hiding().shown("pay", arguments), r#"{"iban": "hidden", "amount": 7}"#);
        assert_eq!(hiding().shown("sign", arguments), "\"hidden\"");
    }

    #[test]
    fn arguments_that_are_cut_anywhere_show_nothing_that_is_hidden() {
        let arguments =
            r#"{"a": "ü", "password": {"x": "SECRET", "y": ["SECRET", {"z": "SE\"CRET"}]}, "b": [1, "ok"]}"#;
        for (end, _) in arguments.char_indices() {
            let shown = hiding().shown("other", &arguments[..end]);
            assert!(!shown.contains("SE") && !shown.contains("\"x\""), "{shown}");
        }
    }
}
