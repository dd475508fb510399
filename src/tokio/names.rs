//! Every name of Tokio's that hud goes by: functions, thread-locals, types, crates and threads.
//!
//! Functions are compared by their readable names (`stacks::names::readable`): without generic
//! arguments, closures and hashes. A name serves attribution and tracking by frames (tier 4); where
//! Tokio's state can be read, polls are never known by names. A version that renames something
//! needs its name added here, beside the old one.

use crate::model::Flavor;

/// Functions that call a task's `poll`, from the inside out. Inlining decides which of them are
/// left on a stack, so any one is enough.
const POLL_TASK: [&str; 11] = [
    "tokio::runtime::task::harness::Harness::poll",
    "tokio::runtime::task::harness::poll_future",
    "tokio::runtime::task::core::Core::poll",
    "tokio::runtime::task::raw::poll",
    "tokio::runtime::task::raw::RawTask::poll",
    "tokio::runtime::task::LocalNotified::run",
    "tokio::runtime::coop::budget",
    "tokio::runtime::coop::with_budget",
    "tokio::task::coop::budget",
    "tokio::task::coop::with_budget",
    "tokio::coop::budget",
];

/// Functions of a scheduler that run one task, since 1.21 and before.
const RUN_TASK: [(&str, Flavor); 4] = [
    (
        "tokio::runtime::scheduler::multi_thread::worker::Context::run_task",
        Flavor::MultiThread,
    ),
    (
        "tokio::runtime::scheduler::current_thread::Context::run_task",
        Flavor::CurrentThread,
    ),
    (
        "tokio::runtime::thread_pool::worker::Context::run_task",
        Flavor::MultiThread,
    ),
    (
        "tokio::runtime::basic_scheduler::Context::run_task",
        Flavor::CurrentThread,
    ),
];

/// Functions that poll a root future and wait for it.
const BLOCK_ON: [&str; 5] = [
    CURRENT_THREAD_LOOP,
    "tokio::runtime::scheduler::current_thread::CurrentThread::block_on",
    "tokio::runtime::basic_scheduler::CoreGuard::block_on",
    "tokio::runtime::scheduler::multi_thread::MultiThread::block_on",
    "tokio::runtime::park::CachedParkThread::block_on",
];

/// The loops of both flavors since 1.21.
pub const MULTI_THREAD_LOOP: &str = "tokio::runtime::scheduler::multi_thread::worker::Context::run";
pub const CURRENT_THREAD_LOOP: &str =
    "tokio::runtime::scheduler::current_thread::CoreGuard::block_on";

/// What the loop of `current_thread` calls with the root future, and with the park.
pub const ENTER_ROOT: &str = "tokio::runtime::scheduler::current_thread::Context::enter";

/// Functions in which a thread is no worker, although its loop is on its stack.
const LEAVE_WORKER: [&str; 4] = [
    "tokio::task::blocking::block_in_place",
    "tokio::runtime::scheduler::block_in_place",
    "tokio::runtime::scheduler::multi_thread::worker::block_in_place",
    "tokio::runtime::context::runtime_mt::exit_runtime",
];

/// Tokio, and the crates that only poll other crates' futures.
const RUNTIME_CRATES: [&str; 14] = [
    "tokio",
    "tokio_util",
    "tokio_stream",
    "futures",
    "futures_core",
    "futures_util",
    "futures_task",
    "futures_executor",
    "futures_channel",
    "futures_io",
    "futures_sink",
    "futures_lite",
    "pin_project",
    "pin_project_lite",
];

/// Internal functions by the start of their path, and the public function that people call.
pub const PUBLIC_FUNCTIONS: [(&str, &str); 3] = [
    (
        "tokio::runtime::blocking::pool::Spawner::",
        "tokio::task::spawn_blocking",
    ),
    (
        "tokio::runtime::blocking::pool::spawn_blocking",
        "tokio::task::spawn_blocking",
    ),
    ("tokio::task::blocking::", "tokio::task::"),
];

/// The type of a task's handle.
pub const JOIN_HANDLE: &str = "tokio::runtime::task::join::JoinHandle";

