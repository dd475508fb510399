//! The process to look at: found by its number or its name.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use procfs::process::{Process, Stat};
use procfs::{ProcError, ProcResult};

use crate::failure::{Failure, Kind};

/// What grants the permissions hud needs, for its messages.
pub const PRIVILEGES: &str = "run it with sudo, or once: \
    sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace=ep \"$(command -v hud)\"";

/// At most this many processes are listed when a name fits several, or nearly fits some.
const MAX_LISTED: usize = 20;

/// The kernel cuts process names to this many bytes.
const MAX_COMM: usize = 15;

/// `PF_KTHREAD` of the kernel's task flags.
const PF_KTHREAD: u32 = 0x0020_0000;

/// A live user process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its number in hud's own PID namespace.
    pub pid: u32,
    /// The process's name, at most 15 bytes.
    pub comm: String,
    /// The command line, arguments separated by spaces; `comm` where there is none.
    pub command: String,
    /// What `/proc/PID/exe` points to, as the process's own mount namespace names it; ends in
    /// ` (deleted)` once the file was replaced.
    pub executable: PathBuf,
    /// When it started, clock ticks after boot: another value means the number was used again.
    pub start_time: u64,
}

impl Target {
    /// The process of that number.
    ///
    /// # Errors
    /// A [`Failure`] when there is none, when it is a kernel thread, a zombie or a thread other
    /// than its process's first, and when hud may not look at it.
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
            .mend(format!("hud --pid {}", status.tgid))
            .into());
        }
        if stat.flags & PF_KTHREAD != 0 {
            return Err(Failure::new(
                Kind::Failed,
                format!("PID {pid} ({}) is a kernel thread", stat.comm),
            )
            .mend("name a process that runs a Tokio program")
            .into());
        }
        if matches!(stat.state, 'Z' | 'X' | 'x') {
            return Err(Failure::new(
                Kind::Failed,
                format!("PID {pid} ({}) has exited", stat.comm),
            )
            .into());
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

    /// Whether this very process still runs.
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

/// The one process that `name` fits: the whole name of the process or of its executable's file
/// first, part of either otherwise. The process `own_pid` never fits.
///
/// # Errors
/// A [`Failure`] when none or several fit, and those of [`Target::open`].
pub fn find(name: &str, own_pid: u32) -> Result<Target> {
    let all = candidates(own_pid)?;
    let exact: Vec<&Candidate> = all
        .iter()
        .filter(|c| c.names().any(|n| n == name))
        .collect();
    let fitting = if exact.is_empty() {
        all.iter()
            .filter(|c| !name.is_empty() && c.names().any(|n| n.contains(name)))
            .collect()
    } else {
        exact
    };
    match fitting.as_slice() {
        [] => Err(none(name, &all).into()),
        [one] => Target::open(one.pid),
        several => Err(ambiguous(name, several).into()),
    }
}

/// A process that a name can fit.
#[derive(Clone, Debug)]
struct Candidate {
    pid: u32,
    comm: String,
    /// File name of the executable, where it may be read.
    file: Option<String>,
    command: String,
}

impl Candidate {
    /// The process's name and its executable's; the former is left out where it is only the
    /// beginning of the latter, cut by the kernel.
    fn names(&self) -> impl Iterator<Item = &str> {
        let comm = Some(self.comm.as_str());
        let file = self.file.as_deref();
        let is_cut = |comm: &&str| {
            comm.len() >= MAX_COMM && file.is_some_and(|file| file.starts_with(*comm))
        };
        comm.filter(|comm| !is_cut(comm)).into_iter().chain(file)
    }
}

fn candidates(own_pid: u32) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    // Processes that end while the list is read are left out.
    for process in procfs::process::all_processes()?.flatten() {
        let Ok(stat) = process.stat() else { continue };
        let Ok(pid) = u32::try_from(stat.pid) else {
            continue;
        };
        if pid == own_pid || stat.flags & PF_KTHREAD != 0 || matches!(stat.state, 'Z' | 'X') {
            continue;
        }
        let file = process.exe().ok().and_then(|path| {
            let name = path.file_name()?.to_string_lossy();
            let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
            Some(name.to_owned())
        });
        found.push(Candidate {
            pid,
            command: command(&process, &stat),
            comm: stat.comm,
            file,
        });
    }
    found.sort_by_key(|candidate| candidate.pid);
    Ok(found)
}

fn command(process: &Process, stat: &Stat) -> String {
    match process.cmdline() {
        Ok(arguments) if !arguments.is_empty() => arguments.join(" "),
        _ => stat.comm.clone(),
    }
}

