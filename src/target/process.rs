//! The target process, by its PID.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::Result;
use procfs::process::{Process, Stat};
use procfs::{ProcError, ProcResult};

use crate::failure::{Failure, Kind};

/// Bit of `CAP_SYS_PTRACE` among the capabilities.
pub const CAP_SYS_PTRACE: u32 = 19;

/// How this user can give hud the capabilities that it lacks.
pub fn capabilities_hint() -> &'static str {
    // SAFETY: no preconditions.
    hint_to_add_capabilities(unsafe { libc::geteuid() })
}

fn hint_to_add_capabilities(user: u32) -> &'static str {
    match user {
        0 => {
            "hud runs as root, but its container or service drops these capabilities; add them: \
             docker run --cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE, \
             securityContext.capabilities.add in Kubernetes, CapabilityBoundingSet in systemd"
        }
        _ => {
            "run it with sudo, or once: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace=ep \
             \"$(command -v hud)\""
        }
    }
}

/// What can help when the kernel refuses access to a process.
pub fn access_hint() -> &'static str {
    let status = Process::myself().and_then(|process| process.status());
    hint_for_access(status.map_or((0, 0), |status| (status.euid, status.capeff)))
}

fn hint_for_access((user, capabilities): (u32, u64)) -> &'static str {
    match capabilities & (1 << CAP_SYS_PTRACE) {
        0 => hint_to_add_capabilities(user),
        _ => {
            "hud has the capabilities for it: a security module (SELinux, AppArmor, Yama) or a user \
             namespace forbids it; the kernel's log may say which"
        }
    }
}

/// `PF_KTHREAD` of the kernel's task flags.
pub(super) const PF_KTHREAD: u32 = 0x0020_0000;

/// A live user process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its PID in hud's own namespace.
    pub pid: u32,
    /// The process's name, at most 15 bytes.
    pub comm: String,
    /// The command line, arguments separated by spaces; `comm` where there is none.
    pub command: String,
    /// What `/proc/PID/exe` points to, in the process's own mount namespace; ends in ` (deleted)` once
    /// the file was replaced.
    pub executable: PathBuf,
    /// When it started, in clock ticks after boot: another value means that the PID was reused.
    pub start_time: u64,
}

impl Target {
    /// The process with that PID.
    ///
    /// # Errors
    /// A [`Failure`] when there is none, when it is a kernel thread, a zombie or a thread other than
    /// its process's first, and when hud is not permitted to read it.
    pub fn open(pid: u32) -> Result<Target> {
        let gone = || Failure::new(Kind::Failed, format!("no process has PID {pid}"));
        let number = i32::try_from(pid).ok().filter(|pid| *pid > 0);
        let number = number.ok_or_else(gone)?;
        let process = Process::new(number).map_err(|error| explain(pid, &error))?;
        let stat = process.stat().map_err(|error| explain(pid, &error))?;
        let status = process.status().map_err(|error| explain(pid, &error))?;
        if status.tgid != number {
            return Err(Failure::new(
                Kind::Usage,
                format!("{pid} is a thread of process {}", status.tgid),
            )
            .hint(format!("hud --pid {}", status.tgid))
            .into());
        }
        if stat.flags & PF_KTHREAD != 0 {
            return Err(Failure::new(
                Kind::Failed,
                format!("PID {pid} ({}) is a kernel thread", stat.comm),
            )
            .hint("name a process that runs a Tokio program")
            .into());
        }
        if matches!(stat.state, 'Z' | 'X' | 'x') {
            return Err(exited(pid, Some(&stat.comm)).into());
        }
        let executable = process.exe().map_err(|error| explain(pid, &error))?;
        Ok(Target {
            pid,
            command: command(&process, &stat),
            comm: stat.comm,
            executable,
            start_time: stat.starttime,
        })
    }

    /// The failure to report once this process has exited.
    pub fn exited(&self) -> Failure {
        exited(self.pid, Some(&self.comm))
    }

    /// Whether the process still runs; false if its PID was reused.
    pub fn is_alive(&self) -> bool {
        i32::try_from(self.pid)
            .map(Process::new)
            .is_ok_and(|process| {
                process
                    .and_then(|process| process.stat())
                    .is_ok_and(|stat| {
                        stat.starttime == self.start_time && !matches!(stat.state, 'Z' | 'X' | 'x')
                    })
            })
    }
}

