//! Records for tests: a small process with fixed workers, polls and stacks.

use std::sync::Arc;

use crate::model::*;

/// When the test session starts.
pub const START_NS: u64 = 5_000_000_000_000;
pub const MS: u64 = 1_000_000;

/// A header of a process called `shop`, with a 5 ms threshold.
pub fn header() -> Record {
    Record::Header(Box::new(Header {
        hud_version: "0.1.0".into(),
        pid: 4000,
        process: "shop".into(),
        command: "/srv/shop --port 3000".into(),
        executable: "/srv/shop".into(),
        tokio_version: Some("1.54.1".into()),
        tier: Tier::DebugInfo,
        threshold_ns: 5 * MS,
        start_ns: START_NS,
        start_unix_ns: 1_750_000_000_000_000_000,
    }))
}

/// A worker of a multi_thread runtime, thread `4001 + index`.
pub fn worker(index: u32) -> Record {
    Record::Worker(Worker {
        tid: 4001 + index,
        role: Role::Worker,
        index: Some(index),
        runtime: 0,
        flavor: Some(Flavor::MultiThread),
        thread_name: "tokio-rt-worker".into(),
    })
}

/// Ten seconds of a process whose polls cannot be seen: tier 5.
pub fn session_without_polls() -> Vec<Record> {
    let Record::Header(mut header) = header() else {
        unreachable!("it is one");
    };
    header.tier = Tier::Scheduler;
    let thread = |tid, name: &str, runtime| {
        let worker = Record::Worker(Worker {
            tid,
            role: Role::Worker,
            index: None,
            runtime,
            flavor: None,
            thread_name: name.into(),
        });
        let usage = |at_ms: u64| {
            Record::Usage(WorkerUsage {
                tid,
                at_ns: START_NS + at_ms * MS,
                on_cpu_ns: at_ms * MS / 4,
                run_queue_ns: at_ms * MS / 10,
                asleep_ns: at_ms * MS * 13 / 20,
                ..WorkerUsage::default()
            })
        };
        [worker, usage(4_000), usage(9_900)]
    };
    let why = Record::TierChanged {
        tier: Tier::Scheduler,
        at_ns: START_NS,
        why: "polls cannot be seen: the tasks' ids were not seen".into(),
    };
    let threads = [
        thread(4001, "tokio-rt-worker", 0),
        thread(4002, "tokio-rt-worker", 0),
    ];
    let records = [Record::Header(header), why].into_iter();
    records.chain(threads.into_iter().flatten()).collect()
}

/// A frame in `/srv/shop/src`, or elsewhere by its crate.
pub fn frame(function: &str, line: u32, inlined: bool) -> Arc<Frame> {
    let (origin, file) = match function.split("::").next() {
        Some("shop") => (Origin::User, Some("/srv/shop/src/main.rs")),
        Some("tokio") => (
            Origin::Runtime,
            Some("/registry/tokio-1.54.1/src/runtime/task.rs"),
        ),
        Some("std") => (Origin::Std, Some("/rustc/library/std/src/thread.rs")),
        Some("__libc_start_main") => (Origin::Unknown, None),
        _ => (
            Origin::ThirdParty,
            Some("/registry/bcrypt-0.17.0/src/lib.rs"),
        ),
    };
    Arc::new(Frame {
        function: function.into(),
        raw: (origin == Origin::User).then(|| format!("{function}::{{{{closure}}}}")),
        location: file.map(|file| Location {
            file: file.into(),
            line,
        }),
        module: Some("shop".into()),
        origin,
        inlined,
        uncertain: false,
        address: None,
    })
}

/// A poll of `function`, which called `calls`, on worker `index`, from `at_ms` after the start.
pub fn poll(
    index: u32,
    at_ms: u64,
    held_ms: u64,
    cause: Cause,
    function: &str,
    calls: &str,
) -> SlowPoll {
    let held = held_ms * MS;
    let (split, activity) = match cause {
        Cause::Cpu => (
            TimeSplit {
                on_cpu_ns: held,
                ..TimeSplit::default()
            },
            Activity::OnCpu,
        ),
        Cause::RunQueue => (
            TimeSplit {
                run_queue_ns: held,
                ..TimeSplit::default()
            },
            Activity::RunQueue,
        ),
        _ => (
            TimeSplit {
                blocked_ns: held,
                ..TimeSplit::default()
            },
            Activity::Blocked,
        ),
    };
    let user = frame(function, 42, true);
    SlowPoll {
        tid: 4001 + index,
        worker: Some(index),
        root: None,
        runtime: 0,
        task: Some(u64::from(index) * 1000 + at_ms),
        start_ns: START_NS + at_ms * MS,
        end_ns: START_NS + (at_ms + held_ms) * MS,
        running: false,
        began_before_attach: false,
        split,
        cause,
        causes: vec![(cause, held)],
        held_back: HeldBack::default(),
        culprit: Culprit {
            function: function.into(),
            calls: Some(calls.into()),
            location: user.location.clone(),
            chain: vec!["shop::serve".into()],
        },
        stacks: vec![WeightedStack {
            frames: vec![
                frame(calls, 7, false),
                user,
                frame("shop::serve", 20, false),
                frame("tokio::runtime::task::raw::poll", 300, false),
                frame(
                    "tokio::runtime::scheduler::multi_thread::worker::run",
                    500,
                    false,
                ),
                frame("std::thread::spawn", 99, false),
            ],
            activity,
            cause,
            weight_ns: held,
            complete: true,
        }],
        released_by: None,
    }
}

