//! What `y` copies: a culprit, a poll or code as text that can be pasted into an issue.

use crate::model::{SlowPoll, WeightedStack};
use crate::session::{Snapshot, SpotRow};
use crate::text;

/// The selected culprit of a snapshot with its heaviest stacks; None if nothing is selected.
pub fn culprit(snap: &Snapshot) -> Option<String> {
    let detail = snap.selected.as_ref()?;
    let row = &detail.row;
    let mut out = String::new();
    let mut add = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    add(text::call(&row.label, row.calls.as_deref()));
    if let Some(location) = &row.location {
        add(format!("  at {location}"));
    }
    add(format!(
        "  {}: {} held workers for {} (max {}, p99 {}, {} of all held time)",
        row.cause,
        text::counted(row.polls, "slow poll"),
        text::duration(row.total_ns),
        text::duration(row.max_ns),
        text::duration(row.p99_ns),
        text::percent(snap.share(row)),
    ));
    if !row.chain.is_empty() {
        add(format!("  awaited by {}", row.chain.join(" < ")));
    }
    if let Some(header) = &snap.header {
        add(format!(
            "  in {} (PID {}), polls of {} and longer",
            header.process,
            header.pid,
            text::setting(header.threshold_ns)
        ));
    }
    for stack in detail.stacks.iter().take(3) {
        add_stack(&mut out, stack);
    }
    Some(out)
}

/// One slow poll with its heaviest stack.
pub fn poll(snap: &Snapshot, poll: &SlowPoll) -> String {
    let culprit = &poll.culprit;
    let task = text::task(poll.task);
    let mut out = format!(
        "{}\n  {}: held {} for {} ({task}; on CPU {}, blocked {}, run queue {})\n",
        text::call(&culprit.function, culprit.calls.as_deref()),
        poll.cause,
        snap.worker_name(poll.tid),
        text::duration(snap.held_until_now(poll)),
        text::duration(poll.split.on_cpu_ns),
        text::duration(poll.split.blocked_ns),
        text::duration(poll.split.run_queue_ns),
    );
    if let Some(stack) = poll.heaviest() {
        add_stack(&mut out, stack);
    }
    out
}

/// Code with its CPU time in polls and its heaviest stacks.
pub fn spot(snap: &Snapshot, row: &SpotRow) -> String {
    let share = snap.profile.as_ref().map_or(0.0, |all| all.share(row));
    let location = row.location.as_ref();
    let mut out = format!(
        "{}\n{}  {} of CPU time in polls, slow or not ({} of all, sampled for {})\n",
        row.name(),
        location.map_or_else(String::new, |at| format!("  at {at}\n")),
        text::duration(row.cpu_ns),
        text::percent(share),
        text::duration(snap.profiled_ns),
    );
    for stack in row.tree.heaviest_stacks(3) {
        add_stack(&mut out, &stack);
    }
    out
}

/// Appends a stack, leaf first, one frame a line.
fn add_stack(out: &mut String, stack: &WeightedStack) {
    let mut add = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    let weight = text::duration(stack.weight_ns);
    add(format!(
        "\n{weight} {} ({})",
        stack.activity.as_str(),
        stack.cause
    ));
    for frame in &stack.frames {
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        let location = frame.location.as_ref();
        let location = location.map_or_else(String::new, |l| format!(" ({l})"));
        let function = &frame.function;
        let doubt = if frame.uncertain { "? " } else { "" };
        add(format!("  {doubt}{function}{inlined}{location}"));
    }
    if !stack.complete {
        add("  (the rest of the stack could not be unwound)".to_owned());
    }
}
