//! Readable function names: what a Rust programmer would call the function.
//!
//! Compilers name closures, async state machines, trait impls and every generic argument; people
//! name the function they wrote. [`readable`] turns the one into the other and works on text
//! only, so it serves legacy and v0 symbols and the bare names of debug info alike. Whatever it
//! does not understand (C++ operators, broken names) it returns as it is.

use std::borrow::Cow;

/// Types nested deeper than this are not written by people.
const MAX_DEPTH: usize = 16;

/// The readable form of a demangled name: `my_app::handler` for `my_app::handler::{{closure}}`,
/// `core::pin::Pin::poll` for `<core::pin::Pin<P> as core::future::future::Future>::poll`.
pub fn readable(demangled: &str) -> Cow<'_, str> {
    // glibc's internal aliases of its public functions: `__GI___poll`.
    if let Some(alias) = demangled.strip_prefix("__GI_") {
        let public = alias.trim_start_matches('_');
        return Cow::Borrowed(if is_blank(public) { demangled } else { public });
    }
    let name = strip_hash(demangled);
    match simplify(name, 0) {
        Some(simple) if !is_blank(&simple) && simple != demangled => Cow::Owned(simple),
        _ => Cow::Borrowed(demangled),
    }
}

/// The readable form of an unqualified name, as line tables alone give it for inlined calls: its
/// file stands for its path. What the compiler made has no name of its own: its line is added, so
/// that two async functions of one file stay two.
pub fn placed(bare: &str, module_path: &str, line: u32) -> String {
    let name = bare.split_once('<').map_or(bare, |(name, _)| name);
    let made = |kind: &str| format!("{module_path}::{{{kind} at line {line}}}");
    match name.strip_prefix('{') {
        Some(rest) if rest.starts_with("async_fn") => made("async fn"),
        Some(rest) if rest.starts_with("async_block") => made("async block"),
        Some(_) => made("closure"),
        None if is_blank(name) => made("code"),
        None => format!("{module_path}::{name}"),
    }
}

/// Whether a symbol's name shows nothing.
pub fn is_blank(name: &str) -> bool {
    name.trim().is_empty()
}

/// Whether the name is a path, not a bare function name as line tables alone give it.
pub fn is_qualified(demangled: &str) -> bool {
    segments(demangled).is_some_and(|list| list.len() > 1)
}

/// The crates that may own the function, from its demangled name: the function's own path, or
/// for `<A as B>::f` those of the type and of the trait.
pub fn crates(demangled: &str) -> (Option<&str>, Option<&str>) {
    let name = strip_hash(demangled);
    let Some(first) = segments(name).and_then(|list| list.into_iter().next()) else {
        return (None, None);
    };
    if let Some(inner) = enclosed(first) {
        return match split_as(inner) {
            Some((ty, of_trait)) => (type_crate(ty), type_crate(of_trait)),
            None => (type_crate(inner), None),
        };
    }
    if first == name {
        // A single segment is a C function or an unqualified name.
        return (None, None);
    }
    (path_crate(first), None)
}

/// The future (or function) that a generic marker such as `Harness<F, S>::poll` was made for,
/// where the name carries its arguments (v0 mangling, debug info).
pub fn first_generic_argument(demangled: &str) -> Option<String> {
    let open = demangled
        .match_indices('<')
        .find(|&(at, _)| at > 0 && demangled.as_bytes().get(at - 1) != Some(&b'<'))?
        .0;
    let rest = demangled.get(open + 1..)?;
    let end = walk(rest)
        .find(|&(_, byte, depth)| depth < 0 || (depth == 0 && byte == b','))
        .map_or(rest.len(), |(at, ..)| at);
    let argument = rest.get(..end)?.trim();
    // `T`, `S`: legacy mangling does not say which.
    if !argument.contains("::") {
        return None;
    }
    simplify_type(argument, 0).filter(|simple| !simple.is_empty())
}

/// Legacy mangling's trailing `::h0123456789abcdef`.
fn strip_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((rest, hash))
            if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            rest
        }
        _ => name,
    }
}

fn simplify(name: &str, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return None;
    }
    let list = segments(name)?;
    let mut path = String::with_capacity(name.len());
    for (index, segment) in list.iter().enumerate() {
        if let Some(inner) = enclosed(segment) {
            if index == 0 {
                path = simplify_qualified(inner, depth + 1)?;
            } else if let Some(of_type) = inner.strip_prefix("impl ") {
                // `core::fmt::impls::<impl core::fmt::Display for my_app::Id>::fmt`: the type says
                // more than the module the impl stands in, unless it is a parameter.
                let of_type = split_keyword(of_type, " for ").map_or(of_type, |(_, ty)| ty);
                let simple = simplify_type(of_type, depth + 1)?;
                if simple.contains("::") {
                    path = simple;
                }
            }
            // Anything else in angle brackets is generic arguments.
            continue;
        }
        let Some(plain) = plain_segment(segment) else {
            continue;
        };
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(plain);
        // What is dropped is all there is to say about a drop.
        if plain == "drop_in_place" {
            let of_type = segment
                .strip_prefix(plain)
                .filter(|rest| !rest.is_empty())
                .or_else(|| list.get(index + 1).copied())
                .and_then(enclosed)
                .and_then(|ty| simplify_type(ty, depth + 1));
            if let Some(of_type) = of_type {
                path.push('<');
                path.push_str(&of_type);
                path.push('>');
            }
            return Some(path);
        }
    }
    Some(path)
}

