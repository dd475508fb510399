//! The last row: the keys that matter here, or what is being typed; above it what was just said.

use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::app::{Overlay, Prompt, View};
use super::canvas::{Canvas, narrow};
use super::keys::{KEYS, Place};
use super::text::{self, RowText};

/// What the footer has to tell.
pub struct Foot<'a> {
    pub view: View,
    pub overlay: Option<&'a Overlay>,
    pub prompt: Option<&'a Prompt>,
    pub status: Option<&'a str>,
}

/// Draws the footer; gives the place of the cursor while something is typed.
pub fn draw(c: &mut Canvas, area: Rect, foot: &Foot) -> Option<Position> {
    let theme = c.theme;
    let width = usize::from(area.width);
    if let Some(prompt) = foot.prompt {
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
    if let Some(status) = foot.status {
        line.push(" ", Style::new());
        line.push(text::cut(status, width / 2), theme.warn());
        line.push(" ", Style::new());
    }
    match foot.overlay {
        Some(Overlay::Help { .. }) => {
            hints(&mut line, c, width, &[("j k", "scroll"), ("Esc", "close")])
        }
        Some(Overlay::Census { .. }) => hints(
            &mut line,
            c,
            width,
            &[("j k", "scroll"), ("T", "look again"), ("Esc", "close")],
        ),
        Some(Overlay::Workers(_)) => hints(
            &mut line,
            c,
            width,
            &[
                ("Space", "toggle"),
                ("a", "all or none"),
                ("Enter", "apply"),
                ("Esc", "cancel"),
            ],
        ),
        None => hints(&mut line, c, width, &of_view(foot.view)),
    }
    c.row(area, 0, line.line());
    None
}

/// Says something, in the last row of an area: the keys below stay in view.
pub fn notice(c: &mut Canvas, area: Rect, said: &str) {
    let Some(last) = area.height.checked_sub(1) else {
        return;
    };
    let said = text::left(&format!(" {said}"), usize::from(area.width));
    c.row(area, last, Span::styled(said, c.theme.selected()));
}

fn of_view(view: View) -> Vec<(&'static str, &'static str)> {
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
    // The way out and the way to all the others stay in view on the narrowest screen.
    hints.sort_by_key(|(_, hint)| !matches!(*hint, "help" | "quit"));
    hints
}

fn hints(line: &mut RowText, c: &Canvas, width: usize, hints: &[(&str, &str)]) {
    for (keys, does) in hints {
        if line.used() + keys.len() + does.len() + 3 > width {
            break;
        }
        line.push(" ", Style::new());
        line.push(*keys, c.theme.key());
        line.push(format!(" {does} "), c.theme.dim());
    }
}
