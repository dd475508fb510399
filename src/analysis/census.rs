//! Describes the threads of a census: what each waits for, and its duty in Tokio.

use std::sync::Arc;

use super::cause::{self, KernelFacts};
use crate::capture::{Phase, SeenThread, ThreadState};
use crate::model::{CensusThread, Duty, Frame, Role, ThreadWait, Worker};

/// One thread of the census. `states` is the worker's state before and after it, if the thread is a
/// worker.
pub fn name_thread(
    seen: &SeenThread,
    worker: Option<&Worker>,
    states: Option<&(ThreadState, ThreadState)>,
    at_ns: u64,
    frames: Vec<Arc<Frame>>,
    complete: bool,
) -> CensusThread {
    CensusThread {
        tid: seen.task.tid,
        name: seen.task.comm.as_str().into(),
        wait: wait(seen),
        duty: duty(worker, states, at_ns),
        frames,
        complete,
    }
}

fn wait(seen: &SeenThread) -> ThreadWait {
    let task = &seen.task;
    if task.is_stopped() {
        return ThreadWait::Stopped;
    }
    if !seen.stood_still {
        return ThreadWait::Running;
    }
    let cause = cause::of_blocked(&KernelFacts {
        syscall: task.syscall,
        args: task.args,
        fd_mode: task.fd_mode,
        in_iowait: task.in_iowait,
        has_children: task.has_children,
        ..KernelFacts::default()
    });
    ThreadWait::Asleep {
        syscall: syscall_name(task.syscall),
        cause,
        lock: (task.syscall == libc::SYS_futex).then_some(task.args[0]),
    }
}

fn duty(worker: Option<&Worker>, states: Option<&(ThreadState, ThreadState)>, at_ns: u64) -> Duty {
    let (Some(worker), Some((before, after))) = (worker, states) else {
        return Duty::Other;
    };
    // A thread that polls a root future drives nothing else: it is none of its runtime's workers.
    if worker.role == Role::RootFuture {
        return Duty::Other;
    }
    let (runtime, index) = (worker.runtime, worker.index);
    let poll = |state: &ThreadState| state.poll.as_ref().map(|poll| poll.times);
    if let (Some(before), Some(after)) = (poll(before), poll(after))
        && before.sequence == after.sequence
    {
        return Duty::Polling {
            runtime,
            index,
            task: (after.task != 0).then_some(after.task),
            held_ns: at_ns.saturating_sub(after.start_ns),
        };
    }
    let holds_core = |state: &ThreadState| matches!(state.phase, Phase::Poll | Phase::Idle);
    match holds_core(before) || holds_core(after) {
        true => Duty::Parked { runtime, index },
        false => Duty::Other,
    }
}

/// Names of system calls that threads sleep in.
macro_rules! names {
    ($($call:ident)*) => { [$((libc::$call, stringify!($call))),*] };
}

/// `futex` for `SYS_futex`.
fn syscall_name(number: i64) -> String {
    if number < 0 {
        return "no system call".to_owned();
    }
    let names = names!(
        SYS_futex SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_nanosleep
        SYS_clock_nanosleep SYS_restart_syscall SYS_read SYS_write SYS_readv SYS_writev
        SYS_pread64 SYS_pwrite64 SYS_recvfrom SYS_recvmsg SYS_sendto SYS_sendmsg SYS_accept
        SYS_accept4 SYS_connect SYS_wait4 SYS_waitid SYS_rt_sigtimedwait SYS_rt_sigsuspend
        SYS_io_uring_enter SYS_fsync SYS_fdatasync SYS_openat SYS_newfstatat SYS_flock SYS_fcntl
        SYS_mmap SYS_munmap SYS_madvise SYS_mprotect SYS_exit SYS_exit_group SYS_ioctl
    );
    if let Some((_, name)) = names.iter().find(|(known, _)| *known == number) {
        return name.trim_start_matches("SYS_").to_owned();
    }
    #[cfg(target_arch = "x86_64")]
    if let Some((_, name)) = names!(SYS_epoll_wait SYS_poll SYS_select SYS_pause)
        .iter()
        .find(|(known, _)| *known == number)
    {
        return name.trim_start_matches("SYS_").to_owned();
    }
    format!("system call {number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_have_names() {
        assert_eq!(syscall_name(libc::SYS_futex), "futex");
        assert_eq!(syscall_name(-1), "no system call");
        assert_eq!(syscall_name(9999), "system call 9999");
    }
}
