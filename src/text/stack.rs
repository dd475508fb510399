//! A stack in few lines: the user's own code, what it called and the leaf, with runs of all other
//! frames folded.

use std::fmt;
use std::sync::Arc;

use crate::model::{Frame, Origin};

/// Crates that a folded run names.
const CRATES: usize = 3;

/// Crates of the compiler, which are not named.
const STD: [&str; 3] = ["std", "core", "alloc"];

/// A line of a stack.
#[derive(Clone, Debug, PartialEq)]
pub enum StackLine<'a> {
    Frame(&'a Frame),
    Folded(Folded<'a>),
}

/// A run of frames that is shown as one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded<'a> {
    frames: usize,
    kernel_frames: usize,
    runtime_frames: usize,
    /// The first crates in it, other than the runtime's and the standard library.
    crates: Vec<&'a str>,
    /// There are more crates.
    more: bool,
}

impl<'a> Folded<'a> {
    /// Adds a frame to the run.
    pub fn add(&mut self, frame: &'a Frame) {
        self.frames += 1;
        match frame.origin {
            Origin::Kernel => self.kernel_frames += 1,
            Origin::Runtime => self.runtime_frames += 1,
            _ => {}
        }
        if frame.origin != Origin::ThirdParty {
            return;
        }
        match crate_of(&frame.function) {
            Some(name) if STD.contains(&name) || self.crates.contains(&name) => {}
            Some(name) if self.crates.len() < CRATES => self.crates.push(name),
            Some(_) => self.more = true,
            None => {}
        }
    }

    /// How many frames it has.
    pub fn frame_count(&self) -> usize {
        self.frames
    }
}

impl fmt::Display for Folded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::counted(self.frames, "frame"))?;
        match self.crates.as_slice() {
            // Frames of std around the runtime's belong to the start of its threads.
            [] if self.runtime_frames > 0 => f.write_str(" of the runtime"),
            [] if self.kernel_frames == self.frames => f.write_str(" of the kernel"),
            [] => Ok(()),
            crates => {
                write!(f, ": {}", crates.join(", "))?;
                f.write_str(if self.more { ", ..." } else { "" })
            }
        }
    }
}

/// The lines of a stack, leaf first. `about` is the function that the stack is shown for. Single
/// frames are not folded.
pub fn stack_lines<'a>(frames: &'a [Arc<Frame>], about: &str) -> Vec<StackLine<'a>> {
    let kernel = frames
        .iter()
        .take_while(|f| f.origin == Origin::Kernel)
        .count();
    // A kernel thread or a stack cut in the kernel has nothing else to show.
    let leaf = if kernel < frames.len() { kernel } else { 0 };
    let is_own = |f: &Frame| f.origin == Origin::User || f.function == about;
    let innermost = frames.iter().position(|f| is_own(f));
    let is_shown = |i: usize, frame: &Frame| {
        i == leaf || is_own(frame) || innermost.is_none_or(|own| i + 1 == own)
    };
    let mut lines: Vec<StackLine> = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let hidden = [Origin::Runtime, Origin::Kernel].contains(&frame.origin) && i != leaf;
        if is_shown(i, frame) && (!hidden || frame.function == about) {
            lines.push(StackLine::Frame(frame));
        } else if let Some(StackLine::Folded(run)) = lines.last_mut() {
            run.add(frame);
        } else {
            let mut run = Folded::default();
            run.add(frame);
            lines.push(StackLine::Folded(run));
        }
    }
    unfold_single_frames(&mut lines, frames);
    lines
}

/// A run of one frame takes no more room than the frame itself.
fn unfold_single_frames<'a>(lines: &mut [StackLine<'a>], frames: &'a [Arc<Frame>]) {
    let mut at = 0;
    for line in lines {
        let (frame, frames_of_line) = match line {
            StackLine::Frame(_) => (None, 1),
            StackLine::Folded(run) => (
                frames.get(at).filter(|_| run.frame_count() == 1),
                run.frame_count(),
            ),
        };
        let of_runtime = [Origin::Runtime, Origin::Kernel];
        if let Some(frame) = frame.filter(|f| !of_runtime.contains(&f.origin)) {
            *line = StackLine::Frame(frame);
        }
        at += frames_of_line;
    }
}

