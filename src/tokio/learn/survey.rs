//! Samples of the threads' thread-local blocks and of what those point to: the evidence from which
//! `rules` recognise fields.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::target::memory::Memory;
use crate::tokio::live::ThreadView;

/// A larger thread-local block is sampled only this far, bytes.
pub const MAX_BLOCK: u64 = 16 << 10;

/// Words sampled where a pointer leads into the thread's own stack: the scheduler's context.
pub const CONTEXT_WORDS: usize = 8;

/// How much is sampled behind a pointer of the scheduler's context, bytes: less where the memory
/// ends before.
const POINTEE: [usize; 3] = [768, 256, 64];

/// Limit of all samples together, bytes; beyond it the oldest are dropped.
const MAX_BYTES: usize = 12 << 20;

/// How often threads without a scheduler are sampled: they only show what no worker has.
const ROUNDS_OF_OTHERS: u32 = 3;

/// The state of one thread, where it differs from the thread's previous sample.
#[derive(Clone, Debug)]
pub struct Sample {
    pub tid: u32,
    /// It waited in epoll, as only Tokio's driver does, from before it was read until after: it
    /// polled nothing.
    pub parked: bool,
    /// The thread-locals.
    pub block: Vec<u8>,
    /// What the block's pointers into the thread's own stack lead to.
    pub contexts: Vec<OnStack>,
}

/// Memory on the thread's own stack that a thread-local points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnStack {
    /// Where in the block the pointer is.
    pub at: usize,
    pub words: [u64; CONTEXT_WORDS],
    /// What each word leads to; empty where it is no pointer.
    pub pointees: [Vec<u8>; CONTEXT_WORDS],
}

impl Sample {
    /// The word at an offset of the block.
    pub fn word(&self, at: usize) -> Option<u64> {
        let bytes = self.block.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// What the pointer at an offset of the block leads to.
    pub fn context(&self, at: usize) -> Option<&OnStack> {
        self.contexts.iter().find(|context| context.at == at)
    }

    fn shows_the_same(&self, other: &Sample) -> bool {
        self.block == other.block && self.contexts == other.contexts
    }

    fn bytes(&self) -> usize {
        let pointees = self.contexts.iter().flat_map(|context| &context.pointees);
        size_of::<Sample>() + self.block.len() + pointees.map(Vec::len).sum::<usize>()
    }
}

/// The samples so far, oldest first.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Which thread-locals, in bytes from the thread pointer.
    range: Range<i64>,
    samples: Vec<Sample>,
    /// Each thread's latest sample.
    latest: HashMap<u32, Latest>,
    bytes: usize,
    rounds: u32,
}

/// A thread when it was sampled last.
#[derive(Clone, Copy, Debug)]
struct Latest {
    /// Index of the sample that shows its state.
    at: usize,
    /// See [`ThreadView::parked`], just before it was read.
    parked: Option<u64>,
}

impl Survey {
    /// A survey of these thread-locals, bytes from the thread pointer.
    pub fn new(range: Range<i64>) -> Self {
        let size = range.end.saturating_sub(range.start).max(0) as u64;
        let size = size.min(MAX_BLOCK) & !7;
        Survey {
            range: range.start..range.start.saturating_add(size as i64),
            samples: Vec::new(),
            latest: HashMap::new(),
            bytes: 0,
            rounds: 0,
        }
    }

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Where the block starts, in bytes from the thread pointer.
    pub fn start(&self) -> i64 {
        self.range.start
    }

    /// Samples every thread once. True if any of them may run a scheduler.
    pub fn sample(&mut self, memory: &dyn Memory, threads: &[ThreadView]) -> bool {
        let others = self.rounds < ROUNDS_OF_OTHERS;
        self.rounds = self.rounds.saturating_add(1);
        let mut any = false;
        for thread in threads {
            let Some(sample) = self.read(memory, thread) else {
                continue;
            };
            let may_be_worker = !sample.contexts.is_empty();
            any |= may_be_worker;
            if may_be_worker || others {
                self.add(sample, thread.parked);
            }
        }
        if self.bytes > MAX_BYTES {
            self.drop_oldest(self.samples.len() / 2);
        }
        any
    }

