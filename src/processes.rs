//! The Tokio processes of this machine: what `hud` without arguments lists, and lets the user choose
//! from.
//!
//! Only files and `/proc` are read. Nothing is attached, so the tier is the one to expect.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use procfs::process::Process;

use crate::failure::{Failure, Kind};
use crate::model::Tier;
use crate::target::lookup::{self, Running};
use crate::text;
use crate::tokio::{self, Discovery, names};

/// CPU use is measured over at least this long.
const CPU_INTERVAL: Duration = Duration::from_millis(250);
/// Columns of the command line in the list.
const COMMAND_COLUMNS: usize = 50;

/// A process that runs Tokio.
#[derive(Clone, Debug)]
pub struct TokioProcess {
    pub pid: u32,
    pub name: String,
    pub command: String,
    /// Tokio's version; None where the executable does not say.
    pub version: Option<String>,
    /// How hud will probably know Tokio's state; None if this Tokio is too old.
    pub tier: Option<Tier>,
    /// All of its threads, and those with the name that Tokio gives to workers and pool threads.
    pub threads: usize,
    pub tokio_threads: usize,
    /// CPU time per time: 1 is one CPU fully used.
    pub cpu: f64,
}

/// The Tokio processes that were found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Busiest first.
    pub processes: Vec<TokioProcess>,
    /// Processes whose executable hud may not read.
    pub unreadable: usize,
}

/// What an executable's file says about Tokio in it.
#[derive(Clone, Debug)]
struct Linked {
    version: Option<String>,
    tier: Option<Tier>,
}

/// All Tokio processes but `own_pid`. Takes at least a quarter of a second, to measure their CPU use.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn list(own_pid: u32) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut known = HashMap::new();
    let mut found = Vec::new();
    for process in lookup::running(own_pid)? {
        let Some(identity) = process.executable else {
            listing.unreadable += usize::from(is_forbidden(process.pid));
            continue;
        };
        let linked = known
            .entry(identity)
            .or_insert_with(|| inspect(process.pid));
        if let Some(linked) = linked.clone() {
            found.push((Instant::now(), cpu_time(process.pid), process, linked));
        }
    }
    thread::sleep(CPU_INTERVAL);
    listing.processes = found
        .into_iter()
        .filter_map(|(at, before, process, linked)| {
            let used = cpu_time(process.pid)?.saturating_sub(before?);
            let (threads, tokio_threads) = threads(process.pid)?;
            Some(TokioProcess {
                pid: process.pid,
                name: process.name().to_owned(),
                command: process.command,
                version: linked.version,
                tier: linked.tier,
                threads,
                tokio_threads,
                cpu: used.as_secs_f64() / at.elapsed().as_secs_f64(),
            })
        })
        .collect();
    let order = |p: &TokioProcess| (std::cmp::Reverse((p.cpu * 1e3) as u64), p.pid);
    listing.processes.sort_by_key(order);
    Ok(listing)
}

/// Whether the process runs, and hud may not read its executable.
fn is_forbidden(pid: u32) -> bool {
    let executable = std::fs::metadata(format!("/proc/{pid}/exe"));
    executable.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Whether the process's executable contains Tokio.
pub fn is_tokio(process: &Running) -> bool {
    inspect(process.pid).is_some()
}

/// What the process's executable says about Tokio; None if there is none in it.
fn inspect(pid: u32) -> Option<Linked> {
    let executable = format!("/proc/{pid}/exe");
    let discovery = tokio::discover(Path::new(&executable), None).ok()?;
    let version = discovery.tokio_version().map(str::to_owned);
    let contains_tokio = version.is_some() || discovery.context_symbol;
    contains_tokio.then(|| Linked {
        version,
        tier: expected_tier(&discovery),
    })
}

/// The tier that hud will probably use, by the executable's file alone.
fn expected_tier(discovery: &Discovery) -> Option<Tier> {
    if !discovery.exact.is_empty() {
        Some(Tier::DebugInfo)
    } else if !discovery.candidates.is_empty() {
        Some(Tier::VersionTable)
    } else if !discovery.shapes.is_empty() {
        Some(Tier::Scan)
    } else {
        None
    }
}

/// The CPU time of all threads of the process.
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = process(pid)?.stat().ok()?;
    let ticks = (stat.utime + stat.stime) as f64;
    Some(Duration::from_secs_f64(
        ticks / procfs::ticks_per_second() as f64,
    ))
}

