//! Finds numbers that tell a worker's polls apart: they grow with its scheduling rounds.
//!
//! The frames of a worker's loop hold pointers to its core. Of what those point to, every 32-bit number
//! is taken for a counter that grew from nearly each poll or park to the next, and never while the
//! worker slept. Tokio's tick is one of them, and which one does not matter: two polls are taken for one
//! only if none of the counters differs. Each change of the set splits the polls that are open, so more
//! is required to add a counter than to keep one. Pure logic over what was read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::capture::{Counter, PATH_COUNTERS};
use crate::model::Flavor;
use crate::tokio::rounds::{Change, TOLERANCE, Tally};

/// How much is read of the stack above a path's base, and of what its words point to, bytes.
pub const REGION: usize = 2048;
pub const POINTEE: usize = 768;

/// Rounds after which the set is final, and before the first one is tried.
pub const ENOUGH: usize = 96;
const FIRST: usize = 6;
/// A thread with fewer rounds is not used.
const MIN_ROUNDS: usize = 2;
/// Threads that are observed per path.
const MAX_THREADS: usize = 16;

/// A park need not be followed by a round, but one of so many changes is.
const SPURIOUS: usize = 4;
/// A number is certain once it grew in nearly all of this many changes from or to a poll.
const SURE: usize = 16;
/// "Nearly all": one of so many changes may come without a round.
const RARE: usize = 32;

/// What a worker did when it was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    Poll,
    Park,
    /// Neither: it lost the CPU between two polls.
    #[default]
    Between,
}

/// A worker that slept while it was read, or ran in a poll.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Its context switches so far: unchanged means it has not run, unless it runs all the time.
    pub switches: u64,
    pub running: bool,
    pub activity: Activity,
    /// In a poll: the frame of the function that polls. It does not change during a poll: two polls
    /// may have the same frame, but one poll never has two.
    pub frame: Option<Vec<u8>>,
    /// The stack from the path's base up.
    pub words: Vec<u64>,
    /// What the pointers among them point to.
    pub pointees: HashMap<u64, Vec<u8>>,
}

impl Observation {
    /// The stack's word so many bytes above the base.
    fn word(&self, at: u32) -> Option<u64> {
        self.words.get(at as usize / size_of::<u64>()).copied()
    }
}

/// Changes with a poll before or after.
const WITH_POLLS: [Change; 3] = [Change::PollToPoll, Change::PollToPark, Change::ParkToPoll];

/// Whether the number may count the worker's rounds.
fn may_count(tally: &Tally, flavor: Flavor) -> bool {
    let all = tally.of(&Change::KNOWN);
    // Not every park begins a round.
    let missed =
        tally.of(&[Change::PollToPoll]).stood + tally.of(Change::certain(flavor)).stood + all.fell;
    missed * TOLERANCE <= all.all() && all.grew * SPURIOUS >= all.all()
}

/// Whether it certainly does.
fn surely_counts(tally: &Tally) -> bool {
    let with_polls = tally.of(&WITH_POLLS);
    with_polls.all() >= SURE && with_polls.missed() * RARE <= with_polls.all()
}

/// What is known of one worker.
#[derive(Debug)]
struct Series {
    /// Of the first observation.
    first_activity: Activity,
    last: Observation,
    /// Where pointers were null while the stack showed a poll.
    gone_in_poll: BTreeSet<u32>,
    /// The last poll or park.
    last_activity: Activity,
    /// Ends of polls and parks that were seen.
    rounds: usize,
    /// By offset of the word above the lowest: the pointers that never changed.
    pointers: BTreeMap<u32, u64>,
    /// By address: the numbers that may be counters.
    numbers: BTreeMap<u64, Tally>,
}

impl Series {
    fn new(observation: Observation) -> Self {
        let words = observation.words.iter().enumerate();
        let pointers: BTreeMap<u32, u64> = words
            .filter(|(_, word)| observation.pointees.contains_key(word))
            .map(|(index, word)| (index as u32 * 8, *word))
            .collect();
        let halves = observation.pointees.iter().flat_map(|(start, bytes)| {
            let offsets = (0..bytes.len() as u64).step_by(4);
            offsets.map(move |offset| (start.wrapping_add(offset), Tally::default()))
        });
        Series {
            numbers: halves.collect(),
            pointers,
            rounds: 0,
            gone_in_poll: BTreeSet::new(),
            first_activity: observation.activity,
            last_activity: observation.activity,
            last: observation,
        }
    }

