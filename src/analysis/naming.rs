//! Gives an assembled poll its names: frames, culprit, worker. The last step before a record.

use std::sync::Arc;

use super::polls::{Assembled, Weighed};
use crate::model::{
    Activity, Cause, Culprit, Frame, Name, Role, RootPoll, SlowPoll, WeightedStack, Worker,
};
use crate::stacks::culprit::culprit;
use crate::stacks::symbolize::{NAMELESS_KERNEL, Symbolizer};
use crate::target::modules::ModuleMap;
use crate::tokio::names::is_park;

/// Kernel functions through which every context switch goes: everything up to the last of them is
/// the switch itself (and hud's own hook in it), not what the thread waits in.
const SWITCH: [&str; 3] = ["schedule", "__schedule", "preempt_schedule_irq"];

/// Where an interrupt of the kernel itself begins on aarch64, in older and newer kernels: everything
/// up to it is hud's own sample. (The entry from user mode is known by its address, and on x86-64 it
/// is the same one.)
const INTERRUPTS: [&str; 2] = ["el1_irq", "el1h_64_irq"];

/// Kernel functions that handle a page fault.
const PAGE_FAULTS: [&str; 5] = [
    "asm_exc_page_fault",
    "exc_page_fault",
    "do_user_addr_fault",
    "do_mem_abort",
    "do_page_fault",
];

/// The poll with names; none if its stacks show that it is no poll at all.
pub fn name_poll(
    mut poll: Assembled,
    worker: Option<&Worker>,
    symbolizer: &mut Symbolizer,
    modules: &ModuleMap,
) -> Option<SlowPoll> {
    let stacks = merge(
        std::mem::take(&mut poll.stacks)
            .into_iter()
            .map(|stack| name_stack(stack, symbolizer, modules)),
    );
    if poll.times.unconstrained && stacks.first().is_none_or(parks) {
        return None;
    }
    let root = worker
        .filter(|worker| worker.role == Role::RootFuture)
        .map(|_| match poll.is_one_poll {
            true => RootPoll::OnePoll,
            false => RootPoll::BusyStretch,
        });
    // Nothing proves that the waits for a CPU fell into one poll.
    if root == Some(RootPoll::BusyStretch) && poll.cause == Cause::RunQueue {
        return None;
    }
    Some(SlowPoll {
        tid: poll.tid,
        worker: worker.and_then(|worker| worker.index),
        runtime: worker.map_or(0, |worker| worker.runtime),
        task: (poll.times.task != 0).then_some(poll.times.task),
        root,
        start_ns: poll.times.start_ns,
        end_ns: poll.end_ns,
        running: poll.running,
        began_before_attach: poll.times.began_before_attach,
        split: poll.split,
        cause: poll.cause,
        causes: poll.causes,
        held_back: poll.times.held_back,
        culprit: culprit_of(&stacks, poll.cause),
        stacks,
        released_by: poll.released_by,
    })
}

/// Stacks through the same functions become one: a loop is sampled at many addresses. Those without
/// names stay apart, since what was inlined at each address is not known yet. Heaviest first.
pub(super) fn merge(stacks: impl Iterator<Item = WeightedStack>) -> Vec<WeightedStack> {
    let mut merged: Vec<WeightedStack> = Vec::new();
    let same = |a: &WeightedStack, b: &WeightedStack| {
        (a.activity, a.cause) == (b.activity, b.cause)
            && a.frames.len() == b.frames.len()
            && a.frames
                .iter()
                .zip(&b.frames)
                .all(|(a, b)| a.function == b.function && a.raw == b.raw && a.address == b.address)
    };
    for stack in stacks {
        match merged.iter_mut().find(|other| same(other, &stack)) {
            Some(other) => other.weight_ns += stack.weight_ns,
            None => merged.push(stack),
        }
    }
    merged.sort_by_key(|stack| std::cmp::Reverse(stack.weight_ns));
    merged
}

/// The code to look at first in a poll of that cause with these stacks.
pub(super) fn culprit_of(stacks: &[WeightedStack], cause: Cause) -> Culprit {
    heaviest_culprit(stacks, cause).unwrap_or_else(|| nameless(cause))
}

