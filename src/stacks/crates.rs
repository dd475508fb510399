//! Crates by name: those of the compiler, those of the runtime, and well-known dependencies.

use crate::tokio::names::is_runtime_crate;

/// Crates that come with the compiler.
const STD_CRATES: [&str; 10] = [
    "std",
    "core",
    "alloc",
    "proc_macro",
    "test",
    "std_detect",
    "panic_unwind",
    "panic_abort",
    "compiler_builtins",
    "rustc_demangle",
];

/// Dependencies so common that their name is enough: a crate that cannot panic leaves no trace of
/// its origin in the binary.
const COMMON_CRATES: &str = include_str!("common_crates.txt");

/// Whether the crate comes with the compiler.
pub fn is_std(name: &str) -> bool {
    STD_CRATES.contains(&name)
}

/// Whether the crate is a well-known dependency.
pub fn is_common(name: &str) -> bool {
    COMMON_CRATES
        .split_ascii_whitespace()
        .any(|common| common == name)
}

/// Whether the crate may be the application's own, as far as its name tells.
pub fn may_be_own(name: &str) -> bool {
    !is_std(name) && !is_runtime_crate(name) && !is_common(name)
}