    fn take(&mut self, mut observation: Observation) {
        let mut core_is_out = false;
        self.pointers.retain(|at, pointer| {
            let word = observation.word(*at);
            // Between two polls the core is out of its place, and in `block_in_place`.
            let is_out = word == Some(0) && observation.activity != Activity::Park;
            core_is_out |= is_out;
            if is_out && observation.activity == Activity::Poll {
                self.gone_in_poll.insert(*at);
            }
            word == Some(*pointer) || is_out
        });
        if core_is_out {
            observation.activity = Activity::Between;
        }
        let slept_on = observation.switches == self.last.switches
            && !observation.running
            && !self.last.running;
        if observation.activity == Activity::Between {
            if !slept_on {
                self.last.activity = Activity::Between;
            }
            return;
        }
        // Two observed polls may be the same one, unless the worker was observed between them or the
        // frame of the function that polls differs.
        let differ = self
            .last
            .frame
            .as_ref()
            .zip(observation.frame.as_ref())
            .is_some_and(|(before, after)| before != after);
        let change = match (self.last_activity, observation.activity) {
            _ if slept_on => Change::Unknown,
            (Activity::Poll, Activity::Poll)
                if differ || self.last.activity == Activity::Between =>
            {
                Change::PollToPoll
            }
            (Activity::Poll, Activity::Park) => Change::PollToPark,
            (Activity::Park, Activity::Poll) => Change::ParkToPoll,
            (Activity::Park, Activity::Park) => Change::ParkToPark,
            _ => Change::Unknown,
        };
        let (before, after) = (halves(&self.last), halves(&observation));
        self.numbers.retain(|address, tally| {
            let (Some(was), Some(is)) = (before.get(address), after.get(address)) else {
                return false;
            };
            tally.add(change, *was, *is);
            // What changes while the worker sleeps is another thread's.
            !slept_on || is == was
        });
        self.rounds += usize::from(change != Change::Unknown);
        self.last_activity = observation.activity;
        self.last = observation;
    }

    /// Where that counter would be in this thread.
    fn address(&self, counter: Counter) -> Option<u64> {
        let pointer = self.pointers.get(&counter.pointer)?;
        Some(pointer.wrapping_add(counter.offset.into()))
    }

    /// How it changed, if it may be one.
    fn tally(&self, counter: Counter) -> Option<Tally> {
        self.numbers.get(&self.address(counter)?).copied()
    }
}