/// The modules (executable and libraries) of frames without a source position, in order.
pub fn modules_without_lines<'a>(frames: impl Iterator<Item = &'a Frame>) -> Vec<&'a str> {
    let mut modules: Vec<&str> = Vec::new();
    for frame in frames.filter(|f| f.location.is_none() && f.origin != Origin::Kernel) {
        match frame.module.as_deref() {
            Some(module) if !modules.contains(&module) => modules.push(module),
            _ => {}
        }
    }
    modules
}

/// The crate in a function's readable name.
fn crate_of(function: &str) -> Option<&str> {
    let start = function.trim_start_matches(['<', '&', '*', '(', '[']);
    let start = start.strip_prefix("mut ").unwrap_or(start);
    let (name, _) = start.split_once("::")?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    name.chars().all(is_name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<Arc<Frame>> {
        let origin = |name: &str| match name.split("::").next() {
            Some("shop") => Origin::User,
            Some("tokio") => Origin::Runtime,
            Some("std") => Origin::Std,
            Some("k") => Origin::Kernel,
            _ => Origin::ThirdParty,
        };
        let frame = |name: &&str| Arc::new(Frame::named(*name, origin(name)));
        names.iter().map(frame).collect()
    }

    fn lines(names: &[&str], about: &str) -> Vec<String> {
        let frames = frames(names);
        let text = |line: &StackLine| match line {
            StackLine::Frame(frame) => frame.function.to_string(),
            StackLine::Folded(run) => format!("... {run}"),
        };
        stack_lines(&frames, about).iter().map(text).collect()
    }

    #[test]
    fn frames_around_the_users_own_code_are_folded() {
        let stack = [
            "k::schedule",
            "k::do_nanosleep",
            "clock_nanosleep",
            "std::sys::sleep",
            "std::thread::sleep",
            "shop::retry",
            "tower::call",
            "shop::serve",
            "axum::call",
            "<hyper::Dispatcher as hyper::Poll>::poll",
            "tokio::task::poll",
            "std::thread::start",
        ];
        assert_eq!(
            lines(&stack, "shop::retry"),
            [
                "... 2 frames of the kernel",
                "clock_nanosleep",
                "std::sys::sleep",
                "std::thread::sleep",
                "shop::retry",
                "tower::call",
                "shop::serve",
                "... 4 frames: axum, hyper",
            ]
        );
    }

    #[test]
    fn without_own_code_the_function_in_question_stays() {
        let stack = [
            "memcpy",
            "a::x",
            "b::y",
            "c::z",
            "d::w",
            "e::v",
            "tokio::run",
        ];
        assert_eq!(
            lines(&stack, "d::w"),
            [
                "memcpy",
                "... 2 frames: a, b",
                "c::z",
                "d::w",
                "... 2 frames: e"
            ]
        );
        // Nothing to centre on: all but the runtime.
        assert_eq!(
            lines(&["a::x", "b::y", "tokio::run", "tokio::start"], "gone"),
            ["a::x", "b::y", "... 2 frames of the runtime"]
        );
    }

    #[test]
    fn a_stack_of_the_kernel_alone_shows_its_leaf() {
        assert_eq!(lines(&["k::a"], "shop::x"), ["k::a"]);
        assert_eq!(lines(&[], "shop::x"), [""; 0]);
    }

    #[test]
    fn many_crates_are_cut() {
        let mut run = Folded::default();
        let stack = frames(&["a::x", "b::x", "a::y", "c::x", "d::x"]);
        stack.iter().for_each(|frame| run.add(frame));
        assert_eq!(run.to_string(), "5 frames: a, b, c, ...");
    }
}
