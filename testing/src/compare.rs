//! Compares hud's findings with the truth that the target wrote.
//!
//! On a shared machine the hypervisor or another process may take a CPU away in the middle of a poll.
//! Such a poll is judged by the target's own clocks as any other: what they say it did is the truth.

use std::collections::BTreeMap;
use std::fmt;

use hud::model::{Cause, RootPoll, SlowPoll, Tier};

use crate::run::{Run, Watched};
use crate::truth::{Holds, Truth};

const MS: u64 = 1_000_000;
/// hud may see only a part of polls this close to its start or end.
const EDGE_NS: u64 = 60 * MS;
/// hud reports a poll that does not end within this time.
const REPORTED_WITHIN_NS: u64 = 500 * MS;
/// Fewer blocks of one function prove nothing.
const LEAST_BLOCKS: usize = 5;
/// Fewer blocks in one run prove nothing.
const LEAST_BLOCKS_OF_ALL: usize = 10;

/// What a run must show.
#[derive(Clone, Copy)]
pub struct Expect {
    /// How many functions block. If none does, there must be no finding.
    functions: usize,
    may_miss_percent: usize,
    /// The program has symbols, so that its functions have names.
    named: bool,
    /// Polls must have been observed.
    polls: bool,
    /// Blocks of root futures must be found, too.
    roots: bool,
    edge_ns: u64,
}

impl Expect {
    /// One function that blocks again and again.
    pub fn blocking() -> Self {
        Expect::blocking_in(1)
    }

    /// As many functions that block.
    pub fn blocking_in(functions: usize) -> Self {
        Expect {
            functions,
            may_miss_percent: 0,
            named: true,
            polls: true,
            roots: false,
            edge_ns: EDGE_NS,
        }
    }

    /// A healthy program that polls.
    pub fn nothing() -> Self {
        Expect::blocking_in(0)
    }

    /// A healthy program in which nothing is polled.
    pub fn idle() -> Self {
        Expect {
            polls: false,
            ..Expect::nothing()
        }
    }

    /// Some of the blocks may be missed.
    pub fn but_for(mut self, percent: usize) -> Self {
        self.may_miss_percent = percent;
        self
    }

    /// Blocks of root futures that hold no worker must be found, too.
    pub fn with_roots(mut self) -> Self {
        self.roots = true;
        self
    }

    /// The program is stripped.
    pub fn without_symbols(mut self) -> Self {
        self.named = false;
        self
    }

    /// Holds what hud says of its first and last moments, too, and of polls that do not end. The
    /// program must not end during a poll.
    pub fn at_the_edges(mut self) -> Self {
        self.edge_ns = 0;
        self
    }
}

/// What the comparison gave.
#[derive(Default)]
pub struct Verdict {
    functions: usize,
    may_miss_percent: usize,
    /// Blocks of at least twice the threshold that hud ran with, by function.
    blocks_in: BTreeMap<String, usize>,
    pub blocks: usize,
    pub missed: Vec<String>,
    pub findings: usize,
    pub false_findings: Vec<String>,
    pub wrong_cause: Vec<String>,
    /// Those of them that say `cpu` where the program used much of it.
    computed: Vec<String>,
    pub wrong_function: Vec<String>,
    wrong_duration: Vec<String>,
    /// How far off the found blocks' durations are, as a share of the true ones.
    pub duration_errors: Vec<f64>,
    incomplete: usize,
    /// Why hud cannot have seen the program at all.
    pub blind: Option<String>,
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
        )?;
        match &self.blind {
            Some(why) => write!(f, "; blind: {why}"),
            None => Ok(()),
        }
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
        if self.functions > 0 {
            let enough = self.blocks >= LEAST_BLOCKS;
            assert!(enough, "{scenario}: only {} blocks", self.blocks);
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
        assert_eq!(self.blind, None);
        if self.functions == 0 {
            let none: [String; 0] = [];
            assert_eq!(self.false_findings, none);
            return;
        }
        let enough = self.blocks_in.values().filter(|n| **n >= LEAST_BLOCKS);
        assert!(
            enough.count() >= self.functions && self.blocks >= LEAST_BLOCKS_OF_ALL,
            "too few blocks: {:?}",
            self.blocks_in
        );
        let may_miss = self.blocks * self.may_miss_percent / 100;
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

    /// What hud got wrong about polls and their code, where not even one mistake is allowed.
    pub fn mistakes(&self) -> impl Iterator<Item = &String> {
        let lists = [&self.missed, &self.false_findings, &self.wrong_function];
        lists.into_iter().flatten().chain(&self.blind)
    }
}

