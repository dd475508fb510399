//! Reads the workers' states at an interval, and fetches the stacks of those that sleep past the
//! threshold: the kernel side sends them only when the sleep ends.

use std::collections::HashMap;
use std::time::Duration;

use super::outbox::Outbox;
use crate::bpf::types::hud_captures;
use crate::capture::decode;
use crate::capture::drained::Drained;
use crate::capture::events::Capture;
use crate::capture::programs::Programs;
use crate::capture::threads::{OpenPoll, SeenAs, ThreadState};
use crate::clock::monotonic_ns;

/// What was fetched so far.
pub struct WorkerReader {
    threshold_ns: u64,
    /// By thread: the poll and the place in it whose stack was fetched.
    fetched: HashMap<u32, (u64, Option<usize>)>,
    /// Whether a worker was asleep past the threshold at the last reading.
    pub one_sleeps: bool,
}

impl WorkerReader {
    /// Polls are slow from `threshold` on.
    pub fn new(threshold: Duration) -> Self {
        WorkerReader {
            threshold_ns: threshold.as_nanos() as u64,
            fetched: HashMap::new(),
            one_sleeps: false,
        }
    }

    /// Passes on the workers' states, with the stacks that are due, the losses and the time spent in
    /// the programs.
    pub fn read(&mut self, programs: &Programs<'_>, outbox: &Outbox) {
        let Some(offset) = programs.mono_minus_clock() else {
            return;
        };
        let states = programs.threads.read(offset);
        let at_ns = monotonic_ns();
        self.one_sleeps = false;
        for state in &states {
            let Some(poll) = self.asleep_too_long(state, at_ns) else {
                continue;
            };
            self.one_sleeps = true;
            let key = (poll.times.sequence, poll.asleep_at);
            if poll.capture_waits && self.fetched.insert(state.tid, key) != Some(key) {
                for capture in fetch(programs, state, offset) {
                    outbox.stack(capture);
                }
            }
        }
        self.fetched
            .retain(|tid, _| states.iter().any(|state| state.tid == *tid));
        outbox.pass(Drained::Workers { at_ns, states });
        outbox.report_bpf_time(programs);
        outbox.report_losses(programs.losses());
    }

    /// The slow poll that a worker is asleep in.
    fn asleep_too_long<'a>(&self, state: &'a ThreadState, now_ns: u64) -> Option<&'a OpenPoll> {
        let poll = state.poll.as_ref()?;
        let held_ns = now_ns.saturating_sub(poll.times.start_ns);
        (state.seen_as == SeenAs::Blocked && held_ns >= self.threshold_ns).then_some(poll)
    }
}

/// The stacks in a sleeping worker's capture buffers, without those of earlier polls. None if the
/// worker has run since: its buffers may be half written, and the kernel side sends them.
fn fetch(programs: &Programs<'_>, state: &ThreadState, offset: i64) -> Vec<Capture> {
    let (Some(poll), Some(buffers)) = (&state.poll, programs.captures(state.slot)) else {
        return Vec::new();
    };
    if !programs.threads.is_unchanged(state, offset) {
        return Vec::new();
    }
    let hud_captures { blocked, sample } = &*buffers;
    blocked
        .iter()
        .chain([sample])
        .filter_map(|event| {
            // SAFETY: the event's own bytes.
            let bytes = unsafe {
                std::slice::from_raw_parts(
                    std::ptr::from_ref(event).cast::<u8>(),
                    size_of_val(event),
                )
            };
            decode::stack(bytes).ok()
        })
        .filter(|capture| capture.tid == state.tid && capture.poll.sequence == poll.times.sequence)
        .collect()
}
