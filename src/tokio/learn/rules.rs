//! The rules that recognise a field of Tokio's state by what it does, whatever its offset.
//!
//! `at` is an offset in the surveyed block of thread-locals; word indices count in the scheduler's
//! context. Threads run on while they are read, so every rule tolerates a few samples that
//! contradict it.

use std::collections::{HashMap, HashSet};

use super::rounds::{Change, TOLERANCE, Tally};
use super::survey::{CONTEXT_WORDS, OnStack, Sample};
use crate::model::Flavor;
use crate::tokio::live::MAX_BUDGET;

/// What the samples say of one field at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is not there.
    No,
    /// Nothing contradicts it, and too little was seen.
    Maybe,
    /// It was seen to do all that the field does.
    Yes,
}
use Finding::{Maybe, No, Yes};

/// A poll that began a moment ago has at least this much of its budget left.
const FRESH_BUDGET: u8 = 64;

/// Task ids count from 1 and stay below this.
const MAX_TASK_ID: u64 = 1 << 40;

/// Samples that must show a field do its job.
const ENOUGH: usize = 3;
/// Rounds that must be seen of the tick, which other numbers resemble.
const ENOUGH_ROUNDS: usize = 8;
/// This many polls without a task's id prove that the id is elsewhere. Three quarters of polls that
/// only yield are sampled before the id is set or after it is reset.
const MANY_POLLS: usize = 40;

fn too_many(wrong: usize, of: usize) -> bool {
    wrong * TOLERANCE > of
}

/// A sample of a thread that runs a scheduler, if the `scheduler` field is at the place in question.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'s> {
    pub sample: &'s Sample,
    pub context: &'s OnStack,
    pub flavor: Flavor,
    /// `multi_thread`: which word of the context points to the `Worker`.
    pub worker: Option<usize>,
}

/// The workers, if the word at `scheduler` points to the scheduler's context and the word at
/// `handle` is the handle of their runtime: `current_thread`'s context points to it,
/// `multi_thread`'s through the `Worker`. None unless nearly all samples agree.
pub fn workers(samples: &[Sample], scheduler: usize, handle: usize) -> Option<Vec<Seen<'_>>> {
    let mut seen = Vec::new();
    let mut all = 0;
    for sample in samples {
        let Some(context) = sample.context(scheduler) else {
            // It is null where no scheduler runs, and never anything else.
            if sample.word(scheduler) != Some(0) {
                return None;
            }
            continue;
        };
        all += 1;
        let Some((flavor, worker)) = sample
            .word(handle)
            .and_then(|handle| runtime_of(context, handle))
        else {
            continue;
        };
        seen.push(Seen {
            sample,
            context,
            flavor,
            worker,
        });
    }
    (!seen.is_empty() && !too_many(all - seen.len(), all)).then(|| without_nested(seen))
}

/// Drops `current_thread` runtimes inside `block_in_place`: their ids are those of the outer task,
/// and their roots may end before the first round.
fn without_nested(mut seen: Vec<Seen<'_>>) -> Vec<Seen<'_>> {
    let outer = seen
        .iter()
        .filter(|seen| seen.flavor == Flavor::MultiThread);
    let workers: HashSet<u32> = outer.map(|seen| seen.sample.tid).collect();
    seen.retain(|seen| seen.flavor == Flavor::MultiThread || !workers.contains(&seen.sample.tid));
    seen
}

/// The workers of Tokio before 1.29, whose flavors have a pointer each: the threads where one of
/// those `pointers` is set. Each comes with its flavor and the word of that flavor's context that
/// points to the `Worker`. None if one of them ever was neither null nor a pointer into the thread's
/// stack.
pub fn workers_before_1_29(
    samples: &[Sample],
    pointers: impl IntoIterator<Item = (usize, Flavor, Option<usize>)>,
) -> Option<Vec<Seen<'_>>> {
    let mut seen = Vec::new();
    for (scheduler, flavor, worker) in pointers {
        for sample in samples {
            match sample.context(scheduler) {
                Some(context) => seen.push(Seen {
                    sample,
                    context,
                    flavor,
                    worker,
                }),
                None if sample.word(scheduler) == Some(0) => {}
                None => return None,
            }
        }
    }
    Some(without_nested(seen))
}

/// Offset of that handle in bytes: in `current_thread`'s context itself, or in the
/// `ArcInner<Worker>` behind word `worker` of `multi_thread`'s.
pub fn handle_place(seen: &Seen<'_>, handle: u64) -> Option<usize> {
    match seen.worker {
        None => {
            let words = &seen.context.words;
            words
                .iter()
                .position(|word| *word == handle)
                .map(|at| at * 8)
        }
        Some(worker) => {
            let pointee = seen.context.pointees.get(worker)?;
            WORKER_FIELDS
                .step_by(8)
                .find(|at| word(pointee, *at) == Some(handle))
        }
    }
}

/// `ArcInner<Worker>`: two counts, then the handle, the index and the core in any order.
const WORKER_FIELDS: std::ops::Range<usize> = 16..40;

