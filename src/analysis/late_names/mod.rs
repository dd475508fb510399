//! Names for recorded frames that had no symbols, from files of the same builds, at replay.
//!
//! A frame without a name keeps its address and its module's build-id in the trace. Whatever depends
//! on names is computed again: which stacks are the same, and which code is the culprit.

mod files;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use self::files::SymbolFiles;
use super::naming::{culprit_of, merge};
use super::profile::attribute;
use super::release::holder;
use crate::failure::Failure;
use crate::model::{Census, Frame, PollTime, Record, ReleasedBy, SlowPoll, WeightedStack};
use crate::stacks::symbolize::{Frames, Symbolizer};
use crate::target::debug_files::{DebugFile, DebugFiles};

/// Frames kept before all are discarded: bounds the memory.
const MAX_KNOWN: usize = 1 << 17;

/// Names the frames of one recording.
pub struct LateNames {
    symbolizer: Symbolizer,
    files: SymbolFiles,
    /// Whether the symbolizer knows which code is the application's.
    has_origins: bool,
    known: HashMap<Arc<Frame>, Frames>,
    /// How many frames got a name.
    named: u64,
}

impl LateNames {
    /// Uses `symbols` for the executable, if given, and debug files for all other modules.
    pub fn new(symbols: Option<DebugFile>, debug_files: DebugFiles) -> LateNames {
        LateNames {
            symbolizer: Symbolizer::new(),
            files: SymbolFiles::new(symbols, debug_files),
            has_origins: false,
            known: HashMap::new(),
            named: 0,
        }
    }

    /// The record with all names that can be found.
    ///
    /// # Errors
    /// When the given symbols are of another build than the recorded executable.
    pub fn name(&mut self, record: Record) -> Result<Record, Failure> {
        Ok(match record {
            Record::Header(header) => {
                self.files.set_executable(&header.executable);
                Record::Header(header)
            }
            Record::SlowPoll(poll) => Record::SlowPoll(self.poll(poll)?),
            Record::Running(poll) => Record::Running(self.poll(poll)?),
            Record::PollTime(time) => Record::PollTime(self.poll_time(time)?),
            Record::Census(census) => Record::Census(self.census(census)?),
            other => other,
        })
    }

    /// What to tell the user once the trace is read, one line each.
    pub fn notes(mut self) -> Vec<String> {
        if self.named == 0 {
            self.files.note_unused();
        }
        self.files.notes
    }

    fn poll(&mut self, poll: Arc<SlowPoll>) -> Result<Arc<SlowPoll>, Failure> {
        let before = self.named;
        let stacks = self.stacks(poll.stacks.iter())?;
        let released_by = match &poll.released_by {
            Some(by) => {
                let frames = self.stack(&by.frames)?;
                let culprit = holder(&frames).unwrap_or_else(|| by.culprit.clone());
                Some(Arc::new(ReleasedBy {
                    culprit,
                    frames,
                    ..ReleasedBy::clone(by)
                }))
            }
            None => None,
        };
        if self.named == before {
            return Ok(poll);
        }
        Ok(Arc::new(SlowPoll {
            culprit: culprit_of(&stacks, poll.cause),
            stacks,
            released_by,
            ..SlowPoll::clone(&poll)
        }))
    }

    fn poll_time(&mut self, time: Arc<PollTime>) -> Result<Arc<PollTime>, Failure> {
        let before = self.named;
        let stacks = self.stacks(time.stacks.iter().map(|profiled| &profiled.stack))?;
        if self.named == before {
            return Ok(time);
        }
        Ok(Arc::new(PollTime {
            stacks: stacks.into_iter().map(attribute).collect(),
            ..PollTime::clone(&time)
        }))
    }

    /// Keeps the sentences, which rest on states more than on names.
    fn census(&mut self, census: Arc<Census>) -> Result<Arc<Census>, Failure> {
        let mut named = Census::clone(&census);
        for thread in &mut named.threads {
            thread.frames = self.stack(&thread.frames)?;
        }
        Ok(Arc::new(named))
    }

    /// The stacks with all names that can be found, merged again.
    fn stacks<'a>(
        &mut self,
        stacks: impl Iterator<Item = &'a WeightedStack>,
    ) -> Result<Vec<WeightedStack>, Failure> {
        let mut named = Vec::new();
        for stack in stacks {
            let mut stack = stack.clone();
            stack.frames = self.stack(&stack.frames)?;
            named.push(stack);
        }
        Ok(merge(named.into_iter()))
    }

    /// The stack with all names that can be found.
    fn stack(&mut self, frames: &[Arc<Frame>]) -> Result<Vec<Arc<Frame>>, Failure> {
        let mut named = Vec::with_capacity(frames.len());
        for frame in frames {
            if frame.address.is_none() {
                named.push(Arc::clone(frame));
                continue;
            }
            let found = self.frames(frame)?;
            // A frame that no symbol covers keeps its address.
            self.named += u64::from(found.iter().all(|frame| frame.address.is_none()));
            named.extend(found.iter().map(|found| match frame.uncertain {
                true => Arc::new(Frame {
                    uncertain: true,
                    ..Frame::clone(found)
                }),
                false => Arc::clone(found),
            }));
        }
        Ok(named)
    }

    /// The frames, inlined calls included, at the address of a frame without a name.
    fn frames(&mut self, frame: &Arc<Frame>) -> Result<Frames, Failure> {
        if let Some(known) = self.known.get(frame) {
            return Ok(Arc::clone(known));
        }
        let unnamed: Frames = [Arc::clone(frame)].into();
        let (Some(module), Some(at)) = (&frame.module, &frame.address) else {
            return Ok(unnamed);
        };
        let file = self.files.find(module, at.build_id.as_ref())?;
        if let Some(file) = file.as_ref().filter(|_| !self.has_origins)
            && self.files.is_executable(module)
        {
            self.symbolizer.learn_origins(&file.file, module);
            self.has_origins = true;
        }
        let found = file.and_then(|file| {
            let found = self
                .symbolizer
                .of_files(Some(&file), None, module, &[at.address]);
            found.into_iter().next().flatten()
        });
        let frames = found.unwrap_or(unnamed);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(Arc::clone(frame), Arc::clone(&frames));
        Ok(frames)
    }
}
