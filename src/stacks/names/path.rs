//! Splits demangled names at brackets and separators, without understanding them.

/// The `::`-separated segments of a path; none if its brackets do not balance.
pub(super) fn segments(mut name: &str) -> Option<Vec<&str>> {
    let last_depth = walk(name).try_fold(0, |_, (_, byte, depth)| {
        let after = depth + i32::from(opens(byte));
        (after >= 0).then_some(after)
    })?;
    if last_depth != 0 {
        return None;
    }
    let mut list = Vec::new();
    while let Some((segment, rest)) = split_at(name, "::") {
        list.push(segment);
        name = rest;
    }
    list.push(name);
    Some(list)
}

/// Splits at the first separator outside all brackets.
pub(super) fn split_at<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let (at, ..) = walk(text).find(|&(at, _, depth)| {
        depth == 0
            && text
                .as_bytes()
                .get(at..)
                .is_some_and(|rest| rest.starts_with(separator.as_bytes()))
    })?;
    Some((text.get(..at)?, text.get(at + separator.len()..)?))
}

/// The comma-separated parts of a list.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, after) = match split_at(text, ",") {
            Some((part, after)) => (part, Some(after)),
            None => (text, None),
        };
        rest = after;
        Some(part.trim())
    })
}

/// The inside of `<...>` that spans the whole segment.
pub(super) fn enclosed(segment: &str) -> Option<&str> {
    segment.strip_prefix('<')?.strip_suffix('>')
}

/// A segment's own name without generic arguments; none for names that the compiler made up.
pub(super) fn plain_segment(segment: &str) -> Option<&str> {
    let name = match segment.find('<') {
        Some(at) if at > 0 => segment.get(..at)?,
        _ => segment,
    };
    let name = match name.find('{') {
        // `call_once{{vtable.shim}}`
        Some(at) => name.get(..at)?,
        None => name,
    };
    (!name.is_empty()).then_some(name)
}

/// Takes `&`, `&mut`, `*const`, `dyn` and their like off the front of a type.
pub(super) fn strip_indirection(mut ty: &str) -> &str {
    'again: loop {
        ty = ty.trim();
        for prefix in ["&", "*const ", "*mut ", "mut ", "dyn ", "impl "] {
            if let Some(rest) = ty.strip_prefix(prefix) {
                ty = rest;
                continue 'again;
            }
        }
        if ty.starts_with('\'')
            && let Some((_, rest)) = ty.split_once(' ')
        {
            ty = rest;
            continue;
        }
        return ty;
    }
}

/// A crate's name from a path's first segment: `tokio` of `tokio[1a2b3c]`.
pub(super) fn path_crate(segment: &str) -> Option<&str> {
    let name = segment.split(['[', '<']).next()?;
    let is_identifier = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_identifier.then_some(name)
}

fn opens(byte: u8) -> bool {
    matches!(byte, b'<' | b'(' | b'[' | b'{')
}

/// Every byte with its position and bracket depth. A bracket has the depth outside of it.
fn walk(text: &str) -> impl Iterator<Item = (usize, u8, i32)> {
    let mut depth = 0;
    let mut previous = 0;
    text.bytes().enumerate().map(move |(at, byte)| {
        // The arrow of `fn() -> T` is no bracket.
        let arrow = byte == b'>' && previous == b'-';
        previous = byte;
        if matches!(byte, b'>' | b')' | b']' | b'}') && !arrow {
            depth -= 1;
        }
        let here = depth;
        if opens(byte) {
            depth += 1;
        }
        (at, byte, here)
    })
}
