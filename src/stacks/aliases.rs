//! Public names of internal functions.
//!
//! The stack of `std::sync::Mutex::lock` shows `std::sys::sync::mutex::futex::Mutex::lock_contended`,
//! which no one calls.

use super::names::dropped;
use crate::tokio::names::PUBLIC_FUNCTIONS;

/// Internal functions of std and of common crates, by the start of their path, and the public
/// function that people call. Longer paths first where one contains the other.
const KNOWN_AS: [(&str, &str); 58] = [
    ("std::sys::sync::mutex::", "std::sync::Mutex::lock"),
    ("std::sync::mutex::Mutex::lock", "std::sync::Mutex::lock"),
    ("std::sync::mutex::futex::", "std::sync::Mutex::lock"),
    ("std::sync::poison::mutex::", "std::sync::Mutex::lock"),
    (
        "std::sys::sync::rwlock::futex::RwLock::read",
        "std::sync::RwLock::read",
    ),
    (
        "std::sys::sync::rwlock::futex::RwLock::write",
        "std::sync::RwLock::write",
    ),
    (
        "std::sync::poison::rwlock::RwLock::read",
        "std::sync::RwLock::read",
    ),
    (
        "std::sync::poison::rwlock::RwLock::write",
        "std::sync::RwLock::write",
    ),
    ("std::sync::poison::rwlock::read", "std::sync::RwLock::read"),
    (
        "std::sync::poison::rwlock::write",
        "std::sync::RwLock::write",
    ),
    ("std::sys::sync::condvar::", "std::sync::Condvar::wait"),
    ("std::sync::poison::condvar::", "std::sync::Condvar::wait"),
    ("std::sys::sync::once::", "std::sync::Once::call_once"),
    ("std::sync::mpmc::", "std::sync::mpsc::Receiver::recv"),
    (
        "std::sync::barrier::Barrier::wait",
        "std::sync::Barrier::wait",
    ),
    ("std::thread::functions::sleep", "std::thread::sleep"),
    ("std::sys::thread::unix::sleep", "std::thread::sleep"),
    (
        "std::sys::pal::unix::thread::Thread::sleep",
        "std::thread::sleep",
    ),
    (
        "std::sys::thread::unix::Thread::join",
        "std::thread::JoinHandle::join",
    ),
    (
        "std::thread::lifecycle::JoinInner::join",
        "std::thread::JoinHandle::join",
    ),
    (
        "std::thread::JoinInner::join",
        "std::thread::JoinHandle::join",
    ),
    ("std::thread::functions::park", "std::thread::park"),
    (
        "std::net::socket_addr::",
        "std::net::ToSocketAddrs::to_socket_addrs",
    ),
    (
        "(&str, u16)::to_socket_addrs",
        "std::net::ToSocketAddrs::to_socket_addrs",
    ),
    (
        "(alloc::string::String, u16)::to_socket_addrs",
        "std::net::ToSocketAddrs::to_socket_addrs",
    ),
    ("std::net::tcp::", "std::net::TcpStream::"),
    // The compiler merges these with TcpStream's: only the method is certain.
    (
        "std::net::udp::UdpSocket::recv_from",
        "std::net::UdpSocket::recv_from",
    ),
    ("std::net::udp::UdpSocket::recv", "recv"),
    (
        "std::net::udp::UdpSocket::send_to",
        "std::net::UdpSocket::send_to",
    ),
    ("std::net::udp::UdpSocket::send", "send"),
    ("std::net::udp::", "std::net::UdpSocket::"),
    // Pipes use the same function as files.
    (
        "std::sys::fs::unix::File::read_at",
        "std::fs::File::read_at",
    ),
    ("std::sys::fs::unix::File::read", "std::io::Read::read"),
    (
        "std::sys::fs::unix::File::write_at",
        "std::fs::File::write_at",
    ),
    ("std::sys::fs::unix::File::write", "std::io::Write::write"),
    ("std::sys::fs::unix::File::", "std::fs::File::"),
    ("std::sys::fs::", "std::fs::"),
    (
        "parking_lot::raw_mutex::RawMutex::",
        "parking_lot::Mutex::lock",
    ),
    (
        "parking_lot::raw_rwlock::RawRwLock::lock_shared",
        "parking_lot::RwLock::read",
    ),
    (
        "parking_lot::raw_rwlock::RawRwLock::lock_exclusive",
        "parking_lot::RwLock::write",
    ),
    ("bcrypt::_hash_password", "bcrypt::hash"),
    ("std::io::stdio::_print", "println!"),
    ("std::io::stdio::_eprint", "eprintln!"),
    ("alloc::fmt::format", "format!"),
    ("core::fmt::write", "write!"),
    ("alloc::vec::from_elem", "vec!"),
    ("core::slice::sort::stable::", "slice::sort"),
    ("core::slice::sort::unstable::", "slice::sort_unstable"),
    ("core::slice::sort_unstable", "slice::sort_unstable"),
    ("alloc::slice::stable_sort", "slice::sort"),
    ("alloc::slice::sort", "slice::sort"),
    // glibc's internal names, and those of variants by processor.
    ("libc_malloc", "malloc"),
    ("libc_calloc", "calloc"),
    ("libc_realloc", "realloc"),
    ("libc_free", "free"),
    ("__memset_", "memset"),
    ("__memcpy_", "memcpy"),
    ("__memmove_", "memmove"),
];

