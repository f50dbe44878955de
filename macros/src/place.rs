//! Finds out whether an attribute is inside an `impl` or a `trait`.
//!
//! There a task would expand to items that Rust refuses with one error each. An attribute does not know where it is, so
//! this reads the file. It accepts the task if that is not possible.

use std::iter::Peekable;
use std::str::Chars;

/// Whether the attribute at this place is inside an `impl` or a `trait`.
pub(crate) fn is_in_impl(attribute: proc_macro::Span) -> bool {
    let source = attribute.local_file().and_then(|path| std::fs::read_to_string(path).ok());
    source.is_some_and(|source| is_position_in_impl(&source, attribute.line(), attribute.column()))
}

/// The same for a position in a source. Lines and columns count from 1.
pub(crate) fn is_position_in_impl(source: &str, line: usize, column: usize) -> bool {
    let before: String = source
        .split_inclusive('\n')
        .zip(1..)
        .take_while(|(_, number)| *number <= line)
        .map(|(text, number)| if number < line { text.to_owned() } else { text.chars().take(column - 1).collect() })
        .collect();
    // For each open brace, whether it is that of an `impl` or a `trait`.
    let mut open = Vec::new();
    let mut header = String::new();
    let mut brackets = Vec::new();
    let mut chars = before.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '/' if chars.peek() == Some(&'/') => {
                chars.by_ref().find(|char| *char == '\n');
            }
            '/' if chars.peek() == Some(&'*') => skip_comment(&mut chars),
            '"' => skip_text(&mut chars, raw_hashes(&mut header)),
            '\'' => skip_character(&mut chars),
            '{' => {
                open.push(is_of_impl(&header));
                header.clear();
            }
            '}' => {
                open.pop();
                header.clear();
            }
            ';' if brackets.is_empty() => header.clear(),
            '[' | '(' => {
                brackets.push(header.len());
                header.push(char);
            }
            ']' | ')' => {
                let start = brackets.pop().unwrap_or(header.len());
                header.push(char);
                // Attributes are not a part of the header.
                let is_attribute =
                    char == ']' && header.get(..start).is_some_and(|text| text.trim_end().ends_with(['#', '!']));
                if is_attribute {
                    header.truncate(start);
                    header.truncate(header.trim_end_matches(['#', '!', ' ']).len());
                    header.push(' ');
                }
            }
            char => header.push(char),
        }
    }
    open.last() == Some(&true)
}

/// Whether a brace after this text is that of an `impl` or a `trait`.
fn is_of_impl(header: &str) -> bool {
    const QUALIFIERS: [&str; 9] = ["", "pub", "crate", "super", "self", "in", "unsafe", "default", "auto"];
    let mut words = header.split(|char: char| !char.is_alphanumeric() && char != '_');
    matches!(words.find(|word| !QUALIFIERS.contains(word)), Some("impl" | "trait"))
}

fn skip_comment(chars: &mut Peekable<Chars<'_>>) {
    let mut depth = 0;
    let mut last = '/';
    for char in chars.by_ref() {
        match (last, char) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                last = char;
                continue;
            }
        }
        if depth == 0 {
            break;
        }
        last = ' ';
    }
}

/// Takes the beginning of a raw text from the end of the code before it. Returns the number of its `#`, if it is one.
fn raw_hashes(header: &mut String) -> Option<usize> {
    let start = header.trim_end_matches('#');
    let hashes = header.len() - start.len();
    let is_raw = start.ends_with('r');
    header.truncate(header.len() - if is_raw { hashes } else { 0 });
    is_raw.then_some(hashes)
}

fn skip_text(chars: &mut Peekable<Chars<'_>>, raw_hashes: Option<usize>) {
    while let Some(char) = chars.next() {
        match raw_hashes {
            None if char == '\\' => {
                chars.next();
            }
            None if char == '"' => break,
            Some(hashes) if char == '"' && (0..hashes).all(|_| chars.next_if_eq(&'#').is_some()) => break,
            _ => {}
        }
    }
}

/// Skips a character after its first quotation mark, or nothing if that begins a lifetime.
fn skip_character(chars: &mut Peekable<Chars<'_>>) {
    if chars.next_if_eq(&'\\').is_some() {
        chars.next();
        chars.find(|char| *char == '\'');
        return;
    }
    let mut ahead = chars.clone();
    ahead.next();
    if ahead.next() == Some('\'') {
        *chars = ahead;
    }
}
