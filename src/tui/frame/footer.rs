//! The last row: the keys that matter now, or the line being typed. Above it, messages.

use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::text;
use crate::tui::state::keys::{KEYS, Place};
use crate::tui::state::{Prompt, View};
use crate::tui::widgets::canvas::{Canvas, narrow};
use crate::tui::widgets::row::RowText;

/// Keys, and in a word what each does.
pub type Hints = [(&'static str, &'static str)];

/// Draws the footer: `status`, what hud is busy with, and `hints`. While something is typed it draws
/// the prompt instead and returns the position of the cursor.
pub fn draw(
    c: &mut Canvas,
    area: Rect,
    hints: &Hints,
    prompt: Option<&Prompt>,
    status: Option<&str>,
) -> Option<Position> {
    let theme = c.theme;
    let width = usize::from(area.width);
    if let Some(prompt) = prompt {
        let (label, input) = match prompt {
            Prompt::Search(input) => (" search: ", input),
            Prompt::Save(input) => (" save the trace as: ", input),
        };
        let room = width.saturating_sub(label.len() + 1);
        let skip = input.visual_scroll(room);
        let typed: String = input.value().chars().skip(skip).collect();
        c.row(
            area,
            0,
            Line::from(vec![
                Span::styled(label, theme.title()),
                Span::raw(text::cut(&typed, room)),
            ]),
        );
        let column = label.len() + input.visual_cursor().saturating_sub(skip);
        return Some(Position::new(area.x + narrow(column), area.y));
    }
    let mut line = RowText::default();
    if let Some(status) = status {
        line.push(" ", Style::new());
        line.push(text::cut(status, width / 2), theme.warn());
        line.push(" ", Style::new());
    }
    for (keys, does) in hints {
        if line.used() + keys.len() + does.len() + 3 > width {
            break;
        }
        line.push(" ", Style::new());
        line.push(*keys, theme.key());
        line.push(format!(" {does} "), theme.dim());
    }
    c.row(area, 0, line.line());
    None
}

/// Draws a message in the last row of an area, so that the keys below stay in view.
pub fn notice(c: &mut Canvas, area: Rect, message: &str) {
    let Some(last) = area.height.checked_sub(1) else {
        return;
    };
    let message = text::left(&format!(" {message}"), usize::from(area.width));
    c.row(area, last, Span::styled(message, c.theme.selected()));
}

/// The keys of a view.
pub fn of_view(view: View) -> Vec<(&'static str, &'static str)> {
    let place = match view {
        View::Culprits => Place::Culprits,
        View::Detail => Place::Detail,
        View::Flame => Place::Flame,
        View::Timeline => Place::Timeline,
        View::PollTime => Place::PollTime,
    };
    let mut hints: Vec<_> = KEYS
        .iter()
        .filter(|key| key.place == place)
        .chain(KEYS.iter().filter(|key| key.place == Place::Everywhere))
        .filter(|key| !key.hint.is_empty())
        .map(|key| (key.keys, key.hint))
        .collect();
    // Help and quit come first: they stay in view on the narrowest screen.
    hints.sort_by_key(|(_, hint)| !matches!(*hint, "help" | "quit"));
    hints
}