/// The function that most of the time of the poll's cause is charged to, with the callee that takes
/// most of that.
fn heaviest_culprit(stacks: &[WeightedStack], cause: Cause) -> Option<Culprit> {
    let mut charged: Vec<(Culprit, u64)> = Vec::new();
    for stack in stacks.iter().filter(|stack| stack.cause == cause) {
        let Some(culprit) = culprit(&stack.frames) else {
            continue;
        };
        let same = |other: &Culprit| {
            (&other.function, &other.calls) == (&culprit.function, &culprit.calls)
        };
        match charged.iter_mut().find(|(other, _)| same(other)) {
            Some((_, weight_ns)) => *weight_ns += stack.weight_ns,
            None => charged.push((culprit, stack.weight_ns)),
        }
    }
    let of_function = |function: &Name| -> u64 {
        let same = charged
            .iter()
            .filter(|(other, _)| other.function == *function);
        same.map(|(_, weight_ns)| weight_ns).sum()
    };
    let heaviest = charged
        .iter()
        .rev()
        .max_by_key(|(culprit, weight_ns)| (of_function(&culprit.function), *weight_ns));
    heaviest
        .map(|(culprit, _)| culprit.clone())
        .or_else(|| culprit(&stacks.first()?.frames))
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

/// A stack with names.
pub(super) fn name_stack(
    stack: Weighed,
    symbolizer: &mut Symbolizer,
    modules: &ModuleMap,
) -> WeightedStack {
    let mut frames = symbolizer.kernel_frames(&stack.kernel);
    let not_its_own = match stack.activity {
        Activity::Blocked => &SWITCH[..],
        _ => &INTERRUPTS[..],
    };
    leave_out(&mut frames, not_its_own);
    frames.extend(symbolizer.stack(modules, &stack.user));
    WeightedStack {
        frames,
        activity: stack.activity,
        cause: stack.cause,
        weight_ns: stack.weight_ns,
        complete: stack.user.complete,
    }
}

/// Removes the innermost frames up to the last of these functions.
fn leave_out(kernel: &mut Vec<Arc<Frame>>, functions: &[&str]) {
    let last = kernel
        .iter()
        .rposition(|frame| functions.contains(&frame.function.as_str()));
    if let Some(at) = last {
        kernel.drain(..=at);
    }
}

/// Whether the stack is in Tokio's own park: then it is no poll.
pub(super) fn parks(stack: &WeightedStack) -> bool {
    let mut frames = stack.frames.iter();
    frames.any(|frame| is_park(&frame.function))
}

/// Every stack of the poll was lost, or it never ran long enough for one.
pub(super) fn nameless(cause: Cause) -> Culprit {
    Culprit {
        function: format!("[no stack: {cause}]").into(),
        calls: None,
        location: None,
        chain: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn frame(function: &str, line: u32) -> Arc<Frame> {
        Arc::new(Frame {
            location: Some(crate::model::Location {
                file: "src/main.rs".into(),
                line,
            }),
            ..Frame::named(function, Origin::User)
        })
    }

    fn stack(functions: &[(&str, u32)], cause: Cause, weight_ns: u64) -> WeightedStack {
        WeightedStack {
            frames: functions.iter().map(|(f, line)| frame(f, *line)).collect(),
            activity: Activity::OnCpu,
            cause,
            weight_ns,
            complete: true,
        }
    }

    #[test]
    fn a_loop_sampled_at_many_lines_is_one_stack() {
        let stacks = [
            stack(&[("app::sum", 1), ("app::run", 9)], Cause::Cpu, 3),
            stack(&[("app::log", 1), ("app::run", 9)], Cause::Cpu, 4),
            stack(&[("app::sum", 2), ("app::run", 9)], Cause::Cpu, 3),
        ];
        let merged = merge(stacks.into_iter());
        let weights: Vec<u64> = merged.iter().map(|stack| stack.weight_ns).collect();
        assert_eq!(weights, [6, 4]);
        assert_eq!(merged[0].frames[0].function, "app::sum");
    }

    #[test]
    fn the_culprit_is_the_function_with_most_of_the_causes_time() {
        let stacks = [
            stack(&[("app::wait", 1)], Cause::Lock, 9),
            stack(&[("app::sum", 1)], Cause::Cpu, 4),
            stack(&[("app::log", 1), ("app::print", 3)], Cause::Cpu, 5),
            stack(&[("app::sum", 1), ("app::all", 2)], Cause::Cpu, 3),
        ];
        let named = |cause| heaviest_culprit(&stacks, cause).unwrap().function;
        assert_eq!(named(Cause::Cpu), "app::sum");
        assert_eq!(named(Cause::Lock), "app::wait");
        // No stack shows this cause: the heaviest has to do.
        assert_eq!(named(Cause::RunQueue), "app::wait");
        assert!(heaviest_culprit(&[], Cause::Cpu).is_none());
    }

    #[test]
    fn the_sample_itself_is_no_part_of_what_is_sampled() {
        let mut kernel: Vec<_> = ["hrtimer_interrupt", "el1h_64_irq", "clear_page", "el0_da"]
            .iter()
            .map(|function| frame(function, 0))
            .collect();
        let own = kernel[2..].to_vec();
        leave_out(&mut kernel, &INTERRUPTS);
        assert_eq!(kernel, own);
        leave_out(&mut kernel, &INTERRUPTS);
        assert_eq!(kernel, own);
    }

    #[test]
    fn a_kernel_stack_shows_a_page_fault_or_does_not() {
        let fault = [frame("clear_page_erms", 0), frame("asm_exc_page_fault", 0)];
        assert!(shows_page_fault(&fault, -1));
        assert!(!shows_page_fault(&[frame("ksys_read", 0)], 0));
        assert!(!shows_page_fault(&[], -1));
        // Without the kernel's symbols, no system call says as much.
        let nameless = [frame(NAMELESS_KERNEL, 0)];
        assert!(shows_page_fault(&nameless, -1));
        assert!(!shows_page_fault(&nameless, 202));
    }
}
