//! From a stopped thread's registers and stack bytes to whole, named stacks.
//!
//! The target is this test itself, started again with `HUD_UNWIND_TARGET` set: a Tokio program
//! with one task asleep inside a poll. `HUD_UNWIND_PID` has any running Tokio process looked at
//! instead, and its stacks printed: for builds that this test does not make.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hud::model::{Frame, Origin};
use hud::stacks::symbolize::Symbolizer;
use hud::stacks::unwind::{CapturedStack, Registers, Unwinder};
use hud::target::modules::ModuleMap;

const STACK_BYTES: usize = 128 << 10;

/// Kills the target however the test ends.
struct Target(Child);

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[inline(never)]
fn hold_the_worker() {
    println!("asleep");
    std::thread::sleep(Duration::from_secs(600));
    std::hint::black_box(());
}

/// Not a test of its own: what the target runs.
#[test]
fn target() {
    if std::env::var_os("HUD_UNWIND_TARGET").is_none() {
        return;
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
        .block_on(async { tokio::spawn(async { hold_the_worker() }).await.unwrap() });
}

#[test]
fn whole_stacks_of_every_thread() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "target", "--nocapture"])
        .env("HUD_UNWIND_TARGET", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let target = Target(child);
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"asleep") && output.read(&mut byte).unwrap() == 1 {
        text.extend(byte);
    }
    // From the line to the sleep behind it.
    std::thread::sleep(Duration::from_millis(100));

    let stacks = stacks_of(target.0.id());
    assert!(
        stacks.len() >= 3,
        "two workers and the main thread: {}",
        stacks.len()
    );
    for (frames, complete) in &stacks {
        assert!(complete, "{}", print(frames));
        assert!(
            frames.iter().all(|frame| frame.origin != Origin::Unknown),
            "{}",
            print(frames)
        );
    }
    let held = stacks
        .iter()
        .map(|(frames, _)| frames)
        .find(|frames| {
            frames
                .iter()
                .any(|f| f.function == "unwind::hold_the_worker")
        })
        .expect("the worker that is held");
    let position = |name: &str| held.iter().position(|frame| frame.function == name);
    let sleep = held
        .iter()
        .position(|frame| frame.function.contains("nanosleep"));
    let user = position("unwind::hold_the_worker");
    let poll = held
        .iter()
        .position(|frame| frame.function.starts_with("tokio::runtime::task::"));
    assert!(
        sleep.is_some() && sleep < user && user < poll,
        "{}",
        print(held)
    );
    let frame = &held[user.unwrap()];
    assert_eq!(frame.origin, Origin::User);
    // The release profile has no debug info.
    if cfg!(debug_assertions) {
        let location = frame.location.as_ref().unwrap();
        assert!(location.file.ends_with("tests/unwind.rs"));
    }
}

#[test]
fn another_process() {
    let Ok(pid) = std::env::var("HUD_UNWIND_PID") else {
        return;
    };
    let started = Instant::now();
    let stacks = stacks_of(pid.parse().unwrap());
    let whole = stacks.iter().filter(|(_, complete)| *complete).count();
    for (frames, complete) in &stacks {
        println!("complete: {complete}\n{}", print(frames));
        println!("  => {:#?}\n", hud::stacks::culprit::culprit(frames));
    }
    println!(
        "{whole} of {} complete, {:?}",
        stacks.len(),
        started.elapsed()
    );
}

fn print(frames: &[Arc<Frame>]) -> String {
    frames
        .iter()
        .map(|frame| {
            let location = frame.location.as_ref().map(ToString::to_string);
            format!(
                "  {:10} {} {}{} {}\n",
                format!("{:?}", frame.origin),
                if frame.uncertain { '?' } else { ' ' },
                frame.function,
                if frame.inlined { " [inlined]" } else { "" },
                location.unwrap_or_default(),
            )
        })
        .collect()
}

/// The stack of every thread, and whether it is whole.
fn stacks_of(pid: u32) -> Vec<(Vec<Arc<Frame>>, bool)> {
    let modules = ModuleMap::read(pid).unwrap();
    let mut unwinder = Unwinder::new();
    unwinder.set_modules(&modules);
    let mut symbolizer = Symbolizer::new();
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(|tid| {
            let (registers, bytes) = capture(tid);
            let stack = CapturedStack {
                registers,
                base: registers.sp,
                bytes: &bytes,
            };
            let unwound = unwinder.unwind(&stack);
            (symbolizer.stack(&modules, &unwound), unwound.complete)
        })
        .collect()
}

/// Stops a thread just long enough to copy its registers and stack.
fn capture(tid: libc::pid_t) -> (Registers, Vec<u8>) {
    // SAFETY: plain system calls; the buffers they write to are owned here and large enough.
    unsafe {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, tid, nothing, nothing), 0);
        libc::ptrace(libc::PTRACE_INTERRUPT, tid, nothing, nothing);
        libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL);
        let registers = registers(tid);
        let mut bytes = vec![0u8; STACK_BYTES];
        // Page by page: the stack may end before the copy does.
        let mut copied = 0;
        while copied < STACK_BYTES {
            let from = registers.sp as usize + copied;
            let length = (4096 - from % 4096).min(STACK_BYTES - copied);
            let local = libc::iovec {
                iov_base: bytes[copied..].as_mut_ptr().cast(),
                iov_len: length,
            };
            let remote = libc::iovec {
                iov_base: from as *mut libc::c_void,
                iov_len: length,
            };
            if libc::process_vm_readv(tid, &local, 1, &remote, 1, 0) != length as isize {
                break;
            }
            copied += length;
        }
        libc::ptrace(libc::PTRACE_DETACH, tid, nothing, nothing);
        bytes.truncate(copied);
        (registers, bytes)
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn registers(tid: libc::pid_t) -> Registers {
    // SAFETY: the kernel fills in the whole of the struct, which has no invalid values.
    unsafe {
        let mut user: libc::user_regs_struct = std::mem::zeroed();
        let nothing = std::ptr::null_mut::<libc::c_void>();
        assert_eq!(
            libc::ptrace(libc::PTRACE_GETREGS, tid, nothing, &raw mut user),
            0
        );
        Registers {
            ip: user.rip,
            sp: user.rsp,
            fp: user.rbp,
            lr: 0,
        }
    }
}

#[cfg(target_arch = "aarch64")]
unsafe fn registers(tid: libc::pid_t) -> Registers {
    // SAFETY: as above; the iovec tells the kernel how much room there is.
    unsafe {
        let mut user: libc::user_regs_struct = std::mem::zeroed();
        let mut room = libc::iovec {
            iov_base: (&raw mut user).cast(),
            iov_len: size_of_val(&user),
        };
        let set = libc::NT_PRSTATUS as *mut libc::c_void;
        assert_eq!(
            libc::ptrace(libc::PTRACE_GETREGSET, tid, set, &raw mut room),
            0
        );
        Registers {
            ip: user.pc,
            sp: user.sp,
            fp: user.regs[29],
            lr: user.regs[30],
        }
    }
}