impl Run<'_> {
    /// Runs both to their ends, and fails where hud was wrong.
    pub fn check(self, expect: &Expect) -> Watched {
        let watched = self.watch();
        watched.check(expect);
        watched
    }
}

impl Watched {
    /// Fails where hud was wrong.
    pub fn check(&self, expect: &Expect) {
        let verdict = compare(self, expect);
        let (title, tier) = (&self.title, self.tier().number());
        eprintln!("{title}: tier {tier}, {verdict}");
        verdict.assert();
    }
}

/// What the poll held up, by hud's account.
fn holds(poll: &SlowPoll) -> Holds {
    match poll.root {
        None => Holds::Worker,
        Some(_) => Holds::Root,
    }
}

fn overlap(poll: &SlowPoll, truth: &Truth) -> u64 {
    let end = truth.end_ns.unwrap_or(u64::MAX).min(poll.end_ns);
    end.saturating_sub(truth.start_ns.max(poll.start_ns))
}

/// Compares what hud recorded with the truth.
pub fn compare(run: &Watched, expect: &Expect) -> Verdict {
    let (from, to) = run.span();
    let threshold = run.threshold_ns();
    let edge = expect.edge_ns;
    let inside = |start: u64, end: u64| start >= from + edge && end + edge <= to;
    let mut polls = run.polls();
    if edge == 0 {
        polls.extend(run.unfinished());
    }
    let mut verdict = Verdict {
        functions: expect.functions,
        may_miss_percent: expect.may_miss_percent,
        blind: blind(run, expect),
        ..Verdict::default()
    };
    let held = |truth: &&Truth| match truth.holds {
        Holds::Worker => true,
        Holds::Root => expect.roots,
        Holds::Nothing => false,
    };
    for truth in run.truth.iter().filter(held) {
        let seen_to = match truth.end_ns {
            Some(end) if inside(truth.start_ns, end) => end,
            None if edge == 0 && truth.start_ns + REPORTED_WITHIN_NS <= to => to,
            _ => continue,
        };
        let wall = seen_to - truth.start_ns.max(from);
        if wall < 2 * threshold {
            continue;
        }
        verdict.blocks += 1;
        let count = verdict.blocks_in.entry(truth.function.clone());
        *count.or_default() += 1;
        let found = polls
            .iter()
            .filter(|poll| poll.tid == truth.tid && holds(poll) == truth.holds)
            .max_by_key(|poll| overlap(poll, truth))
            .filter(|poll| overlap(poll, truth) > wall / 2);
        match found {
            Some(poll) => {
                let how = (wall, run.tier_at(poll.start_ns), expect.named);
                compare_found(&mut verdict, poll, truth, how);
            }
            None => verdict.missed.push(format!("{truth:?}")),
        }
    }
    for poll in polls
        .iter()
        .filter(|poll| poll.running || inside(poll.start_ns, poll.end_ns))
    {
        if !poll.cause.blames_code() {
            continue;
        }
        if poll.root == Some(RootPoll::BusyStretch) {
            // It says that the root future was polled all the while, not that it was one poll.
            let polls = run.truth.iter().filter(|truth| truth.tid == poll.tid);
            let polled_ns: u64 = polls.map(|truth| overlap(poll, truth)).sum();
            if polled_ns < poll.held_ns() / 2 {
                verdict.false_findings.push(describe(poll));
            }
            continue;
        }
        verdict.findings += 1;
        let same =
            |truth: &&Truth| truth.tid == poll.tid && overlap(poll, truth) > poll.held_ns() / 2;
        let mut truths = run.truth.iter().filter(same);
        if !truths.any(|truth| is_true(poll, truth, threshold)) {
            verdict.false_findings.push(describe(poll));
        }
    }
    verdict
}

