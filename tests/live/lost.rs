//! A layout of Tokio's state that stops holding while hud runs: the target's own thread-locals are made
//! to break a rule of Tokio's, from outside and without its doing. And a target that becomes another
//! program.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use hud::arch::CALLS_PUSH_RETURNS;
use hud::capture::TaskReader;
use hud::export::{Completeness, read_trace};
use hud::model::{EndReason, Record, Tier};
use hud::target::memory::{Memory, ProcessMemory};
use hud::tokio::{self, Progress, TokioLayout, Verdict};
use hud::tracking::LayoutSearch;

use crate::compare::{Expect, compare};
use crate::fixtures;
use crate::program::{Build, Run, Target, Watched};

/// No value of the flag that says whether the coop budget is in force. Tokio sets it anew with each poll
/// and looks at it nowhere else on a worker.
const NO_FLAG: u8 = 6;

/// Where polls are looked for once Tokio's state says nothing.
const LESSER: Tier = match CALLS_PUSH_RETURNS {
    true => Tier::Frames,
    false => Tier::Scheduler,
};

/// The workers' budget flags in a process.
struct Flags {
    pid: u32,
    layout: TokioLayout,
    reader: TaskReader,
    memory: ProcessMemory,
}

impl Flags {
    /// By the layout that hud itself finds.
    fn of(pid: u32) -> Flags {
        let executable = format!("/proc/{pid}/exe");
        let discovery = tokio::discover(Path::new(&executable), None).unwrap();
        let mut search = LayoutSearch::new(pid, &discovery).unwrap();
        let layout = loop {
            match search.step().unwrap() {
                Progress::Found(layout) => break layout,
                Progress::Wait(time, _) => thread::sleep(time),
                Progress::Failed(why) => panic!("no layout: {why}"),
            }
        };
        Flags {
            pid,
            layout,
            reader: TaskReader::new(pid).unwrap(),
            memory: ProcessMemory::new(pid),
        }
    }

    /// Where the flags of the workers are that are asleep just now.
    fn asleep(&self) -> Vec<u64> {
        let mut workers = self.reader.read().unwrap();
        workers.retain(|task| {
            task.is_asleep()
                && match tokio::check(&self.layout, &self.memory, &task.view()) {
                    Verdict::NotAWorker | Verdict::Root(_) => false,
                    Verdict::Worker(_) | Verdict::Violated(_) => true,
                }
        });
        let at = |thread_pointer: u64| {
            let context = thread_pointer.wrapping_add_signed(self.layout.locals.context);
            context + u64::from(self.layout.poll.context.budget)
        };
        workers.iter().map(|task| at(task.thread_pointer)).collect()
    }

    /// Breaks the rule for so long: whenever a worker sleeps between two polls, its flag is none.
    fn scribble(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut written = 0;
        while Instant::now() < until {
            written += self.turn(0, NO_FLAG);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(written > 0, "no worker was met between two polls");
        self.turn(NO_FLAG, 0);
    }

    /// Makes flags of sleeping workers that are `from` `to`; how many.
    fn turn(&self, from: u8, to: u8) -> usize {
        let mut turned = 0;
        for address in self.asleep() {
            let mut flag = [0];
            if self.memory.read(address, &mut flag).is_ok() && flag == [from] {
                self.write(address, to);
                turned += 1;
            }
        }
        turned
    }

    fn write(&self, address: u64, byte: u8) {
        let from = libc::iovec {
            iov_base: std::ptr::from_ref(&byte).cast_mut().cast(),
            iov_len: 1,
        };
        let to = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: 1,
        };
        // SAFETY: `from` is one byte of ours; the other side is not our memory.
        let written = unsafe { libc::process_vm_writev(self.pid as i32, &from, 1, &to, 1, 0) };
        assert_eq!(written, 1, "{}", std::io::Error::last_os_error());
    }
}

/// How polls were tracked, from when on.
fn tiers(run: &Watched) -> Vec<(u64, Tier)> {
    let tiers = run.records.iter().filter_map(|record| match record {
        Record::Header(header) => Some((header.start_ns, header.tier)),
        Record::TierChanged { tier, at_ns, .. } => Some((*at_ns, *tier)),
        _ => None,
    });
    tiers.collect()
}

/// The same, and slow polls that began meanwhile.
fn told(run: &Watched) -> Vec<(Tier, usize)> {
    let tiers = tiers(run);
    let ends = tiers.iter().skip(1).map(|(at_ns, _)| *at_ns);
    let spans = tiers.iter().zip(ends.chain([u64::MAX]));
    let polls = run.polls();
    let within = |from: u64, to: u64| {
        let polls = polls.iter();
        polls
            .filter(|poll| (from..to).contains(&poll.start_ns))
            .count()
    };
    let told: Vec<(Tier, usize)> = spans
        .map(|((from, tier), to)| (*tier, within(*from, to)))
        .collect();
    eprintln!("{told:?}");
    told
}

/// Blocks of 20 to 60 ms, of which those are missed that fall into a change.
const BLOCKS: [&str; 2] = ["--block-ms", "20"];

#[test]
fn a_layout_that_no_longer_holds_is_left_and_found_again() {
    let run = Run::new(&Build::Dev, "lock")
        .arguments(&BLOCKS)
        .meanwhile(|pid| {
            let flags = Flags::of(pid);
            thread::sleep(Duration::from_secs(2));
            flags.scribble(Duration::from_secs(5));
        })
        .seconds(14)
        .watch();
    let verdict = compare(&run, &Expect::blocking_but(50));
    eprintln!("{verdict}");
    verdict.assert();
    let told = told(&run);
    let [(first, before), (lesser, meanwhile), (last, after)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (*first, *lesser, *last),
        (Tier::DebugInfo, LESSER, Tier::DebugInfo)
    );
    assert!(*before >= 3 && *after >= 3, "{told:?}");
    assert!(*meanwhile >= 3 || !CALLS_PUSH_RETURNS, "{told:?}");
    for part in [
        "tier 4: thread ",
        "coop budget's flag is 6",
        "tier 1: a layout",
    ] {
        assert!(
            run.report.contains(part) || !CALLS_PUSH_RETURNS,
            "no {part:?} in {}",
            run.report
        );
    }
}

