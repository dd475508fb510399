//! What tells a worker's polls apart where Tokio's state cannot be read: numbers that grow with its
//! scheduling rounds, found by watching.
//!
//! The frames of a worker's loop hold pointers to its core. Of what those lead to, every half word
//! counts as a counter that grew from nearly each poll or park to the next, and never while the worker
//! stood still. Tokio's tick is one of them. Which one need not be known: two polls are taken for one only
//! if none of them differs. Pure logic over what was read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::capture::{Counter, WAY_COUNTERS};

/// How much of the stack above a way's lowest word is looked at, and of what its words lead to,
/// bytes.
pub const REGION: usize = 2048;
pub const POINTEE: usize = 768;

/// Rounds after which the counters are settled, and after how many they are tried first.
pub const ENOUGH: usize = 96;
const FIRST: usize = 6;
/// A thread with fewer says nothing of its own.
const TELLING: usize = 2;
/// Threads of one way that are watched.
const MAX_THREADS: usize = 16;

/// No worker makes more rounds between two looks at it.
const MAX_ROUNDS: u32 = 1 << 22;

/// Of so many changes from a poll, or to one, one may come without a round.
const TOLERANCE: usize = 5;
/// From park to park nothing need have happened, but of so many changes one is a round.
const SPURIOUS: usize = 4;

/// What a worker was doing when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    Poll,
    Park,
    /// Neither: it lost the CPU between two polls.
    #[default]
    Between,
}

/// A worker that stood still while it was looked at.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Its context switches so far: unchanged means it has not run.
    pub switches: u64,
    pub doing: Doing,
    /// In a poll: what the function that polls holds in its frame. It stands still until the poll
    /// is over, so two polls may hold the same there, but one poll never holds two.
    pub frame: Option<Vec<u8>>,
    /// The stack from the way's lowest word up.
    pub words: Vec<u64>,
    /// What those lead to that are pointers.
    pub pointees: HashMap<u64, Vec<u8>>,
}

/// How one number went on from one poll or park to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Steps {
    grew: usize,
    /// It did not, although there was a poll.
    stood: usize,
    /// It went back, or leapt.
    fell: usize,
}

/// What is known of one worker.
#[derive(Debug)]
struct Series {
    /// What it was doing when it was looked at first.
    began: Doing,
    last: Look,
    /// The poll or park before the last look.
    last_stay: Doing,
    /// Changes from one poll or park to another.
    rounds: usize,
    /// By offset of the word above the lowest: the pointers that never changed.
    pointers: BTreeMap<u32, u64>,
    /// By address: the numbers that may be counters.
    numbers: BTreeMap<u64, Steps>,
}

impl Series {
    fn new(look: Look) -> Self {
        let words = look.words.iter().enumerate();
        let pointers: BTreeMap<u32, u64> = words
            .filter(|(_, word)| look.pointees.contains_key(word))
            .map(|(index, word)| (index as u32 * 8, *word))
            .collect();
        let halves = look.pointees.iter().flat_map(|(start, bytes)| {
            let offsets = (0..bytes.len() as u64).step_by(4);
            offsets.map(move |offset| (start.wrapping_add(offset), Steps::default()))
        });
        Series {
            numbers: halves.collect(),
            pointers,
            rounds: 0,
            began: look.doing,
            last_stay: look.doing,
            last: look,
        }
    }

    fn take(&mut self, mut look: Look) {
        let mut core_is_out = false;
        self.pointers.retain(|at, pointer| {
            let word = look.words.get(*at as usize / 8);
            // Between two polls the core is out of its place, and in `block_in_place`.
            let is_out = word == Some(&0) && look.doing != Doing::Park;
            core_is_out |= is_out;
            word == Some(pointer) || is_out
        });
        if core_is_out {
            look.doing = Doing::Between;
        }
        let slept_on = look.switches == self.last.switches;
        if look.doing == Doing::Between {
            if !slept_on {
                self.last.doing = Doing::Between;
            }
            return;
        }
        // Of two polls nobody knows whether they are one that was seen twice, unless the worker
        // was seen between them, or the function that polls shows it.
        let differ = self
            .last
            .frame
            .as_ref()
            .zip(look.frame.as_ref())
            .is_some_and(|(before, after)| before != after);
        let from_park = self.last_stay == Doing::Park && look.doing == Doing::Park;
        let moved = match (self.last_stay, look.doing) {
            _ if slept_on => false,
            (Doing::Between, _) => false,
            (Doing::Poll, Doing::Poll) => differ || self.last.doing == Doing::Between,
            _ => true,
        };
        let (before, after) = (halves(&self.last), halves(&look));
        self.numbers.retain(|address, steps| {
            let (Some(was), Some(is)) = (before.get(address), after.get(address)) else {
                return false;
            };
            match is.wrapping_sub(*was) {
                0 => steps.stood += usize::from(moved && !from_park),
                // Another thread's.
                _ if slept_on => return false,
                1..=MAX_ROUNDS => steps.grew += usize::from(moved),
                _ => steps.fell += usize::from(moved),
            }
            true
        });
        self.rounds += usize::from(moved);
        self.last_stay = look.doing;
        self.last = look;
    }

