//! Finds the target process by its name, or by its PID inside a container.

use std::fmt::Write as _;

use anyhow::Result;

use super::process::{PF_KTHREAD, Target, command};
use crate::failure::{Failure, Kind};

/// Limit of the processes listed where several match.
const MAX_LISTED: usize = 20;

/// The kernel cuts process names to this many bytes.
const MAX_COMM: usize = 15;

/// The one process that matches `name`: its name or its executable's file name is `name`, or where
/// there is no such process, contains it. The process `own_pid` never matches.
///
/// # Errors
/// A [`Failure`] when none or several match, and those of [`Target::open`].
pub fn by_name(name: &str, own_pid: u32) -> Result<Target> {
    let all = candidates(own_pid)?;
    let all: Vec<&Candidate> = all.iter().collect();
    match named(&all, name).as_slice() {
        [] => Err(none(name, &all).into()),
        [one] => Target::open(one.pid),
        several => Err(ambiguous(&format!("match {name:?}"), several).into()),
    }
}

/// The one process that has this PID in a namespace other than hud's, as in a container, and matches
/// `name` where one is given. The process `own_pid` never matches.
///
/// # Errors
/// As [`by_name`].
pub fn by_container_pid(pid: u32, name: Option<&str>, own_pid: u32) -> Result<Target> {
    let all = candidates(own_pid)?;
    let inside: Vec<&Candidate> = all.iter().filter(|c| c.inner_pid == Some(pid)).collect();
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
                    "--pid takes a PID outside of containers; to see the one inside: \
                       grep NSpid /proc/PID/status",
                )
                .into())
        }
        [one] => Target::open(one.pid),
        several => {
            let have = format!("have PID {pid} inside a container");
            Err(ambiguous(&have, several).into())
        }
    }
}

/// A hint for a PID that no process has here, if one has it inside a container.
pub fn container_hint(pid: u32, own_pid: u32) -> Option<String> {
    let all = candidates(own_pid).ok()?;
    let inside = all.iter().any(|c| c.inner_pid == Some(pid));
    inside.then(|| format!("a process inside a container has it: hud --container-pid {pid}"))
}

/// The processes with that name, or where there are none, those whose name contains it.
fn named<'a>(all: &[&'a Candidate], name: &str) -> Vec<&'a Candidate> {
    let matching = |matches: &dyn Fn(&str) -> bool| -> Vec<&'a Candidate> {
        let matching = all
            .iter()
            .filter(|candidate| candidate.names().any(matches));
        matching.copied().collect()
    };
    let exact = matching(&|other| other == name);
    match exact.is_empty() && !name.is_empty() {
        true => matching(&|other| other.contains(name)),
        false => exact,
    }
}

/// A process that a name can match.
#[derive(Clone, Debug)]
struct Candidate {
    pid: u32,
    /// Its PID in its own namespace, if that is not hud's.
    inner_pid: Option<u32>,
    comm: String,
    /// File name of the executable, where it may be read.
    file: Option<String>,
    command: String,
}

impl Candidate {
    /// The process's name and its executable's file name. The former is left out where the kernel
    /// cut it from the latter.
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
    // Processes that exit while the list is read are left out.
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
        // The PIDs from hud's namespace to the process's own.
        let numbers = process.status().ok().and_then(|status| status.nspid);
        let inner_pid = numbers
            .filter(|numbers| numbers.len() > 1)
            .and_then(|numbers| u32::try_from(*numbers.last()?).ok());
        found.push(Candidate {
            pid,
            inner_pid,
            command: command(&process, &stat),
            comm: stat.comm,
            file,
        });
    }
    found.sort_by_key(|candidate| candidate.pid);
    Ok(found)
}

fn none(name: &str, all: &[&Candidate]) -> Failure {
    let lower = name.to_lowercase();
    let mut near: Vec<&str> = all
        .iter()
        .flat_map(|candidate| candidate.names())
        .filter(|other| is_near(&lower, &other.to_lowercase()))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(5);
    let failure = Failure::new(Kind::Failed, format!("no process is called {name:?}"));
    if near.is_empty() {
        failure
            .hint("is it running? Process names are cut to 15 characters; hud --pid PID takes any")
    } else {
        failure.hint(format!("did you mean: {}?", near.join(", ")))
    }
}

/// Whether two lower-case names differ in separators and at most two characters.
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

/// The failure where several processes `match ...` or `have ...`.
fn ambiguous(verb: &str, several: &[&Candidate]) -> Failure {
    let mut what = format!("{} processes {verb}:", several.len());
    for candidate in several.iter().take(MAX_LISTED) {
        let line: String = candidate.command.chars().take(100).collect();
        // Writing to a string cannot fail.
        let _ = write!(what, "\n  {:>8}  {line}", candidate.pid);
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
        let own = std::process::id();
        assert_eq!(
            by_name("hud-test-needle", own).unwrap().pid,
            short[0].0.id()
        );
        assert_eq!(by_name("needle-long", own).unwrap().pid, long[0].0.id());
        let error = failure(by_name("hud-test-needl", own));
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.what.contains(&short[0].0.id().to_string()));
        assert!(error.what.contains(&long[0].0.id().to_string()));
        assert!(error.hint.unwrap().contains("--pid"));
    }

    #[test]
    fn similar_names_are_suggested() {
        let (_directory, _child) = sleepers("hudnearby", 1);
        let error = failure(by_name("hud-neraby", std::process::id()));
        assert!(error.hint.unwrap().contains("hudnearby"));
        let error = failure(by_name("zzqqxxyyvv", std::process::id()));
        assert_eq!(error.kind, Kind::Failed);
        assert!(error.hint.is_some());
    }

    #[test]
    fn hud_never_matches_itself() {
        let name = Target::open(std::process::id()).unwrap().comm;
        if let Ok(other) = by_name(&name, std::process::id()) {
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
        // This process is in no container.
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
