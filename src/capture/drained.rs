//! What the ring thread passes on.

use std::sync::Arc;

use super::events::{Capture, Event};
use super::orders::TrackingMode;
use super::programs::KernelLosses;
use super::tasks::census::SeenThread;
use super::tasks::loads::Loads;
use super::threads::ThreadState;

/// One thing that the ring thread passes on. Points in time are nanoseconds on `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub enum Drained {
    Event(Event),
    /// All workers as they stand.
    Workers {
        at_ns: u64,
        states: Vec<ThreadState>,
    },
    /// The scheduler's counters of the threads, while the mode is [`TrackingMode::LoadOnly`].
    Loads(Loads),
    Losses(CaptureLosses),
    /// Another capture runs, as [`super::Order::Reload`] ordered. Polls that were open before are not
    /// followed to their ends, and the kernel side counts from 0 again.
    Restarted {
        at_ns: u64,
        mode: TrackingMode,
    },
    /// Nanoseconds spent in hud's BPF programs, where the kernel counts them.
    BpfTime(Option<u64>),
    /// A sample of all poll time; see [`Event::Profile`].
    Profile {
        capture: Box<Capture>,
        weight_ns: u64,
        /// Held while the sample waits in the channel, so that waiting samples can be counted.
        backlog: Arc<()>,
    },
    /// All poll time was switched on or off.
    AllPollTime {
        on: bool,
        at_ns: u64,
    },
    /// Every thread of the process. Not from the ring thread, but in its channel to keep the order.
    Census {
        at_ns: u64,
        threads: Vec<SeenThread>,
    },
}

/// Everything lost up to and including the ring thread. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureLosses {
    pub kernel: KernelLosses,
    pub undecodable: u64,
    /// The channel was full.
    pub unreceived: u64,
}
