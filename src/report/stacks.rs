//! Stacks as text: leaf first, the user's own code emphasised, other frames folded.

use crate::cli::Stacks;
use std::fmt::{self, Write as _};

use super::style::{DIM, frame_style, paint};
use crate::model::{Activity, Frame, Origin, WeightedStack};
use crate::text::{self, StackLine};

/// Columns of a function.
const NAME: usize = 90;

/// Writes a stack of the function `about`, indented, one frame a line, in at most `most` lines.
pub fn write(
    out: &mut String,
    stack: &WeightedStack,
    about: &str,
    stacks: Stacks,
    most: usize,
) -> fmt::Result {
    match stacks {
        Stacks::All => {
            for frame in &stack.frames {
                write_frame(out, frame)?;
            }
        }
        Stacks::Top => {
            let lines = text::stack_lines(&stack.frames, about);
            let shown = match lines.len() > most {
                // One line says how many there are.
                true => most.saturating_sub(1),
                false => lines.len(),
            };
            for line in lines.iter().take(shown) {
                match line {
                    StackLine::Frame(frame) => write_frame(out, frame)?,
                    StackLine::Folded(run) => note(out, &format!("... {run}"))?,
                }
            }
            if shown < lines.len() {
                note(out, &format!("... {} more lines", lines.len() - shown))?;
            }
        }
    }
    match stack.complete {
        true => Ok(()),
        false => note(out, "(the stack ends here: its rest could not be unwound)"),
    }
}

fn write_frame(out: &mut String, frame: &Frame) -> fmt::Result {
    let marker = if frame.origin == Origin::User {
        '>'
    } else {
        ' '
    };
    let doubt = if frame.uncertain { '?' } else { ' ' };
    let name = text::path(&frame.function, NAME);
    write!(
        out,
        "  {doubt}{marker} {}",
        paint(frame_style(frame.origin), name)
    )?;
    if frame.inlined {
        out.write_str(&paint(DIM, " [inlined]"))?;
    }
    match &frame.location {
        Some(location) => writeln!(out, "  {}", paint(DIM, text::location(location))),
        None => writeln!(out),
    }
}

fn note(out: &mut String, text: &str) -> fmt::Result {
    writeln!(out, "     {}", paint(DIM, text))
}

/// What a thread was doing.
pub fn doing(activity: Activity) -> &'static str {
    match activity {
        Activity::OnCpu => "on CPU",
        Activity::RunQueue => "waiting for a CPU",
        Activity::Blocked => "blocked",
    }
}