/// Why hud cannot have seen what the program did, if so. Silence proves nothing then.
fn blind(run: &Watched, expect: &Expect) -> Option<String> {
    // A poll that does not end is counted nowhere else.
    let unfinished = run.unfinished().len() as u64;
    let (workers, polls) = (run.workers(), run.polls_observed() + unfinished);
    let blind = workers == 0 || (expect.polls && polls == 0);
    blind.then(|| format!("{workers} workers found, {polls} polls observed"))
}

/// Whether a finding in a poll is true by the program's own account: the poll blocked on purpose or, if it
/// was meant to be short, its own clocks say that it computed or slept for as long as a finding takes.
/// (The holder of one of Tokio's own locks may lose its CPU; who waits for the lock then truly sleeps.)
fn is_true(poll: &SlowPoll, truth: &Truth, threshold: u64) -> bool {
    if !truth.function.is_empty() {
        let long = truth.wall_ns().is_none_or(|wall| wall > threshold / 2);
        return truth.holds == holds(poll) && long;
    }
    let by_own_clocks = match computes(poll.cause) {
        true => truth.on_cpu_ns,
        false => truth.asleep_ns(),
    };
    let is_true = by_own_clocks > threshold / 2;
    if is_true {
        eprintln!("a poll meant to be short: {truth:?}\n  {}", describe(poll));
    }
    is_true
}

fn computes(cause: Cause) -> bool {
    matches!(cause, Cause::Cpu | Cause::PageFault)
}

