//! Memory stays bounded however long a session lasts: weeks of slow polls, culprits, tasks and
//! workers that come and go, with and without a window, measured at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hud::model::{
    Activity, Cause, Culprit, Flavor, Frame, Header, HeldBack, Location, Origin, Record, Role,
    SlowPoll, Tier, TimeSplit, WeightedStack, Worker, WorkerUsage,
};
use hud::session::{Group, Query, Scope, Session, SessionOptions};

/// Counts what is allocated now.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How long a session lasts.
const WEEKS_NS: u64 = 14 * 86_400 * 1_000_000_000;
/// More than the table tells apart.
const CULPRITS: u64 = 15_000;
const FRAMES: u64 = 20_000;
const DEPTH: u64 = 12;
/// One worker in so many polls ends and is replaced.
const WORKER_LIFE: u64 = 200;
const WORKERS: u64 = 64;

/// Always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn header() -> Record {
    Record::Header(Box::new(Header {
        hud_version: "test".into(),
        pid: 1,
        process: "weeks".into(),
        command: "weeks".into(),
        executable: "/weeks".into(),
        tokio_version: None,
        tier: Tier::DebugInfo,
        threshold_ns: 5_000_000,
        start_ns: 0,
        start_unix_ns: 0,
    }))
}

/// What stacks and culprits are made of.
struct Code {
    frames: Vec<Arc<Frame>>,
    files: Vec<Arc<str>>,
}

impl Code {
    fn new() -> Code {
        let frame = |i| {
            let function = format!("weeks::module_{}::function_{i}", i % 100);
            Arc::new(Frame::named(function, Origin::User))
        };
        Code {
            frames: (0..FRAMES).map(frame).collect(),
            files: (0..500)
                .map(|i| format!("src/file_{i}.rs").into())
                .collect(),
        }
    }
}

fn poll(i: u64, at_ns: u64, tid: u32, code: &Code, random: &mut Random) -> Record {
    // A few culprits have most polls, as in life; the others fill every table.
    let culprit = match random.below(3) {
        0 => random.below(CULPRITS),
        _ => random.below(20),
    };
    let cause = Cause::ALL[culprit as usize % Cause::ALL.len()];
    let held = 5_000_000 + random.below(1_000_000_000);
    // Every stack ends in the same runtime; between it and the culprit the ways part.
    let frame = |depth| match DEPTH - depth {
        ..4 => DEPTH - depth,
        _ => (culprit * DEPTH + depth * 3 + random.below(3)) % FRAMES,
    };
    let stack = (0..DEPTH).map(frame);
    let stack = stack.map(|i| code.frames[i as usize].clone()).collect();
    Record::SlowPoll(Arc::new(SlowPoll {
        tid,
        worker: Some(tid),
        runtime: 0,
        root: None,
        task: Some(i),
        start_ns: at_ns,
        end_ns: at_ns + held,
        running: false,
        began_before_attach: false,
        split: TimeSplit {
            on_cpu_ns: held,
            ..TimeSplit::default()
        },
        cause,
        causes: vec![(cause, held)],
        held_back: HeldBack::default(),
        culprit: Culprit {
            function: format!("weeks::culprit_{culprit}").into(),
            calls: Some("std::thread::sleep".into()),
            location: Some(Location {
                file: code.files[culprit as usize % code.files.len()].clone(),
                line: 1,
            }),
            chain: Vec::new(),
        },
        stacks: vec![WeightedStack {
            frames: stack,
            activity: Activity::OnCpu,
            cause,
            weight_ns: held,
            complete: true,
        }],
        released_by: None,
    }))
}

/// What a session holds once it is full, and at the end, bytes.
fn weeks(polls: u64, window: Option<Duration>) -> (usize, usize) {
    let step_ns = WEEKS_NS / polls;
    let code = Code::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let before = ALLOCATED.load(Ordering::Relaxed);
    let held = || ALLOCATED.load(Ordering::Relaxed) - before;
    let mut session = Session::new(SessionOptions {
        window,
        ..SessionOptions::default()
    });
    session.apply(&header());
    let mut full = 0;
    for i in 0..polls {
        let at_ns = i * step_ns;
        // The newest workers; every now and then one goes and another comes.
        let newest = (i / WORKER_LIFE + WORKERS) as u32;
        let tid = newest - random.below(WORKERS) as u32;
        if i % WORKER_LIFE == 0 {
            session.apply(&Record::WorkerGone {
                tid: newest - WORKERS as u32,
                at_ns,
            });
            session.apply(&Record::Worker(Worker {
                role: Role::Worker,
                tid: newest,
                index: Some(newest),
                runtime: newest / 1000,
                flavor: Some(Flavor::MultiThread),
                thread_name: format!("worker-{newest}").into(),
            }));
            session.apply(&Record::TierChanged {
                tier: Tier::Scheduler,
                at_ns,
                why: format!("for the {i}th time"),
            });
        }
        if i % WORKERS == 0 {
            session.apply(&Record::Usage(WorkerUsage {
                tid,
                at_ns,
                parked_ns: at_ns,
                ..WorkerUsage::default()
            }));
        }
        session.apply(&poll(i, at_ns, tid, &code, &mut random));
        if i % 50_000 == 0 {
            // What views ask for makes caches.
            for (group, scope) in [
                (Group::Culprit, Scope::Session),
                (Group::File, Scope::Window),
            ] {
                let snap = session.snapshot(&Query {
                    now_ns: Some(at_ns),
                    group,
                    scope,
                    details: 20,
                    span: Some((0, u64::MAX)),
                    ..Query::default()
                });
                assert!(snap.rows.len() <= SessionOptions::default().keep_culprits + 2);
            }
        }
        if i == polls / 2 {
            full = held();
        }
    }
    let snap = session.snapshot(&Query::default());
    assert_eq!(snap.kept.polls_seen, polls);
    assert_eq!(snap.blocking.polls + snap.not_code.polls, polls);
    drop(snap);
    (full, held())
}

#[test]
fn weeks_of_slow_polls_take_no_more_memory_than_days() {
    for (name, polls, window) in [
        ("totals", 400_000, None),
        ("window", 100_000, Some(Duration::from_secs(86_400))),
    ] {
        let begun = std::time::Instant::now();
        let (full, end) = weeks(polls, window);
        let (full, end) = (full >> 20, end >> 20);
        eprintln!(
            "{name}: {full} MiB when full, {end} MiB at the end; {:.1?}",
            begun.elapsed()
        );
        assert!(
            end <= full + full / 10,
            "{name}: {full} MiB grew to {end} MiB"
        );
        assert!(end < 200, "{name}: {end} MiB");
    }
}
