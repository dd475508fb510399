//! A census as rows of text, identical in every view.

use crate::model::Frame;
use crate::model::{Census, CensusThread, Duty, Origin, ThreadWait};

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// A sentence about what is wrong.
    Words,
    /// The heading of a thread.
    Thread,
    /// A frame, with its origin.
    Frame(Origin),
    /// A remark.
    Note,
}

/// Frames shown per thread, the innermost.
const FRAMES: usize = 24;

/// The rows of a census, without line breaks.
pub fn census_rows(census: &Census) -> Vec<(RowKind, String)> {
    let mut rows: Vec<(RowKind, String)> = census
        .words
        .iter()
        .map(|words| (RowKind::Words, words.clone()))
        .collect();
    // Threads in polls first, idle ones last.
    let mut threads: Vec<&CensusThread> = census.threads.iter().collect();
    threads.sort_by_key(|thread| match thread.duty {
        Duty::Polling { held_ns, .. } => (0, u64::MAX - held_ns, thread.tid),
        Duty::Other => (1, 0, thread.tid),
        Duty::Parked { .. } => (2, 0, thread.tid),
    });
    for thread in threads {
        rows.push((RowKind::Thread, head(thread)));
        if matches!(thread.duty, Duty::Parked { .. }) {
            continue; // All parked workers have the same stack.
        }
        add_frames(&mut rows, thread);
    }
    rows
}

fn head(thread: &CensusThread) -> String {
    let seconds = |ns: u64| format!("{:.3} s", ns as f64 / 1e9);
    let worker = |runtime: u32, index: Option<u32>| match index {
        Some(index) => format!("worker {index} of runtime {runtime}"),
        None => format!("worker of runtime {runtime}"),
    };
    let duty = match thread.duty {
        Duty::Polling {
            runtime,
            index,
            task,
            held_ns,
        } => {
            let task = task.map_or("a future without task id".to_owned(), |id| {
                format!("task {id}")
            });
            let held = seconds(held_ns);
            format!(
                ", {}: in a poll of {task} for {held}",
                worker(runtime, index)
            )
        }
        Duty::Parked { runtime, index } => format!(", {}: in no long poll", worker(runtime, index)),
        Duty::Other => String::new(),
    };
    let wait = match &thread.wait {
        ThreadWait::Running => "running".to_owned(),
        ThreadWait::Stopped => "stopped".to_owned(),
        ThreadWait::Asleep {
            syscall,
            cause,
            lock,
        } => {
            let lock = lock.map_or_else(String::new, |at| format!(" at {at:#x}"));
            format!("asleep in {syscall}{lock} ({cause})")
        }
    };
    format!("{} ({}){duty}, {wait}", thread.name, thread.tid)
}

fn add_frames(rows: &mut Vec<(RowKind, String)>, thread: &CensusThread) {
    let tells = |frame: &&std::sync::Arc<Frame>| frame.origin != Origin::Runtime;
    for frame in thread.frames.iter().filter(tells).take(FRAMES) {
        let at = frame.location.as_ref();
        let at = at.map_or_else(String::new, |at| format!("  {at}"));
        rows.push((
            RowKind::Frame(frame.origin),
            format!("{}{at}", frame.function),
        ));
    }
    let shown = thread.frames.iter().filter(tells).count();
    if shown > FRAMES {
        let more = shown - FRAMES;
        rows.push((RowKind::Note, format!("... {more} more frames")));
    }
}
