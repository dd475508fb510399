//! Readable function names: what a Rust programmer would call the function.
//!
//! Compilers name closures, async state machines, trait impls and every generic argument; people
//! name the function they wrote. Works on text alone, so it serves legacy and v0 symbols and the bare
//! names of debug info alike. Names it does not understand (C++ operators, invalid ones) stay as they
//! are.

mod path;
mod types;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::path::{enclosed, path_crate, plain_segment, segments, split_at, strip_indirection};
use self::types::{crate_of, is_parameter};
use super::crates::{is_std, may_be_own};
use crate::tokio::names::{JOIN_HANDLE, is_runtime_crate};

/// Names nested deeper than this are not simplified.
const MAX_DEPTH: usize = 16;

/// What the compiler calls the function that drops a value.
const DROP: &str = "drop_in_place";

/// The readable form of a demangled name: `my_app::handler` for `my_app::handler::{{closure}}`,
/// `core::pin::Pin::poll` for `<core::pin::Pin<P> as core::future::future::Future>::poll`. Blank only
/// if the name is.
pub fn readable(demangled: &str) -> Cow<'_, str> {
    // glibc's internal aliases of its public functions: `__GI___poll`.
    if let Some(alias) = demangled.strip_prefix("__GI_") {
        let public = alias.trim_start_matches('_');
        return Cow::Borrowed(if is_blank(public) { demangled } else { public });
    }
    match simplify(strip_hash(demangled), 0) {
        Some(simple) if !is_blank(&simple) && simple != demangled => Cow::Owned(simple),
        _ => Cow::Borrowed(demangled),
    }
}

/// The readable form of an unqualified name, as line tables alone give it for inlined calls: the
/// module of its file replaces its path. Names that the compiler made up get their line, so that two
/// async functions of one file stay distinct.
pub fn placed(bare: &str, module_path: &str, line: u32) -> String {
    if bare.starts_with(DROP)
        && let Some(simple) = simplify(bare, 0)
    {
        return format!("{module_path}::{simple}");
    }
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
        return match split_at(inner, " as ") {
            Some((ty, of_trait)) => (crate_of(ty), crate_of(of_trait)),
            None => (crate_of(inner), None),
        };
    }
    if first == name {
        // A single segment is a C function or an unqualified name.
        return (None, None);
    }
    (path_crate(first), None)
}

/// The first type of the application among the arguments of a function's name, readable: the future
/// that a `Harness<F, S>::poll` was compiled for. Legacy mangling keeps no arguments.
pub fn own_argument(demangled: &str) -> Option<String> {
    find_argument(demangled, &is_own_type)
}

/// The same for the first closure or async block, which is code and not only data.
pub fn own_closure(demangled: &str) -> Option<String> {
    find_argument(demangled, &|ty| is_own_type(ty) && is_closure(ty))
}

/// Whether the type may be the application's own.
pub fn is_own_type(ty: &str) -> bool {
    crate_of(ty).is_some_and(may_be_own)
}

fn find_argument(demangled: &str, accepts: &dyn Fn(&str) -> bool) -> Option<String> {
    let ty = types::find_argument(strip_hash(demangled), accepts)?;
    simplify_type(ty, 0).filter(|simple| !is_blank(simple))
}

/// `my_app::run::{closure#0}`, `my_app::run::{{closure}}`, `my_app::run::{async_fn_env#0}<T>`.
fn is_closure(ty: &str) -> bool {
    let last = segments(ty).and_then(|list| list.into_iter().next_back());
    last.is_some_and(|segment| segment.starts_with('{'))
}

/// The type that the function of this readable name drops: `core::ptr::drop_in_place<T>` and `T::drop`.
pub fn dropped(readable: &str) -> Option<&str> {
    if let Some(ty) = readable.strip_suffix("::drop") {
        let name = ty.rsplit("::").next().unwrap_or_default();
        // `core::mem::drop` is no method.
        return name.starts_with(char::is_uppercase).then_some(ty);
    }
    let glue = readable.strip_prefix("core::ptr::")?;
    glue.strip_prefix(DROP).and_then(enclosed)
}

/// Whether the type is neither std's nor the runtime's.
pub fn is_foreign_type(ty: &str) -> bool {
    crate_of(ty).is_some_and(|krate| !is_std(krate) && !is_runtime_crate(krate))
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
                // more than the module of the impl, unless it is a parameter.
                let of_type = split_at(of_type, " for ").map_or(of_type, |(_, ty)| ty);
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
        if plain == DROP {
            let ty = segment
                .strip_prefix(plain)
                .filter(|rest| !rest.is_empty())
                .or_else(|| list.get(index + 1).copied())
                .and_then(enclosed)
                .and_then(|ty| simplify_dropped(ty, depth + 1));
            path.extend(ty.map(|ty| format!("<{ty}>")));
            return Some(path);
        }
    }
    Some(path)
}

/// The type that tells what a drop is about, in whatever `Option`, `Arc` or task it lies: the first
/// of the application, else of a dependency, else the whole type.
fn simplify_dropped(ty: &str, depth: usize) -> Option<String> {
    // A handle only refers to the task whose output it names.
    let telling = match ty.starts_with(JOIN_HANDLE) {
        true => None,
        false => types::find(ty, &is_own_type).or_else(|| types::find(ty, &is_foreign_type)),
    };
    simplify_type(telling.unwrap_or(ty), depth)
}

/// `A as B` or `A`: the type, or the trait where the type is only a parameter.
fn simplify_qualified(inner: &str, depth: usize) -> Option<String> {
    match split_at(inner, " as ") {
        Some((ty, of_trait)) if is_parameter(ty) => simplify_type(of_trait, depth),
        Some((ty, _)) => simplify_type(ty, depth),
        None => {
            let inner = inner.strip_prefix("impl ").unwrap_or(inner);
            let ty = split_at(inner, " for ").map_or(inner, |(_, ty)| ty);
            simplify_type(ty, depth)
        }
    }
}

fn simplify_type(ty: &str, depth: usize) -> Option<String> {
    let ty = strip_indirection(ty);
    let ty = split_at(ty, " + ").map_or(ty, |(first, _)| first);
    match ty.as_bytes().first()? {
        b'(' | b'[' => Some(ty.to_owned()),
        _ if ty.starts_with("fn(") || ty.starts_with("unsafe ") || ty.starts_with("extern ") => {
            Some(ty.to_owned())
        }
        _ => simplify(ty, depth),
    }
}
