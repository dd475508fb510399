//! Every thread of the target at one moment, with the stacks of those that sleep.
//!
//! Nothing is stopped: a thread's registers and stack are consistent if it has not run between two
//! readings of it ([`TaskState::stood_still_since`]).

use std::collections::HashMap;

use anyhow::Result;

use super::{TaskReader, TaskState};

/// Stacks that are read, at most; further threads are listed without.
const MAX_STACKS: usize = 1024;

/// A thread, and its stack if it did not run meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenThread {
    pub task: TaskState,
    /// It was asleep all the while: registers and stack belong together.
    pub stood_still: bool,
    /// Address of the first byte.
    pub stack_base: u64,
    pub stack: Vec<u8>,
}

/// Looks at every thread of the process `pid`. `read_stack` gives the memory from a stack pointer
/// up, and where that begins.
///
/// # Errors
/// When the kernel refuses the task iterator.
pub fn take(pid: u32, read_stack: impl Fn(u64) -> (u64, Vec<u8>)) -> Result<Vec<SeenThread>> {
    let reader = TaskReader::new(pid)?;
    let mut seen: Vec<SeenThread> = Vec::new();
    let mut stacks = 0;
    for task in reader.read()? {
        let asleep = task.is_asleep();
        let (stack_base, stack) = match asleep && stacks < MAX_STACKS {
            true => {
                stacks += 1;
                read_stack(task.registers.sp)
            }
            false => (0, Vec::new()),
        };
        seen.push(SeenThread {
            task,
            stood_still: asleep,
            stack_base,
            stack,
        });
    }
    let after = reader.read()?.into_iter().map(|task| (task.tid, task));
    let after: HashMap<u32, TaskState> = after.collect();
    for thread in &mut seen {
        let now = after.get(&thread.task.tid);
        thread.stood_still &= now.is_some_and(|now| now.stood_still_since(&thread.task));
        if !thread.stood_still {
            thread.stack.clear();
        }
    }
    Ok(seen)
}
