//! One run: a scenario with hud attached to it for some seconds, and what both wrote about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hud::export::read_trace;
use hud::model::{Cause, Record, Role, SlowPoll, Tier, WorkerUsage};
use tempfile::TempDir;

use crate::fixtures::Build;
use crate::target::{Hud, Target};
use crate::truth::Truth;

/// Longer than any run: the target ends when hud has.
const TARGET_SECONDS: &str = "120";

/// A scenario to run with hud attached.
pub struct Run<'a> {
    pub build: &'a Build,
    /// The scenario's name, or several with commas between.
    pub scenario: &'a str,
    arguments: Vec<&'a str>,
    hud_arguments: Vec<&'a str>,
    seconds: f64,
    delay: Duration,
    meanwhile: Option<Meanwhile<'a>>,
}

/// What a test does while hud is attached.
type Meanwhile<'a> = Box<dyn FnOnce(&Attached) + 'a>;

/// Longest wait for a condition that must come.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// A target with hud attached.
pub struct Attached {
    /// The target's PID.
    pub pid: u32,
    trace: PathBuf,
}

impl Attached {
    /// What hud has recorded so far.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        // There is no trace yet while hud starts.
        let _ = read_trace(&self.trace, |record| records.push(record));
        records
    }

    /// Waits until hud's records fulfil a condition.
    ///
    /// # Panics
    ///
    /// If they do not within a minute.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&[Record]) -> bool) {
        let begun = Instant::now();
        while !condition(&self.records()) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
            thread::sleep(RETRY_EVERY);
        }
    }
}

impl<'a> Run<'a> {
    pub fn new(build: &'a Build, scenario: &'a str) -> Self {
        Run {
            build,
            scenario,
            arguments: Vec::new(),
            hud_arguments: Vec::new(),
            seconds: 4.0,
            delay: Duration::from_millis(300),
            meanwhile: None,
        }
    }