fn compare_found(
    verdict: &mut Verdict,
    poll: &SlowPoll,
    truth: &Truth,
    (wall, tier, named): (u64, Tier, bool),
) {
    let wrong = || format!("{truth:?}\n  {}", describe(poll));
    if poll.cause.as_str() != truth.cause && !lacked_cpu(poll, truth, wall) {
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
    if poll.heaviest().is_none_or(|stack| !stack.complete) {
        verdict.incomplete += 1;
    }
    if poll.running || poll.root == Some(RootPoll::BusyStretch) {
        // It was last reported some time before the end; or it may consist of several polls.
        return;
    }
    let error = poll.held_ns() as f64 / wall as f64 - 1.0;
    verdict.duration_errors.push(error.abs());
    let mut allowed = match computes(poll.cause) {
        true => wall / 10,
        false => 2 * MS,
    };
    if tier == Tier::Frames {
        // Frames show a poll from its first sleep on: a wait for a CPU before that is not seen.
        allowed += truth.run_queue_ns;
    }
    if poll.held_ns().abs_diff(wall) > allowed {
        match poll.held_back.stolen {
            // Time that the hypervisor took between two polls belongs to neither.
            true => eprintln!("the hypervisor took the CPU: {}", wrong()),
            false => verdict.wrong_duration.push(wrong()),
        }
    }
}

/// The poll waited for a CPU most of its time, by the scheduler's account to the program itself.
fn lacked_cpu(poll: &SlowPoll, truth: &Truth, wall: u64) -> bool {
    poll.cause == Cause::RunQueue && truth.run_queue_ns > wall / 2
}

fn describe(poll: &SlowPoll) -> String {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hud::model::{
        Culprit, EndReason, Header, HeldBack, Record, Role, TimeSplit, Worker, WorkerUsage,
    };

    use super::*;

    const TID: u32 = 7;
    const FUNCTION: &str = "block_on_lock";

    /// hud was attached for a second, found a worker and observed so many polls, and these were slow.
    fn run(polls_observed: u64, slow: Vec<SlowPoll>, truth: Vec<Truth>) -> Watched {
        let mut records = vec![
            Record::Header(Box::new(Header {
                hud_version: String::new(),
                pid: 1,
                process: String::new(),
                command: String::new(),
                executable: String::new(),
                tokio_version: None,
                tier: Tier::DebugInfo,
                threshold_ns: 5 * MS,
                start_ns: 0,
                start_unix_ns: 0,
            })),
            Record::Worker(Worker {
                tid: TID,
                role: Role::Worker,
                index: Some(0),
                runtime: 0,
                flavor: None,
                thread_name: String::new().into(),
            }),
            Record::Usage(WorkerUsage {
                tid: TID,
                polls_observed,
                ..WorkerUsage::default()
            }),
        ];
        let slow = slow.into_iter().map(Arc::new);
        records.extend(slow.map(Record::SlowPoll));
        records.push(Record::End {
            reason: EndReason::Duration,
            at_ns: 1_000 * MS,
        });
        Watched::of(truth, records)
    }

    /// From 100 ms on, for so many ms.
    fn slow_poll(ms: u64, cause: Cause) -> SlowPoll {
        SlowPoll {
            tid: TID,
            worker: Some(0),
            runtime: 0,
            task: None,
            root: None,
            start_ns: 100 * MS,
            end_ns: (100 + ms) * MS,
            running: false,
            began_before_attach: false,
            split: TimeSplit::default(),
            cause,
            causes: Vec::new(),
            held_back: HeldBack::default(),
            culprit: Culprit {
                function: FUNCTION.into(),
                calls: None,
                location: None,
                chain: Vec::new(),
            },
            stacks: Vec::new(),
            released_by: None,
        }
    }

    /// The same poll by the program's own account, in which nothing blocked on purpose.
    fn short_poll(ms: u64) -> Truth {
        Truth {
            tid: TID,
            start_ns: 100 * MS,
            end_ns: Some((100 + ms) * MS),
            ..Truth::default()
        }
    }

    fn block(ms: u64) -> Truth {
        Truth {
            function: FUNCTION.to_owned(),
            cause: "lock".to_owned(),
            holds: Holds::Worker,
            sleeps: 1,
            ..short_poll(ms)
        }
    }

    #[test]
    fn silence_proves_nothing_where_no_poll_was_observed() {
        let blind = |polls, expect: Expect| {
            let verdict = compare(&run(polls, Vec::new(), Vec::new()), &expect);
            verdict.blind.is_some()
        };
        assert!(blind(0, Expect::nothing()));
        assert!(!blind(1, Expect::nothing()));
        assert!(!blind(0, Expect::idle()));
    }

    #[test]
    fn a_block_is_found_or_missed() {
        let found = compare(
            &run(1, vec![slow_poll(30, Cause::Lock)], vec![block(30)]),
            &Expect::blocking(),
        );
        assert_eq!(
            (found.blocks, found.missed.len(), found.findings),
            (1, 0, 1)
        );
        assert_eq!(found.false_findings.len(), 0);
        let missed = compare(&run(1, Vec::new(), vec![block(30)]), &Expect::blocking());
        assert_eq!((missed.blocks, missed.missed.len()), (1, 1));
    }

    #[test]
    fn a_finding_in_a_short_poll_is_true_only_by_the_programs_own_clocks() {
        let is_false = |cause, truth: Truth| {
            let run = run(1, vec![slow_poll(8, cause)], vec![truth]);
            compare(&run, &Expect::nothing()).false_findings.len() == 1
        };
        // It waited for a lock whose holder had lost its CPU.
        let slept = Truth {
            sleeps: 1,
            ..short_poll(8)
        };
        assert!(!is_false(Cause::Lock, slept.clone()));
        assert!(is_false(Cause::Cpu, slept.clone()));
        // It was runnable, or the hypervisor had taken the CPU: it did not wait.
        let waited_for_a_cpu = Truth {
            run_queue_ns: 7 * MS,
            ..slept
        };
        assert!(is_false(Cause::Lock, waited_for_a_cpu));
        assert!(is_false(Cause::Lock, short_poll(8)));
        let computed = Truth {
            on_cpu_ns: 7 * MS,
            ..short_poll(8)
        };
        assert!(!is_false(Cause::Cpu, computed.clone()));
        assert!(is_false(Cause::Lock, computed));
    }

    #[test]
    fn a_hang_must_be_reported_while_it_lasts() {
        let hang = Truth {
            end_ns: None,
            ..block(0)
        };
        let missed = compare(
            &run(1, Vec::new(), vec![hang.clone()]),
            &Expect::blocking().at_the_edges(),
        );
        assert_eq!(missed.missed.len(), 1);
        let mut hung = run(1, Vec::new(), vec![hang]);
        let running = SlowPoll {
            running: true,
            ..slow_poll(850, Cause::Lock)
        };
        hung.records.insert(3, Record::Running(Arc::new(running)));
        let found = compare(&hung, &Expect::blocking().at_the_edges());
        assert_eq!((found.missed.len(), found.false_findings.len()), (0, 0));
    }
}
