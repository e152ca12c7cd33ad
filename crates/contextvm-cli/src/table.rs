//! Tables for people: aligned columns of cells that are already harmless.
use std::fmt::Write as _;

/// Space between columns.
const GAP: &str = "  ";

/// Rows under headings; the widest cell makes the column.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    heading: &'static str,
    right: bool,
}

impl Table {
    /// Begins a table; a heading that starts with `>` has its column aligned to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| match heading.strip_prefix('>') {
            Some(heading) => Column { heading, right: true },
            None => Column { heading, right: false },
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing stay empty.
    pub(crate) fn row<I: IntoIterator<Item = S>, S: Into<String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Lays the table out, one line per row, each behind `indent`; headings are left out where all are empty.
    pub(crate) fn to_text(&self, indent: &str) -> String {
        let headings: Vec<String> = self.columns.iter().map(|column| column.heading.to_owned()).collect();
        let headed = headings.iter().any(|heading| !heading.is_empty());
        let lines = || headed.then_some(&headings).into_iter().chain(&self.rows);
        let wide = |at: usize| lines().filter_map(|line| line.get(at)).map(|cell| width(cell)).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| wide(at).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines() {
            let mut shown = String::new();
            for (at, (column, wide)) in self.columns.iter().zip(&widths).enumerate() {
                let cell = line.get(at).map_or("", String::as_str);
                let space = " ".repeat(wide.saturating_sub(width(cell)));
                let gap = if at == 0 { "" } else { GAP };
                // Writing into a string cannot fail.
                let _written = if column.right {
                    write!(shown, "{gap}{space}{cell}")
                } else {
                    write!(shown, "{gap}{cell}{space}")
                };
            }
            text.push_str(indent);
            text.push_str(shown.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Counts the columns that a terminal gives to a text.
fn width(text: &str) -> usize {
    text.chars().map(|c| if is_mark(c) { 0 } else { 1 + usize::from(is_wide(c)) }).sum()
}

/// Whether a character is put onto the one before it; the common blocks.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}')
}

/// Whether a character takes two columns: scripts of East Asia, and pictures.
fn is_wide(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff01}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}' | '\u{1f900}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", ">TOOLS", "SEEN"]);
        table.row(["weather", "14", "2 h"]);
        table.row(["天気", "4"]);
        table.row(["e\u{301}", "1", "now"]);
        assert_eq!(
            table.to_text("  "),
            "  NAME     TOOLS  SEEN\n  weather     14  2 h\n  天気         4\n  e\u{301}            1  now\n"
        );
    }

    #[test]
    fn a_table_without_headings_has_no_first_line() {
        let mut table = Table::new(&["", ""]);
        table.row(["a", "b"]);
        table.row(["long", "c"]);
        assert_eq!(table.to_text(""), "a     b\nlong  c\n");
        assert_eq!(Table::new(&["A", "B"]).to_text(""), "A  B\n");
    }
}
