//! Executables without symbols: where in their thread-local block a known layout may lie.
//!
//! A worker has a pointer to the scheduler's context on its own stack: few words of the block do,
//! so each of them is tried as the `scheduler` of every known layout.

use std::ops::Range;

use crate::model::Flavor;
use crate::target::memory::Memory;
use crate::tokio::live::{ThreadView, scheduler_handle};
use crate::tokio::{Apart, ContextFields, Scheduler, TokioLayout};

/// A larger thread-local block is searched only this far, bytes.
const MAX_BLOCK: u64 = 64 << 10;

/// The shapes at every place of `block` (offsets from the thread pointer) where they may lie.
/// Threads whose stack is not known say nothing.
pub fn candidates(
    shapes: &[TokioLayout],
    block: &Range<i64>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Vec<TokioLayout> {
    let blocks: Vec<Block<'_>> = threads
        .iter()
        .filter_map(|thread| Block::read(block, memory, thread))
        .collect();
    let found = shapes
        .iter()
        .flat_map(|shape| match shape.fields.scheduler {
            Scheduler::Field(offset) => by_field(shape, offset, block, &blocks),
            Scheduler::Apart(_) => by_handle(shape, block, memory, &blocks),
        });
    found.collect()
}

/// `Context` around each word that points into its thread's own stack.
fn by_field(
    shape: &TokioLayout,
    scheduler: u32,
    block: &Range<i64>,
    blocks: &[Block<'_>],
) -> Vec<TokioLayout> {
    let places = stack_pointers(blocks).into_iter().map(|(at, _)| at);
    let contexts = places.filter_map(|at| at.checked_sub(i64::from(scheduler)));
    contexts
        .filter(|context| block.contains(context))
        .map(|context| TokioLayout { context, ..*shape })
        .collect()
}

/// Before 1.29 the pointer to the scheduler's context lies apart from `Context`. They are tied
/// together by the runtime's handle: the scheduler's context leads to it, and `Context` holds it.
/// Without a handle in `Context` (before 1.22) nothing says where the budget is.
fn by_handle(
    shape: &TokioLayout,
    block: &Range<i64>,
    memory: &dyn Memory,
    blocks: &[Block<'_>],
) -> Vec<TokioLayout> {
    let Some(handle_offset) = shape.fields.handle else {
        return Vec::new();
    };
    let flavors = [
        (Flavor::CurrentThread, shape.current_thread),
        (Flavor::MultiThread, shape.multi_thread),
    ];
    // (context, place of the pointer) for each flavor.
    let [current_thread, multi_thread] = flavors.map(|(flavor, fields)| {
        let Some(fields) = fields else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for block_of in blocks {
            for (at, scheduler) in block_of.stack_pointers() {
                let handle = scheduler_handle(flavor, &fields, memory, scheduler);
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
    let place = |context: i64, current_thread, multi_thread| TokioLayout {
        context,
        fields: ContextFields {
            scheduler: Scheduler::Apart(Apart {
                current_thread,
                multi_thread,
            }),
            ..shape.fields
        },
        ..*shape
    };
    let mut layouts = Vec::new();
    for (context, at) in &multi_thread {
        let others = current_thread.iter().filter(|(other, _)| other == context);
        layouts.extend(others.map(|(_, other)| place(*context, Some(*other), Some(*at))));
    }
    layouts.extend(
        multi_thread
            .iter()
            .map(|(context, at)| place(*context, None, Some(*at))),
    );
    layouts.extend(
        current_thread
            .iter()
            .map(|(context, at)| place(*context, Some(*at), None)),
    );
    layouts
}

/// Where any thread has a word that points into its own stack, and the pointers.
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
        if thread.thread_pointer == 0 {
            return None;
        }
        let size = block.end.saturating_sub(block.start).max(0) as u64;
        let mut bytes = vec![0; size.min(MAX_BLOCK) as usize];
        let start = thread.thread_pointer.wrapping_add_signed(block.start);
        memory.read(start, &mut bytes).ok()?;
        Some(Block {
            start: block.start,
            bytes,
            stack,
        })
    }

    /// Its words by their offsets from the thread pointer.
    fn words(&self) -> impl Iterator<Item = (i64, u64)> {
        let words = (self.start..).step_by(8).zip(self.bytes.chunks_exact(8));
        words.filter_map(|(at, chunk)| Some((at, u64::from_le_bytes(chunk.try_into().ok()?))))
    }

    /// Those that point into the thread's own stack.
    fn stack_pointers(&self) -> impl Iterator<Item = (i64, u64)> {
        self.words()
            .filter(|(_, word)| word.is_multiple_of(8) && self.stack.contains(word))
    }
}
