//! Text that fits: durations, counts, shortened names, bars and sparklines.
//!
//! Widths are terminal columns, as ratatui counts them. Names come from other people's binaries:
//! control characters in them are replaced, and no name is trusted to be short.

use std::borrow::Cow;

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Between a function and what it called.
const ARROW: &str = " → ";

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

/// Three significant digits and a unit: `870 us`, `12.3 ms`, `1.24 s`, `2m 05s`, `3h 12m`.
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
        ns if ns < 999_500 => format!("{us:.0} us"),
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
fn head(text: &str, columns: usize) -> &str {
    let fits = fitting(graphemes(text), columns);
    text.get(..fits).unwrap_or_default()
}

/// The longest end that takes at most `columns`.
fn tail(text: &str, columns: usize) -> &str {
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

/// A path of segments (a function or a file) in at most `columns`, shortened in the middle: what
/// says most are the first segment, the crate, and the last ones.
pub fn path(name: &str, columns: usize) -> String {
    let name = clean(name);
    if width(&name) <= columns {
        return name.into_owned();
    }
    // Generic arguments say least.
    let bare = without_generics(&name);
    if width(&bare) <= columns {
        return bare;
    }
    let separator = if bare.contains("::") { "::" } else { "/" };
    let segments: Vec<&str> = bare.split(separator).collect();
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return cut(&bare, columns);
    };
    for keep in (1..segments.len().saturating_sub(1)).rev() {
        let end = segments[segments.len() - keep..].join(separator);
        let short = match *first {
            // An absolute path: nothing is said by its root.
            "" => format!("…{separator}{end}"),
            first => format!("{first}{separator}…{separator}{end}"),
        };
        if width(&short) <= columns {
            return short;
        }
    }
    let short = format!("…{separator}{last}");
    if width(&short) <= columns {
        return short;
    }
    if width(last) <= columns {
        return (*last).to_owned();
    }
    // Not even the last segment fits: its two ends.
    let room = columns.saturating_sub(1);
    let mut out = head(last, room.div_ceil(2)).to_owned();
    if columns > 0 {
        out.push('…');
    }
    out.push_str(tail(last, room / 2));
    out
}

/// A function and what it called, shortened to take at most `columns` together with the arrow
/// between them. Too narrow for both: the function alone.
pub fn call(function: &str, calls: Option<&str>, columns: usize) -> (String, String) {
    let Some(calls) = calls.filter(|_| columns >= 16) else {
        return (path(function, columns), String::new());
    };
    let room = columns - width(ARROW);
    // Both whole if they fit; else the function gets at least three fifths.
    let for_calls = room.saturating_sub(width(function)).max(room * 2 / 5);
    let function = path(function, room - width(calls).min(for_calls));
    let calls = path(calls, room.saturating_sub(width(&function)));
    (function, format!("{ARROW}{calls}"))
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

/// `foo::<Bar<Baz>>::qux` as `foo::<…>::qux`; `<T as Trait>::f` keeps its first level.
fn without_generics(name: &str) -> String {
    let keep = if name.starts_with('<') { 1 } else { 0 };
    let mut out = String::with_capacity(name.len());
    let mut depth = 0usize;
    let mut before = ' ';
    for c in name.chars() {
        match c {
            '<' => {
                depth += 1;
                if depth <= keep {
                    out.push('<');
                } else if depth == keep + 1 {
                    out.push_str("<…");
                }
            }
            // The arrow of a closure's or function's type closes nothing.
            '>' if before != '-' && depth > 0 => {
                if depth <= keep + 1 {
                    out.push('>');
                }
                depth -= 1;
            }
            c if depth <= keep => out.push(c),
            _ => {}
        }
        before = c;
    }
    out
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
            ["0 ms", "870 us", "1.00 ms", "12.3 ms", "1.00 s", "60.0 s"]
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
    fn names_are_shortened_in_the_middle() {
        let name = "my_app::api::handlers::orders::create";
        assert_eq!(path(name, 40), name);
        assert_eq!(path(name, 32), "my_app::…::orders::create");
        assert_eq!(path(name, 18), "my_app::…::create");
        assert_eq!(path(name, 12), "…::create");
        assert_eq!(path(name, 5), "cr…te");
        assert_eq!(path("/srv/shop/src/api/main.rs:42", 16), "…/api/main.rs:42");
        assert_eq!(path("/srv/shop/src/api/main.rs:42", 15), "…/main.rs:42");
        let generic = "core::ptr::drop<alloc::vec::Vec<fn() -> u8>>::now";
        assert_eq!(path(generic, 30), "core::ptr::drop<…>::now");
        let method = "<shop::Pool<u8, u16> as shop::Get>::get";
        assert_eq!(path(method, 36), "<shop::Pool<…> as shop::Get>::get");
    }

    #[test]
    fn a_function_keeps_its_own_name_beside_what_it_called() {
        let call = |columns| {
            let (function, calls) = call("my_app::hash", Some("bcrypt::v2::hash"), columns);
            assert!(width(&function) + width(&calls) <= columns);
            function + &calls
        };
        assert_eq!(call(40), "my_app::hash → bcrypt::v2::hash");
        assert_eq!(call(30), "my_app::hash → bcrypt::…::hash");
        assert_eq!(call(24), "my_app::hash → …::hash");
        assert_eq!(call(15), "my_app::hash");
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
