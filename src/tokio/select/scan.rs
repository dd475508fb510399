//! Executables without symbols: where in the thread-local block the paths of the version table may
//! start.
//!
//! A worker has a pointer to the scheduler's context on its own stack. Few words of the block point
//! there, so each of them is tried as that pointer with every row.

use std::ops::Range;

use crate::model::Flavor;
use crate::target::memory::Memory;
use crate::tokio::live::{ThreadView, scheduler_handle};
use crate::tokio::{PollPaths, ThreadLocals, TokioLayout};

/// A larger thread-local block is searched only this far, bytes.
const MAX_BLOCK: u64 = 64 << 10;

/// These paths from every place of `block` (offsets from the thread pointer) where they may start.
/// Threads whose stack is not known are ignored.
pub fn candidates(
    shapes: &[PollPaths],
    block: &Range<i64>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Vec<TokioLayout> {
    let blocks: Vec<Block<'_>> = threads
        .iter()
        .filter_map(|thread| Block::read(block, memory, thread))
        .collect();
    let found = shapes.iter().flat_map(|shape| {
        let locals = match shape.context.scheduler {
            Some(offset) => by_field(offset, block, &blocks),
            None => by_handle(shape, block, memory, &blocks),
        };
        locals.into_iter().map(|locals| TokioLayout {
            locals,
            poll: *shape,
        })
    });
    found.collect()
}

/// `Context` around each word that points into its thread's own stack.
fn by_field(scheduler: u32, block: &Range<i64>, blocks: &[Block<'_>]) -> Vec<ThreadLocals> {
    let places = stack_pointers(blocks).into_iter().map(|(at, _)| at);
    let contexts = places.filter_map(|at| at.checked_sub(i64::from(scheduler)));
    contexts
        .filter(|context| block.contains(context))
        .map(|context| ThreadLocals {
            context,
            ..ThreadLocals::default()
        })
        .collect()
}

/// Before 1.29 the pointer to the scheduler's context is not in `Context`. The runtime's handle
/// ties them together: the scheduler's context leads to it, and `Context` holds it. Without a
/// handle in `Context` (before 1.22) the place of the budget remains unknown.
fn by_handle(
    shape: &PollPaths,
    block: &Range<i64>,
    memory: &dyn Memory,
    blocks: &[Block<'_>],
) -> Vec<ThreadLocals> {
    let Some(handle_offset) = shape.context.handle else {
        return Vec::new();
    };
    // Places of `Context` and of the pointer, for each flavor.
    let [current_thread, multi_thread] =
        [Flavor::CurrentThread, Flavor::MultiThread].map(|flavor| {
            let Some(paths) = shape.of(flavor) else {
                return Vec::new();
            };
            let mut found = Vec::new();
            for block_of in blocks {
                for (at, scheduler) in block_of.stack_pointers() {
                    let handle = scheduler_handle(flavor, &paths, memory, scheduler);
                    let Some(handle) = handle.filter(|handle| *handle != 0) else {
                        continue;
                    };
                    let holders = block_of.words().filter(|(_, word)| *word == handle);
                    let contexts = holders
                        .filter_map(|(place, _)| place.checked_sub(i64::from(handle_offset)))
                        .filter(|context| block.contains(context));
                    found.extend(contexts.map(|context| (context, at)));
                }
            }
            found.sort_unstable();
            found.dedup();
            found
        });
    let locals = |context: i64, current_thread, multi_thread| ThreadLocals {
        context,
        current_thread,
        multi_thread,
    };
    let mut all = Vec::new();
    for (context, at) in &multi_thread {
        let others = current_thread.iter().filter(|(other, _)| other == context);
        all.extend(others.map(|(_, other)| locals(*context, Some(*other), Some(*at))));
    }
    let multi_thread = multi_thread.iter();
    all.extend(multi_thread.map(|(context, at)| locals(*context, None, Some(*at))));
    let current_thread = current_thread.iter();
    all.extend(current_thread.map(|(context, at)| locals(*context, Some(*at), None)));
    all
}

/// The words that point into the stack of their own thread: where, and the pointers.
fn stack_pointers(blocks: &[Block<'_>]) -> Vec<(i64, u64)> {
    let mut places: Vec<(i64, u64)> = blocks.iter().flat_map(Block::stack_pointers).collect();
    places.sort_unstable();
    places.dedup_by_key(|(at, _)| *at);
    places
}

/// The thread-locals of one thread.
struct Block<'t> {
    start: i64,
    bytes: Vec<u8>,
    stack: &'t Range<u64>,
}

impl<'t> Block<'t> {
    fn read(block: &Range<i64>, memory: &dyn Memory, thread: &'t ThreadView) -> Option<Self> {
        let stack = thread.stack.as_ref()?;
        let size = block.end.saturating_sub(block.start).max(0) as u64;
        let mut bytes = vec![0; size.min(MAX_BLOCK) as usize];
        let start = thread.tls_base()?.wrapping_add_signed(block.start);
        memory.read(start, &mut bytes).ok()?;
        Some(Block {
            start: block.start,
            bytes,
            stack,
        })
    }

    /// Its words, by offset from the thread pointer.
    fn words(&self) -> impl Iterator<Item = (i64, u64)> {
        let words = (self.start..).step_by(8).zip(self.bytes.chunks_exact(8));
        words.filter_map(|(at, chunk)| Some((at, u64::from_le_bytes(chunk.try_into().ok()?))))
    }

    /// The words that point into the thread's own stack.
    fn stack_pointers(&self) -> impl Iterator<Item = (i64, u64)> {
        self.words()
            .filter(|(_, word)| word.is_multiple_of(8) && self.stack.contains(word))
    }
}
