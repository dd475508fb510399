//! Runs a scenario, points hud at it, and brings back what both say.

use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hud::export::read_trace;
use hud::model::{Record, SlowPoll, Tier};
use procfs::CurrentSI as _;
use serde_json::Value;
use tempfile::TempDir;

/// Which binary of the scenarios.
#[derive(Clone, Debug)]
pub enum Build {
    /// `cargo build --release`: no debug info, no frame pointers.
    Release,
    Dev,
    Other(PathBuf),
}

impl Build {
    /// The program's path. `make test` builds both profiles of the examples.
    pub fn program(&self) -> PathBuf {
        let profiles = target_dir();
        let path = match self {
            Build::Release => profiles.join("release/examples/scenarios"),
            Build::Dev => profiles.join("debug/examples/scenarios"),
            Build::Other(path) => path.clone(),
        };
        assert!(path.exists(), "{} is not built", path.display());
        path
    }
}

/// cargo's target directory.
pub fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_hud"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// hud with these arguments, as root.
pub fn hud(arguments: &[&str]) -> Command {
    // SAFETY: no preconditions.
    assert_eq!(
        unsafe { libc::geteuid() },
        0,
        "live tests need root: use `make test`"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_hud"));
    command.args(arguments);
    command
}

/// A running target, ended when dropped.
pub struct Target {
    child: Child,
    pub pid: u32,
}

impl Target {
    /// Starts the program and waits until it says `ready PID`.
    pub fn start(program: &Path, arguments: &[&str]) -> Target {
        Target::run(Command::new(program).args(arguments))
    }

    /// As [`Target::start`], with whatever else the command says.
    pub fn run(command: &mut Command) -> Target {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let pid = child.id();
        assert_eq!(line, format!("ready {pid}\n"));
        // Whatever else it prints must not block it.
        thread::spawn(move || lines.lines().for_each(drop));
        Target { child, pid }
    }

    /// hud in its headless view, pointed at it, with more arguments.
    pub fn hud(&self, arguments: &[&str]) -> Command {
        let mut command = hud(&["--headless", "--pid", &self.pid.to_string()]);
        command.args(arguments);
        command
    }

    /// Waits for its own end.
    pub fn wait(mut self) {
        self.child.wait().unwrap();
    }

    /// Kills it now.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A scenario to be watched.
pub struct Run<'a> {
    pub build: &'a Build,
    pub scenario: &'a str,
    arguments: Vec<&'a str>,
    hud_arguments: Vec<&'a str>,
    seconds: u32,
    patient: bool,
    meanwhile: Option<Meanwhile>,
}

/// What happens to a process while hud watches it.
type Meanwhile = Box<dyn FnOnce(u32) + Send>;

impl<'a> Run<'a> {
    pub fn new(build: &'a Build, scenario: &'a str) -> Self {
        Run {
            build,
            scenario,
            arguments: Vec::new(),
            hud_arguments: Vec::new(),
            seconds: 4,
            patient: false,
            meanwhile: None,
        }
    }

    /// Does something to the program, by its PID, while hud watches it.
    pub fn meanwhile(mut self, what: impl FnOnce(u32) + Send + 'static) -> Self {
        self.meanwhile = Some(Box::new(what));
        self
    }

    /// Leaves hud as long to start as it takes; the program is killed after it.
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    pub fn arguments(mut self, arguments: &[&'a str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// More arguments for hud.
    pub fn hud(mut self, arguments: &[&'a str]) -> Self {
        self.hud_arguments.extend(arguments);
        self
    }

    /// How long hud watches.
    pub fn seconds(mut self, seconds: u32) -> Self {
        self.seconds = seconds;
        self
    }

    /// Runs both to their ends.
    pub fn watch(self) -> Watched {
        let scenario = self.scenario;
        self.try_watch()
            .unwrap_or_else(|refusal| panic!("{scenario}: {refusal}"))
    }

    /// The same; if hud fails, what it says. Where the hypervisor took much of the CPUs away, what
    /// came of it says little: then once more.
    pub fn try_watch(mut self) -> Result<Watched, String> {
        let meanwhile = self.meanwhile.take();
        let attempts = if meanwhile.is_some() { 1 } else { ATTEMPTS };
        let mut watched = self.once(meanwhile);
        for _ in 1..attempts {
            let (outcome, stolen) = &watched;
            if *stolen < MUCH_STOLEN {
                break;
            }
            eprintln!(
                "{}: the hypervisor took {:.0} % of the CPUs, {}; once more",
                self.scenario,
                stolen * 100.0,
                if outcome.is_ok() {
                    "and hud watched"
                } else {
                    "and hud refused"
                }
            );
            watched = self.once(None);
        }
        watched.0
    }

    /// One run, and which part of all CPU time the hypervisor took meanwhile.
    fn once(&self, meanwhile: Option<Meanwhile>) -> (Result<Watched, String>, f64) {
        let (before, begun) = (stolen(), Instant::now());
        let watched = self.watch_once(meanwhile);
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let all = begun.elapsed().as_secs_f64() * cpus as f64;
        (watched, (stolen() - before) / all)
    }

    fn watch_once(&self, meanwhile: Option<Meanwhile>) -> Result<Watched, String> {
        let folder = tempfile::tempdir().unwrap();
        let truth = folder.path().join("truth.jsonl");
        let trace = folder.path().join("trace.json");
        let start = if self.patient { 60 } else { 3 };
        let lasts = (self.seconds + start).to_string();
        let mut arguments = vec!["--scenario", self.scenario, "--duration", &lasts];
        arguments.extend(["--truth", truth.to_str().unwrap()]);
        arguments.extend(&self.arguments);
        let mut target = Target::start(&self.build.program(), &arguments);
        thread::sleep(Duration::from_millis(300));
        let meanwhile = meanwhile.map(|what| {
            let pid = target.pid;
            thread::spawn(move || what(pid))
        });
        let output = target
            .hud(&["--duration", &self.seconds.to_string()])
            .args(["--export", trace.to_str().unwrap()])
            .args(&self.hud_arguments)
            .output()
            .unwrap();
        if let Some(meanwhile) = meanwhile {
            meanwhile.join().unwrap();
        }
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        if self.patient {
            // The truth is written within milliseconds.
            thread::sleep(Duration::from_millis(500));
            target.kill();
        } else {
            target.wait();
        }
        let mut records = Vec::new();
        read_trace(&trace, |record| records.push(record)).unwrap();
        let text = std::fs::read_to_string(truth).unwrap();
        Ok(Watched {
            truth: text.lines().map(Truth::parse).collect(),
            records,
            report: String::from_utf8(output.stdout).unwrap(),
            trace,
            _folder: folder,
        })
    }
}

/// From this part of all CPU time on a run is repeated, and how often it is made at most.
const MUCH_STOLEN: f64 = 0.05;
const ATTEMPTS: usize = 3;

/// CPU time that the hypervisor has taken since the machine started, seconds.
fn stolen() -> f64 {
    let total = procfs::KernelStats::current().unwrap().total;
    total.steal_ms().unwrap_or(0) as f64 / 1000.0
}

/// A poll as the program timed it from inside. Times are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug)]
pub struct Truth {
    pub tid: u32,
    pub start_ns: u64,
    /// None for a poll that never ends.
    pub end_ns: Option<u64>,
    /// By the thread's own CPU clock.
    pub on_cpu_ns: u64,
    /// Empty where no code is to blame.
    pub function: String,
    pub cause: String,
    pub holds_worker: bool,
}

impl Truth {
    fn parse(line: &str) -> Truth {
        let value: Value = serde_json::from_str(line).unwrap();
        Truth {
            tid: value["tid"].as_u64().unwrap() as u32,
            start_ns: value["start_ns"].as_u64().unwrap(),
            end_ns: value["end_ns"].as_u64(),
            on_cpu_ns: value["thread_on_cpu_ns"].as_u64().unwrap_or(0),
            function: value["function"].as_str().unwrap_or("").to_owned(),
            cause: value["cause"].as_str().unwrap_or("").to_owned(),
            holds_worker: value["holds_worker"] == true,
        }
    }
}

/// What came of a run.
pub struct Watched {
    pub truth: Vec<Truth>,
    pub records: Vec<Record>,
    pub report: String,
    pub trace: PathBuf,
    _folder: TempDir,
}

impl Watched {
    /// When hud was attached.
    pub fn span(&self) -> (u64, u64) {
        let mut span = (0, u64::MAX);
        for record in &self.records {
            match record {
                Record::Header(header) => span.0 = header.start_ns,
                Record::End { at_ns, .. } => span.1 = *at_ns,
                _ => {}
            }
        }
        span
    }

    /// From when on hud called polls slow.
    pub fn threshold_ns(&self) -> u64 {
        let mut headers = self.records.iter().filter_map(|record| match record {
            Record::Header(header) => Some(header.threshold_ns),
            _ => None,
        });
        headers.next_back().unwrap()
    }

    pub fn polls(&self) -> Vec<Arc<SlowPoll>> {
        let polls = self.records.iter().filter_map(|record| match record {
            Record::SlowPoll(poll) => Some(Arc::clone(poll)),
            _ => None,
        });
        polls.collect()
    }

    /// How polls were tracked at the end.
    pub fn tier(&self) -> Tier {
        let mut tiers = self.records.iter().rev().filter_map(|record| match record {
            Record::Header(header) => Some(header.tier),
            Record::TierChanged { tier, .. } => Some(*tier),
            _ => None,
        });
        tiers.next().unwrap()
    }

    pub fn workers(&self) -> usize {
        let workers = self.records.iter().filter_map(|record| match record {
            Record::Worker(worker) => Some(worker.tid),
            _ => None,
        });
        workers.collect::<std::collections::BTreeSet<_>>().len()
    }
}
