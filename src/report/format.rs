//! Durations, shares and names as people read them.

use anstyle::{AnsiColor, Style};

use crate::model::{Cause, Location, Origin};

/// `450 µs`, `79.0 ms`, `1.39 s`, `2 min 5 s`, `3 h 10 min`.
pub fn duration(ns: u64) -> String {
    let (us, ms, s) = (ns / 1_000, ns as f64 / 1e6, ns as f64 / 1e9);
    match ns {
        0..=999_999 => format!("{us} µs"),
        1_000_000..=9_994_999 => format!("{ms:.2} ms"),
        9_995_000..=999_499_999 => format!("{ms:.1} ms"),
        999_500_000..=99_949_999_999 => format!("{s:.2} s"),
        99_950_000_000..=599_999_999_999 => format!("{s:.1} s"),
        600_000_000_000..=7_199_999_999_999 => {
            format!("{} min {} s", ns / 60_000_000_000, ns / 1_000_000_000 % 60)
        }
        _ => format!(
            "{} h {} min",
            ns / 3_600_000_000_000,
            ns / 60_000_000_000 % 60
        ),
    }
}

/// A threshold or a length that was chosen: `5 ms`, `2.5 ms`, `30 s`.
pub fn setting(ns: u64) -> String {
    match ns {
        0..=999_999 => format!("{} µs", ns as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{} ms", ns as f64 / 1e6),
        _ => format!("{} s", ns as f64 / 1e9),
    }
}

/// `12.3 %` of a share from 0 to 1.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A part of a whole; `-` of nothing.
pub fn part(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => percent(part as f64 / whole as f64),
    }
}