    fn counts(&self, address: u64) -> bool {
        self.numbers.get(&address).is_some_and(|steps| {
            (steps.stood + steps.fell) * TOLERANCE <= self.rounds
                && steps.grew * SPURIOUS >= self.rounds
        })
    }

    /// The address of a counter, if it is one in this thread.
    fn address(&self, counter: Counter) -> Option<u64> {
        let pointer = self.pointers.get(&counter.pointer)?;
        Some(pointer.wrapping_add(counter.offset.into()))
    }
}

/// Every half word that was read, by its address.
fn halves(look: &Look) -> HashMap<u64, u32> {
    let mut all = HashMap::new();
    for (start, bytes) in &look.pointees {
        for (index, half) in bytes.chunks_exact(4).enumerate() {
            if let Ok(half) = half.try_into() {
                all.insert(
                    start.wrapping_add(index as u64 * 4),
                    u32::from_le_bytes(half),
                );
            }
        }
    }
    all
}

/// What was found in the workers of one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    pub counters: Vec<Counter>,
    /// Where on the stack pointers to the workers' cores are kept, bytes above the lowest word.
    pub cores: Vec<u32>,
}

/// The workers of one way as they were seen so far.
#[derive(Debug, Default)]
pub struct Counters {
    threads: HashMap<u32, Series>,
}

impl Counters {
    /// Takes in a look at a worker.
    pub fn take(&mut self, tid: u32, look: Look) {
        if let Some(series) = self.threads.get_mut(&tid) {
            // In a park everything is in its place.
            match series.began != Doing::Park && look.doing == Doing::Park {
                true => *series = Series::new(look),
                false => series.take(look),
            }
        } else if self.threads.len() < MAX_THREADS {
            self.threads.insert(tid, Series::new(look));
        }
    }

    /// Its loop runs elsewhere by now, or it has ended.
    pub fn forget(&mut self, tid: u32) {
        self.threads.remove(&tid);
    }

    /// Rounds seen, of all workers together.
    pub fn rounds(&self) -> usize {
        self.threads.values().map(|series| series.rounds).sum()
    }

