//! Holds hud's findings against the truth.

use std::fmt;

use hud::model::{Cause, SlowPoll};

use crate::program::{Truth, Watched};

const MS: u64 = 1_000_000;
/// Polls this close to hud's coming or going may be seen in part.
const EDGE: u64 = 60 * MS;

/// What a run must show.
pub struct Expect {
    /// There must be blocks to be found; otherwise there must be no finding.
    blocking: bool,
    /// Percent of the blocks that may be missed.
    may_miss: usize,
    /// The program has symbols, so its functions have names.
    named: bool,
}

impl Expect {
    pub fn blocking() -> Self {
        Expect {
            blocking: true,
            may_miss: 0,
            named: true,
        }
    }

    /// Blocks of which some may be missed.
    pub fn blocking_but(may_miss: usize) -> Self {
        Expect {
            may_miss,
            ..Expect::blocking()
        }
    }

    /// Blocks in functions that have no names.
    pub fn blocking_without_symbols() -> Self {
        Expect {
            named: false,
            ..Expect::blocking()
        }
    }

    pub fn nothing() -> Self {
        Expect {
            blocking: false,
            ..Expect::blocking()
        }
    }
}

/// What the comparison gave.
#[derive(Default)]
pub struct Verdict {
    blocking: bool,
    may_miss: usize,
    /// Blocks of at least twice the threshold that hud ran with.
    pub blocks: usize,
    pub missed: Vec<String>,
    pub findings: usize,
    pub false_findings: Vec<String>,
    pub wrong_cause: Vec<String>,
    /// Those of them that say `cpu` where the program itself used much of it.
    computed: Vec<String>,
    pub wrong_function: Vec<String>,
    wrong_duration: Vec<String>,
    /// How far off the found blocks' durations are, as a share of the true ones.
    pub duration_errors: Vec<f64>,
    incomplete: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            blocks, findings, ..
        } = self;
        write!(
            f,
            "{blocks} blocks, {} missed; {findings} findings, {} false; \
             wrong: {} causes ({} computed), {} functions, {} durations; {} stacks incomplete",
            self.missed.len(),
            self.false_findings.len(),
            self.wrong_cause.len(),
            self.computed.len(),
            self.wrong_function.len(),
            self.wrong_duration.len(),
            self.incomplete,
        )
    }
}

impl Verdict {
    /// Fails where hud was wrong in more than what a machine's slowness explains.
    pub fn assert_roughly(&self, scenario: &str) {
        let few = |what: &str, list: &[String], percent: usize, of: usize| {
            let allowed = (of * percent / 100).max(1);
            let listed = format!("{scenario}: {what} of {of}: {list:#?}");
            assert!(list.len() <= allowed, "{listed}");
        };
        if self.blocking {
            assert!(self.blocks >= 5, "{scenario}: only {} blocks", self.blocks);
        }
        few("missed", &self.missed, 10, self.blocks);
        few("false findings", &self.false_findings, 20, self.findings);
        // A transfer may truly cost more CPU time there than it waits.
        let mut wrong_cause = self.wrong_cause.clone();
        wrong_cause.retain(|wrong| !self.computed.contains(wrong));
        few("wrong causes", &wrong_cause, 5, self.blocks);
        few("wrong functions", &self.wrong_function, 5, self.blocks);
    }

    /// Fails where hud was wrong.
    pub fn assert(&self) {
        if !self.blocking {
            assert!(
                self.false_findings.is_empty(),
                "false: {:#?}",
                self.false_findings
            );
            return;
        }
        assert!(self.blocks >= 10, "only {} blocks to be found", self.blocks);
        let may_miss = self.blocks * self.may_miss / 100;
        assert!(self.missed.len() <= may_miss, "missed: {:#?}", self.missed);
        let few = |what: &str, list: &[String], of: usize| {
            // 99 % must be right; of few, one may be wrong.
            let allowed = (of / 100).max(1);
            assert!(list.len() <= allowed, "{what} of {of}: {list:#?}");
        };
        few("false findings", &self.false_findings, self.findings);
        few("wrong causes", &self.wrong_cause, self.blocks);
        few("wrong functions", &self.wrong_function, self.blocks);
        few("wrong durations", &self.wrong_duration, self.blocks);
        assert!(
            self.incomplete <= (self.blocks / 100).max(1),
            "{} stacks incomplete",
            self.incomplete
        );
    }
}

fn overlap(poll: &SlowPoll, truth: &Truth) -> u64 {
    let end = truth.end_ns.unwrap_or(u64::MAX).min(poll.end_ns);
    end.saturating_sub(truth.start_ns.max(poll.start_ns))
}

