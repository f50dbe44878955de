//! Texts that are stored or shown alongside more important values.

/// Writes a value in quotes, shortened if it is long.
pub(crate) fn quoted(value: &str) -> String {
    const LONGEST: usize = 150;
    if value.chars().count() <= LONGEST {
        return format!("{value:?}");
    }
    let start: String = value.chars().take(LONGEST).collect();
    format!("{start:?}…")
}

/// Makes a text storable: replaces NUL characters, and truncates it after this many bytes.
pub(crate) fn storable(text: &str, longest: usize) -> String {
    let mut kept = text.replace('\0', "\u{FFFD}");
    let (mut end, length) = (longest.min(kept.len()), kept.len());
    while !kept.is_char_boundary(end) {
        end -= 1;
    }
    if end < length {
        kept.truncate(end);
        kept.push_str(&format!("… ({} bytes more)", length - end));
    }
    kept
}

/// Writes a text with characters that every encoding of a database has.
pub(crate) fn to_ascii(text: &str) -> String {
    text.chars().fold(String::new(), |mut ascii, character| {
        match character {
            '\0' => ascii.push_str("\\0"),
            character if character.is_ascii() => ascii.push(character),
            character => ascii.extend(character.escape_unicode()),
        }
        ascii
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_made_storable() {
        assert_eq!(storable("a\0b", 10), "a\u{FFFD}b");
        assert_eq!(storable("äöü", 6), "äöü");
        assert_eq!(storable("äöü", 5), "äö… (2 bytes more)");
        assert_eq!(to_ascii("a → b\0"), "a \\u{2192} b\\0");
    }
}