/// What people call the drop of a value.
pub fn drop_of(ty: &str) -> String {
    format!("drop of {ty}")
}

/// The public name of a function.
pub fn known_as(function: &str) -> String {
    if let Some(ty) = dropped(function) {
        return drop_of(ty);
    }
    let Some((inner, public)) = KNOWN_AS
        .iter()
        .chain(&PUBLIC_FUNCTIONS)
        .find(|(inner, _)| function.starts_with(inner))
    else {
        return plain(function);
    };
    if !public.ends_with("::") {
        return (*public).to_owned();
    }
    let rest = function.get(inner.len()..).unwrap_or_default();
    let method = rest.rsplit("::").next().unwrap_or(rest);
    format!("{public}{method}")
}

/// `std::fs::read` for `std::fs::read::inner`, `dashmap::DashMap::insert` for `...::_insert`.
fn plain(function: &str) -> String {
    if let Some(outer) = function.strip_suffix("::inner") {
        return outer.to_owned();
    }
    match function.rsplit_once("::_") {
        Some((path, method)) if !method.starts_with('_') && !method.is_empty() => {
            format!("{path}::{method}")
        }
        _ => function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_functions_have_public_names() {
        for (inner, expected) in [
            (
                "std::sys::sync::rwlock::futex::RwLock::read_contended",
                "std::sync::RwLock::read",
            ),
            (
                "std::sync::mpmc::list::Channel::recv",
                "std::sync::mpsc::Receiver::recv",
            ),
            (
                "std::sys::fs::unix::File::read_at",
                "std::fs::File::read_at",
            ),
            ("std::sys::fs::unix::File::read", "std::io::Read::read"),
            ("std::sys::fs::unix::File::fsync", "std::fs::File::fsync"),
            (
                "std::net::tcp::TcpStream::connect",
                "std::net::TcpStream::connect",
            ),
            ("std::net::udp::UdpSocket::recv", "recv"),
            ("std::fs::read::inner", "std::fs::read"),
            ("bcrypt::hash", "bcrypt::hash"),
            ("alloc::fmt::format::format_inner", "format!"),
            ("dashmap::DashMap::_insert", "dashmap::DashMap::insert"),
            (
                "hashbrown::raw::RawTable::drop",
                "drop of hashbrown::raw::RawTable",
            ),
            ("core::mem::drop", "core::mem::drop"),
            (
                "tokio::runtime::blocking::pool::Spawner::spawn_task",
                "tokio::task::spawn_blocking",
            ),
            (
                "core::ptr::drop_in_place<my_app::Node>",
                "drop of my_app::Node",
            ),
            ("__memset_avx512_unaligned_erms", "memset"),
        ] {
            assert_eq!(known_as(inner), expected);
        }
    }
}
