//! Readable names of real functions.

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

/// Symbols of programs built with Rust 1.95, with legacy and with v0 mangling.
#[test]
fn symbols_name_what_is_dropped_and_what_is_inlined() {
    let demangle = |symbol: &str| format!("{:#}", rustc_demangle::demangle(symbol));
    for (symbol, dropped_type) in [
        (
            "_ZN4core3ptr105drop_in_place$LT$tokio..runtime..task..core..Stage$LT$names..hoarder\
             ..$u7b$$u7b$closure$u7d$$u7d$$GT$$GT$17hc9d95876d372d27aE.llvm.1331493099677921686",
            "names::hoarder",
        ),
        (
            "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeINtNtNtNtCsg1uPD5dbFKM_5tokio7runtime\
             4task4core9CoreStageNCNvCslq8dCPcfYR3_5names11make_result0EEB1F_",
            "names::make_result",
        ),
        (
            "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeINtNtB4_6result6ResultINtNtCslNYArtu3iFV_\
             5alloc3vec3VecNtCslq8dCPcfYR3_5names4NodeENtNtNtNtCsg1uPD5dbFKM_5tokio7runtime4task5\
             error9JoinErrorEEB1B_.llvm.7562512926705573794",
            "names::Node",
        ),
        (
            "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeINtNtCslNYArtu3iFV_5alloc5boxed3BoxINtNt\
             NtNtCsg1uPD5dbFKM_5tokio7runtime4task4core4CellNCNvCslq8dCPcfYR3_5names7hoarder0INtNt\
             BL_4sync3ArcNtNtNtNtB1m_9scheduler12multi_thread6handle6HandleEEEEB29_",
            "names::hoarder",
        ),
        (
            "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeNCINvNtNtCsg1uPD5dbFKM_5tokio4task5spawn\
             11spawn_innerNCNvCslq8dCPcfYR3_5names7hoarder0E0EB1B_.llvm.2292390150815275063",
            "names::hoarder",
        ),
    ] {
        let name = demangle(symbol);
        let readable = readable(&name);
        assert_eq!(dropped(&readable), Some(dropped_type), "{name}");
    }
    // A job of the blocking pool, by the closure that it runs.
    let set_stage = demangle(
        "_RNvMs4_NtNtNtCsg1uPD5dbFKM_5tokio7runtime4task4coreINtB5_4CoreINtNtNtB9_8blocking4task12\
         BlockingTaskNCNCNCNvNtCs7aIDFs7XE9d_5cases10shortlocks13submit_lookup000ENtNtB13_8schedule\
         16BlockingScheduleE9set_stageB1K_",
    );
    let job = Some("cases::shortlocks::submit_lookup".to_owned());
    assert_eq!(own_argument(&set_stage), job);
    assert_eq!(own_closure(&set_stage), job);
    let legacy = demangle(
        "_ZN136_$LT$std..collections..hash..map..HashMap$LT$K$C$V$C$S$GT$$u20$as$u20$core..iter..\
         traits..collect..FromIterator$LT$$LP$K$C$V$RP$$GT$$GT$9from_iter17h43bb3a8ba4808826E",
    );
    assert_eq!(
        readable(&legacy),
        "std::collections::hash::map::HashMap::from_iter"
    );
    assert_eq!(own_argument(&legacy), None);
}

#[test]
fn a_handle_does_not_drop_what_it_refers_to() {
    for (name, dropped_type) in [
        (
            "core::ptr::drop_in_place<tokio::runtime::task::join::JoinHandle<my_app::Node>>",
            Some("tokio::runtime::task::join::JoinHandle"),
        ),
        (
            "<my_app::Guard as core::ops::drop::Drop>::drop",
            Some("my_app::Guard"),
        ),
        ("core::mem::drop::<my_app::Guard>", None),
        ("core::ptr::drop_in_place", None),
    ] {
        assert_eq!(dropped(&readable(name)), dropped_type, "{name}");
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
    let of = |name: &str| own_argument(name);
    let core = "tokio::runtime::task::core::Core";
    let sleepy = Some("my_app::sleepy".to_owned());
    assert_eq!(
        of(&format!(
            "<{core}<my_app::sleepy::{{closure#0}}, Arc<H>>>::poll"
        )),
        sleepy
    );
    let traced = "tracing::instrument::Instrumented<my_app::sleepy::{async_fn_env#0}>";
    assert_eq!(of(&format!("<{core}<{traced}, Arc<H>>>::poll")), sleepy);
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
        let _ = own_argument(&text);
        let _ = own_closure(&text);
        prop_assert_ne!(placed(&text, "a", 1), "a::");
    }
}
