//! What tells a worker's polls apart where Tokio's state cannot be read: numbers that grow with its
//! scheduling rounds, found by watching.
//!
//! The frames of a worker's loop hold pointers to its core. Of what those lead to, every half word
//! counts as a counter that grew from nearly each poll or park to the next, and never while the worker
//! stood still. Tokio's tick is one of them. Which one need not be known: two polls are taken for one only
//! if none of them differs. Each change of what is known splits the polls that are open, so it takes more
//! to add a counter than to keep one. Pure logic over what was read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::capture::{Counter, WAY_COUNTERS};
use crate::model::Flavor;
use crate::tokio::rounds::{Change, TOLERANCE, Tally};

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

/// After a park there need not have been a round, but of so many changes one is.
const SPURIOUS: usize = 4;
/// A number that grew in so many changes from a poll or to one, in nearly each of them, counts for
/// sure.
const SURE: usize = 16;
/// Of so many one may then come without a round.
const RARE: usize = 32;

/// What a worker was doing when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    Poll,
    Park,
    /// Neither: it lost the CPU between two polls.
    #[default]
    Between,
}

/// A worker that stood still while it was looked at, or ran in a poll.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Its context switches so far: unchanged means it has not run, unless it runs all the time.
    pub switches: u64,
    pub running: bool,
    pub doing: Doing,
    /// In a poll: what the function that polls holds in its frame. It stands still until the poll
    /// is over, so two polls may hold the same there, but one poll never holds two.
    pub frame: Option<Vec<u8>>,
    /// The stack from the way's lowest word up.
    pub words: Vec<u64>,
    /// What those lead to that are pointers.
    pub pointees: HashMap<u64, Vec<u8>>,
}

impl Look {
    /// The stack's word so many bytes above the lowest one.
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

/// Whether it does so for certain.
fn surely_counts(tally: &Tally) -> bool {
    let with_polls = tally.of(&WITH_POLLS);
    with_polls.all() >= SURE && with_polls.missed() * RARE <= with_polls.all()
}

/// What is known of one worker.
#[derive(Debug)]
struct Series {
    /// What it was doing when it was looked at first.
    began: Doing,
    last: Look,
    /// Where pointers were gone while the stack showed a poll.
    gone_in_poll: BTreeSet<u32>,
    /// The poll or park before the last look.
    last_stay: Doing,
    /// Ends of polls and parks that were seen.
    rounds: usize,
    /// By offset of the word above the lowest: the pointers that never changed.
    pointers: BTreeMap<u32, u64>,
    /// By address: the numbers that may be counters.
    numbers: BTreeMap<u64, Tally>,
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
            offsets.map(move |offset| (start.wrapping_add(offset), Tally::default()))
        });
        Series {
            numbers: halves.collect(),
            pointers,
            rounds: 0,
            gone_in_poll: BTreeSet::new(),
            began: look.doing,
            last_stay: look.doing,
            last: look,
        }
    }

    fn take(&mut self, mut look: Look) {
        let mut core_is_out = false;
        self.pointers.retain(|at, pointer| {
            let word = look.word(*at);
            // Between two polls the core is out of its place, and in `block_in_place`.
            let is_out = word == Some(0) && look.doing != Doing::Park;
            core_is_out |= is_out;
            if is_out && look.doing == Doing::Poll {
                self.gone_in_poll.insert(*at);
            }
            word == Some(*pointer) || is_out
        });
        if core_is_out {
            look.doing = Doing::Between;
        }
        let slept_on = look.switches == self.last.switches && !look.running && !self.last.running;
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
        let change = match (self.last_stay, look.doing) {
            _ if slept_on => Change::Unknown,
            (Doing::Poll, Doing::Poll) if differ || self.last.doing == Doing::Between => {
                Change::PollToPoll
            }
            (Doing::Poll, Doing::Park) => Change::PollToPark,
            (Doing::Park, Doing::Poll) => Change::ParkToPoll,
            (Doing::Park, Doing::Park) => Change::ParkToPark,
            _ => Change::Unknown,
        };
        let (before, after) = (halves(&self.last), halves(&look));
        self.numbers.retain(|address, tally| {
            let (Some(was), Some(is)) = (before.get(address), after.get(address)) else {
                return false;
            };
            tally.add(change, *was, *is);
            // What changes while the worker sleeps is another thread's.
            !slept_on || is == was
        });
        self.rounds += usize::from(change != Change::Unknown);
        self.last_stay = look.doing;
        self.last = look;
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
    /// Each of them grew in nearly all of many rounds.
    pub sure: bool,
    /// Where on the stack pointers to the workers' cores are kept, bytes above the lowest word.
    pub cores: Vec<u32>,
}

