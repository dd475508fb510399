//! All poll time: samples of the workers' CPU time inside polls, slow or not.

use super::{Location, Name, WeightedStack};

/// Where one worker's CPU time inside polls went during about a second.
#[derive(Clone, Debug, PartialEq)]
pub struct PollTime {
    pub tid: u32,
    /// The time that was sampled.
    pub from_ns: u64,
    pub to_ns: u64,
    /// Heaviest first.
    pub stacks: Vec<ProfiledStack>,
}

impl PollTime {
    /// CPU time inside polls.
    pub fn on_cpu_ns(&self) -> u64 {
        let weights = self.stacks.iter().map(|profiled| profiled.stack.weight_ns);
        weights.fold(0, u64::saturating_add)
    }
}

/// One distinct stack of [`PollTime`].
#[derive(Clone, Debug, PartialEq)]
pub struct ProfiledStack {
    /// Its weight is the CPU time that its samples stand for: what the worker used up to each.
    pub stack: WeightedStack,
    /// The code that the time is attributed to, by the same rule as a slow poll's culprit.
    pub function: Name,
    /// What that called.
    pub calls: Option<Name>,
    pub location: Option<Location>,
}