    /// Keeps the sample unless it repeats the thread's previous one: a thread that waits shows the
    /// same however often it is sampled, and only a change is evidence.
    fn add(&mut self, sample: Sample, parked: Option<u64>) {
        if let Some(latest) = self.latest.get_mut(&sample.tid)
            && let Some(before) = self.samples.get_mut(latest.at)
        {
            // That the thread has not run proves the park, not that it shows the same: other
            // threads change what they share with it.
            before.parked |= parked.is_some() && latest.parked == parked;
            latest.parked = parked;
            if before.shows_the_same(&sample) {
                return;
            }
        }
        let latest = Latest {
            at: self.samples.len(),
            parked,
        };
        self.latest.insert(sample.tid, latest);
        self.bytes += sample.bytes();
        self.samples.push(sample);
    }

    fn drop_oldest(&mut self, count: usize) {
        self.samples.drain(..count);
        self.latest.retain(|_, latest| latest.at >= count);
        self.latest
            .values_mut()
            .for_each(|latest| latest.at -= count);
        self.bytes = self.samples.iter().map(Sample::bytes).sum();
    }

    /// Offsets in the block of words that pointed into their thread's own stack.
    pub fn stack_pointers(&self) -> HashSet<usize> {
        let contexts = self.samples.iter().flat_map(|sample| &sample.contexts);
        contexts.map(|context| context.at).collect()
    }

    /// None where the thread ran on meanwhile, or where its stack is not known.
    fn read(&self, memory: &dyn Memory, thread: &ThreadView) -> Option<Sample> {
        let stack = thread.stack.as_ref()?;
        let start = thread.tls_base()?.wrapping_add_signed(self.range.start);
        let read_block = || {
            let mut block = vec![0; (self.range.end - self.range.start) as usize];
            memory.read(start, &mut block).ok().map(|()| block)
        };
        let block = read_block()?;
        let mut contexts = Vec::new();
        for (index, chunk) in block.chunks_exact(8).enumerate() {
            let pointer = u64::from_le_bytes(chunk.try_into().ok()?);
            if pointer.is_multiple_of(8) && stack.contains(&pointer) {
                contexts.extend(follow(memory, index * 8, pointer, stack));
            }
        }
        // The thread runs on while it is read: the parts belong together only if the block is the
        // same afterwards.
        (read_block()? == block).then_some(Sample {
            tid: thread.tid,
            parked: false,
            block,
            contexts,
        })
    }
}

fn follow(memory: &dyn Memory, at: usize, pointer: u64, stack: &Range<u64>) -> Option<OnStack> {
    let mut bytes = [0; CONTEXT_WORDS * 8];
    memory.read(pointer, &mut bytes).ok()?;
    let mut words = [0; CONTEXT_WORDS];
    let mut pointees: [Vec<u8>; CONTEXT_WORDS] = Default::default();
    let slots = words.iter_mut().zip(&mut pointees);
    for ((word, pointee), chunk) in slots.zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().ok()?);
        if *word != 0 && word.is_multiple_of(8) && !stack.contains(word) {
            *pointee = read_pointee(memory, *word);
        }
    }
    Some(OnStack {
        at,
        words,
        pointees,
    })
}

fn read_pointee(memory: &dyn Memory, address: u64) -> Vec<u8> {
    for size in POINTEE {
        let mut bytes = vec![0; size];
        if memory.read(address, &mut bytes).is_ok() {
            return bytes;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;
    use crate::tokio::testing::{memory, this_thread};

    #[test]
    fn a_repeated_sample_is_dropped_and_a_park_counts_only_if_the_thread_did_not_run() {
        // A thread-local block of two words; the first points into the stack as a scheduler does.
        let context = [0u64; CONTEXT_WORDS];
        let block = [AtomicU64::new(context.as_ptr() as u64), AtomicU64::new(1)];
        let thread = |parked| ThreadView {
            thread_pointer: block.as_ptr() as u64,
            parked,
            ..this_thread()
        };
        let mut survey = Survey::new(0..16);
        let mut sample = |parked| {
            assert!(survey.sample(&memory(), &[thread(parked)]));
            let samples = survey.samples().iter();
            samples.map(|sample| sample.parked).collect::<Vec<_>>()
        };
        assert_eq!(sample(None), [false]);
        assert_eq!(sample(None), [false], "nothing changed");
        block[1].store(2, Relaxed);
        assert_eq!(sample(Some(7)), [false, false], "it may run by now");
        assert_eq!(sample(Some(7)), [false, true], "it did not");
        block[1].store(3, Relaxed);
        assert_eq!(sample(Some(8)), [false, true, false]);
        assert_eq!(sample(Some(9)), [false, true, false], "it ran meanwhile");
        // Another thread changes what this one shows while it is parked.
        block[1].store(4, Relaxed);
        assert_eq!(sample(Some(9)), [false, true, true, false]);
        assert_eq!(sample(None), [false, true, true, false]);
    }
}
