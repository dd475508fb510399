//! A stack as text: leaf first, the user's own code emphasised, the runtime's frames folded.

use std::fmt::Write as _;
use std::sync::Arc;

use super::style::{DIM, frame_style, paint};
use crate::model::{Activity, Frame, Origin, WeightedStack};
use crate::text;

/// Lines of one stack.
const MAX_LINES: usize = 24;
const NAME: usize = 90;

/// A line of a folded stack.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Frame(&'a Frame),
    /// A run of frames of the runtime, and their number.
    Folded(usize),
}

/// Folds runs of the runtime's frames, and all frames below the last one of other code.
fn fold(frames: &[Arc<Frame>]) -> Vec<Line<'_>> {
    let is_application = |f: &Arc<Frame>| matches!(f.origin, Origin::User | Origin::ThirdParty);
    let end = match frames.iter().rposition(is_application) {
        Some(last) => last + 1,
        None => frames.len().min(MAX_LINES / 2),
    };
    let mut lines = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        if i < end && frame.origin != Origin::Runtime {
            lines.push(Line::Frame(frame));
        } else if let Some(Line::Folded(n)) = lines.last_mut() {
            *n += 1;
        } else {
            lines.push(Line::Folded(1));
        }
    }
    lines
}

/// Writes a stack, indented, a frame a line.
pub fn write(out: &mut String, stack: &WeightedStack) -> std::fmt::Result {
    let lines = fold(&stack.frames);
    for line in lines.iter().take(MAX_LINES) {
        match line {
            Line::Frame(frame) => {
                let doubt = if frame.uncertain { '?' } else { ' ' };
                let marker = if frame.origin == Origin::User {
                    '>'
                } else {
                    ' '
                };
                let name = text::path(&frame.function, NAME);
                write!(
                    out,
                    "  {doubt}{marker} {}",
                    paint(frame_style(frame.origin), name)
                )?;
                if frame.inlined {
                    out.write_str(&paint(DIM, " [inlined]"))?;
                }
                match (&frame.location, &frame.module) {
                    (Some(location), _) => {
                        write!(out, "  {}", paint(DIM, text::location(location)))?;
                    }
                    (None, Some(module)) if !frame.function.starts_with(&**module) => {
                        write!(
                            out,
                            "  {}",
                            paint(DIM, format!("in {module}, no debug info"))
                        )?;
                    }
                    (None, _) => {}
                }
                out.push('\n');
            }
            Line::Folded(n) => {
                let frames = text::counted(*n, "frame");
                writeln!(
                    out,
                    "     {}",
                    paint(DIM, format!("... {frames} of the runtime"))
                )?;
            }
        }
    }
    if let Some(more) = lines.len().checked_sub(MAX_LINES).filter(|n| *n > 0) {
        writeln!(out, "     {}", paint(DIM, format!("... {more} more")))?;
    }
    if !stack.complete {
        let text = "(the stack ends here: its rest could not be unwound)";
        writeln!(out, "     {}", paint(DIM, text))?;
    }
    Ok(())
}

/// What a thread was doing.
pub fn doing(activity: Activity) -> &'static str {
    match activity {
        Activity::OnCpu => "on CPU",
        Activity::RunQueue => "waiting for a CPU",
        Activity::Blocked => "blocked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::frame;

    #[test]
    fn the_runtime_is_folded_and_the_leaf_is_not() {
        let frames = [
            frame("std::thread::sleep", 1, false),
            frame("shop::retry", 2, true),
            frame("tokio::time::timeout", 3, false),
            frame("tokio::coop", 3, false),
            frame("shop::serve", 4, false),
            frame("tokio::runtime::task::raw::poll", 5, false),
            frame("std::thread::spawn", 6, false),
        ];
        assert_eq!(
            fold(&frames),
            [
                Line::Frame(&frames[0]),
                Line::Frame(&frames[1]),
                Line::Folded(2),
                Line::Frame(&frames[4]),
                Line::Folded(2),
            ]
        );
    }
}
