//! From a stack to the code to look at first.
//!
//! A worker's stack has three parts: what the task did, the frames that poll the task, and the
//! worker's own loop. The culprit is the innermost function of the user's own code in the first
//! part. Works on named frames alone, so it is the same for live and replayed stacks.

use std::sync::Arc;

use super::aliases::known_as;
use super::{names, origin};
use crate::model::{Culprit, Frame, Name, Origin};
use crate::tokio::names::{is_poll_boundary, is_runtime_crate};

/// Paths whose functions only hand a call on.
const WRAPPERS: [&str; 27] = [
    "core::ops::function::",
    "core::future::",
    "core::pin::",
    "core::task::",
    "core::iter::",
    "core::option::",
    "core::result::",
    "core::cell::",
    "core::array::",
    "core::slice::iter::",
    "core::ops::try_trait::",
    "core::ops::control_flow::",
    "core::panic::unwind_safe::",
    "core::convert::",
    "core::mem::",
    "alloc::boxed::",
    "alloc::rc::",
    "alloc::sync::",
    "std::panic::",
    "std::panicking::",
    "std::thread::local::",
    "std::sys::backtrace::",
    "std::sys::pal::unix::cvt",
    "std::sync::once::",
    "std::sync::poison::once::",
    "std::sync::once_lock::",
    "std::sync::lazy_lock::",
];

/// Methods through which combinators and middleware pass a poll on.
const COMBINATOR_METHODS: [&str; 9] = [
    "poll",
    "try_poll",
    "call",
    "call_once",
    "call_mut",
    "with",
    "map",
    "next",
    "in_scope",
];

/// The code to look at first in a stack, leaf first, that held a worker. None if it has no frames.
pub fn culprit(stack: &[Arc<Frame>]) -> Option<Culprit> {
    let boundary = stack.iter().position(|frame| is_marker(frame));
    let poll = match boundary {
        // The whole poll is inlined into Tokio's own function, which is all there is to show.
        Some(0) => stack.get(..1)?,
        Some(boundary) => stack.get(..boundary)?,
        None => stack,
    };
    if let Some(at) = poll.iter().position(|frame| frame.origin == Origin::User) {
        return at_frame(poll, at);
    }
    // The compiler inlined the user's code into the frames that poll it: v0 mangling still names
    // the future there.
    let inside = poll
        .iter()
        .rposition(|frame| is_foreign(frame) && !is_wrapper(frame));
    if let Some(future) = stack
        .get(boundary.unwrap_or(stack.len())..)
        .and_then(polled_future)
    {
        return Some(Culprit {
            function: future.into(),
            calls: inside
                .and_then(|at| poll.get(at))
                .map(|frame| known_as(&frame.function).into()),
            location: None,
            chain: Vec::new(),
        });
    }
    let found = match boundary {
        Some(_) => inside.or_else(|| poll.iter().rposition(|frame| is_foreign(frame))),
        // Not even Tokio has names: a stripped executable. Its innermost code is all there is.
        None => stack
            .iter()
            .position(|frame| frame.origin == Origin::Unknown),
    };
    at_frame(poll, found.unwrap_or(0))
}

/// The culprit is this frame of the poll.
fn at_frame(poll: &[Arc<Frame>], at: usize) -> Option<Culprit> {
    let (below, rest) = poll.split_at_checked(at)?;
    let (frame, above) = rest.split_first()?;
    let own = matches!(frame.origin, Origin::User | Origin::Unknown);
    let function = match own {
        true => frame.function.clone(),
        false => known_as(&frame.function).into(),
    };
    let calls = own
        .then(|| called(below))
        .flatten()
        .filter(|calls| *calls != function);
    let mut chain: Vec<Name> = Vec::new();
    for caller in above.iter().filter(|frame| in_chain(frame)) {
        let name = &caller.function;
        if *name != function && chain.last() != Some(name) {
            chain.push(name.clone());
        }
    }
    Some(Culprit {
        function,
        calls,
        location: frame.location.clone(),
        chain,
    })
}