/// Names that Tokio gives its threads unless its user chooses others, as the kernel cuts them,
/// in newer and in older versions. Threads of the blocking pool have the same.
pub const THREADS: [&str; 2] = ["tokio-rt-worker", "tokio-runtime-w"];

/// Thread-locals by path: the one that holds the poll state since 1.22 ...
pub const CONTEXT: &[&str] = &["tokio", "runtime", "context", "CONTEXT"];
/// ... the coop budget before that ...
pub const BUDGET: &[&str] = &["tokio", "coop", "CURRENT"];
/// ... and each flavor's pointer to its scheduler's context before 1.29, since 1.21 and before.
pub const CURRENT_THREAD_CURRENT: [&[&str]; 2] = [
    &["tokio", "runtime", "scheduler", "current_thread", "CURRENT"],
    &["tokio", "runtime", "basic_scheduler", "CURRENT"],
];
pub const MULTI_THREAD_CURRENT: [&[&str]; 2] = [
    &[
        "tokio",
        "runtime",
        "scheduler",
        "multi_thread",
        "worker",
        "CURRENT",
    ],
    &["tokio", "runtime", "thread_pool", "worker", "CURRENT"],
];

/// Types of those thread-locals, and of what the pointers lead to.
pub const CONTEXT_TYPE: &[&str] = &["tokio", "runtime", "context", "Context"];
pub const BUDGET_TYPE: &[&str] = &["tokio", "coop", "Budget"];
pub const CURRENT_THREAD_CONTEXT_TYPE: [&[&str]; 2] = [
    &["tokio", "runtime", "scheduler", "current_thread", "Context"],
    &["tokio", "runtime", "basic_scheduler", "Context"],
];
pub const MULTI_THREAD_CONTEXT_TYPE: [&[&str]; 2] = [
    &[
        "tokio",
        "runtime",
        "scheduler",
        "multi_thread",
        "worker",
        "Context",
    ],
    &["tokio", "runtime", "thread_pool", "worker", "Context"],
];

/// Whether the function calls a task's `poll`.
pub fn polls_task(function: &str) -> bool {
    POLL_TASK.contains(&function)
}

/// The flavor of the scheduler whose function this is, if it is one that runs a task.
pub fn runs_task(function: &str) -> Option<Flavor> {
    let mut known = RUN_TASK.iter();
    let (_, flavor) = known.find(|(name, _)| *name == function)?;
    Some(*flavor)
}

/// Whether the function polls a root future and waits for it.
pub fn is_block_on(function: &str) -> bool {
    BLOCK_ON.contains(&function)
}

/// Whether the function stands between a worker's loop and the code of a task or of a root future:
/// what it calls belongs to a poll.
pub fn is_poll_boundary(function: &str) -> bool {
    poll_boundaries().any(|name| name == function)
}

/// The functions of which that is true.
pub fn poll_boundaries() -> impl Iterator<Item = &'static str> {
    let run_task = RUN_TASK.into_iter().map(|(function, _)| function);
    let enter = "tokio::runtime::scheduler::current_thread::CoreGuard::enter";
    POLL_TASK
        .into_iter()
        .chain(run_task)
        .chain(BLOCK_ON)
        .chain([enter])
}

/// Whether the function belongs to a task's own machinery: it only passes on what the task does.
pub fn is_task_internal(function: &str) -> bool {
    function.starts_with("tokio::runtime::task::")
}

/// Whether the function drops a task's future or output.
pub fn drops_task(function: &str) -> bool {
    let method = function.rsplit("::").next().unwrap_or_default();
    let drops = ["set_stage", "drop_future_or_output", "cancel_task"];
    is_task_internal(function) && drops.contains(&method)
}

/// Whether the function is the loop of a `multi_thread` worker.
pub fn is_multi_thread_loop(function: &str) -> bool {
    function == MULTI_THREAD_LOOP
}

/// Whether the function is the loop of `current_thread`, which polls the root future.
pub fn is_current_thread_loop(function: &str) -> bool {
    function == CURRENT_THREAD_LOOP
}

/// Whether the function calls, for `current_thread`'s loop, the root future or the park.
pub fn enters_root(function: &str) -> bool {
    function == ENTER_ROOT
}

