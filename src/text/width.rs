//! Text that fits: widths in terminal columns, cutting, padding and breaking.
//!
//! Names come from other people's binaries. Control characters are replaced, and no name is trusted
//! to be short.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Columns that a text takes in a terminal.
pub fn width(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => graphemes(text).map(|(_, columns)| columns).sum(),
    }
}

/// What a terminal puts into one cell (or two), with the columns of each.
fn graphemes(text: &str) -> impl DoubleEndedIterator<Item = (&str, usize)> {
    text.graphemes(true).map(|g| (g, UnicodeWidthStr::width(g)))
}

/// Replaces control characters, which would move the cursor or break a row, by spaces.
pub fn clean(text: &str) -> Cow<'_, str> {
    match text.chars().any(char::is_control) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(
            text.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        ),
    }
}

/// A text in exactly `columns`, aligned left, cut at its end with an ellipsis.
pub fn left(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns);
    out.extend(std::iter::repeat_n(
        ' ',
        columns.saturating_sub(width(&out)),
    ));
    out
}

/// A text in exactly `columns`, aligned right, cut at its end with an ellipsis.
pub fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let mut out = " ".repeat(columns.saturating_sub(width(&text)));
    out.push_str(&text);
    out
}

/// A text in at most `columns`, cut at its end with an ellipsis.
pub fn cut(text: &str, columns: usize) -> String {
    let text = clean(text);
    if width(&text) <= columns {
        return text.into_owned();
    }
    let mut out = head(&text, columns.saturating_sub(1)).to_owned();
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The longest beginning that takes at most `columns`.
pub(super) fn head(text: &str, columns: usize) -> &str {
    let fits = fitting(graphemes(text), columns);
    text.get(..fits).unwrap_or_default()
}

/// The longest end that takes at most `columns`.
pub(super) fn tail(text: &str, columns: usize) -> &str {
    let fits = fitting(graphemes(text).rev(), columns);
    text.get(text.len() - fits..).unwrap_or_default()
}

/// Bytes of the graphemes that fit.
fn fitting<'a>(graphemes: impl Iterator<Item = (&'a str, usize)>, columns: usize) -> usize {
    let mut used = 0;
    graphemes
        .take_while(|(_, columns_of)| {
            used += columns_of;
            used <= columns
        })
        .map(|(grapheme, _)| grapheme.len())
        .sum()
}

/// A text in rows of at most `columns`, broken anywhere.
pub fn rows(text: &str, columns: usize) -> Vec<String> {
    let text = clean(text);
    let mut rows = Vec::new();
    let mut rest = &*text;
    while !rest.is_empty() {
        let row = head(rest, columns.max(2));
        rows.push(row.to_owned());
        // At least one byte a row, or the loop would not end.
        rest = rest.get(row.len().max(1)..).unwrap_or_default();
    }
    rows
}

/// Prose in rows of at most `columns`, broken at spaces. A longer word has a row of its own.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut rows: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        match rows.last_mut() {
            Some(row) if row.is_empty() => row.push_str(word),
            Some(row) if width(row) + 1 + width(word) <= columns => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::{fit_call, path};
    use super::*;

    #[test]
    fn a_text_is_broken_where_the_row_ends() {
        assert_eq!(rows("漢字abc", 3), ["漢", "字a", "bc"]);
    }

    #[test]
    fn prose_breaks_at_spaces() {
        assert_eq!(wrap("a poll is slow", 6), ["a poll", "is", "slow"]);
        assert_eq!(wrap("incomprehensible", 6), ["incomprehensible"]);
        assert_eq!(wrap("", 6), [""]);
    }

    #[test]
    fn any_name_fits_any_width() {
        let names = [
            "漢字::テスト::関数名".repeat(5),
            "a".repeat(300),
            "<<<>>>::->->".repeat(30),
            "x\ty\u{1b}[2Jz".into(),
            "e\u{301}\u{200d}👩‍👩‍👧::b".into(),
        ];
        for name in &names {
            for columns in 0..80 {
                for text in [path(name, columns), cut(name, columns)] {
                    assert!(width(&text) <= columns, "{text:?} in {columns}");
                    assert!(!text.chars().any(char::is_control));
                }
                assert_eq!(width(&left(name, columns)), columns, "{name:?} {columns}");
                assert_eq!(width(&right(name, columns)), columns, "{name:?} {columns}");
                let (function, calls) = fit_call(name, Some(name), columns);
                assert!(width(&function) + width(&calls) <= columns);
                assert_eq!(rows(name, columns).concat(), clean(name), "{columns}");
            }
        }
    }
}
