//! Names an assembled poll: frames, culprit, worker. The last step before a record.

use super::polls::{AssembledPoll, WeighedStack};
use crate::model::{
    Activity, Cause, Culprit, Name, Role, RootPoll, SlowPoll, WeightedStack, Worker,
};
use crate::stacks::culprit::culprit;
use crate::stacks::kernel;
use crate::stacks::symbolize::Symbolizer;
use crate::target::modules::ModuleMap;
use crate::tokio::names::is_park;

/// The poll with names; none if its stacks show that it is no poll.
pub fn name_poll(
    mut poll: AssembledPoll,
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
    // The waits for a CPU may belong to several polls.
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

/// Merges stacks through the same functions, since a loop is sampled at many addresses. Stacks without
/// names are not merged: what is inlined at each address is not known yet. Heaviest first.
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

/// The stack with names.
pub(super) fn name_stack(
    stack: WeighedStack,
    symbolizer: &mut Symbolizer,
    modules: &ModuleMap,
) -> WeightedStack {
    let mut frames = symbolizer.kernel_frames(&stack.kernel);
    match stack.activity {
        Activity::Blocked => kernel::remove_switch(&mut frames),
        _ => kernel::remove_interrupt(&mut frames),
    }
    frames.extend(symbolizer.stack(modules, &stack.user));
    WeightedStack {
        frames,
        activity: stack.activity,
        cause: stack.cause,
        weight_ns: stack.weight_ns,
        complete: stack.user.complete,
    }
}

/// Whether the stack is in Tokio's park, so that it is no poll.
pub(super) fn parks(stack: &WeightedStack) -> bool {
    let mut frames = stack.frames.iter();
    frames.any(|frame| is_park(&frame.function))
}

/// Stands for the culprit where every stack was lost, or the poll never ran long enough for one.
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
    use crate::model::{Frame, Origin};
    use std::sync::Arc;

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
    fn the_culprit_is_the_function_with_most_of_the_time_of_the_cause() {
        let stacks = [
            stack(&[("app::wait", 1)], Cause::Lock, 9),
            stack(&[("app::sum", 1)], Cause::Cpu, 4),
            stack(&[("app::log", 1), ("app::print", 3)], Cause::Cpu, 5),
            stack(&[("app::sum", 1), ("app::all", 2)], Cause::Cpu, 3),
        ];
        let named = |cause| heaviest_culprit(&stacks, cause).unwrap().function;
        assert_eq!(named(Cause::Cpu), "app::sum");
        assert_eq!(named(Cause::Lock), "app::wait");
        // No stack shows this cause, so the heaviest one counts.
        assert_eq!(named(Cause::RunQueue), "app::wait");
        assert!(heaviest_culprit(&[], Cause::Cpu).is_none());
    }
}