/// Which of the calls below the culprit tells most: the outermost that is not a wrapper, since it
/// is the one in the user's source. `std::io`'s generic methods say more than a bare `read`, and
/// less than whose reader it is.
fn called(below: &[Arc<Frame>]) -> Option<Name> {
    // What a page fault or a preemption put on top was not called.
    let entered = below
        .iter()
        .rposition(|frame| frame.origin == Origin::Kernel);
    let below = below.get(entered.map_or(0, |at| at + 1)..)?;
    let is_generic_io = |frame: &Frame| frame.function.starts_with("std::io::");
    let outermost = |wanted: &dyn Fn(&Frame) -> bool| below.iter().rev().find(|f| wanted(f));
    outermost(&|frame| !is_wrapper(frame) && !is_generic_io(frame) && frame.function.contains("::"))
        .or_else(|| outermost(&is_generic_io))
        .or_else(|| outermost(&|frame| !is_wrapper(frame)))
        .map(|frame| known_as(&frame.function).into())
}

fn is_marker(frame: &Frame) -> bool {
    frame.origin == Origin::Runtime && is_poll_boundary(&frame.function)
}

/// Code that is neither the user's nor the runtime's.
fn is_foreign(frame: &Frame) -> bool {
    matches!(frame.origin, Origin::ThirdParty | Origin::Std)
}

fn is_wrapper(frame: &Frame) -> bool {
    WRAPPERS
        .iter()
        .any(|prefix| frame.function.starts_with(prefix))
        // A name without path is debug info's for a function inlined from who knows where.
        || (frame.inlined && !frame.function.contains("::"))
}

/// Whether a caller belongs into the async chain: user code always, dependencies unless they only
/// pass the poll on.
fn in_chain(frame: &Frame) -> bool {
    match frame.origin {
        Origin::User => true,
        Origin::ThirdParty => {
            let method = frame.function.rsplit("::").next().unwrap_or_default();
            let combinator = method.starts_with("poll_") || COMBINATOR_METHODS.contains(&method);
            !combinator && !is_wrapper(frame)
        }
        _ => false,
    }
}