/// `A as B` or `A`: the type, or the trait where the type is only a parameter.
fn simplify_qualified(inner: &str, depth: usize) -> Option<String> {
    match split_as(inner) {
        Some((ty, of_trait)) if is_parameter(ty) => simplify_type(of_trait, depth),
        Some((ty, _)) => simplify_type(ty, depth),
        None => {
            let inner = inner.strip_prefix("impl ").unwrap_or(inner);
            let ty = split_keyword(inner, " for ").map_or(inner, |(_, ty)| ty);
            simplify_type(ty, depth)
        }
    }
}

fn simplify_type(ty: &str, depth: usize) -> Option<String> {
    let ty = strip_indirection(ty);
    let ty = split_keyword(ty, " + ").map_or(ty, |(first, _)| first);
    match ty.as_bytes().first()? {
        b'(' | b'[' => Some(ty.to_owned()),
        _ if ty.starts_with("fn(") || ty.starts_with("unsafe ") || ty.starts_with("extern ") => {
            Some(ty.to_owned())
        }
        _ => simplify(ty, depth),
    }
}

/// Takes `&`, `&mut`, `*const`, `dyn` and their like off the front.
fn strip_indirection(mut ty: &str) -> &str {
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

/// A segment's own name without generic arguments; none for what the compiler made up.
fn plain_segment(segment: &str) -> Option<&str> {
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

/// A type parameter as legacy mangling prints it: `T`, `F`, `Fut`.
fn is_parameter(ty: &str) -> bool {
    let ty = strip_indirection(ty);
    ty.starts_with(|first: char| first.is_ascii_uppercase())
        && ty.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Crate of a type. References, tuples, slices and parameters belong to no crate of their own.
fn type_crate(ty: &str) -> Option<&str> {
    let ty = ty.trim();
    let ty = ty.strip_prefix("dyn ").unwrap_or(ty);
    if ty.starts_with(['&', '*', '(', '[', '\'']) {
        return None;
    }
    if let Some(inner) = ty.strip_prefix('<') {
        return inner
            .split_once("::")
            .and_then(|(head, _)| path_crate(head));
    }
    let (head, _) = ty.split_once("::")?;
    path_crate(head)
}

/// A crate's name from a path's first segment: `tokio`, `tokio[1a2b3c]`.
fn path_crate(segment: &str) -> Option<&str> {
    let name = segment.split(['[', '<']).next()?;
    let identifier = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    identifier.then_some(name)
}

/// The inside of `<...>` that spans the whole segment.
fn enclosed(segment: &str) -> Option<&str> {
    segment.strip_prefix('<')?.strip_suffix('>')
}

fn split_as(inner: &str) -> Option<(&str, &str)> {
    split_keyword(inner, " as ")
}

/// Splits at a keyword that stands outside all brackets.
fn split_keyword<'a>(text: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (at, ..) = walk(text).find(|&(at, _, depth)| {
        depth == 0
            && text
                .as_bytes()
                .get(at..)
                .is_some_and(|rest| rest.starts_with(keyword.as_bytes()))
    })?;
    Some((text.get(..at)?, text.get(at + keyword.len()..)?))
}

/// The `::`-separated segments of a path; none if its brackets do not balance.
fn segments(mut name: &str) -> Option<Vec<&str>> {
    let last_depth = walk(name).try_fold(0, |_, (_, byte, depth)| {
        let after = depth + i32::from(opens(byte));
        (after >= 0).then_some(after)
    })?;
    if last_depth != 0 {
        return None;
    }
    let mut list = Vec::new();
    while let Some((segment, rest)) = split_keyword(name, "::") {
        list.push(segment);
        name = rest;
    }
    list.push(name);
    Some(list)
}

fn opens(byte: u8) -> bool {
    matches!(byte, b'<' | b'(' | b'[' | b'{')
}

