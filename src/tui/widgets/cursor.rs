//! The cursor of a list whose rows change with each snapshot.

use std::ops::Range;

use super::canvas::scrolled;
use crate::tui::state::keys::Action;

/// A row that can be found again in the next snapshot.
pub trait Keyed {
    type Key: PartialEq;

    /// What identifies the row.
    fn key(&self) -> Self::Key;
}

/// Follows a row by its key, wherever sorting puts it, and remembers the part of the list in view.
#[derive(Debug)]
pub struct Cursor<R: Keyed> {
    /// The row under the cursor. None: the first row, whichever that is.
    key: Option<R::Key>,
    /// Its index; kept while its row is not in the list.
    at: usize,
    offset: usize,
    page: usize,
}

impl<R: Keyed> Default for Cursor<R> {
    fn default() -> Self {
        Cursor {
            key: None,
            at: 0,
            offset: 0,
            page: 0,
        }
    }
}

impl<R: Keyed> Cursor<R> {
    /// The index of the row under the cursor.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The key of the row that the cursor was put on.
    pub fn key(&self) -> Option<&R::Key> {
        self.key.as_ref()
    }

    /// Finds the row again in a new list. If it is gone, the cursor stays at its index.
    pub fn update(&mut self, rows: &[R]) {
        self.at = match &self.key {
            None => 0,
            Some(key) => {
                let at = rows.iter().position(|row| row.key() == *key);
                at.unwrap_or(self.at.min(rows.len().saturating_sub(1)))
            }
        };
    }

    /// Puts the cursor on a row by its key; None: on the first row, whichever that is.
    pub fn follow(&mut self, key: Option<R::Key>) {
        self.key = key;
    }

    /// Puts the cursor on the row at an index, or on the last one.
    pub fn select(&mut self, at: usize, rows: &[R]) {
        self.at = at.min(rows.len().saturating_sub(1));
        self.key = rows.get(self.at).map(Keyed::key);
    }

    /// Moves the cursor by rows.
    pub fn move_by(&mut self, by: isize, rows: &[R]) {
        self.select(self.at.saturating_add_signed(by), rows);
    }

    /// Moves the cursor if the key asks for that.
    pub fn act(&mut self, action: Action, rows: &[R]) {
        let page = self.page.max(1) as isize;
        match action {
            Action::Up => self.move_by(-1, rows),
            Action::Down => self.move_by(1, rows),
            Action::PageUp => self.move_by(-page, rows),
            Action::PageDown => self.move_by(page, rows),
            Action::Home => {
                self.key = None;
                self.at = 0;
            }
            Action::End => self.select(usize::MAX, rows),
            _ => {}
        }
    }

    /// The rows to draw in `height` rows of the screen, so that the cursor is in view.
    pub fn in_view(&mut self, height: u16, rows: &[R]) -> Range<usize> {
        self.page = usize::from(height);
        self.offset = scrolled(self.offset, self.at, rows.len(), self.page);
        self.offset..(self.offset + self.page).min(rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for char {
        type Key = char;

        fn key(&self) -> char {
            *self
        }
    }

    #[test]
    fn it_follows_its_row() {
        let mut cursor = Cursor::default();
        cursor.select(1, &['a', 'b', 'c']);
        cursor.update(&['b', 'a', 'c']);
        assert_eq!(cursor.at(), 0);
        cursor.update(&['a', 'c', 'b']);
        assert_eq!((cursor.at(), cursor.key()), (2, Some(&'b')));
        // Gone: it stays in its place until the row returns.
        cursor.update(&['a', 'c']);
        assert_eq!((cursor.at(), cursor.key()), (1, Some(&'b')));
        cursor.update(&['b', 'c']);
        assert_eq!(cursor.at(), 0);
    }

    #[test]
    fn home_stays_on_whatever_is_first() {
        let mut cursor = Cursor::default();
        cursor.act(Action::End, &['a', 'b', 'c']);
        assert_eq!(cursor.at(), 2);
        cursor.act(Action::Home, &['a', 'b', 'c']);
        cursor.update(&['c', 'a', 'b']);
        assert_eq!((cursor.at(), cursor.key()), (0, None));
    }

    #[test]
    fn a_page_is_what_is_in_view() {
        let rows: Vec<char> = ('a'..='j').collect();
        let mut cursor = Cursor::default();
        assert_eq!(cursor.in_view(3, &rows), 0..3);
        cursor.act(Action::PageDown, &rows);
        assert_eq!((cursor.at(), cursor.in_view(3, &rows)), (3, 1..4));
        cursor.act(Action::End, &rows);
        assert_eq!(cursor.in_view(3, &rows), 7..10);
        assert_eq!(cursor.in_view(20, &rows), 0..10);
    }
}
