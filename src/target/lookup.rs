//! Finds the target process: by its name, its executable, or its PID inside a container.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::process::{PF_KTHREAD, Target, command};
use crate::failure::{Failure, Kind};

/// At most this many processes are listed when several match.
const MAX_LISTED: usize = 20;

/// The kernel cuts process names to this many bytes.
const MAX_COMM: usize = 15;

/// The one process of that name: the whole name of the process or of its executable file if one
/// matches, part of either otherwise. The process `own_pid` never matches.
///
/// # Errors
/// A [`Failure`] when none or several match, and those of [`Target::open`]. If none matches, similar
/// names are proposed, but only of processes that `is_tokio` accepts.
pub fn by_name(name: &str, own_pid: u32, is_tokio: impl Fn(&Running) -> bool) -> Result<Target> {
    let all = running(own_pid)?;
    let all: Vec<&Running> = all.iter().collect();
    match named(&all, name).as_slice() {
        [] => Err(none(name, &all, is_tokio).into()),
        [one] => Target::open(one.pid),
        several => Err(ambiguous(&format!("match {name:?}"), several).into()),
    }
}

/// The one process that runs the executable file at `path`. The process `own_pid` never matches.
///
/// # Errors
/// A [`Failure`] when none or several do, and those of [`Target::open`].
pub fn by_executable(path: &Path, own_pid: u32) -> Result<Target> {
    let identity = path
        .metadata()
        .map(|file| (file.dev(), file.ino()))
        .with_context(|| path.display().to_string())?;
    let all = running(own_pid)?;
    let matching: Vec<&Running> = all
        .iter()
        .filter(|process| process.executable == Some(identity))
        .collect();
    match matching.as_slice() {
        [] => {
            let what = format!("no process runs {}", path.display());
            Err(Failure::new(Kind::Failed, what)
                .hint(
                    "is it running? A process whose file was replaced since is found by its name \
                     or PID",
                )
                .into())
        }
        [one] => Target::open(one.pid),
        several => Err(ambiguous(&format!("run {}", path.display()), several).into()),
    }
}

/// The one process that has this PID in a PID namespace other than hud's, as in a container; of
/// several the one that `name` matches as well. The process `own_pid` never matches.
///
/// # Errors
/// As [`by_name`].
pub fn by_container_pid(pid: u32, name: Option<&str>, own_pid: u32) -> Result<Target> {
    let all = running(own_pid)?;
    let inside: Vec<&Running> = all.iter().filter(|c| c.inner_pid == Some(pid)).collect();
    let matching = match name {
        Some(name) => named(&inside, name),
        None => inside,
    };
    match matching.as_slice() {
        [] => {
            let called = name.map_or(String::new(), |name| format!(" called {name:?}"));
            let what = format!("no process{called} has PID {pid} inside a container");
            Err(Failure::new(Kind::Failed, what)
                .hint(
                    "--pid takes the PID that hud itself sees; the one inside a container is the \
                     last in: grep NSpid /proc/PID/status",
                )
                .into())
        }
        [one] => Target::open(one.pid),
        several => {
            let fit = format!("have PID {pid} inside a container");
            Err(ambiguous(&fit, several).into())
        }
    }
}

/// The hint for a PID that no process has here but one inside a container has.
pub fn container_hint(pid: u32, own_pid: u32) -> Option<String> {
    let all = running(own_pid).ok()?;
    let inside = all.iter().any(|c| c.inner_pid == Some(pid));
    inside.then(|| format!("a process inside a container has it: hud --container-pid {pid}"))
}

/// Those that the name matches: whole if it matches any whole, in part otherwise.
fn named<'a>(all: &[&'a Running], name: &str) -> Vec<&'a Running> {
    let matching = |matches: &dyn Fn(&str) -> bool| -> Vec<&'a Running> {
        let matching = all.iter().filter(|process| process.names().any(matches));
        matching.copied().collect()
    };
    let exact = matching(&|other| other == name);
    match exact.is_empty() && !name.is_empty() {
        true => matching(&|other| other.contains(name)),
        false => exact,
    }
}

/// A user process that runs.
#[derive(Clone, Debug)]
pub struct Running {
    pub pid: u32,
    /// Its PID in its own PID namespace, if that is not hud's.
    pub inner_pid: Option<u32>,
    /// The process's name, at most 15 bytes.
    pub comm: String,
    /// The executable's file name, where hud may read it.
    pub file: Option<String>,
    /// Device and inode of the executable, where hud may read them.
    pub executable: Option<(u64, u64)>,
    /// The command line, arguments separated by spaces.
    pub command: String,
}