/// Every byte with its position and bracket depth; brackets count to the depth outside of them.
fn walk(text: &str) -> impl Iterator<Item = (usize, u8, i32)> {
    let mut depth = 0;
    let mut previous = 0;
    text.bytes().enumerate().map(move |(at, byte)| {
        // The arrow of `fn() -> T` closes nothing.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_from_real_binaries() {
        for (raw, expected) in [
            // Legacy mangling.
            ("my_app::handle_hash::{{closure}}", "my_app::handle_hash"),
            ("my_app::main::{{closure}}::{{closure}}", "my_app::main"),
            ("bcrypt::hash::h0123456789abcdef", "bcrypt::hash"),
            (
                "<core::pin::Pin<P> as core::future::future::Future>::poll",
                "core::pin::Pin::poll",
            ),
            (
                "tokio::runtime::task::harness::Harness<T,S>::poll",
                "tokio::runtime::task::harness::Harness::poll",
            ),
            (
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
                "core::ops::function::FnOnce::call_once",
            ),
            (
                "<F as axum::handler::Handler<(M,T1),S>>::call",
                "axum::handler::Handler::call",
            ),
            (
                "<alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once",
                "alloc::boxed::Box::call_once",
            ),
            (
                "core::ptr::drop_in_place<my_app::Repo::locked::{{closure}}>",
                "core::ptr::drop_in_place<my_app::Repo::locked>",
            ),
            (
                "core::fmt::num::imp::<impl core::fmt::Display for u64>::fmt",
                "core::fmt::num::imp::fmt",
            ),
            (
                "my_app::traits::<impl my_app::traits::Load for my_app::Repo>::load",
                "my_app::Repo::load",
            ),
            // v0 mangling.
            ("my_app::sleepy::{closure#0}", "my_app::sleepy"),
            (
                "<tokio::runtime::task::harness::Harness<my_app::sleepy::{closure#0}, \
                 alloc::sync::Arc<tokio::runtime::scheduler::multi_thread::handle::Handle>>>::poll",
                "tokio::runtime::task::harness::Harness::poll",
            ),
            (
                "tokio::runtime::task::raw::poll::<my_app::Hand, alloc::sync::Arc<u8>>",
                "tokio::runtime::task::raw::poll",
            ),
            (
                "<my_app::Repo>::locked::{closure#0}",
                "my_app::Repo::locked",
            ),
            (
                "<&mut my_app::Hand as core::future::future::Future>::poll",
                "my_app::Hand::poll",
            ),
            (
                "<dyn core::any::Any + core::marker::Send>::downcast::<fn() -> u8>",
                "core::any::Any::downcast",
            ),
            // Debug info without linkage names.
            ("{async_fn#0}", "{async_fn#0}"),
            ("my_app::sleepy::{async_fn_env#0}", "my_app::sleepy"),
            (
                "poll<my_app::main::{async_block_env#0}, alloc::sync::Arc<u8>>",
                "poll",
            ),
            // C, C++ and damage.
            ("__GI___clock_nanosleep", "clock_nanosleep"),
            ("epoll_wait", "epoll_wait"),
            ("operator<(int)", "operator<(int)"),
            (
                "std::ostream::operator<<(long)",
                "std::ostream::operator<<(long)",
            ),
            ("a::b>::c", "a::b>::c"),
            ("", ""),
        ] {
            assert_eq!(readable(raw), expected, "{raw}");
        }
    }

    #[test]
    fn crates_that_may_own_a_function() {
        for (raw, expected) in [
            ("my_app::run::{{closure}}", (Some("my_app"), None)),
            (
                "<my_app::Hand as core::future::future::Future>::poll",
                (Some("my_app"), Some("core")),
            ),
            (
                "<F as axum::handler::Handler<T>>::call",
                (None, Some("axum")),
            ),
            (
                "<&mut my_app::Hand as core::future::future::Future>::poll",
                (None, Some("core")),
            ),
            (
                "<alloc::vec::Vec<my_app::Id> as core::clone::Clone>::clone",
                (Some("alloc"), Some("core")),
            ),
            ("memcpy", (None, None)),
            ("", (None, None)),
        ] {
            assert_eq!(crates(raw), expected, "{raw}");
        }
    }

    #[test]
    fn the_future_inside_a_marker() {
        let of = |name| first_generic_argument(name);
        assert_eq!(
            of(
                "<tokio::runtime::task::harness::Harness<my_app::sleepy::{closure#0}, Arc<H>>>::poll"
            ),
            Some("my_app::sleepy".to_owned())
        );
        assert_eq!(
            of("tokio::runtime::task::raw::poll::<my_app::Hand, Arc<H>>"),
            Some("my_app::Hand".to_owned())
        );
        assert_eq!(
            of("tokio::runtime::task::harness::Harness<T,S>::poll"),
            None
        );
        assert_eq!(of("tokio::runtime::task::raw::poll"), None);
    }

    #[test]
    fn bare_names_are_placed_by_their_file() {
        assert_eq!(
            placed("poll<my_app::Hand, u8>", "tokio::runtime::task::raw", 337),
            "tokio::runtime::task::raw::poll"
        );
        assert_eq!(
            placed("{async_fn#0}", "my_app", 15),
            "my_app::{async fn at line 15}"
        );
        assert_eq!(
            placed("{closure_env#1}<u8>", "my_app::a", 3),
            "my_app::a::{closure at line 3}"
        );
        assert!(!is_qualified("poll<my_app::Hand, u8>") && is_qualified("my_app::run"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(__GI_)?[<>:(){}\\[\\]a-z_ T,&'é -]{0,80}") {
            prop_assert_eq!(is_blank(&readable(&text)), is_blank(&text));
            let _ = crates(&text);
            let _ = first_generic_argument(&text);
            prop_assert_ne!(placed(&text, "a", 1), "a::");
        }
    }
}