    /// The counters, once there were enough rounds and not too many numbers are left.
    pub fn learnt(&self) -> Option<Learnt> {
        let telling: Vec<&Series> = self
            .threads
            .values()
            .filter(|series| series.rounds >= TELLING)
            .collect();
        let rounds: usize = telling.iter().map(|series| series.rounds).sum();
        let (first, others) = telling.split_first()?;
        if rounds < FIRST {
            return None;
        }
        let mut counters = Vec::new();
        let mut known: HashSet<u64> = HashSet::new();
        for (at, pointer) in &first.pointers {
            // What several workers lead to belongs to all of them.
            let shared = |series: &&Series| series.pointers.values().any(|other| other == pointer);
            if others.iter().any(shared) {
                continue;
            }
            for offset in (0..POINTEE as u32).step_by(4) {
                let counter = Counter {
                    pointer: *at,
                    offset,
                };
                let counts = |series: &&Series| {
                    let address = series.address(counter);
                    address.is_some_and(|address| series.counts(address))
                };
                if telling.iter().all(counts)
                    && first.address(counter).is_some_and(|at| known.insert(at))
                {
                    counters.push(counter);
                }
            }
        }
        if counters.is_empty() || counters.len() > WAY_COUNTERS {
            return None;
        }
        let used: BTreeSet<u32> = counters.iter().map(|counter| counter.pointer).collect();
        // Every copy of a pointer that leads to a counter, in all threads.
        let copies = |at: &&u32| {
            telling.iter().all(|series| {
                let pointer = series.pointers.get(at);
                pointer.is_some() && used.iter().any(|used| series.pointers.get(used) == pointer)
            })
        };
        Some(Learnt {
            cores: first.pointers.keys().filter(copies).copied().collect(),
            counters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: u64 = 0x5000;
    const SHARED: u64 = 0x9000;

    /// A worker with its core behind words 1 and 3 and shared state behind word 2.
    fn look(core: u64, switches: u64, numbers: &[(usize, u32)], shared: u32) -> Look {
        let mut bytes = vec![0; 128];
        for (at, number) in numbers {
            bytes[*at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        Look {
            switches,
            doing: Doing::Park,
            frame: None,
            words: vec![1, core, SHARED, core, 77],
            pointees: HashMap::from([(core, bytes), (SHARED, shared.to_le_bytes().to_vec())]),
        }
    }

    /// Two workers, each with a tick at 8, a count of every fifth round at 16, and a clock at 24.
    fn watched(sleeps: u32) -> Counters {
        let mut counters = Counters::default();
        for round in 0..=sleeps {
            for (tid, core) in [(1, CORE), (2, CORE + 0x1000)] {
                let numbers = [
                    (8, 100 + round * 3),
                    (16, round / 5),
                    (24, round.wrapping_mul(0x9000_0001)),
                ];
                counters.take(tid, look(core, round.into(), &numbers, round));
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
        let learnt = watched(20).learnt().unwrap();
        assert_eq!(learnt.counters, [TICK]);
        assert_eq!(learnt.cores, [8, 24]);
        assert_eq!(watched(2).learnt(), None, "too few rounds");
    }

    #[test]
    fn what_changes_while_the_worker_sleeps_is_not_its_own() {
        let mut counters = watched(20);
        counters.take(1, look(CORE, 20, &[(8, 161)], 20));
        assert_eq!(counters.learnt(), None);
    }

    #[test]
    fn of_a_lone_worker_what_it_shares_counts_as_well() {
        let mut counters = watched(20);
        counters.forget(2);
        let learnt = counters.learnt().unwrap();
        assert_eq!(learnt.counters.len(), 2);
        assert!(learnt.counters.contains(&TICK));
    }

    #[test]
    fn a_poll_that_slept_twice_is_no_round() {
        let mut counters = Counters::default();
        for sleep in 0..40 {
            let tick = 7 + sleep / 10;
            let mut look = look(CORE, sleep.into(), &[(8, tick)], 0);
            // Three out of ten sleeps are parks; the tick moves with the first of them.
            look.doing = match sleep % 10 {
                0 => Doing::Park,
                _ => Doing::Poll,
            };
            counters.take(1, look);
        }
        let learnt = counters.learnt();
        assert_eq!(counters.rounds(), 7);
        assert_eq!(learnt, None, "only seven changes tell");
    }

    #[test]
    fn parks_that_nothing_ended_do_not_hide_the_tick() {
        let mut counters = Counters::default();
        // A count of parks grows with each, the tick with every third.
        for park in 0..60u32 {
            let numbers = [(8, 7 + park / 3), (16, park)];
            counters.take(1, look(CORE, park.into(), &numbers, 0));
        }
        assert!(counters.learnt().unwrap().counters.contains(&TICK));
    }

    #[test]
    fn a_worker_that_was_seen_between_two_polls_is_in_another_one() {
        let mut counters = Counters::default();
        for step in 0..60u32 {
            let mut look = look(CORE, step.into(), &[(8, 7 + step / 2)], 0);
            look.doing = match step % 2 {
                0 => Doing::Poll,
                _ => Doing::Between,
            };
            if look.doing == Doing::Between {
                look.words[3] = 0;
            }
            counters.take(1, look);
        }
        let learnt = counters.learnt().unwrap();
        assert_eq!(learnt.counters, [TICK]);
        assert_eq!(learnt.cores, [8, 24]);
    }

    #[test]
    fn two_polls_differ_in_the_frame_of_what_polls_them() {
        let watched = |tasks: u32| {
            let mut counters = Counters::default();
            for step in 0..60u32 {
                // Each poll is seen twice.
                let mut look = look(CORE, step.into(), &[(8, 7 + step / 2)], 0);
                look.doing = Doing::Poll;
                look.frame = Some((step / 2 % tasks).to_le_bytes().to_vec());
                counters.take(1, look);
            }
            counters
        };
        assert_eq!(watched(2).learnt().unwrap().counters, [TICK]);
        assert_eq!(watched(1).rounds(), 0, "always the same task");
    }

    #[test]
    fn more_numbers_than_can_be_compared_are_none() {
        let mut counters = Counters::default();
        for round in 0..=20 {
            let numbers: Vec<(usize, u32)> = (0..=WAY_COUNTERS).map(|n| (n * 4, round)).collect();
            counters.take(1, look(CORE, round.into(), &numbers, 0));
        }
        assert_eq!(counters.learnt(), None);
    }
}
