//! What `y` copies: a culprit as text that can be pasted into an issue.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::text;
use crate::session::Snapshot;

/// Terminals cut longer OSC 52 sequences short, or ignore them.
const OSC52_MOST: usize = 74_000;

/// The selected culprit of a snapshot with its heaviest stacks. None without one.
pub fn culprit(snap: &Snapshot) -> Option<String> {
    let detail = snap.selected.as_ref()?;
    let row = &detail.row;
    let mut out = row.label.clone();
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
        let mut head = String::new();
        let weight = text::duration(stack.weight_ns);
        let _ = write!(
            head,
            "\n{weight} {} ({})",
            stack.activity.as_str(),
            stack.cause
        );
        add(head);
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
    Some(out)
}

/// The sequence that puts a text into the clipboard of the terminal's user, over ssh too. None
/// where terminals would cut it short.
pub fn osc52(text: &str) -> Option<String> {
    let encoded = STANDARD.encode(text);
    (encoded.len() <= OSC52_MOST).then(|| format!("\x1b]52;c;{encoded}\x07"))
}