#[test]
fn a_guess_that_no_longer_holds_is_not_made_again() {
    let run = Run::new(&Build::Release, "sleep")
        .arguments(&BLOCKS)
        .meanwhile(|pid| {
            let flags = Flags::of(pid);
            thread::sleep(Duration::from_secs(1));
            flags.scribble(Duration::from_secs(4));
        })
        .seconds(8)
        .watch();
    compare(&run, &Expect::blocking_but(50)).assert();
    let told = told(&run);
    let [(first, _), (lesser, meanwhile), rest @ ..] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!((*first, *lesser), (Tier::VersionTable, LESSER));
    assert!(*meanwhile >= 3 || !CALLS_PUSH_RETURNS, "{told:?}");
    // Learnt from what it does, if anything.
    let tiers: Vec<Tier> = rest.iter().map(|(tier, _)| *tier).collect();
    assert!(matches!(tiers.as_slice(), [] | [Tier::Learnt]), "{told:?}");
}

/// Without names there are no frames to go by: until a layout is found nothing is told of polls.
#[test]
fn without_symbols_a_layout_that_no_longer_holds_leaves_what_the_scheduler_says() {
    let build = fixtures::stripped(&Build::Release);
    let run = Run::new(&build, "sleep")
        .arguments(&BLOCKS)
        .meanwhile(|pid| {
            let flags = Flags::of(pid);
            thread::sleep(Duration::from_secs(1));
            flags.scribble(Duration::from_secs(3));
        })
        .seconds(6)
        .watch();
    let told = told(&run);
    let [(first, before), (lesser, meanwhile), rest @ ..] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!((*first, *lesser), (Tier::Scan, Tier::Scheduler));
    assert!(*before >= 3 && *meanwhile == 0, "{told:?}");
    assert!(run.report.contains("polls are not reported"));
    // Learnt from what it does, if anything.
    let tiers: Vec<Tier> = rest.iter().map(|(tier, _)| *tier).collect();
    assert!(matches!(tiers.as_slice(), [] | [Tier::Learnt]), "{told:?}");
    let asleep = run.records.iter().any(|record| match record {
        Record::Usage(usage) => usage.asleep_ns > 0,
        _ => false,
    });
    assert!(asleep, "nothing was told of the threads meanwhile");
    let verdict = compare(&run, &Expect::blocking_without_symbols());
    assert_eq!(verdict.false_findings, Vec::<String>::new());
}

#[test]
fn a_capture_that_cannot_begin_anew_ends_hud_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let arguments = ["--scenario", "sleep", "--duration", "40"];
    let target = Target::start(&Build::Release.program(), &arguments);
    let mut child = target
        .hud(&["--duration", "30", "--export"])
        .arg(&trace)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("watching") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "hud has ended");
    }
    // No file, map or program can be opened from now on.
    let none = libc::rlimit {
        rlim_cur: 1,
        rlim_max: 1,
    };
    let hud = child.id() as libc::pid_t;
    // SAFETY: reads from a local; nothing is written.
    let error = unsafe { libc::prlimit(hud, libc::RLIMIT_NOFILE, &none, std::ptr::null_mut()) };
    assert_eq!(error, 0);
    let limited = Instant::now();
    Flags::of(target.pid).scribble(Duration::from_secs(3));
    let status = child.wait().unwrap();
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(limited.elapsed() < Duration::from_secs(15), "{said}");
    assert!(said.contains("Too many open files"), "{said}");
    let mut ends = Vec::new();
    let completeness = read_trace(&trace, |record| match record {
        Record::End { reason, .. } => ends.push(reason),
        _ => {}
    });
    assert_eq!(completeness.unwrap(), Completeness::Whole);
    assert_eq!(ends, [EndReason::Failed]);
}

#[test]
fn a_target_that_becomes_another_program_is_no_longer_watched() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let arguments = ["--scenario", "exec", "--duration", "4", "--block-ms", "20"];
    let target = Target::start(&Build::Release.program(), &arguments);
    let output = target
        .hud(&["--duration", "30", "--export"])
        .arg(&trace)
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert!(
        report.contains("replaced itself by another program"),
        "{report}"
    );
    let (mut end, mut replaced, mut after) = (None, None, 0);
    let completeness = read_trace(&trace, |record| match record {
        Record::End { reason, at_ns } => end = Some((reason, at_ns)),
        Record::TierChanged { tier, at_ns, .. } => replaced = Some((tier, at_ns)),
        Record::SlowPoll(poll) | Record::Running(poll) => {
            assert!(
                poll.culprit.function.ends_with("block_on_sleep"),
                "{poll:?}"
            );
            after += usize::from(replaced.is_some_and(|(_, at_ns)| poll.end_ns > at_ns));
        }
        _ => {}
    });
    assert_eq!(completeness.unwrap(), Completeness::Whole);
    let (Some((reason, ended_ns)), Some((tier, replaced_ns))) = (end, replaced) else {
        panic!("{end:?} {replaced:?}");
    };
    assert_eq!((reason, tier), (EndReason::TargetExited, Tier::Scheduler));
    // The other program runs for 4 s.
    assert!(ended_ns - replaced_ns < 2_000_000_000);
    assert_eq!(after, 0);
}
