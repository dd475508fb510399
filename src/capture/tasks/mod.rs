//! Every thread of a process as it stands now, through a BPF task iterator.
//!
//! Unlike `/proc` it gives the user registers and the thread pointer of threads that sleep, in one
//! pass and without stopping anything.

pub mod census;
pub mod loads;
pub mod seed;

use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use plain::Plain;

pub use self::seed::FoundWorker;
use crate::arch;
use crate::arch::Registers;
use crate::bpf::task_types::hud_task;
use crate::bpf::{TasksSkel, TasksSkelBuilder};
use crate::target::memory::{Memory as _, ProcessMemory};
use crate::text::comm;
use crate::tokio::ThreadView;

// SAFETY: generated, `repr(C)`, integers only.
unsafe impl Plain for hud_task {}

/// Bits of a task's state that mean a stop by a signal or a debugger (`__TASK_STOPPED`,
/// `__TASK_TRACED`).
const STOPPED_OR_TRACED: u32 = 0xc;

/// One thread, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskState {
    pub tid: u32,
    pub comm: String,
    /// The kernel's task state: 0 is running or runnable.
    pub state: u32,
    pub thread_pointer: u64,
    /// Meaningful while the thread is in the kernel.
    pub registers: Registers,
    /// Syscall number, -1 outside a syscall.
    pub syscall: i64,
    pub args: [u64; 3],
    /// Context switches of its life: unchanged means it has not run in between.
    pub switches: u64,
    /// When it last got onto a CPU, on the scheduler's clock.
    pub last_arrival_clock: u64,
    pub run_delay_ns: u64,
    pub sum_exec_ns: u64,
    pub fd_mode: u16,
    pub in_iowait: bool,
    pub has_children: bool,
    /// It runs right now.
    pub on_cpu: bool,
}

impl TaskState {
    /// Asleep in the kernel, so that its registers and memory stand still.
    pub fn is_asleep(&self) -> bool {
        self.state != 0
    }

    /// As those who check layouts see it; the extent of its stack is not known.
    pub fn view(&self) -> ThreadView {
        ThreadView {
            tid: self.tid,
            thread_pointer: self.thread_pointer,
            stack_pointer: self.registers.sp,
            stack: None,
            parked: (self.is_asleep() && arch::is_epoll(self.syscall)).then_some(self.switches),
        }
    }

    /// Whether it is still in the stint on or off the CPU that it was in at an `earlier` look.
    pub fn same_stint(&self, earlier: &TaskState) -> bool {
        let stint = |task: &TaskState| {
            (
                task.tid,
                task.switches,
                task.last_arrival_clock,
                task.is_asleep(),
            )
        };
        stint(self) == stint(earlier)
    }

    /// Stopped by a signal or a debugger.
    pub fn is_stopped(&self) -> bool {
        self.state & STOPPED_OR_TRACED != 0
    }

    /// Whether it has stood still since an `earlier` look: then what its registers and memory said
    /// meanwhile belongs together.
    pub fn stood_still_since(&self, earlier: &TaskState) -> bool {
        let stint = |task: &TaskState| (task.tid, task.switches, task.last_arrival_clock);
        !earlier.on_cpu && !self.on_cpu && stint(self) == stint(earlier)
    }
}

/// A loaded task iterator over one process.
pub struct TaskReader {
    pid: u32,
    link: OwnedFd,
    _skeleton: TasksSkel<'static>,
}

impl TaskReader {
    /// Loads the iterator for the process `pid`.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn new(pid: u32) -> Result<Self> {
        // The skeleton borrows its storage, a few words that are given up with each reader: there
        // are only as many as censuses and searches for a layout.
        let storage = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = TasksSkelBuilder::default()
            .open(storage)
            .context("cannot open the task iterator")?;
        open.maps
            .rodata_data
            .as_deref_mut()
            .context("the task iterator has no configuration")?
            .tasks_tgid = pid;
        let skeleton = open.load().context("cannot load the task iterator")?;

        let program = skeleton.progs.tasks.as_fd();
        // Before 6.1 (f0d74c4da1f0) the iterator knows no filter and may refuse it. The program
        // looks only at its own process either way.
        let link = attach(program, Some(pid))
            .or_else(|error| match error.raw_os_error() {
                Some(libc::E2BIG | libc::EINVAL) => attach(program, None),
                _ => Err(error),
            })
            .context("cannot attach the task iterator")?;
        Ok(TaskReader {
            pid,
            link,
            _skeleton: skeleton,
        })
    }

    /// Reads every thread of the process. Empty once it has exited.
    ///
    /// # Errors
    /// When the iterator cannot be started or read.
    pub fn read(&self) -> Result<Vec<TaskState>> {
        // SAFETY: the link's descriptor is open.
        let fd = unsafe { libbpf_sys::bpf_iter_create(self.link.as_raw_fd()) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("cannot start the task iterator");
        }
        // SAFETY: a fresh descriptor that nobody else has.
        let mut file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .context("cannot read the task iterator")?;
        Ok(bytes
            .chunks_exact(size_of::<hud_task>())
            .filter_map(|chunk| {
                let mut task = hud_task::default();
                task.copy_from_bytes(chunk).ok()?;
                let mut task = convert(&task);
                if task.is_asleep() && arch::is_poll(task.syscall) {
                    task.fd_mode = polled_file_mode(self.pid, task.args).unwrap_or(0);
                }
                Some(task)
            })
            .collect())
    }
}

/// `i_mode` of the first file that a thread polls: which one that is stands in the process's memory,
/// which the iterator cannot read.
fn polled_file_mode(pid: u32, [descriptors, count, _]: [u64; 3]) -> Option<u16> {
    if count == 0 {
        return None;
    }
    let first = ProcessMemory::new(pid).read_u32(descriptors).ok()?;
    let path = format!("/proc/{pid}/fd/{first}");
    u16::try_from(std::fs::metadata(path).ok()?.mode()).ok()
}

/// Attaches the iterator to all threads of the machine, or of one process where the kernel can.
/// libbpf-rs has no way to say which process, so the link is made by hand.
fn attach(program: BorrowedFd<'_>, pid: Option<u32>) -> io::Result<OwnedFd> {
    let mut info = libbpf_sys::bpf_iter_link_info::default();
    let mut options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        ..Default::default()
    };
    if let Some(pid) = pid {
        info.task.pid = pid;
        options.iter_info = &mut info;
        options.iter_info_len = size_of::<libbpf_sys::bpf_iter_link_info>() as u32;
    }
    // SAFETY: `options` and `info` outlive the call; the program's descriptor is open.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TRACE_ITER, &options)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn convert(task: &hud_task) -> TaskState {
    TaskState {
        tid: task.tid,
        comm: comm(&task.comm),
        state: task.state,
        thread_pointer: task.thread_pointer,
        registers: Registers {
            ip: task.ip,
            sp: task.sp,
            fp: task.fp,
            lr: task.lr,
        },
        syscall: task.syscall,
        args: task.args,
        switches: task.switches,
        last_arrival_clock: task.last_arrival,
        run_delay_ns: task.run_delay,
        sum_exec_ns: task.sum_exec,
        fd_mode: task.fd_mode,
        in_iowait: task.in_iowait != 0,
        has_children: task.has_children != 0,
        on_cpu: task.on_cpu != 0,
    }
}
