//! What threads keep in their thread-local block, and where that leads, looked at again and again:
//! the material from which `behaviour` judges a layout by what its fields do.

use std::collections::HashSet;
use std::ops::Range;

use super::live::ThreadView;
use crate::target::memory::Memory;

/// A larger thread-local block is looked at only this far, bytes.
pub const MAX_BLOCK: u64 = 16 << 10;

/// Words looked at where a pointer leads into the thread's own stack: the scheduler's context.
pub const CONTEXT_WORDS: usize = 8;

/// As much as is looked at behind a pointer of the scheduler's context, bytes: all of it, or else
/// as far as memory reaches.
const POINTEE: [usize; 3] = [768, 256, 64];

/// All samples together take no more, bytes; the oldest are forgotten.
const MAX_BYTES: usize = 12 << 20;

/// Threads without a scheduler are looked at this often: they only show what is no worker's.
const ROUNDS_OF_OTHERS: u32 = 3;

/// One look at one thread.
#[derive(Clone, Debug)]
pub struct Sample {
    pub tid: u32,
    /// It waits in epoll, where nobody but Tokio's driver waits: it polls nothing.
    pub parked: bool,
    /// The thread-locals.
    pub block: Vec<u8>,
    /// What the words of the block that point into the thread's own stack lead to.
    pub contexts: Vec<OnStack>,
}

/// Memory on the thread's own stack that a thread-local points to.
#[derive(Clone, Debug)]
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
    bytes: usize,
    rounds: u32,
}

impl Survey {
    /// Of these thread-locals, bytes from the thread pointer.
    pub fn new(range: Range<i64>) -> Self {
        let size = range.end.saturating_sub(range.start).max(0) as u64;
        let size = size.min(MAX_BLOCK) & !7;
        Survey {
            range: range.start..range.start.saturating_add(size as i64),
            samples: Vec::new(),
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

    /// Looks at every thread once. True if any of them may run a scheduler.
    pub fn look(&mut self, memory: &dyn Memory, threads: &[ThreadView]) -> bool {
        let others = self.rounds < ROUNDS_OF_OTHERS;
        self.rounds = self.rounds.saturating_add(1);
        let mut any = false;
        for thread in threads {
            let Some(sample) = self.sample(memory, thread) else {
                continue;
            };
            let may_be_worker = !sample.contexts.is_empty();
            any |= may_be_worker;
            if may_be_worker || others {
                self.bytes += sample.bytes();
                self.samples.push(sample);
            }
        }
        if self.bytes > MAX_BYTES {
            let half = self.samples.len() / 2;
            self.samples.drain(..half);
            self.bytes = self.samples.iter().map(Sample::bytes).sum();
        }
        any
    }

    /// Offsets in the block of the words that were seen to point into their thread's own stack.
    pub fn stack_pointers(&self) -> HashSet<usize> {
        let contexts = self.samples.iter().flat_map(|sample| &sample.contexts);
        contexts.map(|context| context.at).collect()
    }

    /// None for a thread that moved on meanwhile, or of which too little is known.
    fn sample(&self, memory: &dyn Memory, thread: &ThreadView) -> Option<Sample> {
        let stack = thread.stack.as_ref()?;
        if thread.thread_pointer == 0 {
            return None;
        }
        let start = thread.thread_pointer.wrapping_add_signed(self.range.start);
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
        // The thread ran on while it was read: what was read belongs together only if it is still so.
        (read_block()? == block).then_some(Sample {
            tid: thread.tid,
            parked: thread.parked,
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
