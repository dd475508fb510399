//! Names in fewer columns: generic arguments go first, then the middle segments.

use super::width::{clean, cut, head, tail, width};

/// Between a function and what it called: on a screen, and in plain text.
const ARROW: &str = " → ";
pub(super) const PLAIN_ARROW: &str = " -> ";

/// A path of segments (a function or a file) in at most `columns`, shortened in the middle: the
/// first segment, the crate, and the last ones identify it best.
pub fn path(name: &str, columns: usize) -> String {
    let name = clean(name);
    if width(&name) <= columns {
        return name.into_owned();
    }
    // Generic arguments identify it least.
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
            // An absolute path has an empty first segment.
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

/// A function and, with an arrow before it, what it called, shortened to at most `columns` together.
/// The second text is empty where nothing was called or there is no room for both.
pub fn fit_call(function: &str, calls: Option<&str>, columns: usize) -> (String, String) {
    fit_call_with(ARROW, function, calls, columns)
}

/// The same in one plain text: `shop::hash -> bcrypt::hash`.
pub fn fit_call_plain(function: &str, calls: Option<&str>, columns: usize) -> String {
    let (function, calls) = fit_call_with(PLAIN_ARROW, function, calls, columns);
    function + &calls
}

fn fit_call_with(
    arrow: &str,
    function: &str,
    calls: Option<&str>,
    columns: usize,
) -> (String, String) {
    let Some(calls) = calls.filter(|_| columns >= 16) else {
        return (path(function, columns), String::new());
    };
    let room = columns - width(arrow);
    // Both whole if they fit; else the function gets at least three fifths.
    let for_calls = room.saturating_sub(width(function)).max(room * 2 / 5);
    let function = path(function, room - width(calls).min(for_calls));
    let calls = path(calls, room.saturating_sub(width(&function)));
    (function, format!("{arrow}{calls}"))
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
            // The `->` of a closure or function type is no closing bracket.
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let (function, calls) = fit_call("my_app::hash", Some("bcrypt::v2::hash"), columns);
            assert!(width(&function) + width(&calls) <= columns);
            function + &calls
        };
        assert_eq!(call(40), "my_app::hash → bcrypt::v2::hash");
        assert_eq!(call(30), "my_app::hash → bcrypt::…::hash");
        assert_eq!(call(24), "my_app::hash → …::hash");
        assert_eq!(call(15), "my_app::hash");
    }
}
