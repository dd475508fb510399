//! From the kernel's facts about a thread to the [`Cause`] that held its worker.
//!
//! The rules use the system call and its arguments, never function names, so they hold for stripped
//! binaries and for every language. Their order is that of the code. System calls that only one
//! architecture has are in `legacy_syscall_class`.

use crate::model::Cause;

/// What the kernel knew about a thread when it was switched out or sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFacts {
    /// Number of the system call the thread is in (`orig_ax`, `syscallno`); -1 for none.
    pub syscall: i64,
    /// The one before it, which `restart_syscall` continues; -1 for none.
    pub previous_syscall: i64,
    /// The call's first three arguments.
    pub args: [u64; 3],
    /// `i_mode` of the file the call is about (for poll and select, of the first descriptor);
    /// 0 where there is none or it could not be read.
    pub fd_mode: u16,
    /// Asleep waiting for a block device or for the page cache.
    pub in_iowait: bool,
    /// The CPU was in kernel mode.
    pub in_kernel: bool,
    /// The kernel stack goes through the page-fault entry.
    pub page_fault_entry: bool,
    /// The process has child processes.
    pub has_children: bool,
}

impl Default for KernelFacts {
    /// A thread in user mode.
    fn default() -> Self {
        KernelFacts {
            syscall: -1,
            previous_syscall: -1,
            args: [0; 3],
            fd_mode: 0,
            in_iowait: false,
            in_kernel: false,
            page_fault_entry: false,
            has_children: false,
        }
    }
}

/// Why a thread sleeps in the kernel. (The kernel side counts stops and waits for a CPU separately.)
pub fn of_blocked(facts: &KernelFacts) -> Cause {
    match effective_syscall(facts) {
        // Asleep without a system call: the fault handler waits for the disk or for the lock of the
        // address space.
        None => Cause::PageFault,
        Some(number) => match of_syscall(number, facts) {
            Cause::Unknown if facts.in_iowait => Cause::FileIo,
            cause => cause,
        },
    }
}

/// Why a running thread is on its CPU.
pub fn of_running(facts: &KernelFacts) -> Cause {
    if !facts.in_kernel {
        return Cause::Cpu;
    }
    // Minor faults never sleep, so only samples show them.
    if facts.page_fault_entry {
        return Cause::PageFault;
    }
    match effective_syscall(facts) {
        // An interrupt of user code.
        None => Cause::Cpu,
        Some(number) => match of_syscall(number, facts) {
            Cause::Unknown => Cause::Cpu,
            cause => cause,
        },
    }
}

/// The call that the thread is in. An interrupted sleep continues as `restart_syscall`.
fn effective_syscall(facts: &KernelFacts) -> Option<i64> {
    let number = if facts.syscall == libc::SYS_restart_syscall {
        facts.previous_syscall
    } else {
        facts.syscall
    };
    (number >= 0).then_some(number)
}

/// System calls by the cause of a sleep in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Waits for another thread.
    Lock,
    /// Waits for the clock.
    Sleep,
    /// Makes or waits for a child process.
    Child,
    /// Works on the descriptor in the first argument; its type decides.
    Descriptor,
    /// A socket call: network even where the descriptor's type is not known.
    Socket,
    /// `poll`, `ppoll`: number of descriptors in the second argument.
    Poll,
    /// `select`, `pselect6`: descriptors in the first argument.
    Select,
    /// `fcntl`: a wait for a lock on a file, or nothing that blocks.
    Fcntl,
    /// Works on a path or the whole file system.
    File,
    /// Changes the address space, so takes its lock.
    Memory,
}

