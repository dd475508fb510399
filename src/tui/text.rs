//! Text that fits: durations, counts, bars and sparklines; names are [`shorten`](super::shorten)ed.
//!
//! Widths are terminal columns, as ratatui counts them. Names come from other people's binaries:
//! control characters in them are replaced, and no name is trusted to be short.

use std::borrow::Cow;

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

pub use super::shorten::{call, path};

/// Eighths of a cell, from empty to full.
pub const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => graphemes(text).map(|(_, columns)| columns).sum(),
    }
}

/// What ratatui puts into cells, with the columns of each.
fn graphemes(text: &str) -> impl DoubleEndedIterator<Item = (&str, usize)> {
    text.graphemes(true).map(|g| (g, UnicodeWidthStr::width(g)))
}

/// Replaces what would move the cursor or break a row.
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

/// Three significant digits and a unit: `870 µs`, `12.3 ms`, `1.24 s`, `2m 05s`, `3h 12m`.
pub fn duration(ns: u64) -> String {
    let us = ns as f64 / 1e3;
    let digits = |value: f64, unit: &str| match value {
        v if v < 9.995 => format!("{v:.2} {unit}"),
        v if v < 99.95 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    };
    let seconds = ns / 1_000_000_000;
    match ns {
        0 => "0 ms".to_owned(),
        ns if ns < 999_500 => format!("{us:.0} µs"),
        ns if ns < 999_500_000 => digits(us / 1e3, "ms"),
        ns if ns < 60_000_000_000 => digits(us / 1e6, "s"),
        _ if seconds < 3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A clock that runs: `12.3 s`, with tenths so that it is seen to move.
pub fn clock(ns: u64) -> String {
    match ns {
        ns if ns < 1_000_000_000 => format!("{:.0} ms", ns as f64 / 1e6),
        ns if ns < 600_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        ns => duration(ns),
    }
}

/// `03:25` or `1:03:25`: how far into the session.
pub fn elapsed(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match s / 3600 {
        0 => format!("{:02}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// A count in at most five columns: `9999`, `12.3k`, `4.56M`.
pub fn count(n: u64) -> String {
    let scaled = |value: f64, unit: char| match value {
        v if v < 9.995 => format!("{v:.2}{unit}"),
        v if v < 99.95 => format!("{v:.1}{unit}"),
        v => format!("{v:.0}{unit}"),
    };
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => scaled(n as f64 / 1e3, 'k'),
        1_000_000..1_000_000_000 => scaled(n as f64 / 1e6, 'M'),
        _ => scaled(n as f64 / 1e9, 'G'),
    }
}

/// A part of a whole as a percentage in at most four columns: ` 3%`, `<1%`, `100%`.
pub fn percent(part: f64) -> String {
    let p = part * 100.0;
    match p {
        p if p <= 0.0 => "0%".to_owned(),
        p if p < 1.0 => "<1%".to_owned(),
        p => format!("{p:.0}%"),
    }
}

/// A part of a whole, 0 where there is no whole.
pub fn part(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    }
}

/// A text in exactly `columns`, on the left, cut at the end with an ellipsis.
pub fn left(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns);
    out.extend(std::iter::repeat_n(
        ' ',
        columns.saturating_sub(width(&out)),
    ));
    out
}

/// A text in exactly `columns`, on the right, cut at the end with an ellipsis.
pub fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let mut out = " ".repeat(columns.saturating_sub(width(&text)));
    out.push_str(&text);
    out
}

/// A text in at most `columns`, cut at the end with an ellipsis.
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
        // A row takes one cell at least, or nothing ever fits.
        rest = rest.get(row.len().max(1)..).unwrap_or_default();
    }
    rows
}

/// A bar of `columns` cells, `part` of it filled, in eighths of a cell.
pub fn bar(part: f64, columns: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (part.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize;
    let (full, rest) = (eighths / 8, eighths % 8);
    let mut out = "█".repeat(full);
    if rest > 0 {
        out.push(PARTS[rest]);
    }
    let used = full + usize::from(rest > 0);
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

/// Values as a line of eighths, the largest full; anything above 0 is visible.
pub fn sparkline(values: &[u64], columns: usize) -> String {
    let columns = columns.min(values.len());
    if columns == 0 {
        return String::new();
    }
    let bins: Vec<u64> = (0..columns)
        .map(|i| {
            let (from, to) = (i * values.len() / columns, (i + 1) * values.len() / columns);
            values.get(from..to).unwrap_or_default().iter().sum()
        })
        .collect();
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    bins.iter()
        .map(|&v| EIGHTHS[(v as f64 / most as f64 * 8.0).ceil() as usize])
        .collect()
}

/// A row of spans that knows how wide it has become.
#[derive(Default)]
pub struct RowText {
    spans: Vec<Span<'static>>,
    used: usize,
}

impl RowText {
    /// Adds a text.
    pub fn push(&mut self, text: impl Into<String>, style: impl Into<Style>) {
        let text = text.into();
        self.used += width(&text);
        self.spans.push(Span::styled(text, style));
    }

    /// Columns used so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The row.
    pub fn line(self) -> Line<'static> {
        Line::from(self.spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        let all = [0, 870_000, 999_600, 12_345_678, 999_600_000, 59_990_000_000];
        let all = all.map(duration);
        assert_eq!(
            all,
            ["0 ms", "870 µs", "1.00 ms", "12.3 ms", "1.00 s", "60.0 s"]
        );
        assert_eq!(duration(125_000_000_000), "2m 05s");
        assert_eq!(duration(u64::MAX).len(), "213503d 23h".len());
    }

    #[test]
    fn counts_stay_within_five_columns() {
        for n in [
            0,
            9_999,
            10_000,
            99_950,
            999_499,
            1_000_000,
            99_999_999,
            999_000_000_000,
        ] {
            assert!(count(n).len() <= 5, "{n}: {}", count(n));
        }
        assert_eq!(count(12_345), "12.3k");
    }

    #[test]
    fn a_text_is_broken_where_the_row_ends() {
        assert_eq!(rows("漢字abc", 3), ["漢", "字a", "bc"]);
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
                let (function, calls) = call(name, Some(name), columns);
                assert!(width(&function) + width(&calls) <= columns);
                assert_eq!(rows(name, columns).concat(), clean(name), "{columns}");
            }
        }
    }

    #[test]
    fn bars_and_sparklines_fill_their_columns() {
        assert_eq!(bar(0.5, 4), "██  ");
        assert_eq!(bar(2.0, 3), "███");
        assert_eq!(bar(0.3, 2), "▋ ");
        assert_eq!(sparkline(&[0, 1, 8], 3), " ▁█");
        assert_eq!(sparkline(&[1, 1, 4, 4], 2), "▂█");
        assert_eq!(sparkline(&[], 5), "");
    }
}
