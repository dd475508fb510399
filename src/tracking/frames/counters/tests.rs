//! Counters set from made-up observations at workers.

use super::*;

const CORE: u64 = 0x5000;
const SHARED: u64 = 0x9000;

/// A worker with its core behind words 1 and 3 and shared state behind word 2.
fn observation(core: u64, switches: u64, numbers: &[(usize, u32)], shared: u32) -> Observation {
    let mut bytes = vec![0; 128];
    for (at, number) in numbers {
        bytes[*at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    Observation {
        switches,
        running: false,
        activity: Activity::Park,
        frame: None,
        words: vec![1, core, SHARED, core, 77],
        pointees: HashMap::from([(core, bytes), (SHARED, shared.to_le_bytes().to_vec())]),
    }
}

/// Two workers, each with a tick at 8, a count of every fifth round at 16, and a clock at 24.
fn watched(sleeps: u32) -> Counters {
    let mut counters = Counters::new(true, 0);
    for round in 0..=sleeps {
        for (tid, core) in [(1, CORE), (2, CORE + 0x1000)] {
            let numbers = [
                (8, 100 + round * 3),
                (16, round / 5),
                (24, round.wrapping_mul(0x9000_0001)),
            ];
            counters.take(tid, observation(core, round.into(), &numbers, round));
        }
    }
    counters
}

const TICK: Counter = Counter {
    pointer: 8,
    offset: 8,
};

#[test]
fn what_grows_with_the_rounds_counts() {
    let mut counters = watched(20);
    let set = counters.learn();
    assert_eq!(set.counters, [TICK]);
    assert_eq!(set.cores, [8, 24]);
    assert_eq!(watched(2).learn().counters, [], "too few rounds");
}

#[test]
fn what_changes_while_the_worker_sleeps_is_not_its_own() {
    let mut counters = watched(20);
    counters.take(1, observation(CORE, 20, &[(8, 161)], 20));
    assert_eq!(counters.learn().counters, []);
}

#[test]
fn what_changes_while_the_worker_runs_may_be_its_own() {
    let running = |switches, numbers: &[(usize, u32)]| Observation {
        running: true,
        activity: Activity::Poll,
        frame: Some(vec![numbers[0].1 as u8]),
        ..observation(CORE, switches, numbers, 20)
    };
    let mut counters = watched(20);
    // It never leaves the CPU, and is in another poll each time.
    for tick in 161..180 {
        counters.take(1, running(20, &[(8, tick)]));
    }
    assert_eq!(counters.learn().counters, [TICK]);
}

#[test]
fn of_the_pointers_to_the_core_that_in_the_loops_frame_is_used() {
    let mut counters = Counters {
        loop_at: 8,
        ..watched(20)
    };
    let set = counters.learn();
    assert_eq!(set.counters[0].pointer, 24);
    // It turns out to come and go: the same counter is reached by the other one.
    for tid in [1, 2] {
        let core = CORE + u64::from(tid - 1) * 0x1000;
        let mut observation = observation(core, 21, &[(8, 163), (16, 4)], 21);
        observation.words[3] = 1;
        counters.take(tid, observation);
    }
    assert_eq!(counters.learn().counters, [TICK]);
}

#[test]
fn of_a_lone_worker_what_it_shares_counts_as_well() {
    let mut counters = watched(20);
    counters.forget(2);
    let set = counters.learn();
    assert_eq!(set.counters.len(), 2);
    assert!(set.counters.contains(&TICK));
}

#[test]
fn a_poll_that_slept_twice_is_no_round() {
    let mut counters = Counters::new(true, 0);
    for sleep in 0..40 {
        let tick = 7 + sleep / 10;
        let mut observation = observation(CORE, sleep.into(), &[(8, tick)], 0);
        // Three out of ten sleeps are parks; the tick moves with the first of them.
        observation.activity = match sleep % 10 {
            0 => Activity::Park,
            _ => Activity::Poll,
        };
        counters.take(1, observation);
    }
    assert_eq!(counters.rounds(), 7);
    let set = counters.learn();
    assert_eq!(set.counters, [], "the round begins after a park");
    // But not of the root future of current_thread.
    counters.multi_thread = false;
    assert_eq!(counters.learn().counters, [TICK]);
}

#[test]
fn parks_that_nothing_ended_do_not_hide_the_tick() {
    let mut counters = Counters::new(true, 0);
    // A count of parks grows with each, the tick with every third.
    for park in 0..60u32 {
        let numbers = [(8, 7 + park / 3), (16, park)];
        counters.take(1, observation(CORE, park.into(), &numbers, 0));
    }
    assert!(counters.learn().counters.contains(&TICK));
}

#[test]
fn a_worker_that_was_seen_between_two_polls_is_in_another_one() {
    let mut counters = Counters::new(true, 0);
    for step in 0..60u32 {
        let mut observation = observation(CORE, step.into(), &[(8, 7 + step / 2)], 0);
        observation.activity = match step % 2 {
            0 => Activity::Poll,
            _ => Activity::Between,
        };
        if observation.activity == Activity::Between {
            observation.words[3] = 0;
        }
        counters.take(1, observation);
    }
    let set = counters.learn();
    assert_eq!(set.counters, [TICK]);
    assert_eq!(set.cores, [8, 24]);
}

#[test]
fn two_polls_differ_in_the_frame_of_what_polls_them() {
    let watched = |tasks: u32| {
        let mut counters = Counters::new(true, 0);
        for step in 0..60u32 {
            // Each poll is seen twice.
            let mut observation = observation(CORE, step.into(), &[(8, 7 + step / 2)], 0);
            observation.activity = Activity::Poll;
            observation.frame = Some((step / 2 % tasks).to_le_bytes().to_vec());
            counters.take(1, observation);
        }
        counters
    };
    assert_eq!(watched(2).learn().counters, [TICK]);
    assert_eq!(watched(1).rounds(), 0, "always the same task");
}

/// A worker that polls and parks in turn, with a tick and a number that misses each
/// `missed`-th round.
fn with_rival(rounds: u32, missed: u32) -> Counters {
    let mut counters = Counters::new(true, 0);
    for round in 0..=rounds {
        let rival = round - round / missed;
        let mut observation = observation(CORE, round.into(), &[(8, round), (40, rival)], 0);
        if round % 2 == 1 {
            observation.activity = Activity::Poll;
        }
        counters.take(1, observation);
    }
    counters
}

#[test]
fn once_one_number_is_sure_the_others_go_and_stay_away() {
    let mut counters = with_rival(SURE as u32 - 1, 6);
    assert_eq!(counters.learn().counters.len(), 2);
    counters = Counters {
        set: counters.set,
        known: counters.known,
        ..with_rival(SURE as u32, 6)
    };
    assert_eq!(counters.learn().counters, [TICK]);
    // With fewer rounds, as after a thread has ended, nothing is forgotten or added.
    for rounds in [2, SURE as u32 - 1] {
        counters = Counters {
            set: counters.set,
            known: counters.known,
            ..with_rival(rounds, 6)
        };
        assert_eq!(counters.learn().counters, [TICK]);
    }
}

#[test]
fn more_numbers_than_can_be_compared_are_none() {
    let mut counters = Counters::new(true, 0);
    for round in 0..=20 {
        let numbers: Vec<(usize, u32)> = (0..=PATH_COUNTERS).map(|n| (n * 4, round)).collect();
        counters.take(1, observation(CORE, round.into(), &numbers, 0));
    }
    assert_eq!(counters.learn().counters, []);
}

/// A worker that hands its core over in each tenth round and gets another one, next to something of
/// the thread's own, behind word 4, that grows with every round.
fn handing_over(rounds: u32) -> Counters {
    const OWN: u64 = 0xa000;
    let mut counters = Counters::new(true, 8);
    for round in 0..=rounds {
        let core = CORE + u64::from(round / 10) * 0x1000;
        let mut observation = observation(core, round.into(), &[(8, round)], 0);
        observation.words[4] = OWN;
        observation
            .pointees
            .insert(OWN, round.to_le_bytes().to_vec());
        if round % 10 == 9 {
            observation.activity = Activity::Poll;
            observation.words[3] = 0;
        }
        counters.take(1, observation);
    }
    counters
}

#[test]
fn only_what_is_handed_over_is_a_core() {
    let set = handing_over(8).learn().clone();
    assert!(set.cores.contains(&32), "before it was seen: {set:?}");
    let set = handing_over(19).learn().clone();
    assert_eq!(set.cores, [8, 24]);
    assert_eq!(set.counters.len(), 1);
    // Without rounds enough with the core that it has now there is none.
    let mut anew = handing_over(22);
    assert_eq!(anew.rounds(), 2);
    assert_eq!(anew.learn().counters, []);
}

#[test]
fn what_is_gone_below_the_loop_says_nothing() {
    let mut counters = handing_over(8);
    counters.loop_at = 24;
    for round in 9..40 {
        let mut observation = observation(CORE, round.into(), &[(8, round)], 0);
        if round % 2 == 1 {
            observation.activity = Activity::Poll;
            observation.words[3] = 0;
        }
        counters.take(1, observation);
    }
    assert!(counters.rounds() > 20, "it never began anew");
}

#[test]
fn few_rounds_make_nothing_sure() {
    assert!(!with_rival(SURE as u32 - 1, 6).learn().sure);
    let sure = with_rival(SURE as u32, 6).learn().clone();
    assert!(sure.sure);
    let mut fewer = Counters {
        known: [CORE + 8].into(),
        set: sure,
        ..with_rival(SURE as u32 - 1, 6)
    };
    assert!(fewer.learn().sure);
}