/// Compares a run with its truth.
pub fn compare(run: &Watched, expect: &Expect) -> Verdict {
    let (from, to) = run.span();
    let threshold = run.threshold_ns();
    let inside = |start: u64, end: u64| start >= from + EDGE && end + EDGE <= to;
    let polls = run.polls();
    let mut verdict = Verdict {
        blocking: expect.blocking,
        may_miss: expect.may_miss,
        ..Verdict::default()
    };
    for truth in run.truth.iter().filter(|truth| truth.holds_worker) {
        let Some(end) = truth.end_ns else { continue };
        let wall = end - truth.start_ns;
        if wall < 2 * threshold || !inside(truth.start_ns, end) {
            continue;
        }
        verdict.blocks += 1;
        let found = polls
            .iter()
            .filter(|poll| poll.tid == truth.tid)
            .max_by_key(|poll| overlap(poll, truth))
            .filter(|poll| overlap(poll, truth) > wall / 2);
        match found {
            Some(poll) => hold_against(&mut verdict, poll, truth, wall, expect.named),
            None => verdict.missed.push(format!("{truth:?}")),
        }
    }
    for poll in polls
        .iter()
        .filter(|poll| inside(poll.start_ns, poll.end_ns))
    {
        if !poll.cause.blames_code() {
            continue;
        }
        verdict.findings += 1;
        let same =
            |truth: &&Truth| truth.tid == poll.tid && overlap(poll, truth) > poll.held_ns() / 2;
        let truths = || run.truth.iter().filter(same);
        if truths().any(|truth| held_worker(truth, threshold)) {
            continue;
        }
        match truths().find(|truth| machine_paused(truth, threshold)) {
            Some(truth) => eprintln!("the machine paused: {truth:?}\n  {}", tell(poll)),
            None => verdict.false_findings.push(tell(poll)),
        }
    }
    verdict
}

/// Whether the program itself says that this poll blocked.
fn held_worker(truth: &Truth, threshold: u64) -> bool {
    let wall = truth.end_ns.map(|end| end - truth.start_ns);
    truth.holds_worker && wall.is_none_or(|wall| wall > threshold / 2)
}

/// A hypervisor that takes a CPU away is not seen from inside: the thread's own CPU clock runs on,
/// in the program as in the kernel. A short poll that used that much CPU time by its own account is
/// not hud's mistake.
fn machine_paused(truth: &Truth, threshold: u64) -> bool {
    truth.function.is_empty() && truth.on_cpu_ns > threshold / 2
}

fn hold_against(verdict: &mut Verdict, poll: &SlowPoll, truth: &Truth, wall: u64, named: bool) {
    let wrong = || format!("{truth:?}\n  {}", tell(poll));
    if poll.cause.as_str() != truth.cause && !stolen(poll, wall) {
        verdict.wrong_cause.push(wrong());
        if poll.cause == Cause::Cpu && truth.on_cpu_ns > wall / 4 {
            verdict.computed.push(wrong());
        }
    }
    let found = poll.stacks.iter().any(|stack| {
        let mut frames = stack.frames.iter();
        frames.any(|frame| frame.function.ends_with(&truth.function))
    });
    // Without symbols the culprit is a place in the program, and no stack may claim to know better.
    let place = poll.culprit.function.starts_with("scenarios+0x");
    if found != named || place == named {
        verdict.wrong_function.push(wrong());
    }
    let error = poll.held_ns() as f64 / wall as f64 - 1.0;
    verdict.duration_errors.push(error.abs());
    let on_cpu = matches!(poll.cause, Cause::Cpu | Cause::PageFault);
    let allowed = if on_cpu { wall / 10 } else { 2 * MS };
    if poll.held_ns().abs_diff(wall) > allowed {
        match poll.held_back.stolen {
            // At an edge nobody can say whose time it was.
            true => eprintln!("the hypervisor took its part: {}", wrong()),
            false => verdict.wrong_duration.push(wrong()),
        }
    }
    if poll.heaviest().is_none_or(|stack| !stack.complete) {
        verdict.incomplete += 1;
    }
}

/// Another process had the CPU for most of the poll: then that is the truth of this machine.
fn stolen(poll: &SlowPoll, wall: u64) -> bool {
    poll.cause == Cause::RunQueue && poll.split.run_queue_ns > wall / 2
}

fn tell(poll: &SlowPoll) -> String {
    format!(
        "{} {}..{} {} {:?} {:?} {}",
        poll.tid,
        poll.start_ns,
        poll.end_ns,
        poll.cause,
        poll.causes,
        poll.split,
        poll.culprit.function
    )
}