/// The user's future that the frames around the boundary were compiled for.
fn polled_future(frames: &[Arc<Frame>]) -> Option<String> {
    let marker = frames.first()?;
    let name = names::first_generic_argument(marker.raw.as_deref()?)?;
    let (krate, _) = name.split_once("::")?;
    (!origin::is_std(krate) && !is_runtime_crate(krate)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Location;
    use crate::tokio::names::poll_boundaries;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Frames from lines `ORIGIN NAME`, with `+` before the names of inlined ones.
    fn stack(text: &str) -> Vec<Arc<Frame>> {
        text.lines()
            .filter_map(|line| line.trim().split_once(' '))
            .map(|(origin, raw)| {
                let inlined = raw.starts_with('+');
                let raw = raw.trim_start_matches('+').trim();
                let function = names::readable(raw).into_owned();
                Arc::new(Frame {
                    raw: (function != raw).then(|| raw.to_owned()),
                    location: Some(Location {
                        file: function.as_str().into(),
                        line: 7,
                    }),
                    function: function.into(),
                    module: Some("my-app".into()),
                    origin: match origin {
                        "user" => Origin::User,
                        "dep" => Origin::ThirdParty,
                        "run" => Origin::Runtime,
                        "std" => Origin::Std,
                        "kernel" => Origin::Kernel,
                        _ => Origin::Unknown,
                    },
                    inlined,
                    address: None,
                })
            })
            .collect()
    }

    /// What is below every task of a multi_thread runtime.
    const WORKER: &str = "
        run tokio::runtime::scheduler::multi_thread::worker::Context::run_task
        run tokio::runtime::scheduler::multi_thread::worker::Context::run
        run tokio::runtime::context::scoped::Scoped<T>::set
        run tokio::runtime::scheduler::multi_thread::worker::run
        run <tokio::runtime::blocking::task::BlockingTask<T> as core::future::future::Future>::poll
        run tokio::runtime::task::raw::poll
        std std::sys::backtrace::__rust_begin_short_backtrace
        std start_thread
        std clone3";

    fn of(task: &str) -> Culprit {
        culprit(&stack(&format!("{task}{WORKER}"))).unwrap()
    }

    fn names_of(culprit: &Culprit) -> (&str, Option<&str>, Vec<&str>) {
        (
            &culprit.function,
            culprit.calls.as_deref(),
            culprit.chain.iter().map(Name::as_str).collect(),
        )
    }

    #[test]
    fn a_lock_without_debug_info() {
        let culprit = of("std syscall
            std std::sys::sync::mutex::futex::Mutex::lock_contended
            user my_app::main::{{closure}}::{{closure}}
            run tokio::runtime::task::core::Core<T,S>::poll
            run tokio::runtime::task::harness::Harness<T,S>::poll");
        assert_eq!(
            names_of(&culprit),
            ("my_app::main", Some("std::sync::Mutex::lock"), vec![])
        );
    }

    #[test]
    fn a_page_fault_is_not_a_call() {
        let culprit = of("kernel clear_page_erms
            kernel asm_exc_page_fault
            user my_app::fill
            run tokio::runtime::task::harness::Harness<T,S>::poll");
        assert_eq!(names_of(&culprit), ("my_app::fill", None, vec![]));
    }

    #[test]
    fn a_hash_with_the_whole_inlined_async_chain() {
        let culprit = of("dep +blowfish::Blowfish::round_function
            dep blowfish::Blowfish::encrypt
            dep bcrypt::bcrypt::bcrypt
            dep bcrypt::_hash_password
            dep +bcrypt::hash_with_result
            dep bcrypt::hash
            user +my_app::handle_hash::{{closure}}
            user +my_app::route::{{closure}}
            user my_app::main::{{closure}}::{{closure}}
            run +tokio::runtime::task::core::Core<T,S>::poll::{{closure}}
            run +tokio::loom::std::unsafe_cell::UnsafeCell<T>::with_mut
            run +tokio::runtime::task::core::Core<T,S>::poll
            std +std::panicking::catch_unwind
            run tokio::runtime::task::harness::Harness<T,S>::poll");
        assert_eq!(
            names_of(&culprit),
            (
                "my_app::handle_hash",
                Some("bcrypt::hash"),
                vec!["my_app::route", "my_app::main"]
            )
        );
        assert_eq!(culprit.location.map(|at| at.line), Some(7));
    }

    #[test]
    fn a_hand_written_future_that_waits_for_a_child() {
        let culprit = of("std __GI___poll
            std std::sys::process::unix::common::read_output
            std std::process::Command::output
            user <my_app::Hand as core::future::future::Future>::poll
            run tokio::runtime::task::core::Core<T,S>::poll");
        assert_eq!(
            names_of(&culprit),
            (
                "my_app::Hand::poll",
                Some("std::process::Command::output"),
                vec![]
            )
        );
    }

    #[test]
    fn wrappers_and_combinators_tell_nothing() {
        let culprit = of("std __GI___clock_nanosleep
            std +std::sys::thread::unix::sleep
            std std::thread::functions::sleep
            std +core::option::Option<T>::map
            user store::load::{{closure}}
            dep tower::util::MapFuture<S,F>::call
            dep hyper::server::conn::serve
            run futures_util::future::future::map::Map<Fut,F>::poll
            user store::load
            user my_app::handler::{{closure}}
            run tokio::runtime::task::core::Core<T,S>::poll");
        assert_eq!(
            names_of(&culprit),
            (
                "store::load",
                Some("std::thread::sleep"),
                vec!["hyper::server::conn::serve", "my_app::handler"]
            )
        );
    }

    #[test]
    fn whose_writer_it_is_says_more_than_that_it_writes() {
        let compress = |leaf| {
            of(&format!(
                "{leaf}
                std std::io::Write::write_all
                user my_app::compress
                dep hyper::proto::h1::dispatch::Dispatcher<D,Bs,I,T>::poll_catch
                dep axum::serve::handle_connection::{{{{closure}}}}
                run tokio::runtime::task::core::Core<T,S>::poll"
            ))
        };
        assert_eq!(
            names_of(&compress(
                "dep <flate2::gz::write::GzEncoder<W> as std::io::Write>::write"
            )),
            (
                "my_app::compress",
                Some("flate2::gz::write::GzEncoder::write"),
                vec!["axum::serve::handle_connection"]
            )
        );
        let to_file = compress("std write");
        assert_eq!(to_file.calls.as_deref(), Some("std::io::Write::write_all"));
    }

    #[test]
    fn v0_names_the_future_that_was_inlined_away() {
        let culprit = of("std __GI___clock_nanosleep
            std std::thread::functions::sleep
            run <tokio::runtime::task::core::Core<my_app::sleepy::{closure#0}, alloc::sync::Arc<u8>>>::poll");
        assert_eq!(
            names_of(&culprit),
            ("my_app::sleepy", Some("std::thread::sleep"), vec![])
        );
    }

    #[test]
    fn without_user_code_the_outermost_call_is_the_culprit() {
        let culprit = of("std __GI___clock_nanosleep
            std std::thread::functions::sleep
            run tokio::runtime::task::core::Core<T,S>::poll
            run tokio::runtime::task::harness::Harness<T,S>::poll");
        assert_eq!(names_of(&culprit), ("std::thread::sleep", None, vec![]));
    }

    #[test]
    fn the_root_future_of_a_current_thread_runtime() {
        let culprit = culprit(&stack(
            "std __GI___clock_nanosleep
            std std::thread::functions::sleep
            user my_app::main::{{closure}}
            run tokio::runtime::scheduler::current_thread::CoreGuard::block_on
            run tokio::runtime::runtime::Runtime::block_on
            user my_app::main
            std main",
        ))
        .unwrap();
        assert_eq!(
            names_of(&culprit),
            ("my_app::main", Some("std::thread::sleep"), vec![])
        );
    }

    #[test]
    fn a_stripped_executable_gives_its_innermost_code() {
        let culprit = culprit(&stack(
            "std __GI___clock_nanosleep
            none my-app+0x4f1f
            none my-app+0x9a10
            std start_thread
            std clone3",
        ))
        .unwrap();
        assert_eq!(
            names_of(&culprit),
            ("my-app+0x4f1f", Some("clock_nanosleep"), vec![])
        );
        assert_eq!(super::culprit(&[]), None);
    }

    #[test]
    fn a_poll_inlined_into_tokio_still_has_a_name() {
        let culprit = of("run tokio::runtime::task::core::Core<T,S>::poll
            run tokio::runtime::task::harness::Harness<T,S>::poll");
        let leaf = "tokio::runtime::task::core::Core::poll";
        assert_eq!(names_of(&culprit), (leaf, None, vec![]));
    }

    fn any_frame() -> impl Strategy<Value = String> {
        let runtime: Vec<&str> = poll_boundaries().collect();
        prop_oneof![
            select(runtime).prop_map(|function| format!("run {function}")),
            select(&WRAPPERS[..]).prop_map(|prefix| format!("std +{prefix}inner")),
            "user my_app::[a-c](::\\{\\{closure\\}\\})?",
            "(dep|std|run) [+]?(hyper::[a-c]::)?(poll|call|read)(<T,S>)?",
            "(none|kernel) my-app[+]0x[0-9]{3}",
        ]
    }

    proptest! {
        #[test]
        fn every_stack_with_a_frame_has_a_named_culprit(lines in vec(any_frame(), 0..12)) {
            let stack = stack(&lines.join("\n"));
            let culprit = super::culprit(&stack);
            prop_assert_eq!(culprit.is_some(), !stack.is_empty());
            let calls = culprit.iter().flat_map(|culprit| &culprit.calls);
            let chain = culprit.iter().flat_map(|culprit| &culprit.chain);
            for name in culprit.iter().map(|culprit| &culprit.function).chain(calls).chain(chain) {
                prop_assert!(name.contains(|c: char| c.is_ascii_alphabetic()), "{name}");
            }
        }
    }
}
