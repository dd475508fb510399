//! Judges the stacks that the kernel side captures: whether they lie inside a poll.

use std::collections::HashMap;

use super::{Frames, KnownWorker};
use crate::capture::{Capture, FrameBases};
use crate::stacks::reader::StackReader;
use crate::stacks::unwind::Step;
use crate::tokio::names;

/// Polls whose judgement is kept: more are never open at once.
const MAX_JUDGED: usize = 1 << 14;

/// What a stack says of the poll in which it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It lies inside a poll.
    Poll,
    /// It does not: the poll is none.
    NoPoll,
    /// It does not reach that far.
    Unknown,
}

/// By thread and the poll's number: whether a stack showed a poll and none showed otherwise.
#[derive(Debug, Default)]
pub struct Judged(HashMap<(u32, u64), bool>);

impl Judged {
    fn add(&mut self, poll: (u32, u64), judgement: Judgement) {
        if self.0.len() >= MAX_JUDGED {
            self.0.clear();
        }
        match judgement {
            Judgement::Unknown => {}
            Judgement::Poll => drop(self.0.entry(poll).or_insert(true)),
            Judgement::NoPoll => drop(self.0.insert(poll, false)),
        }
    }

    /// Forgets the polls of a thread.
    pub fn forget(&mut self, tid: u32) {
        self.0.retain(|(other, _), _| *other != tid);
    }
}

impl Frames {
    /// Judges a stack captured in a poll, and by it the poll `sequence` of that thread, if given.
    pub fn judge(
        &mut self,
        sequence: Option<u64>,
        capture: &Capture,
        stacks: &mut StackReader,
    ) -> Judgement {
        let steps = stacks.walk(&capture.registers, capture.stack_base, &capture.stack);
        let word = |address: u64| {
            let at = usize::try_from(address.checked_sub(capture.stack_base)?).ok()?;
            let bytes = capture.stack.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let judgement = self.judge_stack(capture.tid, &steps, word, stacks);
        if let Some(sequence) = sequence {
            self.judged.add((capture.tid, sequence), judgement);
        }
        judgement
    }

    /// Whether stacks showed that this is a poll; None if none reached far enough.
    pub fn is_confirmed(&self, tid: u32, sequence: u64) -> Option<bool> {
        self.judged.0.get(&(tid, sequence)).copied()
    }

    /// The poll has ended.
    pub fn poll_ended(&mut self, tid: u32, sequence: u64) {
        let is_open = |other: u32, number: u64| other != tid || number > sequence;
        let judged = &mut self.judged.0;
        judged.retain(|(other, number), _| is_open(*other, *number));
    }

    fn judge_stack(
        &mut self,
        tid: u32,
        steps: &[Step],
        word: impl Fn(u64) -> Option<u64>,
        stacks: &mut StackReader,
    ) -> Judgement {
        let Some(KnownWorker { bases, .. }) = self.workers.get(&tid) else {
            return Judgement::Unknown;
        };
        let polls = self.paths.polls(steps, bases);
        let Some((index, base)) = polls.and_then(|path| Some((path, *bases.get(path)?))) else {
            // A stack that ends below the loop shows nothing.
            return match self.paths.bases(steps) != FrameBases::default() {
                true => Judgement::NoPoll,
                false => Judgement::Unknown,
            };
        };
        let inside = steps.iter().take_while(|step| step.place < base);
        for step in inside {
            let frames = stacks.frames(&[step.address]);
            let leaves = |name: &str| names::is_park_or_wait(name) || names::leaves_worker(name);
            if frames.iter().any(|frame| leaves(&frame.function)) {
                return Judgement::NoPoll;
            }
        }
        // `block_in_place` moves the core out of its place. Where it is inlined, only that shows it.
        let path = self.paths.all.get_mut(index);
        let Some(path) = path.filter(|path| path.multi_thread) else {
            return Judgement::Poll;
        };
        let copies = self.cores.get(index).map_or(&[][..], Vec::as_slice);
        if copies.is_empty() && self.paths.inlined.get(index) == Some(&true) {
            return Judgement::Unknown;
        }
        let gone = copies
            .iter()
            .find(|at| word(base.wrapping_add((**at).into())) == Some(0));
        let Some(at) = gone.copied() else {
            return Judgement::Poll;
        };
        if path.core != Some(at) {
            log::debug!("the core is kept {at} bytes above {base:#x}");
            path.core = Some(at);
            self.order_paths();
        }
        Judgement::NoPoll
    }
}