/// `1 poll`, `2 polls`.
pub fn count(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// `24.0 MiB`.
pub fn bytes(n: u64) -> String {
    format!("{:.1} MiB", n as f64 / f64::from(1 << 20))
}

/// A path with its line, from the package's directory on: `shop/src/main.rs:42`.
pub fn shorten_location(location: &Location) -> String {
    let parts: Vec<&str> = location.file.split('/').collect();
    let src = parts.iter().rposition(|part| *part == "src");
    let from = match src {
        Some(src) if src + 1 < parts.len() => src.saturating_sub(1),
        _ => parts.len().saturating_sub(3),
    };
    let file = parts.get(from..).unwrap_or_default().join("/");
    let file = if from == 0 { &*location.file } else { &file };
    match location.line {
        0 => file.to_owned(),
        line => format!("{file}:{line}"),
    }
}

/// A name of at most `max` characters, shortened in its middle at path segments:
/// `my_app::...::Service::call`.
pub fn shorten_name(name: &str, max: usize) -> String {
    if name.chars().count() <= max {
        return name.to_owned();
    }
    let segments = segments(name);
    // The first says whose it is; of the rest as many from the end as fit.
    if let [first, rest @ ..] = &segments[..] {
        for skip in 1..rest.len() {
            let tail = rest.get(skip..).unwrap_or_default().join("::");
            let short = format!("{first}::...::{tail}");
            if short.chars().count() <= max {
                return short;
            }
        }
    }
    let keep = max.saturating_sub(3);
    let (head, tail) = (keep - keep / 2, keep / 2);
    let chars: Vec<char> = name.chars().collect();
    let start: String = chars.iter().take(head).collect();
    let end: String = chars
        .iter()
        .skip(chars.len().saturating_sub(tail))
        .collect();
    format!("{start}...{end}")
}

/// A name or a path in lines of at most `width` characters, broken behind `::` and `/` where that
/// is possible.
pub fn wrap(name: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for part in name.split_inclusive(['/', ':', ' ']) {
        let len = part.chars().count();
        // Both colons of `::` stay together.
        if used > 0 && used + len > width && part != ":" {
            lines.push(String::new());
            used = 0;
        }
        for c in part.chars() {
            if used == width {
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
            used += 1;
        }
    }
    lines.join("\n")
}

/// Splits at `::` outside of angle brackets.
fn segments(name: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let (mut depth, mut from) = (0i32, 0);
    let bytes = name.as_bytes();
    for (i, pair) in bytes.windows(2).enumerate() {
        match pair {
            [b'<' | b'(' | b'{', _] => depth += 1,
            [b'-', b'>'] => depth += 1, // The arrow is no closing bracket.
            [b'>' | b')' | b'}', _] => depth -= 1,
            b"::" if depth == 0 && i >= from => {
                segments.extend(name.get(from..i));
                from = i + 2;
            }
            _ => {}
        }
    }
    segments.extend(name.get(from..));
    segments
}

pub const BOLD: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const ALARM: Style = AnsiColor::Red.on_default().bold();
pub const OWN: Style = AnsiColor::Green.on_default().bold();

/// A text in a style.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The colour of a cause; its name is always there too.
pub fn cause_color(cause: Cause) -> AnsiColor {
    match cause {
        Cause::Cpu => AnsiColor::Red,
        Cause::Lock => AnsiColor::Magenta,
        Cause::FileIo | Cause::Network | Cause::Pipe => AnsiColor::Yellow,
        Cause::Sleep | Cause::ChildProcess => AnsiColor::Cyan,
        Cause::PageFault => AnsiColor::Blue,
        Cause::RunQueue | Cause::Stopped | Cause::Unknown => AnsiColor::BrightBlack,
    }
}

/// The style of a frame's name.
pub fn frame_style(origin: Origin) -> Style {
    match origin {
        Origin::User => OWN,
        Origin::ThirdParty => Style::new(),
        Origin::Runtime | Origin::Std | Origin::Kernel | Origin::Unknown => DIM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        let shown = [
            0,
            999_999,
            1_000_000,
            9_995_000,
            79_000_000,
            999_499_999,
            999_500_000,
        ]
        .map(duration);
        let expected = [
            "0 µs", "999 µs", "1.00 ms", "10.0 ms", "79.0 ms", "999.5 ms", "1.00 s",
        ];
        assert_eq!(shown, expected);
        assert_eq!(duration(125_000_000_000), "125.0 s");
        assert_eq!(duration(3_725_000_000_000), "62 min 5 s");
        assert_eq!(duration(u64::MAX), "5124095 h 34 min");
        assert_eq!(
            [5_000_000, 2_500_000, 30_000_000_000].map(setting),
            ["5 ms", "2.5 ms", "30 s"]
        );
    }

    #[test]
    fn locations_begin_at_the_package() {
        let short = |file: &str, line| {
            shorten_location(&Location {
                file: file.into(),
                line,
            })
        };
        assert_eq!(
            short("/home/u/shop/src/api/mod.rs", 7),
            "shop/src/api/mod.rs:7"
        );
        assert_eq!(short("src/main.rs", 1), "src/main.rs:1");
        assert_eq!(short("/a/b/c/d/e.rs", 0), "c/d/e.rs");
        assert_eq!(short("/x", 3), "/x:3");
    }

    #[test]
    fn names_break_at_their_segments() {
        assert_eq!(wrap("-> std::thread::sleep", 16), "-> std::thread::\nsleep");
        assert_eq!(wrap("shop/src/main.rs:42", 16), "shop/src/\nmain.rs:42");
        assert_eq!(wrap("abcdefgh", 3), "abc\ndef\ngh");
        assert_eq!(wrap("a::b", 16), "a::b");
        assert_eq!(wrap("", 5), "");
    }

    #[test]
    fn names_lose_their_middle() {
        assert_eq!(shorten_name("a::b::c", 20), "a::b::c");
        let long = "shop::api::v2::handlers::Service<T as U::V>::call";
        assert_eq!(
            shorten_name(long, 40),
            "shop::...::Service<T as U::V>::call"
        );
        assert_eq!(shorten_name(long, 16), "shop::...::call");
        assert_eq!(shorten_name(&"é".repeat(50), 9), "ééé...ééé");
        for max in 0..60 {
            assert!(shorten_name(long, max).chars().count() <= max.max(3));
        }
    }
}
