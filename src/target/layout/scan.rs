//! Executables without symbols: where in their thread-local block a known layout may lie.
//!
//! A worker's `Context` points to the scheduler's context on the worker's own stack. Few words of
//! the block do, so each of them is tried as the `scheduler` of every known layout.

use std::ops::Range;

use super::TokioLayout;
use super::live::ThreadView;
use crate::target::memory::Memory;

/// A larger thread-local block is searched only this far, bytes.
const MAX_BLOCK: u64 = 64 << 10;

/// The shapes at every place of `block` (offsets from the thread pointer) where their `scheduler`
/// points into its thread's own stack. Threads whose stack is not known say nothing.
pub fn candidates(
    shapes: &[TokioLayout],
    block: &Range<i64>,
    memory: &dyn Memory,
    threads: &[ThreadView],
) -> Vec<TokioLayout> {
    let mut places: Vec<i64> = threads
        .iter()
        .flat_map(|thread| own_stack_pointers(block, memory, thread))
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut found = Vec::new();
    for place in places {
        for shape in shapes {
            let context = place.checked_sub(i64::from(shape.fields.scheduler));
            let Some(context) = context.filter(|context| block.contains(context)) else {
                continue;
            };
            found.push(TokioLayout { context, ..*shape });
        }
    }
    found
}

/// Offsets of the words of the thread's block that point into its own stack.
fn own_stack_pointers(block: &Range<i64>, memory: &dyn Memory, thread: &ThreadView) -> Vec<i64> {
    let (Some(stack), true) = (&thread.stack, thread.thread_pointer != 0) else {
        return Vec::new();
    };
    let size = block.end.saturating_sub(block.start).max(0) as u64;
    let mut bytes = vec![0; size.min(MAX_BLOCK) as usize];
    let start = thread.thread_pointer.wrapping_add_signed(block.start);
    if memory.read(start, &mut bytes).is_err() {
        return Vec::new();
    }
    let words = (block.start..).step_by(8).zip(bytes.chunks_exact(8));
    words
        .filter_map(|(at, chunk)| {
            let word = u64::from_le_bytes(chunk.try_into().ok()?);
            (word.is_multiple_of(8) && stack.contains(&word)).then_some(at)
        })
        .collect()
}
