//! A row of styled texts that is built from left to right.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::text;

/// Collects spans and counts the columns used, so that the rest can be fitted into what is left.
#[derive(Default)]
pub struct RowText {
    spans: Vec<Span<'static>>,
    used: usize,
}

impl RowText {
    /// Appends a text.
    pub fn push(&mut self, text: impl Into<String>, style: impl Into<Style>) {
        let text = text.into();
        self.used += text::width(&text);
        self.spans.push(Span::styled(text, style));
    }

    /// Columns used so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The finished row.
    pub fn line(self) -> Line<'static> {
        Line::from(self.spans)
    }
}