impl Running {
    /// The executable's file name if `comm` is only its beginning, cut by the kernel; else `comm`.
    pub fn name(&self) -> &str {
        self.names().next().unwrap_or(&self.comm)
    }

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

/// All user processes but `own_pid`, by PID. Processes that end meanwhile are left out.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn running(own_pid: u32) -> Result<Vec<Running>> {
    let mut found = Vec::new();
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
        let executable = std::fs::metadata(format!("/proc/{pid}/exe"));
        // The PIDs from hud's PID namespace to the process's own.
        let numbers = process.status().ok().and_then(|status| status.nspid);
        let inner_pid = numbers
            .filter(|numbers| numbers.len() > 1)
            .and_then(|numbers| u32::try_from(*numbers.last()?).ok());
        found.push(Running {
            pid,
            inner_pid,
            command: command(&process, &stat),
            comm: stat.comm,
            file,
            executable: executable.ok().map(|file| (file.dev(), file.ino())),
        });
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// The failure for a name that no process has, with similar names of Tokio processes.
fn none(name: &str, all: &[&Running], is_tokio: impl Fn(&Running) -> bool) -> Failure {
    let lower = name.to_lowercase();
    let is_near = |other: &&str| is_near(&lower, &other.to_lowercase());
    let mut near: Vec<&str> = all
        .iter()
        .filter(|process| process.names().any(|name| is_near(&name)) && is_tokio(process))
        .flat_map(|process| process.names().filter(is_near))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(5);
    let failure = Failure::new(Kind::Failed, format!("no process is called {name:?}"));
    if near.is_empty() {
        failure.hint("hud without arguments lists the Tokio processes; hud --pid PID watches any")
    } else {
        failure.hint(format!("did you mean: {}?", near.join(", ")))
    }
}

/// Whether two lower-case names differ only in separators, by up to three letters more, or in two.
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

/// The failure for several processes that "match ...", "run ..." or "have ...".
fn ambiguous(matching: &str, several: &[&Running]) -> Failure {
    let mut what = format!("{} processes {matching}:", several.len());
    for process in several.iter().take(MAX_LISTED) {
        let line: String = process.command.chars().take(100).collect();
        // Writing to a string cannot fail.
        let _ = write!(what, "\n  {:>8}  {line}", process.pid);
    }
    if several.len() > MAX_LISTED {
        let _ = write!(what, "\n  and {} more", several.len() - MAX_LISTED);
    }
    Failure::new(Kind::Usage, what).hint("choose one with: hud --pid PID")
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A child process that is killed even if the test fails.
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

    /// A copy of `sleep` under another name, started `count` times.
    fn sleepers(name: &str, count: usize) -> (tempfile::TempDir, Vec<Guard>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        std::fs::copy("/bin/sleep", &file).unwrap();
        let start = || Guard(Command::new(&file).arg("60").spawn().unwrap());
        let children: Vec<Guard> = (0..count).map(|_| start()).collect();
        (directory, children)
    }

    #[test]
    fn whole_names_match_before_parts() {
        let (_one, long) = sleepers("hud-test-needle-long", 1);
        let (_two, short) = sleepers("hud-test-needle", 1);
        let find = |name| by_name(name, std::process::id(), |_| true);
        assert_eq!(find("hud-test-needle").unwrap().pid, short[0].0.id());
        assert_eq!(find("needle-long").unwrap().pid, long[0].0.id());
        let error = failure(find("hud-test-needl"));
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.what.contains(&short[0].0.id().to_string()));
        assert!(error.what.contains(&long[0].0.id().to_string()));
        assert!(error.hint.unwrap().contains("--pid"));
    }

    #[test]
    fn similar_names_are_suggested() {
        let (_directory, _child) = sleepers("hudnearby", 1);
        let find = |name, is_tokio| failure(by_name(name, std::process::id(), |_| is_tokio));
        let error = find("hud-neraby", true);
        assert!(error.hint.unwrap().contains("hudnearby"));
        let error = find("hud-neraby", false);
        assert!(!error.hint.unwrap().contains("hudnearby"));
        let error = find("zzqqxxyyvv", true);
        assert_eq!(error.kind, Kind::Failed);
        assert!(error.hint.is_some());
    }

    #[test]
    fn the_path_of_an_executable_finds_its_process() {
        let (directory, children) = sleepers("hud-by-path", 1);
        let (_other, _child) = sleepers("hud-by-path", 1);
        let own = std::process::id();
        let path = directory.path().join("hud-by-path");
        let target = by_executable(&path, own).unwrap();
        assert_eq!(target.pid, children[0].0.id());
        drop(children);
        assert_eq!(failure(by_executable(&path, own)).kind, Kind::Failed);
    }

    #[test]
    fn hud_never_matches_itself() {
        let name = Target::open(std::process::id()).unwrap().comm;
        if let Ok(other) = by_name(&name, std::process::id(), |_| true) {
            assert_ne!(other.pid, std::process::id());
        }
    }

    #[test]
    fn pids_inside_a_container_differ_from_those_outside() {
        // A PID namespace whose first process is a sleeper.
        let (directory, _none) = sleepers("hud-inside", 0);
        let file = directory.path().join("hud-inside");
        let start = || {
            let unshare = Command::new("unshare")
                .args(["--pid", "--fork", "--kill-child"])
                .args([file.as_os_str(), "60".as_ref()])
                .spawn()
                .unwrap();
            Guard(unshare)
        };
        let own = std::process::id();
        let find = |name| by_container_pid(1, Some(name), own);
        let _one = start();
        let waited = std::time::Instant::now();
        let target = loop {
            match find("hud-inside") {
                Ok(target) => break target,
                Err(error) if waited.elapsed().as_secs() < 10 => drop(error),
                // Creating a namespace needs root.
                Err(error) => {
                    // SAFETY: no preconditions.
                    assert_ne!(unsafe { libc::geteuid() }, 0, "{error}");
                    eprintln!("skipped: unshare needs root");
                    return;
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        assert_eq!(target.comm, "hud-inside");
        assert_ne!(target.pid, 1);
        let hint = container_hint(1, own).unwrap();
        assert!(hint.contains("--container-pid 1"), "{hint}");
        assert_eq!(failure(find("no-such-name")).kind, Kind::Failed);
        // This process is in no container, so its PID is none inside of one.
        let error = failure(by_container_pid(own, None, 0));
        assert_eq!(error.kind, Kind::Failed, "{error}");
        // A second container has a PID 1 as well.
        let _two = start();
        let waited = std::time::Instant::now();
        while find("hud-inside").is_ok() && waited.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let error = failure(find("hud-inside"));
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.what.contains(&target.pid.to_string()), "{error}");
    }
}
