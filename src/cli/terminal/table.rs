//! Aligned tables.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::{Colour, Output};

/// A table with headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<TableColumn>,
    rows: Vec<Vec<(String, Colour)>>,
    /// Whether the headings are written.
    is_begun: bool,
}

#[derive(Debug)]
struct TableColumn {
    heading: &'static str,
    is_number: bool,
    width: usize,
}

/// The space between two columns.
const GAP: &str = "  ";

impl Table {
    /// Creates a table with these headings. A `#` marks a column of numbers, which are right-aligned.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| TableColumn {
            heading: heading.trim_start_matches('#'),
            is_number: heading.starts_with('#'),
            width: heading.trim_start_matches('#').width(),
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new(), is_begun: false }
    }

    /// Adds a row, which must have as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<(String, Colour)>) {
        let cells = cells.into_iter().map(|(text, colour)| (on_one_line(&text), colour));
        self.rows.push(cells.collect());
    }

    /// Writes the rows that were added since the last call. The first call also writes the headings. On a terminal, the
    /// last column is truncated to fit.
    pub(crate) fn write(&mut self, output: &mut Output<'_>) -> Result<(), Failure> {
        let mut rows = std::mem::take(&mut self.rows);
        if !std::mem::replace(&mut self.is_begun, true) {
            let heading = |column: &TableColumn| (column.heading.to_owned(), Colour::Heading);
            rows.insert(0, self.columns.iter().map(heading).collect());
        }
        for (column, index) in self.columns.iter_mut().zip(0..) {
            let widest = rows.iter().map(|row: &Vec<(String, Colour)>| row[index].0.width()).max();
            column.width = column.width.max(widest.unwrap_or(0));
        }
        for row in &rows {
            self.write_row(row, output)?;
        }
        Ok(())
    }

    fn write_row(&self, row: &[(String, Colour)], output: &mut Output<'_>) -> Result<(), Failure> {
        let style = output.style();
        let mut line = String::new();
        let mut used = 0;
        for (index, (column, (text, colour))) in self.columns.iter().zip(row).enumerate() {
            let is_last = index + 1 == row.len();
            let room = style.width.filter(|_| is_last).map(|width| width.saturating_sub(used).max(10));
            let text = room.map_or_else(|| text.clone(), |room| cut(text, room));
            let padding = " ".repeat(column.width.saturating_sub(text.width()));
            let painted = style.paint(*colour, &text);
            if column.is_number {
                line.push_str(&padding);
                line.push_str(&painted);
            } else {
                line.push_str(&painted);
                line.push_str(&padding);
            }
            line.push_str(GAP);
            used += column.width + GAP.len();
        }
        output.line(line.trim_end())
    }
}

/// Escapes control characters. Names come from programs that defer jobs, and could control the terminal.
pub(crate) fn on_one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
    } else {
        text.to_owned()
    }
}

fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut width = 1;
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        if width > room {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::{Colour, Output, Table};
    use crate::cli::terminal::output::Style;

    fn written(mut table: Table, style: Style) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        table.write(&mut Output::new(&mut out, &mut err, style)).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn table() -> Table {
        let mut table = Table::new(&["#id", "name"]);
        table.row(vec![("7".to_owned(), Colour::Plain), ("寿司 for everybody".to_owned(), Colour::Good)]);
        table.row(vec![("12345".to_owned(), Colour::Plain), ("two\nlines\u{1b}[2J".to_owned(), Colour::Plain)]);
        table
    }

    #[test]
    fn numbers_are_right_aligned_and_control_characters_are_escaped() {
        let expected = "   id  name\n    7  寿司 for everybody\n12345  two\\nlines\\u{1b}[2J\n";
        assert_eq!(written(table(), Style::default()), expected);
    }

    #[test]
    fn a_terminal_gets_colours_and_lines_that_fit() {
        let text = written(table(), Style { colours: true, width: Some(20) });
        assert!(text.contains("\u{1b}[32m寿司 for eve…\u{1b}[0m"), "{text:?}");
    }
}
