//! The rules of prose in CONTRIBUTING.md, as far as they can be counted. A count may shrink but not grow.

use std::fs;
use std::path::{Path, PathBuf};

const LONG_SENTENCE: &str = "sentence of more than 35 words";
const WIDE_LINE: &str = "line of more than 120 characters";

/// How often each kind may occur in Markdown and in the source. After the first two, a kind is a phrase in the forms
/// between the slashes.
const ALLOWED: [(&str, usize, usize); 17] = [
    (LONG_SENTENCE, 0, 0),
    (WIDE_LINE, 0, 0),
    ("unless set", 0, 0),
    ("that wait/that waits", 0, 0),
    ("is to be/are to be", 0, 0),
    ("for ever", 0, 0),
    ("answers with/the answer is", 0, 0),
    ("comes round/come round", 0, 0),
    ("takes for dead/taken for dead", 0, 0),
    ("called off/call off/calls off", 0, 0),
    ("worked off/works off/work off", 0, 0),
    ("told to stop", 0, 0),
    ("lets go of/let go of", 0, 0),
    ("of one's own", 0, 0),
    ("by hand", 0, 0),
    ("to be had", 0, 0),
    ("beside", 0, 0),
];

/// A line, or a separate piece of text: a paragraph, a list item, a table cell, a string literal.
#[derive(Debug, Clone)]
struct Text {
    line: usize,
    width: usize,
    text: String,
}

#[test]
fn the_documents_keep_to_the_rules_of_prose() {
    let files = files(Path::new(env!("CARGO_MANIFEST_DIR")), "md", &["docs"]);
    check(&files, |text| in_markdown(&lines(text)), |(_, in_markdown, _)| in_markdown);
}

#[test]
fn the_source_does_not_move_away_from_the_rules_of_prose() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> =
        ["src", "macros/src"].iter().flat_map(|folder| files(&root.join(folder), "rs", &["*"])).collect();
    let find = |source: &str| [in_markdown(&doc_comments(source)), in_literals(source)].concat();
    check(&files, find, |(_, _, in_source)| in_source);
}

/// Fails with the places of each kind that occurs more often than is allowed.
fn check(
    files: &[PathBuf],
    find: impl Fn(&str) -> Vec<(&'static str, Text)>,
    allowed: impl Fn((&str, usize, usize)) -> usize,
) {
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        for (kind, Text { line, text, .. }) in find(&fs::read_to_string(file).unwrap()) {
            found.push((kind, format!("\n  {name}:{line}: {}", text.chars().take(160).collect::<String>())));
        }
    }
    let mut grown = String::new();
    for row in ALLOWED {
        let places: Vec<&str> = found.iter().filter(|(kind, _)| *kind == row.0).map(|(_, place)| &**place).collect();
        if places.len() > allowed(row) {
            grown += &format!("\n{}: {}, allowed are {}{}", row.0, places.len(), allowed(row), places.concat());
        }
    }
    assert!(grown.is_empty(), "the rules of prose are in CONTRIBUTING.md{grown}");
}

/// The files in a folder, and in those folders in it that are named, or in all of them for `*`.
fn files(folder: &Path, extension: &str, folders: &[&str]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.into_iter().flat_map(|path| match path.is_dir() {
        true if folders.iter().any(|name| *name == "*" || path.ends_with(name)) => files(&path, extension, folders),
        true => Vec::new(),
        false => Vec::from_iter(path.extension().is_some_and(|found| found == extension).then_some(path)),
    });
    files.collect()
}

fn lines(text: &str) -> Vec<Text> {
    let number = |(line, text): (usize, &str)| Text { line, width: text.chars().count(), text: text.to_owned() };
    (1..).zip(text.lines()).map(number).collect()
}

fn doc_comments(source: &str) -> Vec<Text> {
    let comments = lines(source).into_iter().filter_map(|line| {
        let text = line.text.trim_start();
        let text = text.strip_prefix("///").or_else(|| text.strip_prefix("//!"))?;
        Some(Text { text: text.strip_prefix(' ').unwrap_or(text).to_owned(), ..line })
    });
    comments.collect()
}

