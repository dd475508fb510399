//! Random records for property tests.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::model::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_:]{0,12}",
        "\\PC{0,8}",
        "[\"\\\\\n\u{0}\u{1f600}]{0,4}"
    ]
}

fn place() -> impl Strategy<Value = Option<Location>> {
    of((text(), any::<u32>()).prop_map(|(file, line)| Location {
        file: file.into(),
        line,
    }))
}

fn frame() -> impl Strategy<Value = Arc<Frame>> {
    let origin = prop_oneof![
        Just(Origin::User),
        Just(Origin::ThirdParty),
        Just(Origin::Runtime),
        Just(Origin::Std),
        Just(Origin::Kernel),
        Just(Origin::Unknown)
    ];
    (
        text(),
        of(text()),
        place(),
        of(text()),
        origin,
        any::<(bool, bool)>(),
        of((any::<u64>(), of(text()))),
    )
        .prop_map(|(function, raw, location, module, origin, flags, at)| {
            let (inlined, uncertain) = flags;
            Arc::new(Frame {
                function: function.into(),
                raw,
                location,
                module: module.map(Arc::from),
                origin,
                inlined,
                uncertain,
                address: at.map(|(address, build_id)| CodeAddress {
                    address,
                    build_id: build_id.map(Arc::from),
                }),
            })
        })
}

fn cause() -> impl Strategy<Value = Cause> {
    proptest::sample::select(&Cause::ALL[..])
}

fn stack() -> impl Strategy<Value = WeightedStack> {
    let activity =
        proptest::sample::select(&[Activity::OnCpu, Activity::RunQueue, Activity::Blocked][..]);
    (
        vec(frame(), 0..6),
        activity,
        cause(),
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(
            |(frames, activity, cause, weight_ns, complete)| WeightedStack {
                frames,
                activity,
                cause,
                weight_ns,
                complete,
            },
        )
}

fn culprit() -> impl Strategy<Value = Culprit> {
    (text(), of(text()), place(), vec(text(), 0..3)).prop_map(
        |(function, calls, location, chain)| Culprit {
            function: function.into(),
            calls: calls.map(Name::from),
            location,
            chain: chain.into_iter().map(Name::from).collect(),
        },
    )
}

fn released_by() -> impl Strategy<Value = ReleasedBy> {
    let how = proptest::sample::select(&[Release::Futex, Release::Exit, Release::File][..]);
    (
        any::<u32>(),
        text(),
        how,
        any::<u64>(),
        culprit(),
        vec(frame(), 0..4),
    )
        .prop_map(|(tid, thread, how, wait_ns, culprit, frames)| ReleasedBy {
            tid,
            thread: thread.into(),
            how,
            wait_ns,
            culprit,
            frames,
        })
}

fn poll() -> impl Strategy<Value = SlowPoll> {
    let who = (
        any::<u32>(),
        of(any::<u32>()),
        any::<u32>(),
        of(any::<u64>()),
    );
    let when = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let split = (any::<u64>(), any::<u64>(), any::<u64>());
    let causes = vec((cause(), any::<u64>()), 0..4);
    (
        who,
        when,
        flags,
        split,
        cause(),
        causes,
        culprit(),
        vec(stack(), 0..4),
        of(released_by()),
    )
        .prop_map(
            |(who, when, flags, split, cause, causes, culprit, stacks, by)| SlowPoll {
                tid: who.0,
                worker: who.1,
                runtime: who.2,
                task: who.3,
                root: match (flags.0, flags.1) {
                    (false, _) => None,
                    (true, false) => Some(RootPoll::OnePoll),
                    (true, true) => Some(RootPoll::BusyStretch),
                },
                start_ns: when.0,
                end_ns: when.1,
                running: false,
                began_before_attach: flags.0,
                split: TimeSplit {
                    on_cpu_ns: split.0,
                    run_queue_ns: split.1,
                    blocked_ns: split.2,
                },
                cause,
                causes,
                held_back: HeldBack {
                    throttled: flags.1,
                    stolen: flags.2,
                },
                culprit,
                stacks,
                released_by: by.map(Arc::new),
            },
        )
}

fn census_thread() -> impl Strategy<Value = CensusThread> {
    let wait = prop_oneof![
        Just(ThreadWait::Running),
        Just(ThreadWait::Stopped),
        (text(), cause(), of(any::<u64>())).prop_map(|(syscall, cause, lock)| {
            ThreadWait::Asleep {
                syscall,
                cause,
                lock,
            }
        }),
    ];
    let worker = || (any::<u32>(), of(any::<u32>()));
    let duty = prop_oneof![
        Just(Duty::Other),
        worker().prop_map(|(runtime, index)| Duty::Parked { runtime, index }),
        (worker(), of(any::<u64>()), any::<u64>()).prop_map(|((runtime, index), task, held_ns)| {
            Duty::Polling {
                runtime,
                index,
                task,
                held_ns,
            }
        }),
    ];
    (
        any::<u32>(),
        text(),
        wait,
        duty,
        vec(frame(), 0..4),
        any::<bool>(),
    )
        .prop_map(|(tid, name, wait, duty, frames, complete)| CensusThread {
            tid,
            name: name.into(),
            wait,
            duty,
            frames,
            complete,
        })
}

/// Any record but the header, those of running polls and the end.
pub fn record() -> impl Strategy<Value = Record> {
    let numbers = proptest::array::uniform8(any::<u64>());
    prop_oneof![
        4 => poll().prop_map(|poll| Record::SlowPoll(Arc::new(poll))),
        1 => (any::<u32>(), of(any::<u32>()), any::<u32>(), of(any::<bool>()), text()).prop_map(
            |(tid, index, runtime, many, thread_name)| Record::Worker(Worker {
                tid,
                role: match many {
                    None => Role::RootFuture,
                    Some(_) => Role::Worker,
                },
                index,
                runtime,
                flavor: many.map(|many| match many {
                    true => Flavor::MultiThread,
                    false => Flavor::CurrentThread,
                }),
                thread_name: thread_name.into(),
            })
        ),
        1 => (any::<u32>(), any::<u64>()).prop_map(|(tid, at_ns)| Record::WorkerGone { tid, at_ns }),
        1 => (any::<u32>(), numbers).prop_map(|(tid, n)| Record::Usage(WorkerUsage {
            tid,
            at_ns: n[0],
            on_cpu_ns: n[1],
            run_queue_ns: n[2],
            blocked_ns: n[3],
            parked_ns: n[4],
            polls_observed: n[5],
            longest_poll_ns: n[6],
            asleep_ns: n[7],
        })),
        1 => numbers.prop_map(|n| {
            let mut losses = Losses::default();
            for ((name, _), n) in Losses::default().by_kind().iter().zip(n) {
                *losses.kind_mut(name).unwrap() = n;
            }
            Record::Losses(losses)
        }),
        1 => (any::<u64>(), any::<u64>(), of(any::<u64>()), any::<u64>()).prop_map(
            |(at_ns, cpu_ns, bpf_ns, peak_rss)| Record::Cost(SelfCost {
                at_ns,
                cpu_ns,
                bpf_ns,
                peak_rss,
            })
        ),
        1 => (any::<u64>(), vec(text(), 0..3), vec(census_thread(), 0..4)).prop_map(
            |(at_ns, words, threads)| Record::Census(Arc::new(Census {
                at_ns,
                words,
                threads,
            }))
        ),
        1 => (proptest::sample::select(&Tier::ALL[..]), any::<u64>(), text()).prop_map(|(tier, at_ns, why)| {
            Record::TierChanged { tier, at_ns, why }
        }),
    ]
}
