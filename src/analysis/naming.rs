//! Gives an assembled poll its names: frames, culprit, worker. The last step before a record.

use std::sync::Arc;

use super::culprit::culprit;
use super::polls::{Assembled, Weighed};
use super::symbolize::{NAMELESS_KERNEL, Symbolizer};
use crate::model::{Activity, Cause, Culprit, Frame, SlowPoll, WeightedStack, Worker};
use crate::target::modules::ModuleMap;

/// Kernel functions through which every context switch goes: everything up to the last of them is
/// the switch itself (and hud's own hook in it), not what the thread waits in.
const SWITCH: [&str; 3] = ["schedule", "__schedule", "preempt_schedule_irq"];

/// Kernel functions that handle a page fault.
const PAGE_FAULTS: [&str; 5] = [
    "asm_exc_page_fault",
    "exc_page_fault",
    "do_user_addr_fault",
    "do_mem_abort",
    "do_page_fault",
];

/// Tokio functions in which a worker parks: a stack inside of one is no poll.
const PARKS: [&str; 5] = [
    "::Context::park",
    "::park::Parker::park",
    "::park::Inner::park",
    "::CachedParkThread::park",
    "::driver::Driver::park",
];

/// The poll with names; none if its stacks show that it is no poll at all.
pub fn name_poll(
    poll: Assembled,
    worker: Option<&Worker>,
    symbolizer: &mut Symbolizer,
    modules: &ModuleMap,
) -> Option<SlowPoll> {
    let stacks: Vec<WeightedStack> = poll
        .stacks
        .into_iter()
        .map(|stack| name_stack(stack, symbolizer, modules))
        .collect();
    if poll.times.unconstrained && stacks.first().is_none_or(parks) {
        return None;
    }
    // Of the stacks that show the poll's cause, the heaviest names the culprit.
    let telling = stacks
        .iter()
        .find(|stack| stack.cause == poll.cause)
        .or(stacks.first());
    Some(SlowPoll {
        tid: poll.tid,
        worker: worker.and_then(|worker| worker.index),
        runtime: worker.map_or(0, |worker| worker.runtime),
        task: (poll.times.task != 0).then_some(poll.times.task),
        start_ns: poll.times.start_ns,
        end_ns: poll.end_ns,
        running: poll.running,
        began_before_attach: poll.times.began_before_attach,
        split: poll.split,
        cause: poll.cause,
        causes: poll.causes,
        throttled: poll.times.throttled,
        culprit: telling.map_or_else(|| nameless(poll.cause), |stack| culprit(&stack.frames)),
        stacks,
    })
}

/// Whether a running thread's kernel stack is that of a page fault. Where the kernel's symbols may
/// not be read, being in the kernel without a system call says as much.
pub fn shows_page_fault(kernel: &[Arc<Frame>], syscall: i32) -> bool {
    match kernel {
        [] => false,
        [nameless] if nameless.function == NAMELESS_KERNEL => syscall < 0,
        frames => frames
            .iter()
            .any(|frame| PAGE_FAULTS.contains(&frame.function.as_str())),
    }
}

fn name_stack(stack: Weighed, symbolizer: &mut Symbolizer, modules: &ModuleMap) -> WeightedStack {
    let mut frames = symbolizer.kernel_frames(&stack.kernel);
    if stack.activity == Activity::Blocked
        && let Some(at) = frames
            .iter()
            .rposition(|frame| SWITCH.contains(&frame.function.as_str()))
    {
        frames.drain(..=at);
    }
    frames.extend(symbolizer.frames(modules, &stack.user.addresses));
    WeightedStack {
        frames,
        activity: stack.activity,
        cause: stack.cause,
        weight_ns: stack.weight_ns,
        complete: stack.user.complete,
    }
}

fn parks(stack: &WeightedStack) -> bool {
    let inside = |frame: &Arc<Frame>| {
        frame.function.starts_with("tokio::")
            && PARKS.iter().any(|park| frame.function.contains(park))
    };
    stack.frames.iter().any(inside)
}

/// Every stack of the poll was lost, or it never ran long enough for one.
fn nameless(cause: Cause) -> Culprit {
    Culprit {
        function: format!("[no stack: {cause}]"),
        calls: None,
        location: None,
        chain: Vec::new(),
    }
}
