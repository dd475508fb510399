//! The list from which workers are chosen.

use std::collections::BTreeSet;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::session::{Snapshot, WorkerView};
use crate::text;
use crate::tui::widgets::canvas::{Canvas, Hit, narrow, row_of, scrolled};
use crate::tui::widgets::row::RowText;

/// The list, and what is marked in it.
#[derive(Debug)]
pub struct Picker {
    workers: Vec<(u32, String)>,
    chosen: BTreeSet<u32>,
    at: usize,
    offset: usize,
}

/// What a key did.
#[derive(Debug, PartialEq)]
pub enum Choice {
    Open,
    Cancelled,
    /// None: all workers, those found later included.
    Made(Option<BTreeSet<u32>>),
}

impl Picker {
    /// All workers, with the chosen ones marked; `chosen: None` means all.
    pub fn new(snap: &Snapshot, chosen: Option<&BTreeSet<u32>>) -> Picker {
        let several = snap.has_several_runtimes();
        let name = |w: &WorkerView| {
            let ended = if w.gone_ns.is_some() { ", ended" } else { "" };
            let name = text::worker(&w.worker, several);
            format!("{name}  (thread {}{ended})", w.worker.tid)
        };
        let workers: Vec<_> = snap
            .workers
            .iter()
            .map(|w| (w.worker.tid, name(w)))
            .collect();
        let all = || workers.iter().map(|(tid, _)| *tid).collect();
        Picker {
            chosen: chosen.cloned().unwrap_or_else(all),
            workers,
            at: 0,
            offset: 0,
        }
    }

    /// Handles a key.
    pub fn key(&mut self, key: &KeyEvent) -> Choice {
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.at = self.at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.move_to(self.at + 1),
            KeyCode::PageUp => self.at = self.at.saturating_sub(10),
            KeyCode::PageDown => self.move_to(self.at + 10),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.move_to(usize::MAX),
            KeyCode::Char(' ') => self.toggle(self.at),
            KeyCode::Char('a') => {
                let all = self.chosen.len() == self.workers.len();
                self.chosen.clear();
                if !all {
                    self.chosen.extend(self.workers.iter().map(|(tid, _)| *tid));
                }
            }
            KeyCode::Enter | KeyCode::Char('w') => {
                // Without any worker the screen would be empty: choosing none means all.
                let all = self.chosen.len() == self.workers.len() || self.chosen.is_empty();
                return Choice::Made((!all).then(|| self.chosen.clone()));
            }
            KeyCode::Esc | KeyCode::Char('q') => return Choice::Cancelled,
            _ => {}
        }
        Choice::Open
    }

    /// Marks a worker, or removes its mark.
    pub fn toggle(&mut self, at: usize) {
        self.move_to(at);
        if let Some((tid, _)) = self.workers.get(self.at)
            && !self.chosen.remove(tid)
        {
            self.chosen.insert(*tid);
        }
    }

    fn move_to(&mut self, at: usize) {
        self.at = at.min(self.workers.len().saturating_sub(1));
    }

    /// Draws the list in the middle of an area.
    pub fn draw(&mut self, c: &mut Canvas, area: Rect) {
        let names = self.workers.iter().map(|(_, name)| text::width(name));
        let width = narrow(names.max().unwrap_or(0) + 8).clamp(30, area.width);
        let height = narrow(self.workers.len() + 2).min(area.height);
        let popup = Rect {
            x: area.x + (area.width - width) / 2,
            y: area.y + (area.height - height) / 2,
            width,
            height,
        };
        c.wipe(popup);
        c.hit(popup, Hit::Lanes);
        c.heading(popup, 0, " Workers", "");
        let rows = usize::from(height).saturating_sub(2);
        self.offset = scrolled(self.offset, self.at, self.workers.len(), rows);
        let shown = self.workers.iter().enumerate().skip(self.offset).take(rows);
        for (y, (at, (tid, name))) in (1..).zip(shown) {
            let mark = if self.chosen.contains(tid) {
                "[x]"
            } else {
                "[ ]"
            };
            let mut line = RowText::default();
            line.push(format!(" {mark} {name}"), Style::new());
            c.row(popup, y, line.line());
            if at == self.at {
                c.style_row(popup, y, c.theme.selected());
            }
            c.hit(row_of(popup, y), Hit::Row(at));
        }
        c.heading(popup, height - 1, "", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(picker: &mut Picker, code: KeyCode) -> Choice {
        picker.key(&KeyEvent::from(code))
    }

    #[test]
    fn choosing_all_or_none_is_no_filter() {
        let workers: Vec<_> = (1..=3).map(|tid| (tid, format!("worker {tid}"))).collect();
        let mut picker = Picker {
            chosen: [1, 2, 3].into(),
            workers,
            at: 0,
            offset: 0,
        };
        press(&mut picker, KeyCode::Down);
        press(&mut picker, KeyCode::Char(' '));
        let made = press(&mut picker, KeyCode::Enter);
        assert_eq!(made, Choice::Made(Some([1, 3].into())));
        press(&mut picker, KeyCode::Char('a'));
        assert_eq!(press(&mut picker, KeyCode::Enter), Choice::Made(None));
        press(&mut picker, KeyCode::Char('a'));
        assert_eq!(press(&mut picker, KeyCode::Enter), Choice::Made(None));
        assert_eq!(press(&mut picker, KeyCode::Esc), Choice::Cancelled);
    }
}
