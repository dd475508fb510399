//! What `y` copies: a culprit as text that can be pasted into an issue.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::text;
use crate::model::{SlowPoll, WeightedStack, task_name};
use crate::session::{Snapshot, SpotRow};

/// Terminals cut longer OSC 52 sequences short, or ignore them.
const OSC52_MOST: usize = 74_000;

/// The selected culprit of a snapshot with its heaviest stacks. None without one.
pub fn culprit(snap: &Snapshot) -> Option<String> {
    let detail = snap.selected.as_ref()?;
    let row = &detail.row;
    let mut out = row.label.to_string();
    let mut add = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    let calls = row.calls.as_ref();
    add(calls.map_or_else(String::new, |calls| format!(" → {calls}")));
    if let Some(location) = &row.location {
        add(format!("  at {location}"));
    }
    add(format!(
        "  {}: {} slow polls held workers for {} (max {}, p99 {}, {} of all held time)",
        row.cause,
        row.polls,
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
            text::duration(header.threshold_ns)
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
    let calls = culprit.calls.as_ref().map(|calls| format!(" → {calls}"));
    let task = task_name(poll.task);
    let mut out = format!(
        "{}{}\n  {}: held {} for {} ({task}; on CPU {}, blocked {}, run queue {})\n",
        culprit.function,
        calls.unwrap_or_default(),
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

/// Code that CPU time in polls is put down to, with its heaviest stacks.
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

/// A stack, leaf first, a frame to a line.
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
        add(format!("  {}{inlined}{location}", frame.function));
    }
    if !stack.complete {
        add("  (the rest of the stack could not be read)".to_owned());
    }
}

/// What a terminal does with OSC 52, as far as the environment tells. None of them answers whether
/// it took a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clipboard {
    /// Most terminals put it into the clipboard.
    Taken,
    /// Known to ignore it, or to do so unless configured otherwise.
    Doubtful,
    /// It would end up as characters on the screen.
    Harmful,
}

impl Clipboard {
    /// By the variables that terminals and multiplexers set.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Clipboard {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        if term == "linux" || term == "dumb" || term.is_empty() {
            return Clipboard::Harmful;
        }
        // sudo takes TMUX and STY away and leaves TERM.
        let multiplexed = ["tmux", "screen"].iter().any(|name| term.starts_with(name))
            || set("TMUX").is_some()
            || set("STY").is_some();
        let ignores = set("VTE_VERSION").is_some()
            || set("TERM_PROGRAM").is_some_and(|program| program == "Apple_Terminal");
        match multiplexed || ignores {
            true => Clipboard::Doubtful,
            false => Clipboard::Taken,
        }
    }
}

/// The sequence that puts a text into the clipboard of the terminal's user, over ssh too. None
/// where terminals would cut it short.
pub fn osc52(text: &str) -> Option<String> {
    let encoded = STANDARD.encode(text);
    (encoded.len() <= OSC52_MOST).then(|| format!("\x1b]52;c;{encoded}\x07"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_whether_a_text_arrives() {
        let clipboard = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(n, _)| *n == name);
            Clipboard::from_env(|name| find(name).map(|(_, value)| (*value).to_owned()))
        };
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(clipboard(&[xterm]), Clipboard::Taken);
        assert_eq!(clipboard(&[xterm, ("TMUX", "")]), Clipboard::Taken);
        for doubtful in [("TMUX", "/tmp/tmux-0/default,1,0"), ("VTE_VERSION", "7200")] {
            assert_eq!(clipboard(&[xterm, doubtful]), Clipboard::Doubtful);
        }
        assert_eq!(clipboard(&[("TERM", "tmux-256color")]), Clipboard::Doubtful);
        assert_eq!(clipboard(&[("TERM", "linux")]), Clipboard::Harmful);
    }

    #[test]
    fn a_text_too_long_for_terminals_is_not_cut_short() {
        assert_eq!(osc52("hud"), Some("\x1b]52;c;aHVk\x07".into()));
        assert_eq!(osc52(&"x".repeat(OSC52_MOST)), None);
    }
}