    /// More arguments for the scenario.
    pub fn arguments(mut self, arguments: &[&'a str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// More arguments for hud.
    pub fn hud(mut self, arguments: &[&'a str]) -> Self {
        self.hud_arguments.extend(arguments);
        self
    }

    /// How long hud stays attached (4 by default).
    pub fn seconds(mut self, seconds: impl Into<f64>) -> Self {
        self.seconds = seconds.into();
        self
    }

    /// Time from the target's start to hud's [0.3 s].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Does something while hud is attached, and then detaches hud, however long that took.
    pub fn meanwhile(mut self, what: impl FnOnce(&Attached) + 'a) -> Self {
        self.meanwhile = Some(Box::new(what));
        self
    }

    /// Runs both to their ends.
    ///
    /// # Panics
    ///
    /// If hud fails, with what it said.
    pub fn watch(self) -> Watched {
        let scenario = self.scenario;
        self.try_watch()
            .unwrap_or_else(|refusal| panic!("{scenario}: {refusal}"))
    }

    /// The same, where hud may fail.
    ///
    /// # Errors
    /// What hud said, when it failed.
    pub fn try_watch(mut self) -> Result<Watched, String> {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let target = self.start_target(folder.path());
        thread::sleep(self.delay);
        let meanwhile = self.meanwhile.take();
        let recorded = self.attach(&target, &folder, "trace.json", meanwhile);
        target.end();
        let truth = read_truth(folder.path());
        recorded.map(|recording| recording.with(truth))
    }

    /// Starts the scenario, whose truth goes into this folder.
    pub(crate) fn start_target(&self, folder: &Path) -> Target {
        let mut command = Command::new(self.build.program());
        command
            .args(["--scenario", self.scenario, "--duration", TARGET_SECONDS])
            .args(&self.arguments)
            .arg("--truth")
            .arg(folder.join(TRUTH));
        Target::run(&mut command)
    }

    /// Attaches hud for as long as asked for, or until `meanwhile` is done.
    pub(crate) fn attach(
        &self,
        target: &Target,
        folder: &Arc<TempDir>,
        name: &str,
        meanwhile: Option<Meanwhile<'_>>,
    ) -> Result<Recording, String> {
        let trace = folder.path().join(name);
        let mut command = target.hud(&["--export"]);
        command.arg(&trace).args(&self.hud_arguments);
        if meanwhile.is_none() {
            command.args(["--duration", &self.seconds.to_string()]);
        }
        let output = match meanwhile {
            None => command.output(),
            Some(meanwhile) => {
                let hud = Hud::start(&mut command);
                meanwhile(&Attached {
                    pid: target.pid,
                    trace: trace.clone(),
                });
                hud.detach()
            }
        };
        let output = output.unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let mut records = Vec::new();
        read_trace(&trace, |record| records.push(record)).unwrap();
        Ok(Recording {
            title: format!("{:?} {} {:?}", self.build, self.scenario, self.arguments),
            records,
            report: String::from_utf8(output.stdout).unwrap(),
            trace,
            folder: Arc::clone(folder),
        })
    }
}

/// The truth file's name in a run's folder.
const TRUTH: &str = "truth.jsonl";

/// What the scenario wrote into this folder.
pub(crate) fn read_truth(folder: &Path) -> Arc<[Truth]> {
    let text = std::fs::read_to_string(folder.join(TRUTH)).unwrap();
    text.lines().map(Truth::parse).collect()
}

/// What hud wrote.
pub(crate) struct Recording {
    title: String,
    records: Vec<Record>,
    report: String,
    trace: PathBuf,
    folder: Arc<TempDir>,
}

impl Recording {
    pub(crate) fn with(self, truth: Arc<[Truth]>) -> Watched {
        Watched {
            title: self.title,
            truth,
            records: self.records,
            report: self.report,
            trace: self.trace,
            _folder: self.folder,
        }
    }
}

/// What hud and the scenario wrote about a run.
pub struct Watched {
    /// Which build and scenario, for messages.
    pub title: String,
    pub truth: Arc<[Truth]>,
    pub records: Vec<Record>,
    pub report: String,
    pub trace: PathBuf,
    _folder: Arc<TempDir>,
}

#[cfg(test)]
impl Watched {
    /// A run that was never made.
    pub fn of(truth: Vec<Truth>, records: Vec<Record>) -> Watched {
        Watched {
            title: "test".to_owned(),
            truth: truth.into(),
            records,
            report: String::new(),
            trace: PathBuf::new(),
            _folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }
}

impl Watched {
    /// From when to when hud was attached, ns.
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

    /// The threshold that hud ran with, ns.
    pub fn threshold_ns(&self) -> u64 {
        let mut headers = self.records.iter().filter_map(|record| match record {
            Record::Header(header) => Some(header.threshold_ns),
            _ => None,
        });
        headers.next_back().unwrap()
    }

    /// Slow polls that ended.
    pub fn polls(&self) -> Vec<Arc<SlowPoll>> {
        let polls = self.records.iter().filter_map(|record| match record {
            Record::SlowPoll(poll) => Some(Arc::clone(poll)),
            _ => None,
        });
        polls.collect()
    }

    /// Slow polls that were still running when hud last reported them: of each thread the last one.
    pub fn unfinished(&self) -> Vec<Arc<SlowPoll>> {
        let mut running = BTreeMap::new();
        for record in &self.records {
            match record {
                Record::Running(poll) => _ = running.insert(poll.tid, Arc::clone(poll)),
                Record::SlowPoll(poll) => _ = running.remove(&poll.tid),
                _ => {}
            }
        }
        running.into_values().collect()
    }

    /// How polls were tracked, and from when on, ns.
    pub fn tiers(&self) -> Vec<(u64, Tier)> {
        let tiers = self.records.iter().filter_map(|record| match record {
            Record::Header(header) => Some((header.start_ns, header.tier)),
            Record::TierChanged { tier, at_ns, .. } => Some((*at_ns, *tier)),
            _ => None,
        });
        tiers.collect()
    }

    /// How polls were tracked at that time.
    pub fn tier_at(&self, at_ns: u64) -> Tier {
        let tiers = self.tiers();
        let before = tiers.iter().rev().find(|(from, _)| *from <= at_ns);
        before.unwrap_or(&tiers[0]).1
    }

    /// How polls were tracked at the end.
    pub fn tier(&self) -> Tier {
        self.tiers().last().unwrap().1
    }

    /// How many worker threads were found.
    pub fn workers(&self) -> usize {
        let workers = self.records.iter().filter_map(|record| match record {
            Record::Worker(worker) if worker.role == Role::Worker => Some(worker.tid),
            _ => None,
        });
        workers.collect::<BTreeSet<_>>().len()
    }

    /// The runtimes that slow polls were found in.
    pub fn runtimes(&self) -> BTreeSet<u32> {
        self.polls().iter().map(|poll| poll.runtime).collect()
    }

    /// The last account of each thread's time.
    pub fn usage(&self) -> BTreeMap<u32, WorkerUsage> {
        let usage = self.records.iter().filter_map(|record| match record {
            Record::Usage(usage) => Some((usage.tid, *usage)),
            _ => None,
        });
        usage.collect()
    }

    /// Polls, slow or not, that hud saw at a context switch or in a sample.
    pub fn polls_observed(&self) -> u64 {
        self.usage()
            .values()
            .map(|usage| usage.polls_observed)
            .sum()
    }
}

/// As with a program that has its own debug info: hud must use the best tier, and name function and line of
/// every sleep of the scenario `sleep`.
///
/// # Panics
///
/// If it does not.
pub fn assert_named_and_placed(run: &Watched) {
    assert_eq!(run.tier(), Tier::DebugInfo);
    let mut polls = run.polls();
    // On a busy machine others may have waited for a CPU.
    polls.retain(|poll| poll.cause == Cause::Sleep);
    assert!(polls.len() >= 10, "{} polls", polls.len());
    for poll in polls {
        let location = poll.culprit.location.as_ref();
        let file = location.map_or("", |location| &location.file);
        assert!(file.ends_with("blocking.rs"), "{:?}", poll.culprit);
        assert_eq!(poll.culprit.function, "scenarios::blocking::block_on_sleep");
    }
}
