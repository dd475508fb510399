//! Tables of the summary.

use anstyle::Style;

use super::style::{BOLD, paint};
use crate::text;

/// Between two columns.
const GAP: &str = "  ";

/// How the texts of a column are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A text and its style.
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text in a style.
    pub fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::styled(text, Style::new())
    }
}

/// Rows of cells under headings. Columns are as wide as their widest text.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<(Option<String>, Vec<Cell>)>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: Vec<(&'static str, Align)>) -> Table {
        Table {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push((None, cells));
    }

    /// Adds a row under a line of its own.
    pub fn row_under(&mut self, line: String, cells: Vec<Cell>) {
        self.rows.push((Some(line), cells));
    }

    /// The table as text, with a line break after each row.
    pub fn render(&self) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (heading, _))| {
                let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(i));
                let widest = cells.map(|cell| text::width(&cell.text)).max();
                widest.unwrap_or(0).max(heading.len())
            })
            .collect();
        let headings: Vec<Cell> = self
            .columns
            .iter()
            .map(|(heading, _)| Cell::styled(*heading, BOLD))
            .collect();
        let rule = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        // Lines under one of their own are indented.
        let indent = match self.rows.iter().any(|(above, _)| above.is_some()) {
            true => GAP,
            false => "",
        };
        let mut out = format!("{indent}{}", self.line(&headings, &widths));
        out.push_str(indent);
        out.push_str(&"-".repeat(rule));
        out.push('\n');
        for (above, cells) in &self.rows {
            if let Some(line) = above {
                out.push_str(line);
                out.push('\n');
            }
            out.push_str(indent);
            out.push_str(&self.line(cells, &widths));
        }
        out
    }

    fn line(&self, cells: &[Cell], widths: &[usize]) -> String {
        let mut out = String::new();
        let mut pending = 0;
        for (i, ((cell, width), (_, align))) in
            cells.iter().zip(widths).zip(&self.columns).enumerate()
        {
            let gap = if i == 0 { 0 } else { GAP.len() };
            let padding = width.saturating_sub(text::width(&cell.text));
            let (before, after) = match align {
                Align::Left => (0, padding),
                Align::Right => (padding, 0),
            };
            pending += gap + before;
            if !cell.text.is_empty() {
                // Spaces are written before a text, so that no line ends with them.
                out.push_str(&" ".repeat(pending));
                out.push_str(&paint(cell.style, &cell.text));
                pending = 0;
            } else {
                pending += width - padding;
            }
            pending += after;
        }
        out.push('\n');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_texts_and_no_line_ends_with_spaces() {
        let mut table = Table::new(vec![
            ("name", Align::Left),
            ("n", Align::Right),
            ("at", Align::Left),
        ]);
        table.row(vec!["照会".into(), "7".into(), "".into()]);
        table.row_under("above".into(), vec!["a".into(), "1200".into(), "x".into()]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(
            text,
            "  name     n  at\n  --------------\n  照会     7\nabove\n  a     1200  x\n"
        );
    }
}