fn of_syscall(number: i64, facts: &KernelFacts) -> Cause {
    let Some(class) = syscall_class(number) else {
        return Cause::Unknown;
    };
    match class {
        Class::Lock => Cause::Lock,
        Class::Sleep => Cause::Sleep,
        Class::Child => Cause::ChildProcess,
        Class::Poll if facts.args[1] == 0 => Cause::Sleep,
        Class::Select if facts.args[0] == 0 => Cause::Sleep,
        Class::Descriptor | Class::Poll | Class::Select => of_descriptor(number, facts),
        Class::Socket => Cause::Network,
        Class::Fcntl => match facts.args[1] as i32 {
            libc::F_SETLKW | libc::F_OFD_SETLKW => Cause::Lock,
            _ => Cause::FileIo,
        },
        Class::File => Cause::FileIo,
        Class::Memory => Cause::PageFault,
    }
}

fn of_descriptor(number: i64, facts: &KernelFacts) -> Cause {
    if is_eventfd_read(number, facts) {
        return Cause::Lock;
    }
    match u32::from(facts.fd_mode) & libc::S_IFMT {
        libc::S_IFSOCK => Cause::Network,
        // `Command::output` reads the child's output here before it calls wait4.
        libc::S_IFIFO if facts.has_children => Cause::ChildProcess,
        libc::S_IFIFO => Cause::Pipe,
        libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR | libc::S_IFCHR => Cause::FileIo,
        // A mode without a type is an anonymous inode: eventfd and its like.
        0 if facts.fd_mode != 0 => Cause::Lock,
        _ => Cause::Unknown,
    }
}

/// From Linux 6.16, anonymous inodes have `S_IFREG` and mode 0600. An eventfd is then recognised by its
/// transfers of eight bytes that do not wait for a device.
fn is_eventfd_read(number: i64, facts: &KernelFacts) -> bool {
    (number == libc::SYS_read || number == libc::SYS_write)
        && u32::from(facts.fd_mode) == libc::S_IFREG | 0o600
        && facts.args[2] == 8
        && !facts.in_iowait
}

/// `futex_wait`, which libc does not list yet; new calls have one number everywhere.
const SYS_FUTEX_WAIT: i64 = 455;

/// System calls of every architecture.
#[expect(non_upper_case_globals, reason = "names of libc")]
fn syscall_class(number: i64) -> Option<Class> {
    use libc::*;
    Some(match number {
        SYS_futex | SYS_futex_waitv | SYS_FUTEX_WAIT | SYS_flock | SYS_semop | SYS_semtimedop
        | SYS_msgrcv | SYS_msgsnd | SYS_mq_timedreceive | SYS_mq_timedsend => Class::Lock,
        SYS_nanosleep | SYS_clock_nanosleep => Class::Sleep,
        SYS_wait4 | SYS_waitid | SYS_clone | SYS_clone3 | SYS_execve | SYS_execveat => Class::Child,
        SYS_read | SYS_write | SYS_readv | SYS_writev | SYS_pread64 | SYS_pwrite64 | SYS_preadv
        | SYS_pwritev | SYS_preadv2 | SYS_pwritev2 | SYS_sendfile | SYS_splice | SYS_vmsplice
        | SYS_tee | SYS_ioctl => Class::Descriptor,
        SYS_connect | SYS_accept | SYS_accept4 | SYS_sendto | SYS_recvfrom | SYS_sendmsg
        | SYS_recvmsg | SYS_sendmmsg | SYS_recvmmsg | SYS_shutdown | SYS_epoll_pwait
        | SYS_epoll_pwait2 => Class::Socket,
        SYS_ppoll => Class::Poll,
        SYS_pselect6 => Class::Select,
        SYS_fcntl => Class::Fcntl,
        SYS_openat | SYS_openat2 | SYS_close | SYS_close_range | SYS_newfstatat | SYS_fstat
        | SYS_statx | SYS_statfs | SYS_fstatfs | SYS_fsync | SYS_fdatasync | SYS_sync
        | SYS_syncfs | SYS_sync_file_range | SYS_unlinkat | SYS_renameat | SYS_renameat2
        | SYS_mkdirat | SYS_mknodat | SYS_linkat | SYS_symlinkat | SYS_readlinkat
        | SYS_getdents64 | SYS_faccessat | SYS_faccessat2 | SYS_fchmodat | SYS_fchownat
        | SYS_fchmod | SYS_fchown | SYS_truncate | SYS_ftruncate | SYS_fallocate
        | SYS_fadvise64 | SYS_readahead | SYS_copy_file_range | SYS_utimensat | SYS_getxattr
        | SYS_setxattr | SYS_chdir | SYS_mount | SYS_umount2 | SYS_io_uring_enter
        | SYS_io_getevents | SYS_io_submit | SYS_lseek => Class::File,
        SYS_mmap | SYS_munmap | SYS_madvise | SYS_mprotect | SYS_mremap | SYS_msync | SYS_brk
        | SYS_mlock | SYS_mlock2 | SYS_munlock | SYS_mlockall | SYS_process_madvise => {
            Class::Memory
        }
        _ => return legacy_syscall_class(number),
    })
}

