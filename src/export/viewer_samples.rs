//! Slow polls as samples of stacks: `samples` and `stackFrames` at the end of a trace.
//!
//! speedscope names a duration event after its arguments, so that no two polls share a name. Where a
//! file has samples it reads those instead and merges equal stacks. hud itself reads the events.

use std::sync::Arc;

use serde::Serialize;

use super::dictionary::Dictionary;
use super::micros::Micros;
use crate::model::{Frame, Origin, SlowPoll};

/// Samples kept in memory until the file ends. A recording with more has none.
const MAX_SAMPLES: usize = 300_000;

/// One thread's stack from one moment until its next sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    tid: u32,
    at_ns: u64,
    /// Node of the dictionary, 0 for no stack: outside slow polls.
    sf: u32,
}

/// The samples of a recording so far.
#[derive(Default)]
pub struct ViewerSamples {
    samples: Vec<Sample>,
    /// Some were dropped: the others would show a part as the whole.
    incomplete: bool,
}

impl ViewerSamples {
    /// Adds a poll. Its stacks, given by their nodes and weights, share the time that it was held.
    pub fn add(&mut self, poll: &SlowPoll, stacks: &[(u32, u64)], dictionary: &mut Dictionary) {
        if self.incomplete {
            return;
        }
        if self.samples.len() + stacks.len() + 2 > MAX_SAMPLES {
            self.clear();
            return;
        }
        let mut sample = |at_ns: u64, sf: u32| {
            self.samples.push(Sample {
                tid: poll.tid,
                at_ns,
                sf,
            });
        };
        let total: f64 = stacks.iter().map(|(_, weight)| *weight as f64).sum();
        if total == 0.0 {
            let name = poll.culprit.function.as_str();
            let frame = Arc::new(Frame::named(name, Origin::Unknown));
            sample(poll.start_ns, dictionary.stack(&[frame]));
        }
        let mut before = 0.0;
        for (sf, weight) in stacks.iter().filter(|(_, weight)| *weight > 0) {
            let offset = (poll.held_ns() as f64 * (before / total)) as u64;
            sample(poll.start_ns.saturating_add(offset), *sf);
            before += *weight as f64;
        }
        sample(poll.end_ns, 0);
    }

    /// Drops all samples for good: the dictionary that they refer to was reset, or is full.
    pub fn clear(&mut self) {
        self.samples = Vec::new();
        self.incomplete = true;
    }

    /// The member `samples` of the document in chunks of JSON, none if samples were dropped.
    pub fn chunks(&self, pid: u32) -> impl Iterator<Item = Vec<u8>> {
        #[derive(Serialize)]
        struct ViewerSample {
            cpu: u32,
            name: &'static str,
            pid: u32,
            sf: u32,
            tid: u32,
            ts: Micros,
            weight: u32,
        }
        let mut samples = self.samples.clone();
        samples.sort_unstable();
        let mut begun = false;
        let chunks: Vec<Vec<u8>> = samples
            .chunks(1000)
            .map(|samples| {
                let mut chunk = Vec::new();
                for sample in samples {
                    let separator: &[u8] = match begun {
                        true => b",\n",
                        false => b",\n\"samples\":[\n",
                    };
                    begun = true;
                    chunk.extend_from_slice(separator);
                    // Cannot fail: numbers and a constant, into memory.
                    let _ = serde_json::to_writer(
                        &mut chunk,
                        &ViewerSample {
                            cpu: 0,
                            name: "slow_poll",
                            pid,
                            sf: sample.sf,
                            tid: sample.tid,
                            ts: Micros(sample.at_ns),
                            weight: 1,
                        },
                    );
                }
                chunk
            })
            .collect();
        let end = (!chunks.is_empty()).then(|| b"\n]".to_vec());
        chunks.into_iter().chain(end)
    }
}