/// Every 32-bit number that was read, by its address.
fn halves(observation: &Observation) -> HashMap<u64, u32> {
    let mut all = HashMap::new();
    for (start, bytes) in &observation.pointees {
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

/// The counters of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterSet {
    pub counters: Vec<Counter>,
    /// Each of them certainly counts rounds.
    pub sure: bool,
    /// Where on the stack pointers to the workers' cores are kept, bytes above the base.
    pub cores: Vec<u32>,
}

/// The workers of one path as observed so far.
#[derive(Debug)]
pub struct Counters {
    multi_thread: bool,
    /// Where the return address into the loop lies, bytes above the base. Frames above it do not
    /// change during a poll.
    loop_at: u32,
    threads: HashMap<u32, Series>,
    set: CounterSet,
    /// Addresses of the current counters, in every thread.
    known: HashSet<u64>,
    /// Where pointers were null in what looked like a poll, in any thread: `block_in_place` had
    /// handed the core over. Only these can be pointers to cores.
    gone_in_poll: BTreeSet<u32>,
}

impl Counters {
    /// Nothing is observed yet. The return address into the loop lies `loop_at` bytes above the base.
    pub fn new(multi_thread: bool, loop_at: u32) -> Self {
        Counters {
            multi_thread,
            loop_at,
            threads: HashMap::new(),
            set: CounterSet::default(),
            known: HashSet::new(),
            gone_in_poll: BTreeSet::new(),
        }
    }

    /// Takes an observation of a worker.
    pub fn take(&mut self, tid: u32, observation: Observation) {
        if let Some(series) = self.threads.get_mut(&tid) {
            let core_is_another = |at: &u32| {
                let known = series.pointers.get(at);
                known.is_some_and(|known| observation.word(*at).is_some_and(|word| word != *known))
            };
            // In a park everything is in its place.
            let anew = series.first_activity != Activity::Park
                || self.gone_in_poll.iter().any(core_is_another);
            match anew && observation.activity == Activity::Park {
                true => *series = Series::new(observation),
                false => series.take(observation),
            }
            let gone = series.gone_in_poll.range(self.loop_at + 1..);
            self.gone_in_poll.extend(gone);
        } else if self.threads.len() < MAX_THREADS {
            self.threads.insert(tid, Series::new(observation));
        }
    }

    /// Forgets a worker that has ended, or whose loop lies elsewhere.
    pub fn forget(&mut self, tid: u32) {
        self.threads.remove(&tid);
    }

    /// Rounds observed, of all workers together.
    pub fn rounds(&self) -> usize {
        self.threads.values().map(|series| series.rounds).sum()
    }

    /// The counters known by now.
    pub fn learn(&mut self) -> &CounterSet {
        if let Some(set) = self.judge() {
            let counters = set.counters.iter();
            self.known = counters.flat_map(|one| self.addresses(*one)).collect();
            self.set = set;
        }
        &self.set
    }

    fn addresses(&self, counter: Counter) -> impl Iterator<Item = u64> {
        let threads = self.threads.values();
        threads.filter_map(move |series| series.address(counter))
    }

    /// The counters that the observations show; None if those are too few.
    fn judge(&self) -> Option<CounterSet> {
        let informative: Vec<&Series> = self
            .threads
            .values()
            .filter(|series| series.rounds >= MIN_ROUNDS)
            .collect();
        if informative
            .iter()
            .map(|series| series.rounds)
            .sum::<usize>()
            < FIRST
        {
            return None;
        }
        let flavor = match self.multi_thread {
            true => Flavor::MultiThread,
            false => Flavor::CurrentThread,
        };
        let mut fitting = self.tallies(&informative);
        fitting.retain(|_, tally| may_count(tally, flavor));
        let is_known = |one: &Counter| self.addresses(*one).any(|at| self.known.contains(&at));
        let mut counters: Vec<Counter> = match fitting.keys().any(is_known) {
            false => fitting.keys().copied().collect(),
            true => fitting
                .iter()
                .filter(|(one, tally)| is_known(one) || surely_counts(tally))
                .map(|(one, _)| *one)
                .collect(),
        };
        let sure = |one: &Counter| fitting.get(one).is_some_and(surely_counts);
        let any_sure = counters.iter().any(sure);
        if any_sure {
            counters.retain(sure);
        }
        if counters.len() > PATH_COUNTERS {
            counters.clear();
        }
        let used: BTreeSet<u32> = counters.iter().map(|counter| counter.pointer).collect();
        // Every copy of a pointer that leads to a counter, in all threads.
        let copies = |at: &&u32| {
            informative.iter().all(|series| {
                let pointer = series.pointers.get(at);
                pointer.is_some() && used.iter().any(|used| series.pointers.get(used) == pointer)
            })
        };
        let first = informative.first()?;
        Some(CounterSet {
            cores: first.pointers.keys().filter(copies).copied().collect(),
            // Fewer rounds, as after a thread has ended, do not revoke certainty.
            sure: any_sure || self.set.sure && counters.iter().all(is_known),
            counters,
        })
    }

    /// The tally of every number that may be a counter, over all these threads. Of several pointers to
    /// one, that in the loop's own frame or next above it: frames below come and go with the calls.
    fn tallies(&self, informative: &[&Series]) -> BTreeMap<Counter, Tally> {
        let mut all = BTreeMap::new();
        let Some((first, others)) = informative.split_first() else {
            return all;
        };
        let mut known: HashSet<u64> = HashSet::new();
        let (below, above) = (
            first.pointers.range(..=self.loop_at),
            first.pointers.range(self.loop_at + 1..),
        );
        for (at, pointer) in above.chain(below) {
            // What several workers point to is shared by them.
            let shared = |series: &&Series| series.pointers.values().any(|other| other == pointer);
            if others.iter().any(shared) || !self.may_be_core(informative, *at) {
                continue;
            }
            for offset in (0..POINTEE as u32).step_by(4) {
                let counter = Counter {
                    pointer: *at,
                    offset,
                };
                let add = |mut sum: Tally, series: &&Series| {
                    sum += series.tally(counter)?;
                    Some(sum)
                };
                if let Some(tally) = informative.iter().try_fold(Tally::default(), add)
                    && first.address(counter).is_some_and(|at| known.insert(at))
                {
                    all.insert(counter, tally);
                }
            }
        }
        all
    }

    /// Whether the pointer there may be one to the core.
    fn may_be_core(&self, informative: &[&Series], at: u32) -> bool {
        let same = |core: &u32| {
            informative.iter().all(|series| {
                let pointer = series.pointers.get(core);
                pointer.is_some() && pointer == series.pointers.get(&at)
            })
        };
        self.gone_in_poll.is_empty() || self.gone_in_poll.iter().any(same)
    }
}

#[cfg(test)]
mod tests;