/// In the string literals outside of comments, except SQL: every second piece between quotation marks.
fn in_literals(source: &str) -> Vec<(&'static str, Text)> {
    let source = source.replace("\\\\", "  ").replace("'\"'", "   ").replace("\\\"", "''").replace("\\n", ". ");
    let code = |line| if str::trim_start(line).starts_with("//") { "\n" } else { line };
    let source: String = source.split_inclusive('\n').map(code).collect();
    let mut line = 1;
    let pieces = source.split('"').map(|text| {
        line += text.matches('\n').count();
        Text { line, width: 0, text: text.replace("\\\n", "") }
    });
    let literals: Vec<Text> = pieces.skip(1).step_by(2).collect();
    literals.iter().filter(|literal| !literal.text.contains("SELECT ")).flat_map(in_text).collect()
}

fn in_markdown(lines: &[Text]) -> Vec<(&'static str, Text)> {
    let (mut found, mut pieces) = (Vec::new(), Vec::<Text>::new());
    let (mut is_code, mut last) = (false, 0);
    for line in lines {
        let text = line.text.trim();
        is_code ^= text.starts_with("```");
        let is_definition = text.starts_with('[') && text.contains("]: ");
        if is_code || text.is_empty() || text.starts_with("```") || is_definition {
            continue;
        }
        if text.starts_with('|') {
            pieces.extend(text.split('|').map(|cell| Text { text: cell.to_owned(), ..line.clone() }));
            continue;
        }
        if line.width > 120 {
            found.push((WIDE_LINE, line.clone()));
        }
        let is_numbered = text.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        match pieces.last_mut() {
            Some(piece) if last + 1 == line.line && !is_numbered && !text.starts_with(['-', '#']) => {
                piece.text += &format!(" {text}");
            }
            _ => pieces.push(line.clone()),
        }
        last = if text.starts_with('#') { 0 } else { line.line };
    }
    found.extend(pieces.iter().flat_map(in_text));
    found
}

fn in_text(piece: &Text) -> Vec<(&'static str, Text)> {
    let text = plain(&piece.text);
    let words = |text: &str| text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count();
    let long = sentences(&text).into_iter().filter(|sentence| words(sentence) > 35);
    let mut found: Vec<_> = long.map(|text| (LONG_SENTENCE, Text { text: text.to_owned(), ..piece.clone() })).collect();
    let lower = text.to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != '\'', " ");
    let lower = format!(" {} ", lower.split_whitespace().collect::<Vec<_>>().join(" "));
    for (kind, ..) in &ALLOWED[2..] {
        let times = kind.split('/').map(|phrase| lower.matches(&format!(" {phrase} ")).count()).sum();
        found.extend(std::iter::repeat_n((*kind, piece.clone()), times));
    }
    found
}

/// Code between backticks becomes one word, and a link becomes its text.
fn plain(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "code" });
    let mut text: String = parts.collect();
    while let Some((start, end)) = text.find("](").and_then(|start| Some((start, start + text[start..].find(')')?))) {
        text.replace_range(start..=end, "");
    }
    text.replace(['[', ']', '*'], "")
}

/// A sentence ends with a stop before a space or at the end.
fn sentences(text: &str) -> Vec<&str> {
    let stops = text.match_indices(['.', '!', '?']).map(|(at, _)| at + 1).filter(|&at| text[at..].starts_with(' '));
    let ends: Vec<usize> = [0].into_iter().chain(stops).chain([text.len()]).collect();
    ends.windows(2).map(|ends| text[ends[0]..ends[1]].trim()).filter(|sentence| !sentence.is_empty()).collect()
}

#[test]
fn code_tables_and_links_are_distinguished_from_prose() {
    let text = plain("See [the *page*](crate::a.b). Version 3.10 of `let x = 1. 2;` runs! Really?");
    assert_eq!(sentences(&text), ["See the page.", "Version 3.10 of code runs!", "Really?"]);
    let kinds = |found: Vec<(_, Text)>| found.into_iter().map(|(kind, text)| (kind, text.line)).collect::<Vec<_>>();
    let long = "word ".repeat(36);
    let text =
        format!("# Is\nto be\n\nfor\never\n\n```text\nby hand {long}\n```\n[a]: {long}\n\n| a | {long} |\n- {long}");
    assert_eq!(
        kinds(in_markdown(&lines(&text))),
        [(WIDE_LINE, 13), ("for ever", 4), (LONG_SENTENCE, 12), (LONG_SENTENCE, 13)]
    );
    let source = "/// Beside.\n// by hand\nfn f() { g('\"', \"unless \\\n  set\"); } // for ever";
    assert_eq!(kinds(in_markdown(&doc_comments(source))), [("beside", 1)]);
    assert_eq!(kinds(in_literals(source)), [("unless set", 4)]);
}