/// System calls that only x86-64 has, beside the `*at` and `p*` forms that replaced them.
#[expect(non_upper_case_globals, reason = "names of libc")]
#[cfg(target_arch = "x86_64")]
fn legacy_syscall_class(number: i64) -> Option<Class> {
    use libc::*;
    Some(match number {
        SYS_fork | SYS_vfork => Class::Child,
        SYS_epoll_wait => Class::Socket,
        SYS_poll => Class::Poll,
        SYS_select => Class::Select,
        SYS_open | SYS_creat | SYS_stat | SYS_lstat | SYS_unlink | SYS_rename | SYS_mkdir
        | SYS_rmdir | SYS_mknod | SYS_link | SYS_symlink | SYS_readlink | SYS_getdents
        | SYS_access | SYS_chmod | SYS_chown | SYS_lchown | SYS_utime | SYS_utimes => Class::File,
        _ => return None,
    })
}

/// aarch64 has none of them.
#[cfg(not(target_arch = "x86_64"))]
fn legacy_syscall_class(_number: i64) -> Option<Class> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_call(number: i64) -> KernelFacts {
        KernelFacts {
            syscall: number,
            in_kernel: true,
            ..KernelFacts::default()
        }
    }

    fn on(number: i64, mode: u32) -> KernelFacts {
        KernelFacts {
            fd_mode: mode as u16,
            args: [3, 1, 100],
            ..in_call(number)
        }
    }

    #[test]
    fn each_rule_for_a_blocked_thread() {
        let poll_nothing = KernelFacts {
            args: [0, 0, 100],
            ..in_call(libc::SYS_ppoll)
        };
        let set_lock = KernelFacts {
            args: [3, libc::F_SETLKW as u64, 0],
            ..in_call(libc::SYS_fcntl)
        };
        let with_children = KernelFacts {
            has_children: true,
            ..on(libc::SYS_ppoll, libc::S_IFIFO | 0o600)
        };
        let disk_fault = KernelFacts {
            in_iowait: true,
            ..in_call(-1)
        };
        let table = [
            (in_call(libc::SYS_futex), Cause::Lock),
            (in_call(libc::SYS_flock), Cause::Lock),
            (set_lock, Cause::Lock),
            (in_call(libc::SYS_nanosleep), Cause::Sleep),
            (in_call(libc::SYS_clock_nanosleep), Cause::Sleep),
            (poll_nothing, Cause::Sleep),
            (in_call(libc::SYS_pselect6), Cause::Sleep),
            (in_call(libc::SYS_wait4), Cause::ChildProcess),
            (in_call(libc::SYS_waitid), Cause::ChildProcess),
            (in_call(libc::SYS_clone3), Cause::ChildProcess),
            (on(libc::SYS_read, libc::S_IFSOCK | 0o777), Cause::Network),
            // Name resolution waits in poll for its UDP socket.
            (on(libc::SYS_ppoll, libc::S_IFSOCK | 0o777), Cause::Network),
            (in_call(libc::SYS_connect), Cause::Network),
            (on(libc::SYS_read, libc::S_IFREG | 0o644), Cause::FileIo),
            (on(libc::SYS_pwrite64, libc::S_IFBLK | 0o660), Cause::FileIo),
            (on(libc::SYS_read, libc::S_IFIFO | 0o600), Cause::Pipe),
            (with_children, Cause::ChildProcess),
            // Anonymous inode without a type: eventfd before 6.16.
            (on(libc::SYS_read, 0o600), Cause::Lock),
            (in_call(libc::SYS_openat), Cause::FileIo),
            (in_call(libc::SYS_fsync), Cause::FileIo),
            (in_call(libc::SYS_unlinkat), Cause::FileIo),
            (in_call(libc::SYS_mmap), Cause::PageFault),
            (in_call(libc::SYS_munmap), Cause::PageFault),
            (in_call(libc::SYS_madvise), Cause::PageFault),
            (in_call(libc::SYS_mprotect), Cause::PageFault),
            (in_call(-1), Cause::PageFault),
            (disk_fault, Cause::PageFault),
            (on(libc::SYS_read, 0), Cause::Unknown),
            (in_call(libc::SYS_getpid), Cause::Unknown),
            (in_call(i64::MAX), Cause::Unknown),
        ];
        for (facts, expected) in table {
            assert_eq!(of_blocked(&facts), expected, "{facts:?}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_old_calls_of_x86_64() {
        let poll_nothing = KernelFacts {
            args: [0, 0, 100],
            ..in_call(libc::SYS_poll)
        };
        assert_eq!(of_blocked(&poll_nothing), Cause::Sleep);
        assert_eq!(of_blocked(&in_call(libc::SYS_vfork)), Cause::ChildProcess);
        assert_eq!(of_blocked(&in_call(libc::SYS_open)), Cause::FileIo);
        let socket = on(libc::SYS_poll, libc::S_IFSOCK);
        assert_eq!(of_blocked(&socket), Cause::Network);
    }

    #[test]
    fn a_restarted_sleep_is_still_the_sleep() {
        let facts = KernelFacts {
            previous_syscall: libc::SYS_nanosleep,
            ..in_call(libc::SYS_restart_syscall)
        };
        assert_eq!(of_blocked(&facts), Cause::Sleep);
    }

    #[test]
    fn an_eventfd_of_new_kernels_is_not_a_file() {
        let eventfd = KernelFacts {
            args: [3, 0x7000_0000, 8],
            ..on(libc::SYS_read, libc::S_IFREG | 0o600)
        };
        assert_eq!(of_blocked(&eventfd), Cause::Lock);
        let file = KernelFacts {
            in_iowait: true,
            ..eventfd
        };
        assert_eq!(of_blocked(&file), Cause::FileIo);
    }

    #[test]
    fn waiting_for_a_device_in_an_unlisted_call_is_file_io() {
        let facts = KernelFacts {
            in_iowait: true,
            ..in_call(libc::SYS_getpid)
        };
        assert_eq!(of_blocked(&facts), Cause::FileIo);
    }

    #[test]
    fn each_rule_for_a_running_thread() {
        let user = KernelFacts {
            in_kernel: false,
            ..in_call(-1)
        };
        let minor_fault = KernelFacts {
            page_fault_entry: true,
            ..in_call(-1)
        };
        let table = [
            (user, Cause::Cpu),
            (in_call(-1), Cause::Cpu),
            (minor_fault, Cause::PageFault),
            (on(libc::SYS_read, libc::S_IFREG | 0o644), Cause::FileIo),
            (in_call(libc::SYS_munmap), Cause::PageFault),
            (in_call(libc::SYS_getpid), Cause::Cpu),
        ];
        for (facts, expected) in table {
            assert_eq!(of_running(&facts), expected, "{facts:?}");
        }
    }
}
