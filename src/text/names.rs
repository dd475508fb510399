//! Threads, workers, tasks, code and causes as text. None of these texts is ever blank.

use crate::model::{Cause, Location, Role, Worker};

use super::shorten::PLAIN_ARROW;
use super::width::width;

/// A thread's `comm` as the kernel keeps it: the bytes up to the first 0.
pub fn comm(bytes: &[i8]) -> String {
    let bytes: Vec<u8> = bytes
        .iter()
        .map(|&byte| byte as u8)
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A thread by its name and id: `pool-1 (4711)`, or `thread 4711` where its name is not known.
pub fn thread(name: Option<&str>, tid: u32) -> String {
    match name {
        None => format!("thread {tid}"),
        Some(name) => format!("{name} ({tid})"),
    }
}

/// A worker: `worker 3`, or its thread where Tokio's index is not known. A thread that polls a root
/// future: `root future on main`. With several runtimes the
/// runtime stands before it: `runtime 1 worker 3`.
pub fn worker(worker: &Worker, several_runtimes: bool) -> String {
    let name = match (worker.role, worker.index) {
        (Role::RootFuture, _) => format!("root future on {}", worker.thread_name),
        (Role::Worker, Some(index)) => format!("worker {index}"),
        (Role::Worker, None) => thread(Some(&worker.thread_name), worker.tid),
    };
    match several_runtimes {
        true => format!("{} {name}", runtime(worker.runtime)),
        false => name,
    }
}

/// A worker in as few words as the columns require: `rt 1 w 3`.
pub fn worker_within(worker: &Worker, several_runtimes: bool, columns: usize) -> String {
    let long = self::worker(worker, several_runtimes);
    match (worker.index, several_runtimes) {
        _ if width(&long) <= columns => long,
        (Some(index), true) => format!("rt {} w {index}", worker.runtime),
        (Some(index), false) => format!("w {index}"),
        (None, _) if worker.role == Role::RootFuture => format!("root {}", worker.tid),
        (None, _) => thread(None, worker.tid),
    }
}

/// A runtime: `runtime 1`.
pub fn runtime(id: u32) -> String {
    format!("runtime {id}")
}

/// A poll's task: `task 12`. Without an id it is the root future of a `current_thread` runtime, or
/// a task whose id cannot be read: Tokio keeps none before 1.22, and none is on a stack (tier 4).
pub fn task(id: Option<u64>) -> String {
    id.map_or_else(|| "no task id".to_owned(), |id| format!("task {id}"))
}

/// A reason somebody gave, or a placeholder where none is recorded.
pub fn reason(why: &str) -> &str {
    match why.trim() {
        "" => "no reason recorded",
        _ => why,
    }
}

/// A function and what it called, on one line: `shop::hash -> bcrypt::hash`.
pub fn call(name: &str, calls: Option<&str>) -> String {
    match calls {
        Some(calls) => format!("{name}{PLAIN_ARROW}{calls}"),
        None => name.to_owned(),
    }
}

/// A source position from its package's directory on: `shop/src/main.rs:42`. Without a line the
/// file alone.
pub fn location(location: &Location) -> String {
    let parts: Vec<&str> = location.file.split('/').collect();
    let src = parts.iter().rposition(|part| *part == "src");
    let from = match src {
        Some(src) if src + 1 < parts.len() => src.saturating_sub(1),
        _ => parts.len().saturating_sub(3),
    };
    let file = match from {
        0 => location.file.to_string(),
        from => parts.get(from..).unwrap_or_default().join("/"),
    };
    match location.line {
        0 => file,
        line => format!("{file}:{line}"),
    }
}

/// A cause's name, or a shorter word for it where the name is wider than the columns. 7 columns are
/// enough for all of them.
pub fn cause(cause: Cause, columns: usize) -> &'static str {
    if columns >= cause.as_str().len() {
        return cause.as_str();
    }
    match cause {
        Cause::ChildProcess => "child",
        Cause::PageFault => "fault",
        Cause::RunQueue => "runq",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(index: Option<u32>, thread_name: &str) -> Worker {
        Worker {
            tid: 4711,
            role: Role::Worker,
            index,
            runtime: 1,
            flavor: None,
            thread_name: thread_name.into(),
        }
    }

    #[test]
    fn nothing_is_left_blank() {
        assert_eq!(thread(None, 7), "thread 7");
        assert_eq!(worker(&named(None, " "), false), "[no name] (4711)");
        assert_eq!(reason(""), "no reason recorded");
        assert_eq!(task(None), "no task id");
    }

    #[test]
    fn workers_are_named_by_index_then_by_thread() {
        let pool = named(None, "pool-1");
        assert_eq!(worker(&named(Some(3), "tokio"), true), "runtime 1 worker 3");
        assert_eq!(worker(&pool, false), "pool-1 (4711)");
        assert_eq!(worker_within(&named(Some(12), ""), true, 10), "rt 1 w 12");
        assert_eq!(worker_within(&named(Some(12), ""), false, 5), "w 12");
        assert_eq!(worker_within(&pool, true, 12), "thread 4711");
        assert_eq!(worker_within(&pool, false, 13), "pool-1 (4711)");
    }

    #[test]
    fn a_comm_ends_at_the_first_zero() {
        let bytes = |text: &[u8]| text.iter().map(|&byte| byte as i8).collect::<Vec<_>>();
        assert_eq!(comm(&bytes(b"pool-1\0xyz")), "pool-1");
        assert_eq!(comm(&bytes(b"\xff")), "\u{fffd}");
        assert_eq!(comm(&[]), "");
    }

    #[test]
    fn locations_begin_at_the_package() {
        for (file, line, text) in [
            ("/home/u/shop/src/api/mod.rs", 7, "shop/src/api/mod.rs:7"),
            ("src/main.rs", 1, "src/main.rs:1"),
            ("/a/b/c/d/e.rs", 0, "c/d/e.rs"),
            ("/x", 3, "/x:3"),
            ("", 0, ""),
        ] {
            let file = file.into();
            assert_eq!(location(&Location { file, line }), text);
        }
    }

    #[test]
    fn every_cause_fits_seven_columns() {
        for known in Cause::ALL {
            assert!(cause(known, 7).len() <= 7, "{known}");
            assert_eq!(cause(known, 13), known.as_str());
        }
    }
}