/// The failure for an error of procfs about that process.
fn explain(pid: u32, error: &ProcError) -> Failure {
    let vanished = |error: &std::io::Error| error.raw_os_error() == Some(libc::ESRCH);
    match error {
        ProcError::PermissionDenied(_) => Failure::new(
            Kind::Permission,
            format!("not permitted to look at process {pid}"),
        )
        .mend(PRIVILEGES),
        ProcError::NotFound(_) => Failure::new(Kind::Failed, format!("no process has PID {pid}"))
            .mend("list the running ones with: ps -e"),
        ProcError::Io(io, _) if vanished(io) => {
            Failure::new(Kind::Failed, format!("process {pid} has exited"))
        }
        other => Failure::new(
            Kind::Failed,
            format!("process {pid} cannot be read: {other}"),
        ),
    }
}

fn none(name: &str, all: &[Candidate]) -> Failure {
    let lower = name.to_lowercase();
    let mut near: Vec<&str> = all
        .iter()
        .flat_map(Candidate::names)
        .filter(|other| is_near(&lower, &other.to_lowercase()))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(5);
    let failure = Failure::new(Kind::Failed, format!("no process is called {name:?}"));
    if near.is_empty() {
        failure
            .mend("is it running? Process names are cut to 15 characters; hud --pid PID takes any")
    } else {
        failure.mend(format!("did you mean: {}?", near.join(", ")))
    }
}

/// Whether two lower-case names differ only in case or separators, by containment or in little.
fn is_near(a: &str, b: &str) -> bool {
    let plain = |s: &str| -> Vec<char> { s.chars().filter(|c| c.is_alphanumeric()).collect() };
    let (a, b) = (plain(a), plain(b));
    let (short, long) = if a.len() <= b.len() {
        (&a, &b)
    } else {
        (&b, &a)
    };
    if short.len() < 3 || long.len() - short.len() > 3 {
        return false;
    }
    let start = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let rest = &short[start..];
    let end = rest
        .iter()
        .rev()
        .zip(long[start..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    rest.len() - end <= 2
}

fn ambiguous(name: &str, several: &[&Candidate]) -> Failure {
    let mut what = format!("{} processes fit {name:?}:", several.len());
    for candidate in several.iter().take(MAX_LISTED) {
        let line: String = candidate.command.chars().take(100).collect();
        // Writing to a string cannot fail.
        let _ = write!(what, "\n  {:>8}  {line}", candidate.pid);
    }
    if several.len() > MAX_LISTED {
        let _ = write!(what, "\n  and {} more", several.len() - MAX_LISTED);
    }
    Failure::new(Kind::Usage, what).mend("choose one with: hud --pid PID")
}

/// The result of a procfs call, or the failure that explains it.
pub fn readable<T>(pid: u32, result: ProcResult<T>) -> std::result::Result<T, Failure> {
    result.map_err(|error| explain(pid, &error))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A child that is stopped whatever becomes of the test.
    struct Guard(Child);

    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn failure(result: Result<Target>) -> Failure {
        result.unwrap_err().downcast::<Failure>().unwrap()
    }

    /// A copy of `sleep` under a name of its own, started `count` times.
    fn sleepers(name: &str, count: usize) -> (tempfile::TempDir, Vec<Guard>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        std::fs::copy("/bin/sleep", &file).unwrap();
        let start = || Guard(Command::new(&file).arg("60").spawn().unwrap());
        let children: Vec<Guard> = (0..count).map(|_| start()).collect();
        (directory, children)
    }

    #[test]
    fn oneself_can_be_opened_and_lives() {
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
    fn what_is_no_process_is_said() {
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

    #[test]
    fn names_fit_whole_first_then_in_part() {
        let (_one, long) = sleepers("hud-test-needle-long", 1);
        let (_two, short) = sleepers("hud-test-needle", 1);
        let own = std::process::id();
        assert_eq!(find("hud-test-needle", own).unwrap().pid, short[0].0.id());
        assert_eq!(find("needle-long", own).unwrap().pid, long[0].0.id());
        let error = failure(find("hud-test-needl", own));
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.what.contains(&short[0].0.id().to_string()));
        assert!(error.what.contains(&long[0].0.id().to_string()));
        assert!(error.mend.unwrap().contains("--pid"));
    }

    #[test]
    fn near_names_are_offered() {
        let (_directory, _child) = sleepers("hudnearby", 1);
        let error = failure(find("hud-neraby", std::process::id()));
        assert!(error.mend.unwrap().contains("hudnearby"));
        let error = failure(find("zzqqxxyyvv", std::process::id()));
        assert_eq!(error.kind, Kind::Failed);
        assert!(error.mend.is_some());
    }

    #[test]
    fn one_process_never_fits_its_own_observer() {
        let name = Target::open(std::process::id()).unwrap().comm;
        if let Ok(other) = find(&name, std::process::id()) {
            assert_ne!(other.pid, std::process::id());
        }
    }
}