/// A pidfd: tells whether the process still runs, at a cost that does not depend on the number of
/// its threads (`/proc/PID/stat` adds up the times of all of them).
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process.
    ///
    /// # Errors
    /// A [`Failure`] when it has exited.
    pub fn open(target: &Target) -> Result<PidFd> {
        // SAFETY: takes two integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, target.pid, 0) };
        let pidfd = match i32::try_from(fd) {
            // SAFETY: the descriptor is new and has no other owner.
            Ok(fd) if fd >= 0 => PidFd(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => return Err(target.exited().into()),
        };
        // The PID may have been reused before it was opened.
        match target.is_alive() {
            true => Ok(pidfd),
            false => Err(target.exited().into()),
        }
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd; the call does not block.
        unsafe { libc::poll(&mut poll, 1, 0) == 0 }
    }
}

/// The command line, arguments separated by spaces; the name where there is none.
pub(super) fn command(process: &Process, stat: &Stat) -> String {
    match process.cmdline() {
        Ok(arguments) if !arguments.is_empty() => arguments.join(" "),
        _ => stat.comm.clone(),
    }
}

/// The failure to report when the process `pid` has exited; `name` where it is known.
fn exited(pid: u32, name: Option<&str>) -> Failure {
    let name = name.map_or(String::new(), |name| format!(" ({name})"));
    Failure::new(Kind::Failed, format!("PID {pid}{name} has exited"))
}

/// The failure for an error of procfs about that process.
fn explain(pid: u32, error: &ProcError) -> Failure {
    let vanished = |error: &std::io::Error| error.raw_os_error() == Some(libc::ESRCH);
    match error {
        ProcError::PermissionDenied(_) => Failure::new(
            Kind::Permission,
            format!("not permitted to read process {pid}"),
        )
        .hint(access_hint()),
        ProcError::NotFound(_) => Failure::new(Kind::Failed, format!("no process has PID {pid}"))
            .hint("list the running ones with: ps -e"),
        ProcError::Io(io, _) if vanished(io) => exited(pid, None),
        other => Failure::new(
            Kind::Failed,
            format!("process {pid} cannot be read: {other}"),
        ),
    }
}

/// Converts the result of a procfs call about the process `pid`.
///
/// # Errors
/// A [`Failure`] that explains procfs's error.
pub fn readable<T>(pid: u32, result: ProcResult<T>) -> std::result::Result<T, Failure> {
    result.map_err(|error| explain(pid, &error))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn failure(result: Result<Target>) -> Failure {
        result.unwrap_err().downcast::<Failure>().unwrap()
    }

    #[test]
    fn a_pidfd_tells_when_its_process_exits() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let target = Target::open(child.id()).unwrap();
        let pidfd = PidFd::open(&target).unwrap();
        assert!(pidfd.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!pidfd.is_alive());
        let failure = PidFd::open(&target).unwrap_err().to_string();
        assert!(failure.contains("has exited"), "{failure}");
    }

    #[test]
    fn hud_itself_can_be_opened_and_is_alive() {
        let target = Target::open(std::process::id()).unwrap();
        assert_eq!(target.executable, std::env::current_exe().unwrap());
        assert!(target.is_alive());
        let reused = Target {
            start_time: target.start_time + 1,
            ..target
        };
        assert!(!reused.is_alive());
    }

    #[test]
    fn a_pid_without_a_process_is_an_error() {
        assert!(failure(Target::open(0)).what.contains("no process"));
        assert!(failure(Target::open(u32::MAX)).what.contains("no process"));
        assert!(failure(Target::open(4_194_305)).what.contains("no process"));
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let (tid_send, tid) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: gettid has no preconditions.
            tid_send.send(unsafe { libc::gettid() }).unwrap();
            let _ = receive.recv();
        });
        let error = failure(Target::open(tid.recv().unwrap() as u32));
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.what.contains(&std::process::id().to_string()));
        drop(send);
        thread.join().unwrap();
    }

    #[test]
    fn whoever_has_the_privileges_already_is_not_sent_to_sudo() {
        assert!(hint_for_access((1000, 0)).contains("sudo"));
        let dropped = hint_for_access((0, 0));
        assert!(dropped.contains("--cap-add") && !dropped.contains("sudo"));
        for user in [0, 1000] {
            let forbidden = hint_for_access((user, 1 << CAP_SYS_PTRACE));
            assert!(forbidden.contains("security module"), "{forbidden}");
            assert!(!forbidden.contains("sudo"), "{forbidden}");
        }
    }

    #[test]
    fn a_zombie_has_exited() {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        let zombie = || {
            Process::new(child.id() as i32)
                .and_then(|process| process.stat())
                .is_ok_and(|stat| stat.state == 'Z')
        };
        while !zombie() {
            std::thread::yield_now();
        }
        assert!(failure(Target::open(child.id())).what.contains("exited"));
        child.wait().unwrap();
    }
}
