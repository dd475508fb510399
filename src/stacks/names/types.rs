//! Types inside demangled names: their crates, and the types they carry as arguments.

use super::path::{enclosed, list, path_crate, segments, split_at, strip_indirection};

/// Types nested deeper than this are not written by people.
const MAX_DEPTH: usize = 16;

/// A type parameter as legacy mangling prints it: `T`, `F`, `Fut`.
pub(super) fn is_parameter(ty: &str) -> bool {
    let ty = strip_indirection(ty);
    ty.starts_with(|first: char| first.is_ascii_uppercase())
        && ty.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Crate of a type. References, tuples, slices and parameters belong to no crate of their own.
pub(super) fn crate_of(ty: &str) -> Option<&str> {
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

/// The first type, from the outside in, that is accepted: `my_app::Node` of
/// `Option<Arc<[my_app::Node]>>` if only types of `my_app` are.
pub(super) fn find<'a>(ty: &'a str, accepts: &dyn Fn(&str) -> bool) -> Option<&'a str> {
    find_nested(ty, accepts, 0)
}

/// The first such type among the arguments that a function's name carries.
pub(super) fn find_argument<'a>(name: &'a str, accepts: &dyn Fn(&str) -> bool) -> Option<&'a str> {
    let arguments = segments(name)?.into_iter().enumerate();
    let mut arguments = arguments.flat_map(|(index, segment)| {
        // Of `<A as B>::f` and `<A>::f`, whose own type is A.
        let of_self = enclosed(segment).filter(|_| index == 0);
        match of_self {
            Some(inner) => arguments_of(self_type(inner)),
            None => arguments_of(segment),
        }
    });
    arguments.find_map(|ty| find_nested(ty, accepts, 1))
}

fn find_nested<'a>(ty: &'a str, accepts: &dyn Fn(&str) -> bool, depth: usize) -> Option<&'a str> {
    if depth > MAX_DEPTH {
        return None;
    }
    let ty = strip_indirection(ty);
    // Of `dyn A + B` the first says most.
    let ty = split_at(ty, " + ").map_or(ty, |(first, _)| first);
    if let Some(inner) = inside(ty, '(', ')').or_else(|| inside(ty, '[', ']')) {
        // `[T; 4]` is an array.
        let inner = split_at(inner, ";").map_or(inner, |(ty, _)| ty);
        return list(inner).find_map(|ty| find_nested(ty, accepts, depth + 1));
    }
    if accepts(ty) {
        return Some(ty);
    }
    let segments = segments(ty)?.into_iter().enumerate();
    let mut arguments = segments.flat_map(|(index, segment)| {
        let of_self = enclosed(segment).filter(|_| index == 0);
        of_self.map_or_else(|| arguments_of(segment), |inner| vec![self_type(inner)])
    });
    arguments.find_map(|ty| find_nested(ty, accepts, depth + 1))
}

/// The generic arguments of a segment: `[A, B]` of `Pair<A, B>` and of `<A, B>`.
fn arguments_of(segment: &str) -> Vec<&str> {
    let open = segment.find('<');
    let inner = open.and_then(|open| segment.get(open..)).and_then(enclosed);
    let arguments = inner.into_iter().flat_map(list);
    // `Output = T` binds an associated type.
    let ty = |argument| split_at(argument, " = ").map_or(argument, |(_, ty)| ty);
    arguments.map(ty).collect()
}

/// The type of `A as B`.
fn self_type(inner: &str) -> &str {
    split_at(inner, " as ").map_or(inner, |(ty, _)| ty)
}

fn inside(ty: &str, open: char, close: char) -> Option<&str> {
    ty.strip_prefix(open)?.strip_suffix(close)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own(ty: &str) -> bool {
        crate_of(ty) == Some("my_app")
    }

    #[test]
    fn the_first_type_of_the_application_is_found() {
        for (ty, expected) in [
            ("my_app::Hand", Some("my_app::Hand")),
            (
                "tokio::runtime::task::core::Stage<my_app::run::{{closure}}>",
                Some("my_app::run::{{closure}}"),
            ),
            (
                "core::result::Result<(u8, &mut [my_app::Node; 4]), alloc::string::String>",
                Some("my_app::Node"),
            ),
            (
                "alloc::boxed::Box<dyn core::future::Future<Output = my_app::Reply> + Send>",
                Some("my_app::Reply"),
            ),
            (
                "std::collections::HashMap<u64, alloc::vec::Vec<dyn my_app::Load>>",
                Some("my_app::Load"),
            ),
            (
                "alloc::vec::Vec<<my_app::Hand as core::future::Future>::Output>",
                Some("<my_app::Hand as core::future::Future>::Output"),
            ),
            ("alloc::vec::Vec<u8>", None),
            ("fn(u8) -> u8", None),
            ("T", None),
        ] {
            assert_eq!(find(ty, &own), expected, "{ty}");
        }
    }

    #[test]
    fn arguments_of_functions_are_searched_and_their_own_type_is_not() {
        for (name, expected) in [
            (
                "<tokio::runtime::task::core::Core<my_app::run::{closure#0}, H>>::poll",
                Some("my_app::run::{closure#0}"),
            ),
            (
                "tokio::runtime::task::raw::poll::<my_app::Hand, alloc::sync::Arc<u8>>",
                Some("my_app::Hand"),
            ),
            (
                "<futures_util::MaybeDone<my_app::Hand> as core::future::Future>::poll",
                Some("my_app::Hand"),
            ),
            ("<my_app::Hand as core::future::Future>::poll", None),
            ("my_app::run::<u8>", None),
            ("tokio::runtime::task::harness::Harness<T,S>::poll", None),
        ] {
            assert_eq!(find_argument(name, &own), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[<>:(){}\\[\\];a-z_ T,&'é =-]{0,80}") {
            let _ = find(&text, &|_| false);
            let _ = find_argument(&text, &|ty| ty == "a::a");
        }
    }
}
