//! Culprits of stacks as real programs have them.

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
                uncertain: false,
                address: None,
            })
        })
        .collect()
}

#[test]
fn a_root_future_inlined_into_block_on_is_named_after_its_caller() {
    let stack = stack(
        "std clock_nanosleep
         std std::thread::sleep
         run tokio::runtime::park::CachedParkThread::block_on
         run tokio::runtime::context::runtime::enter_runtime
         user app::main
         std std::rt::lang_start",
    );
    let culprit = culprit(&stack).unwrap();
    assert_eq!(&*culprit.function, "app::main");
    assert_eq!(culprit.calls.as_deref(), Some("std::thread::sleep"));
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

#[test]
fn a_task_that_ends_drops_its_future_and_its_output() {
    // Aborted, or done and not joined: legacy mangling names the type that is dropped.
    let culprit = of("std free
        std core::ptr::drop_in_place<my_app::Node>
        std core::ptr::drop_in_place<[my_app::Node]>
        std core::ptr::drop_in_place<tokio::runtime::task::core::Stage<my_app::load::{{closure}}>>
        run tokio::runtime::task::core::Core<T,S>::set_stage
        run tokio::runtime::task::harness::poll_future");
    let expected = ("drop of my_app::load", Some("drop of my_app::Node"), vec![]);
    assert_eq!(names_of(&culprit), expected);
    // v0 names it even where the drop is inlined.
    let core = "tokio::runtime::task::core::Core<my_app::load::{closure#0}, u8>";
    let culprit = of(&format!(
        "std free
        dep hashbrown::raw::RawTable<T>::drop
        run <{core}>::set_stage
        run <{core}>::poll"
    ));
    let expected = (
        "drop of my_app::load",
        Some("drop of hashbrown::raw::RawTable"),
        vec![],
    );
    assert_eq!(names_of(&culprit), expected);
}

#[test]
fn values_dropped_in_own_code_are_what_it_calls() {
    let scope_end = of("std free
        std +alloc::raw_vec::RawVec<T>::drop
        std core::ptr::drop_in_place<alloc::vec::Vec<u8>>
        std core::ptr::drop_in_place<alloc::vec::Vec<my_app::Node>>
        user my_app::load::{{closure}}
        run tokio::runtime::task::core::Core<T,S>::poll");
    assert_eq!(
        names_of(&scope_end),
        ("my_app::load", Some("drop of my_app::Node"), vec![])
    );
    let join_handle = "tokio::runtime::task::join::JoinHandle<my_app::Reply>";
    let handle = of(&format!(
        "std free
        std core::ptr::drop_in_place<tokio::runtime::task::core::Stage<my_app::load::{{{{closure}}}}>>
        run tokio::runtime::task::core::Core<T,S>::drop_future_or_output
        run tokio::runtime::task::harness::Harness<T,S>::drop_join_handle_slow
        std core::ptr::drop_in_place<{join_handle}>
        user my_app::serve::{{{{closure}}}}
        run tokio::runtime::task::core::Core<T,S>::poll"
    ));
    assert_eq!(
        names_of(&handle),
        ("my_app::serve", Some("drop of my_app::load"), vec![])
    );
}

/// What passes a poll or an iteration on is no answer, with debug info or without.
#[test]
fn callees_are_the_same_with_and_without_debug_info() {
    for (with, without, function, calls) in [
        (
            "dep dashmap::lock::RawRwLock::lock_exclusive_slow
            dep +dashmap::lock::RawRwLock::lock_exclusive
            dep dashmap::DashMap<K,V,S>::_insert
            dep +dashmap::DashMap<K,V,S>::insert
            user +my_app::watch::{{closure}}
            run <tokio::future::maybe_done::MaybeDone<Fut> as core::future::Future>::poll
            user my_app::serve::{{closure}}",
            "dep dashmap::lock::RawRwLock::lock_exclusive_slow
            dep dashmap::DashMap<K,V,S>::_insert
            run <tokio::future::maybe_done::MaybeDone<my_app::watch::{closure#0}> as core::future::Future>::poll
            user my_app::serve::{closure#0}",
            "my_app::watch",
            "dashmap::DashMap::insert",
        ),
        (
            "std syscall
            std +std::sys::sync::mutex::futex::Mutex::lock
            run tokio::runtime::blocking::pool::Spawner::spawn_task
            run tokio::runtime::blocking::pool::Spawner::spawn_blocking
            run +tokio::task::blocking::spawn_blocking
            user +my_app::submit::{{closure}}::{{closure}}
            std +core::iter::adapters::map::Map<I,F>::fold
            std <alloc::vec::Vec<T> as alloc::vec::spec_from_iter::SpecFromIter<T,I>>::from_iter
            user my_app::submit::{{closure}}",
            "std syscall
            run tokio::runtime::blocking::pool::Spawner::spawn_task
            run tokio::runtime::blocking::pool::Spawner::spawn_blocking
            std <alloc::vec::Vec<T> as alloc::vec::spec_from_iter::SpecFromIter<T,I>>::from_iter
            user my_app::submit::{{closure}}",
            "my_app::submit",
            "tokio::task::spawn_blocking",
        ),
        (
            "std __GI___libc_write
            std +std::sys::stdio::unix::Stdout::write
            std core::fmt::write
            std +std::io::stdio::Stdout::write_fmt
            std std::io::stdio::_print
            user +my_app::greet
            run <tracing::instrument::Instrumented<T> as core::future::Future>::poll
            user my_app::serve::{{closure}}",
            "std __GI___libc_write
            std core::fmt::write
            std std::io::stdio::_print
            run <tracing::instrument::Instrumented<my_app::greet::{closure#0}> as core::future::Future>::poll
            user my_app::serve::{closure#0}",
            "my_app::greet",
            "println!",
        ),
        (
            "std cfree
            std +alloc::alloc::dealloc
            std +alloc::raw_vec::RawVec<T>::drop
            std +core::ptr::drop_in_place<alloc::vec::Vec<u8>>
            user my_app::load::{{closure}}",
            "std cfree
            user my_app::load::{{closure}}",
            "my_app::load",
            "cfree",
        ),
    ] {
        for stack in [with, without] {
            let marker = "run tokio::runtime::task::core::Core<T,S>::poll";
            let culprit = of(&format!("{stack}\n{marker}"));
            let found = (culprit.function.as_str(), culprit.calls.as_deref());
            assert_eq!(found, (function, Some(calls)), "{stack}");
        }
    }
}

fn any_frame() -> impl Strategy<Value = String> {
    let runtime: Vec<&str> = poll_boundaries().collect();
    prop_oneof![
        select(runtime).prop_map(|function| format!("run {function}")),
        select(vec![
            "core::ops::function::",
            "alloc::boxed::",
            "std::panicking::"
        ])
        .prop_map(|prefix| format!("std +{prefix}inner")),
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