/// How the scheduler's context leads to the runtime's handle.
fn runtime_of(context: &OnStack, handle: u64) -> Option<(Flavor, Option<usize>)> {
    if handle == 0 || !handle.is_multiple_of(8) {
        return None;
    }
    if context.words.contains(&handle) {
        return Some((Flavor::CurrentThread, None));
    }
    let leads = |pointee: &Vec<u8>| {
        WORKER_FIELDS
            .step_by(8)
            .any(|at| word(pointee, at) == Some(handle))
    };
    let worker = context.pointees.iter().position(leads)?;
    Some((Flavor::MultiThread, Some(worker)))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn half_word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Whether a poll is sampled, if the coop budget is at this place.
fn in_poll(sample: &Sample, budget: usize) -> bool {
    sample.block.get(budget) == Some(&1)
}

/// Whether `budget` is at this place: a flag that is 0 in parks and 1 in polls, followed by at most
/// [`MAX_BUDGET`] left while it is 1.
pub fn budget(samples: &[Sample], seen: &[Seen<'_>], at: usize) -> Finding {
    let (mut clear, mut fresh) = (0, false);
    for sample in samples {
        match (sample.block.get(at), sample.block.get(at + 1)) {
            (Some(0), Some(_)) => clear += 1,
            (Some(1), Some(left)) if *left <= MAX_BUDGET => fresh |= *left >= FRESH_BUDGET,
            _ => return No,
        }
    }
    let polls = seen.iter().filter(|seen| in_poll(seen.sample, at)).count();
    let parked = seen.iter().filter(|seen| seen.sample.parked);
    let (parked, wrong) = parked.fold((0, 0), |(all, wrong), seen| {
        (all + 1, wrong + usize::from(in_poll(seen.sample, at)))
    });
    if too_many(wrong, parked) {
        return No;
    }
    match fresh && clear > 0 && polls >= ENOUGH {
        true => Yes,
        false => Maybe,
    }
}

/// A place of `current_task_id`: a word, or if `wide` a discriminant and a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdPlace {
    pub at: usize,
    pub wide: bool,
}

impl IdPlace {
    /// The task's id, 0 for none; None if the value cannot be one.
    fn id(self, sample: &Sample) -> Option<u64> {
        let id = match (self.wide, sample.word(self.at)?) {
            (false, id) => id,
            (true, 0) => 0,
            (true, 1) => sample.word(self.at + 8)?,
            (true, _) => return None,
        };
        (id < MAX_TASK_ID).then_some(id)
    }
}

/// Whether `current_task_id` is at this place: in polls the task's id, in parks none
/// (`current_thread`) or that of the blocking task which the worker runs in. After `block_in_place`
/// the worker runs in a new one, and ids count up.
pub fn task_id(seen: &[Seen<'_>], budget: usize, place: IdPlace) -> Finding {
    // The id between polls, by thread. Of a thread that was never seen to park it is the one seen
    // most often while no budget is in force; others may be of tasks in block_in_place.
    let mut parked: HashMap<u32, u64> = HashMap::new();
    let mut idle: HashMap<u32, HashMap<u64, usize>> = HashMap::new();
    let (mut parks, mut wrong) = (0, 0);
    for seen in seen {
        let (Some(id), tid) = (place.id(seen.sample), seen.sample.tid) else {
            return No;
        };
        if seen.sample.parked {
            parks += 1;
            let fell = parked.insert(tid, id).is_some_and(|before| before > id);
            wrong += usize::from(fell || (seen.flavor == Flavor::MultiThread) != (id != 0));
        } else if !in_poll(seen.sample, budget) {
            *idle.entry(tid).or_default().entry(id).or_default() += 1;
        }
    }
    if too_many(wrong, parks) {
        return No;
    }
    let between = |tid: u32| {
        let usual = || idle.get(&tid)?.iter().max_by_key(|(_, count)| **count);
        parked
            .get(&tid)
            .or_else(|| usual().map(|(id, _)| id))
            .copied()
    };
    let (mut polls, mut known) = (0, 0);
    let (mut looked_idle, mut polled) = (false, HashSet::new());
    for seen in seen.iter().filter(|seen| in_poll(seen.sample, budget)) {
        let id = place.id(seen.sample).unwrap_or(0);
        // The root future of `current_thread` has none.
        if id == 0 && seen.flavor == Flavor::CurrentThread {
            continue;
        }
        let between = match (between(seen.sample.tid), seen.flavor) {
            (Some(id), _) => {
                looked_idle = true;
                id
            }
            // The thread was too busy to be seen idle: it would have no id then.
            (None, Flavor::CurrentThread) => 0,
            (None, Flavor::MultiThread) => continue,
        };
        polls += 1;
        polled.insert(id);
        // `multi_thread` has an id between polls as well: that of the blocking task it runs in.
        let idle = (seen.flavor == Flavor::MultiThread) == (between != 0);
        known += usize::from(idle && id != 0 && id != between);
    }
    if parks > 0 && polls >= MANY_POLLS && known * 20 < polls {
        return No;
    }
    // A number that never changes is no task's id.
    match known >= ENOUGH && known * 8 >= polls && (looked_idle || polled.len() > 1) {
        true => Yes,
        false => Maybe,
    }
}

/// How often a thread's id in a park differed from that in its previous park. The id of the task
/// that a worker runs in stays, unless `block_in_place` moves the worker to another thread.
pub fn id_changes(seen: &[Seen<'_>], place: IdPlace) -> usize {
    let mut last = HashMap::new();
    let changed = |seen: &&Seen<'_>| {
        let id = place.id(seen.sample);
        let before = last.insert(seen.sample.tid, id);
        before.is_some_and(|before| before != id)
    };
    let parks = seen.iter().filter(|seen| seen.sample.parked);
    parks.filter(changed).count()
}

/// A number in the cores, as the samples show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number {
    pub tally: Tally,
    /// It is odd in parks and even in polls, or the reverse: it counts parks and unparks.
    pub counts_parks: bool,
}

/// The number at `tick` in the core behind word `core` of the scheduler's context.
pub fn number(
    seen: &[Seen<'_>],
    budget: usize,
    ids: Option<IdPlace>,
    core: usize,
    tick: usize,
) -> Number {
    let mut tally = Tally::default();
    let mut last: HashMap<u64, (bool, Option<u64>, u32)> = HashMap::new();
    // How often it was odd, in parks and in polls, and how often even.
    let (mut odd, mut even) = ([0, 0], [0, 0]);
    for seen in seen {
        let Some((address, value)) = seen
            .context
            .words
            .get(core)
            .zip(seen.context.pointees.get(core))
            .and_then(|(address, bytes)| Some((*address, half_word(bytes, tick)?)))
        else {
            continue;
        };
        let polls = in_poll(seen.sample, budget);
        if seen.sample.parked || polls {
            let parity = if value % 2 == 1 { &mut odd } else { &mut even };
            parity[usize::from(polls)] += 1;
        }
        let id = ids.and_then(|ids| ids.id(seen.sample));
        if let Some((polled, before, was)) = last.insert(address, (polls, id, value)) {
            // Between a park of `current_thread` and a poll of its root there is no round. Without
            // ids any poll may be the root's.
            let is_root = seen.flavor == Flavor::CurrentThread && (ids.is_none() || id == Some(0));
            let change = match (polled, polls) {
                (_, true) if is_root => Change::Unknown,
                (true, true) if before != id => Change::PollToPoll,
                (true, false) => Change::PollToPark,
                (false, true) => Change::ParkToPoll,
                _ => Change::Unknown,
            };
            tally.add(change, was, value);
        }
    }
    let only =
        |parks: usize, polls: usize, not: [usize; 2]| parks > 0 && polls > 0 && not == [0, 0];
    Number {
        tally,
        counts_parks: only(odd[0], even[1], [even[0], odd[1]])
            || only(even[0], odd[1], [odd[0], even[1]]),
    }
}

/// Whether the number is `Core::tick`: it grows with every round.
///
/// A change that may happen within one round is not held against it: polls from the LIFO slot, and
/// in `current_thread` what a `LocalSet` polls inside its root's poll.
pub fn is_tick(tally: &Tally, flavor: Flavor) -> Finding {
    let grew = tally.of(&Change::KNOWN).grew;
    let stood = tally.of(Change::certain(flavor)).stood;
    let all = grew + stood;
    if fell(tally) * 20 > all || (all >= ENOUGH_ROUNDS && too_many(stood, all)) {
        return No;
    }
    match grew >= ENOUGH_ROUNDS {
        true => Yes,
        false => Maybe,
    }
}

/// How often the number did not grow where a round may have begun, or fell: of several candidates
/// the tick has the fewest, however much the LIFO slot is used.
pub fn missed(tally: &Tally) -> usize {
    tally.of(&Change::KNOWN).stood + fell(tally)
}

/// The tick never goes back, whatever the worker did.
fn fell(tally: &Tally) -> usize {
    tally.of(&Change::KNOWN).fell + tally.of(&[Change::Unknown]).fell
}

/// Whether word `core` of the scheduler's context is the `Box<Core>` in its `RefCell`: a pointer or
/// null, after a borrow flag, and never null in a park.
pub fn core(seen: &[Seen<'_>], core: usize) -> Finding {
    let Some(flag) = core.checked_sub(1) else {
        return No;
    };
    let mut held = 0;
    for seen in seen {
        let words = &seen.context.words;
        let (Some(pointer), Some(flag)) = (words.get(core), words.get(flag)) else {
            return No;
        };
        let readable = seen
            .context
            .pointees
            .get(core)
            .is_some_and(|bytes| !bytes.is_empty());
        let fits = (-1..=1).contains(&(*flag as i64))
            && seen.worker != Some(core)
            && if *pointer == 0 {
                !seen.sample.parked
            } else {
                readable
            };
        if !fits {
            return No;
        }
        held += usize::from(*pointer != 0);
    }
    if held >= ENOUGH { Yes } else { Maybe }
}

/// Every word of the scheduler's context.
pub fn context_words() -> std::ops::Range<usize> {
    0..CONTEXT_WORDS
}