/// Whether the function sets the thread's scheduler context and calls a loop inside.
pub fn sets_context(function: &str) -> bool {
    function == "tokio::runtime::context::scoped::Scoped::set"
}

/// Whether the function belongs to Tokio's runtime.
pub fn is_runtime(function: &str) -> bool {
    function.starts_with("tokio::runtime::")
}

/// Whether the function gives the worker's core away: what it calls belongs to no poll.
pub fn leaves_worker(function: &str) -> bool {
    LEAVE_WORKER.contains(&function)
}

/// Whether the function is a park of Tokio's, or its driver's part of one.
pub fn is_park(function: &str) -> bool {
    let Some((path, name)) = function.rsplit_once("::") else {
        return false;
    };
    let drives = path.ends_with("::Driver") && matches!(name, "turn" | "process");
    path.starts_with("tokio::") && (name.starts_with("park") || name == "process_at_time" || drives)
}

/// The same with what the driver waits in, which a task's own code may call as well.
pub fn is_park_or_wait(function: &str) -> bool {
    let waits =
        |(path, name): (&str, &str)| path.starts_with("mio::") && matches!(name, "poll" | "select");
    is_park(function) || function.rsplit_once("::").is_some_and(waits)
}

/// Whether a thread that sleeps directly in this function waits for work, and holds nothing.
pub fn waits_for_work(function: &str) -> bool {
    is_park(function)
        || is_block_on(function)
        || function == "tokio::runtime::blocking::pool::Inner::run"
}

/// Whether the crate is Tokio's or only polls other crates' futures.
pub fn is_runtime_crate(name: &str) -> bool {
    RUNTIME_CRATES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parks_of_all_versions_are_known_and_other_calls_of_a_poll_are_none() {
        for park in [
            "tokio::runtime::scheduler::current_thread::Context::park",
            "tokio::runtime::scheduler::multi_thread::worker::Context::park_timeout",
            "tokio::runtime::scheduler::multi_thread::park::Inner::park_condvar",
            "tokio::runtime::park::CachedParkThread::park",
            "tokio::runtime::driver::Driver::park",
            "tokio::runtime::time::Driver::park_internal",
            "tokio::runtime::time::Handle::process_at_time",
            "tokio::runtime::io::driver::Driver::turn",
            "tokio::runtime::signal::Driver::process",
            "tokio::park::thread::CachedParkThread::park",
            "tokio::io::driver::Driver::turn",
        ] {
            assert!(is_park(park) && waits_for_work(park), "{park}");
        }
        for wait in [
            "mio::poll::Poll::poll",
            "mio::sys::unix::selector::epoll::Selector::select",
        ] {
            assert!(is_park_or_wait(wait) && !is_park(wait), "{wait}");
        }
        for other in [
            "std::thread::park",
            "parking_lot::Mutex::lock",
            "epoll_wait",
            "tokio::runtime::io::driver::Handle::add_source",
            "tokio::runtime::driver::Driver::new",
            "tokio::runtime::scheduler::multi_thread::park::Unparker::unpark",
            "tokio::net::TcpStream::poll_read",
            "mio::poll::Registry::register",
        ] {
            assert!(!is_park_or_wait(other), "{other}");
        }
    }

    #[test]
    fn what_polls_is_a_boundary_and_what_runs_the_loop_is_none() {
        for boundary in poll_boundaries() {
            assert!(is_poll_boundary(boundary), "{boundary}");
            assert!(!is_park(boundary), "{boundary}");
        }
        for (function, flavor) in RUN_TASK {
            assert_eq!(runs_task(function), Some(flavor));
            assert!(!polls_task(function), "{function}");
        }
        for other in [MULTI_THREAD_LOOP, "app::block_on", LEAVE_WORKER[0]] {
            assert!(!is_poll_boundary(other), "{other}");
        }
    }

    #[test]
    fn functions_are_named_as_readable_names_are() {
        for function in poll_boundaries().chain(LEAVE_WORKER) {
            assert_eq!(crate::stacks::names::readable(function), function);
            assert!(function.starts_with("tokio::"), "{function}");
        }
    }
}
