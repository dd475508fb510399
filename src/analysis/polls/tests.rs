//! Polls assembled from captured stacks and counters.

use super::*;
use crate::capture::Site;
use crate::stacks::unwind::Unwound;

const MS: u64 = 1_000_000;

fn user(address: u64) -> Unwound {
    Unwound {
        addresses: vec![address],
        complete: true,
        ..Unwound::default()
    }
}

fn futex(sp: u64, blocked_ns: u64) -> Site {
    Site {
        syscall: libc::SYS_futex as i32,
        previous_syscall: -1,
        sp,
        blocked_ns,
        ..Site::default()
    }
}

fn captured(kind: StackKind, site: Site, on_cpu_ns: u64, address: u64) -> PollStack {
    PollStack {
        kind,
        site,
        on_cpu_ns,
        user: user(address),
        kernel: Vec::new(),
        page_fault: false,
    }
}

fn end(poll: PollTimes, held_ns: u64, sites: Vec<Site>) -> PollEnd {
    PollEnd {
        tid: 1,
        end_ns: held_ns,
        poll,
        sites,
    }
}

#[test]
fn samples_share_the_cpu_time_and_sleep_goes_by_place() {
    let mut polls = Polls::new(5 * MS);
    let none = Site {
        syscall: -1,
        ..Site::default()
    };
    polls.add(1, 7, captured(StackKind::Sample, none, 4 * MS, 0xa));
    polls.add(1, 7, captured(StackKind::Sample, none, 8 * MS, 0xb));
    polls.add(1, 7, captured(StackKind::Sample, none, 9 * MS, 0xa));
    polls.add(
        1,
        7,
        captured(StackKind::Blocked, futex(0x10, 0), 9 * MS, 0xc),
    );
    let assembled = polls.end(&end(
        PollTimes {
            sequence: 7,
            on_cpu_ns: 10 * MS,
            blocked_ns: 30 * MS,
            ..PollTimes::default()
        },
        40 * MS,
        vec![futex(0x10, 30 * MS)],
    ));
    let weights: Vec<(u64, u64)> = assembled
        .stacks
        .iter()
        .map(|stack| (stack.user.addresses[0], stack.weight_ns / MS))
        .collect();
    // 0xa stands for 4 ms at first and for the last 2.
    assert_eq!(weights, [(0xc, 30), (0xa, 6), (0xb, 4)]);
    assert_eq!(assembled.cause, Cause::Lock);
    assert_eq!(
        assembled.causes,
        [(Cause::Lock, 30 * MS), (Cause::Cpu, 10 * MS)]
    );
    assert_eq!(assembled.missing_stacks, 0);
}

#[test]
fn the_faults_of_a_storm_cost_what_they_cost_whatever_the_samples_met() {
    let cause = |faults: u64, met: [bool; 3]| {
        let mut polls = Polls::new(5 * MS).with_fault_cost(2_000);
        for (n, page_fault) in (1..).zip(met) {
            let kernel = if page_fault { vec![1] } else { Vec::new() };
            let outside = Site {
                syscall: -1,
                ..Site::default()
            };
            let sample = captured(StackKind::Sample, outside, n * 2 * MS, 0xa);
            let sample = PollStack {
                kernel,
                page_fault,
                ..sample
            };
            polls.add(1, 7, sample);
        }
        let times = PollTimes {
            sequence: 7,
            on_cpu_ns: 6 * MS,
            faults,
            ..PollTimes::default()
        };
        let assembled = polls.end(&end(times, 6 * MS, vec![]));
        let sum: u64 = assembled.causes.iter().map(|(_, ns)| ns).sum();
        assert_eq!(sum, 6 * MS);
        assembled.cause
    };
    // 2,000 faults take 4 ms of the 6.
    assert_eq!(cause(2_000, [true, false, false]), Cause::PageFault);
    assert_eq!(cause(2_000, [true, true, false]), Cause::PageFault);
    // Few faults may be dear ones: what samples show is never lowered.
    assert_eq!(cause(10, [true, true, false]), Cause::PageFault);
    assert_eq!(cause(1_000, [true, false, false]), Cause::Cpu);
    // Cheaper ones than are known of: not one was met.
    assert_eq!(cause(2_000, [false, false, false]), Cause::Cpu);
}

#[test]
fn a_poll_that_only_waited_for_a_cpu_is_not_the_codes_fault() {
    let polls = Polls::new(5 * MS);
    let mut times = PollTimes {
        on_cpu_ns: 2 * MS,
        run_queue_ns: 20 * MS,
        ..PollTimes::default()
    };
    assert_eq!(
        polls.assemble(&end(times, 22 * MS, vec![]), false).cause,
        Cause::RunQueue
    );
    // It would have been slow without the wait, too.
    times.on_cpu_ns = 6 * MS;
    assert_eq!(
        polls.assemble(&end(times, 26 * MS, vec![]), false).cause,
        Cause::Cpu
    );
    // It was hardly seen to run: what makes it slow by itself may be another poll's.
    times.estimated_ns = 4 * MS;
    assert_eq!(
        polls.assemble(&end(times, 26 * MS, vec![]), false).cause,
        Cause::RunQueue
    );
}