/// The number of threads, and of those with Tokio's own names.
fn threads(pid: u32) -> Option<(usize, usize)> {
    let tasks = process(pid)?.tasks().ok()?;
    let names: Vec<String> = tasks
        .flatten()
        .filter_map(|task| Some(task.stat().ok()?.comm))
        .collect();
    let is_tokios = |name: &&String| names::THREADS.iter().any(|tokios| name.starts_with(tokios));
    Some((names.len(), names.iter().filter(is_tokios).count()))
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

impl Listing {
    /// The processes as a table, one a line; with numbers to choose by, if wanted.
    pub fn table(&self, numbered: bool) -> String {
        let name_width = |p: &TokioProcess| text::width(&p.name);
        let columns = self
            .processes
            .iter()
            .map(name_width)
            .max()
            .unwrap_or(0)
            .max(4);
        let number = |text: &str| match numbered {
            true => format!("{text:>3}  "),
            false => String::new(),
        };
        let mut table = format!(
            "{}{:>8}  {}  {:<8}  TIER  {:>7}  {:>4}  COMMAND\n",
            number("#"),
            "PID",
            text::left("NAME", columns),
            "TOKIO",
            "THREADS",
            "CPU",
        );
        for (index, process) in self.processes.iter().enumerate() {
            let tier = process
                .tier
                .map_or("-".to_owned(), |tier| tier.number().to_string());
            table += &format!(
                "{}{:>8}  {}  {:<8}  {:<4}  {:>7}  {:>4}  {}\n",
                number(&(index + 1).to_string()),
                process.pid,
                text::left(&process.name, columns),
                process.version.as_deref().unwrap_or("?"),
                tier,
                format!("{}/{}", process.tokio_threads, process.threads),
                text::percent(process.cpu),
                text::cut(&text::clean(&process.command), COMMAND_COLUMNS),
            );
        }
        table += "TIER: how hud will probably track polls ('Tracking tiers' in hud --help); - is too old\n\
                  THREADS: those that Tokio names / all\n";
        table
    }

    /// What the list lacks.
    pub fn note(&self) -> Option<String> {
        // SAFETY: no preconditions.
        let hint = match unsafe { libc::geteuid() } {
            0 => "",
            _ => "; with sudo, hud sees those of other users as well",
        };
        match self.unreadable {
            0 => None,
            1 => Some(format!("the executable of 1 process cannot be read{hint}")),
            n => Some(format!(
                "the executables of {n} processes cannot be read{hint}"
            )),
        }
    }

    /// The failure when there is no Tokio process.
    pub fn nothing_found(&self) -> Failure {
        let failure = Failure::new(Kind::Failed, "no process here runs Tokio");
        match self.note() {
            Some(note) => failure.hint(note),
            None => failure.hint("start one, or look at a recorded trace: hud --replay FILE"),
        }
    }

    /// Asks for one of the processes until there is an answer; None if the user wants none.
    ///
    /// # Errors
    /// When the terminal cannot be read or written.
    pub fn choose(
        &self,
        mut input: impl BufRead,
        mut output: impl Write,
    ) -> io::Result<Option<&TokioProcess>> {
        write!(output, "{}", self.table(true))?;
        loop {
            write!(output, "Watch which one? Number, or q [1]: ")?;
            output.flush()?;
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim() {
                "" => return Ok(self.processes.first()),
                "q" => return Ok(None),
                answer => {
                    let index = answer.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    if let Some(process) = index.and_then(|index| self.processes.get(index)) {
                        return Ok(Some(process));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let process = |pid, name: &str, cpu| TokioProcess {
            pid,
            name: name.into(),
            command: format!("/srv/{name} --port 3000"),
            version: Some("1.54.1".into()),
            tier: Some(Tier::VersionTable),
            threads: 7,
            tokio_threads: 4,
            cpu,
        };
        Listing {
            processes: vec![
                process(4000, "shop", 0.123),
                process(17, "a-longer-name", 0.0),
            ],
            unreadable: 3,
        }
    }

    #[test]
    fn the_list_names_what_can_be_watched() {
        insta::assert_snapshot!(listing().table(false), @r"
             PID  NAME           TOKIO     TIER  THREADS   CPU  COMMAND
            4000  shop           1.54.1    2         4/7   12%  /srv/shop --port 3000
              17  a-longer-name  1.54.1    2         4/7    0%  /srv/a-longer-name --port 3000
        TIER: how hud will probably track polls ('Tracking tiers' in hud --help); - is too old
        THREADS: those that Tokio names / all
        ");
        assert!(listing().note().unwrap().contains("of 3 processes"));
    }

    #[test]
    fn one_is_chosen_by_its_number() {
        let choose = |answers: &str| {
            let mut shown = Vec::new();
            let listing = listing();
            let chosen = listing.choose(answers.as_bytes(), &mut shown).unwrap();
            let shown = String::from_utf8(shown).unwrap();
            (
                chosen.map(|process| process.pid),
                shown.matches("which one").count(),
            )
        };
        assert_eq!(choose("2\n"), (Some(17), 1));
        assert_eq!(choose("\n"), (Some(4000), 1));
        assert_eq!(choose("q\n"), (None, 1));
        assert_eq!(choose(""), (None, 1));
        assert_eq!(choose("0\n3\nshop\n1\n"), (Some(4000), 4));
    }

    /// This test program has Tokio as a dev-dependency; `sleep` has not.
    #[test]
    fn tokio_is_recognised_by_the_executable() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let found = list(0).unwrap();
        let own = std::process::id();
        let found_own = found.processes.iter().find(|process| process.pid == own);
        assert!(found_own.is_some_and(|process| process.tier.is_some() && process.threads > 0));
        assert!(
            found
                .processes
                .iter()
                .all(|process| process.pid != child.id())
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