/// The poll, whose whole time was a wait that thread `tid` ended in `function`.
pub fn released(mut poll: SlowPoll, tid: u32, function: &str) -> SlowPoll {
    let user = frame(function, 77, false);
    poll.released_by = Some(Arc::new(ReleasedBy {
        tid,
        thread: "keeper".into(),
        how: Release::Futex,
        wait_ns: poll.held_ns(),
        culprit: Culprit {
            function: function.into(),
            calls: Some("std::thread::sleep".into()),
            location: user.location.clone(),
            chain: Vec::new(),
        },
        frames: vec![frame("std::thread::sleep", 1, false), user],
    }));
    poll
}

/// Usage of worker `index`, `at_ms` after the start: `busy_ms` on the CPU, the rest parked.
pub fn usage(index: u32, at_ms: u64, busy_ms: u64) -> Record {
    Record::Usage(WorkerUsage {
        tid: 4001 + index,
        at_ns: START_NS + at_ms * MS,
        on_cpu_ns: busy_ms * MS,
        parked_ns: (at_ms - busy_ms) * MS,
        polls_observed: at_ms,
        longest_poll_ns: 3 * MS,
        ..WorkerUsage::default()
    })
}

/// A second of all poll time on worker `index` up to `at_ms`: functions, what they called, and
/// CPU time in ms.
pub fn poll_time(index: u32, at_ms: u64, spots: &[(&str, &str, u64)]) -> PollTime {
    let stacks = spots.iter().map(|(function, calls, cpu_ms)| {
        let poll = poll(index, at_ms, *cpu_ms, Cause::Cpu, function, calls);
        ProfiledStack {
            stack: poll.stacks[0].clone(),
            function: poll.culprit.function,
            calls: poll.culprit.calls,
            location: poll.culprit.location,
        }
    });
    PollTime {
        tid: 4001 + index,
        from_ns: START_NS + at_ms.saturating_sub(1000) * MS,
        to_ns: START_NS + at_ms * MS,
        stacks: stacks.collect(),
    }
}

/// The end, `at_ms` after the start.
pub fn end(at_ms: u64) -> Record {
    Record::End {
        reason: EndReason::Duration,
        at_ns: START_NS + at_ms * MS,
    }
}

/// A ten-second session with several workers, causes and stacks.
pub fn session() -> Vec<Record> {
    let mut records = vec![header(), worker(0), worker(1), worker(2)];
    for i in 0..20u64 {
        let at = 100 + i * 450;
        let mut add = |poll: SlowPoll| records.push(Record::SlowPoll(Arc::new(poll)));
        add(poll(
            0,
            at,
            60 + i,
            Cause::Cpu,
            "shop::hash",
            "bcrypt::bcrypt",
        ));
        add(poll(
            1,
            at,
            12,
            Cause::Sleep,
            "shop::retry",
            "std::thread::sleep",
        ));
        if i % 4 == 0 {
            add(poll(
                1,
                at + 50,
                30,
                Cause::FileIo,
                "shop::audit",
                "std::fs::write",
            ));
            add(poll(
                2,
                at,
                9,
                Cause::RunQueue,
                "shop::hello",
                "shop::render",
            ));
        }
        if i % 2 == 1 {
            let busy = i * 450 / 5;
            records.extend((0..3).map(|w| usage(w, at, busy)));
        }
    }
    records.push(Record::Losses(Losses {
        ring_full: 3,
        ..Losses::default()
    }));
    records.push(Record::Cost(SelfCost {
        at_ns: START_NS + 10_000 * MS,
        cpu_ns: 45 * MS,
        bpf_ns: Some(12 * MS),
        peak_rss: 24 << 20,
    }));
    records.push(end(10_000));
    records
}

/// A census of one hanging worker, with one sentence.
pub fn census() -> Record {
    Record::Census(Arc::new(Census {
        at_ns: START_NS + 9_000 * MS,
        words: vec!["shop waits for itself".into()],
        threads: vec![CensusThread {
            tid: 4001,
            name: "tokio-rt-worker".into(),
            wait: ThreadWait::Asleep {
                syscall: "futex".into(),
                cause: Cause::Lock,
                lock: Some(0x1000),
            },
            duty: Duty::Polling {
                runtime: 0,
                index: Some(0),
                task: Some(9),
                held_ns: 2_000 * MS,
            },
            frames: vec![frame("shop::serve", 20, false)],
            complete: true,
        }],
    }))
}
