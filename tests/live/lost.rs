//! A layout of Tokio's state that stops being valid while hud is attached: the test writes a value into the
//! target's thread-locals that Tokio never does. And a target that executes another program.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hud::arch::CALLS_PUSH_RETURNS;
use hud::capture::TaskReader;
use hud::export::{Completeness, read_trace};
use hud::model::{EndReason, Record, Tier};
use hud::target::memory::{Memory, ProcessMemory};
use hud::tokio::{self, Progress, TokioLayout, Verdict};
use hud::tracking::LayoutSearch;

use testing::compare::{Expect, compare};
use testing::fixtures::{self, Build};
use testing::run::{Attached, Run};
use testing::target::Target;

/// No valid value of the flag that says whether the coop budget is in force. Tokio sets it with each poll
/// and reads it nowhere else on a worker.
const NO_FLAG: u8 = 6;

/// How polls are tracked once Tokio's state says nothing.
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

    /// Addresses of the flags of the workers that are asleep now.
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

    /// Changes flags of sleeping workers that are `from` into `to`.
    fn change(&self, from: u8, to: u8) {
        for address in self.asleep() {
            let mut flag = [0];
            if self.memory.read(address, &mut flag).is_ok() && flag == [from] {
                self.write(address, to);
            }
        }
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

/// Makes the layout invalid until it is dropped: whenever a worker sleeps between two polls, its flag has no
/// valid value.
struct Scribbling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scribbling {
    /// Begins in the process of this PID.
    fn start(pid: u32) -> Scribbling {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let flags = Flags::of(pid);
            while !stopped.load(Ordering::Relaxed) {
                flags.change(0, NO_FLAG);
                thread::sleep(Duration::from_millis(1));
            }
            flags.change(NO_FLAG, 0);
        });
        Scribbling {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Scribbling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// How polls were tracked, one mode after the other, and how many slow polls began meanwhile.
fn by_tier(records: &[Record]) -> Vec<(Tier, usize)> {
    let mut tiers: Vec<(u64, Tier, usize)> = Vec::new();
    for record in records {
        match record {
            Record::Header(header) => tiers.push((header.start_ns, header.tier, 0)),
            Record::TierChanged { tier, at_ns, .. } => tiers.push((*at_ns, *tier, 0)),
            _ => {}
        }
    }
    for record in records {
        if let Record::SlowPoll(poll) = record {
            let mut before = tiers.iter_mut().rev();
            if let Some((.., polls)) = before.find(|(from, ..)| *from <= poll.start_ns) {
                *polls += 1;
            }
        }
    }
    let tiers = tiers.into_iter();
    tiers.map(|(_, tier, polls)| (tier, polls)).collect()
}

/// Waits until hud has tracked polls in so many modes, and has found so many slow ones in the last of them.
fn wait_for(hud: &Attached, modes: usize, polls: usize) {
    hud.wait_until(&format!("mode {modes} has {polls} polls"), |records| {
        let tiers = by_tier(records);
        tiers.len() > modes
            || tiers
                .get(modes - 1)
                .is_some_and(|(_, found)| *found >= polls)
    });
}

/// Blocks of 20 to 60 ms. Those during a change of the mode are missed.
const BLOCKS: [&str; 2] = ["--block-ms", "20"];
/// Slow polls that show that a mode works.
const ENOUGH: usize = 5;

#[test]
fn a_layout_that_no_longer_holds_is_left_and_found_again() {
    let run = Run::new(&Build::Dev, "lock")
        .arguments(&BLOCKS)
        .meanwhile(|hud| {
            wait_for(hud, 1, ENOUGH);
            let scribbling = Scribbling::start(hud.pid);
            wait_for(hud, 2, if CALLS_PUSH_RETURNS { ENOUGH } else { 0 });
            drop(scribbling);
            wait_for(hud, 3, ENOUGH);
        })
        .watch();
    let verdict = compare(&run, &Expect::blocking().but_for(50));
    eprintln!("{verdict}");
    verdict.assert();
    let tiers: Vec<Tier> = run.tiers().iter().map(|(_, tier)| *tier).collect();
    assert_eq!(tiers, [Tier::DebugInfo, LESSER, Tier::DebugInfo]);
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

/// A layout may be learnt from what it does, but a table row that was refuted must not be used again.
fn assert_only_learnt(later: &[(Tier, usize)]) {
    let tiers: Vec<Tier> = later.iter().map(|(tier, _)| *tier).collect();
    assert!(matches!(tiers.as_slice(), [] | [Tier::Learnt]), "{tiers:?}");
}

/// Time for hud to choose a layout again.
const CHOICE: Duration = Duration::from_secs(2);

#[test]
fn a_guess_that_no_longer_holds_is_not_made_again() {
    let run = Run::new(&Build::Release, "sleep")
        .arguments(&BLOCKS)
        .meanwhile(|hud| {
            wait_for(hud, 1, ENOUGH);
            let scribbling = Scribbling::start(hud.pid);
            wait_for(hud, 2, if CALLS_PUSH_RETURNS { ENOUGH } else { 0 });
            drop(scribbling);
            thread::sleep(CHOICE);
        })
        .watch();
    compare(&run, &Expect::blocking().but_for(50)).assert();
    let tiers = by_tier(&run.records);
    let [(first, _), (lesser, _), later @ ..] = tiers.as_slice() else {
        panic!("{tiers:?}");
    };
    assert_eq!((*first, *lesser), (Tier::VersionTable, LESSER));
    assert_only_learnt(later);
}

/// Without names there are no frames to go by: until a layout is found, hud reports no polls.
#[test]
fn without_symbols_a_layout_that_no_longer_holds_leaves_what_the_scheduler_says() {
    let build = fixtures::stripped(&Build::Release);
    let asleep = |record: &Record| matches!(record, Record::Usage(usage) if usage.asleep_ns > 0);
    let run = Run::new(&build, "sleep")
        .arguments(&BLOCKS)
        .meanwhile(|hud| {
            wait_for(hud, 1, ENOUGH);
            let scribbling = Scribbling::start(hud.pid);
            wait_for(hud, 2, 0);
            hud.wait_until("the threads' sleep is reported", |records| {
                records.iter().any(asleep)
            });
            drop(scribbling);
            thread::sleep(CHOICE);
        })
        .watch();
    let tiers = by_tier(&run.records);
    let [(first, before), (lesser, meanwhile), later @ ..] = tiers.as_slice() else {
        panic!("{tiers:?}");
    };
    assert_eq!((*first, *lesser), (Tier::Scan, Tier::Scheduler));
    assert!(*before >= ENOUGH && *meanwhile == 0, "{tiers:?}");
    assert!(run.report.contains("polls are not reported"));
    assert_only_learnt(later);
    let verdict = compare(&run, &Expect::blocking().without_symbols());
    assert_eq!(verdict.false_findings, Vec::<String>::new());
}

#[test]
fn a_capture_that_cannot_start_again_ends_hud_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let target = Target::scenario(&Build::Release, "sleep");
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
    // From now on hud cannot open a file, map or program.
    let none = libc::rlimit {
        rlim_cur: 1,
        rlim_max: 1,
    };
    let hud = child.id() as libc::pid_t;
    // SAFETY: reads from a local; nothing is written.
    let error = unsafe { libc::prlimit(hud, libc::RLIMIT_NOFILE, &none, std::ptr::null_mut()) };
    assert_eq!(error, 0);
    let limited = Instant::now();
    let scribbling = Scribbling::start(target.pid);
    let status = child.wait().unwrap();
    drop(scribbling);
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(limited.elapsed() < Duration::from_secs(25), "{said}");
    assert!(said.contains("Too many open files"), "{said}");
    let mut ends = Vec::new();
    let completeness = read_trace(&trace, |record| {
        if let Record::End { reason, .. } = record {
            ends.push(reason);
        }
    });
    assert_eq!(completeness.unwrap(), Completeness::Whole);
    assert_eq!(ends, [EndReason::Failed]);
}

#[test]
fn a_target_that_executes_another_program_is_no_longer_watched() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let target = Target::scenario(&Build::Release, "exec");
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
    // The other program runs for a minute.
    assert!(ended_ns - replaced_ns < 2_000_000_000);
    assert_eq!(after, 0);
}