/// The workers of one way as they were seen so far.
#[derive(Debug)]
pub struct Counters {
    multi_thread: bool,
    /// Where the return address into the loop lies, bytes above the lowest word. What is above it
    /// stands still during a poll.
    loop_at: u32,
    threads: HashMap<u32, Series>,
    learnt: Learnt,
    /// Where the counters learnt last are, in every thread: a pointer to one may turn out to be none.
    known: HashSet<u64>,
    /// Where pointers were gone in what looked like a poll, in any thread: `block_in_place` has
    /// handed the core over. Only there can a core be.
    gone_in_poll: BTreeSet<u32>,
}

impl Counters {
    /// Of a way with this flavor, and the return address into its loop so many bytes above the
    /// lowest word.
    pub fn new(multi_thread: bool, loop_at: u32) -> Self {
        Counters {
            multi_thread,
            loop_at,
            threads: HashMap::new(),
            learnt: Learnt::default(),
            known: HashSet::new(),
            gone_in_poll: BTreeSet::new(),
        }
    }

    /// Takes in a look at a worker.
    pub fn take(&mut self, tid: u32, look: Look) {
        if let Some(series) = self.threads.get_mut(&tid) {
            let core_is_another = |at: &u32| {
                let known = series.pointers.get(at);
                known.is_some_and(|known| look.word(*at).is_some_and(|word| word != *known))
            };
            // In a park everything is in its place.
            let anew = series.began != Doing::Park || self.gone_in_poll.iter().any(core_is_another);
            match anew && look.doing == Doing::Park {
                true => *series = Series::new(look),
                false => series.take(look),
            }
            let gone = series.gone_in_poll.range(self.loop_at + 1..);
            self.gone_in_poll.extend(gone);
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
    pub fn learn(&mut self) -> &Learnt {
        if let Some(learnt) = self.judge() {
            let counters = learnt.counters.iter();
            self.known = counters.flat_map(|one| self.addresses(*one)).collect();
            self.learnt = learnt;
        }
        &self.learnt
    }

    fn addresses(&self, counter: Counter) -> impl Iterator<Item = u64> {
        let threads = self.threads.values();
        threads.filter_map(move |series| series.address(counter))
    }

    /// What the threads say by now; none if that is too little.
    fn judge(&self) -> Option<Learnt> {
        let telling: Vec<&Series> = self
            .threads
            .values()
            .filter(|series| series.rounds >= TELLING)
            .collect();
        if telling.iter().map(|series| series.rounds).sum::<usize>() < FIRST {
            return None;
        }
        let flavor = match self.multi_thread {
            true => Flavor::MultiThread,
            false => Flavor::CurrentThread,
        };
        let mut fitting = self.went_on(&telling);
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
        if counters.len() > WAY_COUNTERS {
            counters.clear();
        }
        let used: BTreeSet<u32> = counters.iter().map(|counter| counter.pointer).collect();
        // Every copy of a pointer that leads to a counter, in all threads.
        let copies = |at: &&u32| {
            telling.iter().all(|series| {
                let pointer = series.pointers.get(at);
                pointer.is_some() && used.iter().any(|used| series.pointers.get(used) == pointer)
            })
        };
        let first = telling.first()?;
        Some(Learnt {
            cores: first.pointers.keys().filter(copies).copied().collect(),
            // Fewer rounds, as after a thread has ended, do not unsettle what was sure.
            sure: any_sure || self.learnt.sure && counters.iter().all(is_known),
            counters,
        })
    }

    /// How every number that may be a counter went on in all these threads together. Of several
    /// pointers to one, that in the loop's own frame or next above it: what is below comes and goes
    /// with the calls.
    fn went_on(&self, telling: &[&Series]) -> BTreeMap<Counter, Tally> {
        let mut all = BTreeMap::new();
        let Some((first, others)) = telling.split_first() else {
            return all;
        };
        let mut known: HashSet<u64> = HashSet::new();
        let (below, above) = (
            first.pointers.range(..=self.loop_at),
            first.pointers.range(self.loop_at + 1..),
        );
        for (at, pointer) in above.chain(below) {
            // What several workers lead to belongs to all of them.
            let shared = |series: &&Series| series.pointers.values().any(|other| other == pointer);
            if others.iter().any(shared) || !self.may_be_core(telling, *at) {
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
                if let Some(tally) = telling.iter().try_fold(Tally::default(), add)
                    && first.address(counter).is_some_and(|at| known.insert(at))
                {
                    all.insert(counter, tally);
                }
            }
        }
        all
    }

    /// Whether what is kept there may be the core: all that is seen to be handed over is.
    fn may_be_core(&self, telling: &[&Series], at: u32) -> bool {
        let same = |core: &u32| {
            telling.iter().all(|series| {
                let pointer = series.pointers.get(core);
                pointer.is_some() && pointer == series.pointers.get(&at)
            })
        };
        self.gone_in_poll.is_empty() || self.gone_in_poll.iter().any(same)
    }
}

#[cfg(test)]
mod tests;