#[test]
fn the_cost_of_wakes_belongs_to_the_sleep() {
    let polls = Polls::new(5 * MS);
    let times = PollTimes {
        run_queue_ns: 4 * MS,
        wake_delay_ns: 4 * MS,
        blocked_ns: 4 * MS,
        ..PollTimes::default()
    };
    let assembled = polls.assemble(&end(times, 8 * MS, vec![futex(1, 4 * MS)]), false);
    assert_eq!(assembled.causes, [(Cause::Lock, 8 * MS)]);
    assert_eq!(assembled.missing_stacks, 1);
}

#[test]
fn stacks_of_an_earlier_poll_are_not_mixed_in() {
    let mut polls = Polls::new(5 * MS);
    polls.add(1, 1, captured(StackKind::Blocked, futex(1, 0), 0, 0xa));
    polls.add(1, 2, captured(StackKind::Blocked, futex(2, 0), 0, 0xb));
    let times = PollTimes {
        sequence: 2,
        blocked_ns: 9 * MS,
        ..PollTimes::default()
    };
    let sites = vec![futex(1, 3 * MS), futex(2, 6 * MS)];
    let assembled = polls.end(&end(times, 9 * MS, sites));
    assert_eq!(assembled.stacks.len(), 1);
    assert_eq!(assembled.stacks[0].user.addresses, [0xb]);
    assert_eq!(assembled.missing_stacks, 1);
}

#[test]
fn the_next_poll_may_be_known_before_the_last_one_ends() {
    let mut polls = Polls::new(5 * MS);
    polls.add(1, 1, captured(StackKind::Blocked, futex(1, 0), 0, 0xa));
    let next = OpenPoll {
        times: PollTimes {
            sequence: 2,
            ..PollTimes::default()
        },
        sites: vec![],
        asleep_at: None,
        stopped: false,
        capture_waits: false,
    };
    polls.running(1, 30 * MS, 20 * MS, &next);
    let times = PollTimes {
        sequence: 1,
        blocked_ns: 9 * MS,
        ..PollTimes::default()
    };
    let assembled = polls.end(&end(times, 9 * MS, vec![futex(1, 9 * MS)]));
    assert_eq!(assembled.stacks.len(), 1);
}

#[test]
fn polls_of_a_thread_never_touch() {
    let mut polls = Polls::new(5 * MS);
    let at = |sequence, start_ns| PollTimes {
        sequence,
        start_ns,
        ..PollTimes::default()
    };
    let next = OpenPoll {
        times: at(2, 10 * MS),
        sites: vec![],
        asleep_at: None,
        stopped: false,
        capture_waits: false,
    };
    // The next poll is reported first, with a start before the end of this one.
    polls.running(1, 30 * MS, 20 * MS, &next);
    let first = polls.end(&end(at(1, MS), 10 * MS + 41_000, vec![]));
    assert_eq!(first.end_ns, 10 * MS - GAP_NS);
    let second = polls.end(&end(at(2, 10 * MS), 40 * MS, vec![]));
    assert_eq!((second.times.start_ns, second.end_ns), (10 * MS, 40 * MS));
    // Without a report the start gives way.
    let third = polls.end(&end(at(3, 39 * MS), 50 * MS, vec![]));
    assert_eq!(third.times.start_ns, 40 * MS + GAP_NS);
}

#[test]
fn a_sleeping_poll_grows_at_the_place_where_it_sleeps() {
    let mut polls = Polls::new(5 * MS);
    let open = OpenPoll {
        times: PollTimes {
            blocked_ns: MS,
            ..PollTimes::default()
        },
        sites: vec![futex(1, MS)],
        asleep_at: Some(0),
        stopped: false,
        capture_waits: false,
    };
    let assembled = polls.running(1, 12_000 * MS, 2 * MS, &open);
    assert!(assembled.running);
    assert_eq!(assembled.causes, [(Cause::Lock, 11_999 * MS)]);
    assert_eq!(assembled.split.blocked_ns, 11_999 * MS);
}

#[test]
fn a_fetched_stack_is_not_added_twice() {
    let mut polls = Polls::new(5 * MS);
    let capture = Capture {
        tid: 1,
        at_ns: 0,
        kind: StackKind::Blocked,
        poll: PollTimes {
            sequence: 3,
            ..PollTimes::default()
        },
        site: futex(1, 0),
        registers: Default::default(),
        kernel: vec![],
        stack_base: 0,
        stack: vec![],
        cut: false,
    };
    assert!(polls.needs(&capture));
    polls.add(1, 3, PollStack::new(&capture, user(1), false));
    assert!(!polls.needs(&capture));
}
