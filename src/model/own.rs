//! What hud reports about itself: losses and cost.

/// Everything hud knows it missed. No counter ever falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events that found the ring buffer full.
    pub ring_full: u64,
    /// Blocked stacks overwritten before they could be sent.
    pub stack_overwritten: u64,
    /// Stacks whose user memory could not be read.
    pub stack_unreadable: u64,
    /// Stacks longer than the copy, or that unwinding could not follow to the thread's start.
    pub stack_incomplete: u64,
    /// Events whose bytes are invalid.
    pub undecodable: u64,
    /// Worker threads beyond the number that can be tracked; in tier 5 the most at one time.
    pub worker_untracked: u64,
    /// Worker states that were being written at every attempt to read them.
    pub state_unread: u64,
    /// Polls of tier 4 that no stack shows to be one, and those that were open as the tier changed.
    pub poll_unconfirmed: u64,
    /// Events the analysis thread had no room for.
    pub analysis_full: u64,
    /// Records that could not be written to the trace.
    pub trace_unwritten: u64,
}

impl Losses {
    /// Each counter with its name in reports and in the trace.
    pub fn by_kind(mut self) -> [(&'static str, u64); 10] {
        self.kinds_mut().map(|(name, counter)| (name, *counter))
    }

    /// The counter with this name.
    pub fn kind_mut(&mut self, name: &str) -> Option<&mut u64> {
        let mut kinds = self.kinds_mut().into_iter();
        let (_, counter) = kinds.find(|(kind, _)| *kind == name)?;
        Some(counter)
    }

    fn kinds_mut(&mut self) -> [(&'static str, &mut u64); 10] {
        [
            ("ring_full", &mut self.ring_full),
            ("stack_overwritten", &mut self.stack_overwritten),
            ("stack_unreadable", &mut self.stack_unreadable),
            ("stack_incomplete", &mut self.stack_incomplete),
            ("undecodable", &mut self.undecodable),
            ("worker_untracked", &mut self.worker_untracked),
            ("state_unread", &mut self.state_unread),
            ("poll_unconfirmed", &mut self.poll_unconfirmed),
            ("analysis_full", &mut self.analysis_full),
            ("trace_unwritten", &mut self.trace_unwritten),
        ]
    }

    /// Everything together.
    pub fn total(&self) -> u64 {
        self.by_kind().iter().map(|(_, n)| n).sum()
    }
}

/// What hud itself costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfCost {
    pub at_ns: u64,
    /// CPU time of hud's process since it started.
    pub cpu_ns: u64,
    /// Time spent in hud's BPF programs on all CPUs, where the kernel counts it.
    pub bpf_ns: Option<u64>,
    /// Peak resident memory of hud's process, bytes.
    pub peak_rss: u64,
}

impl SelfCost {
    /// The part of one CPU that hud used since an earlier reading, its BPF programs included.
    pub fn share_since(&self, before: &SelfCost) -> Option<f64> {
        let bpf = |cost: &SelfCost| cost.bpf_ns.unwrap_or(0);
        let used = self.cpu_ns.saturating_add(bpf(self));
        let used = used.saturating_sub(before.cpu_ns.saturating_add(bpf(before)));
        match self.at_ns.saturating_sub(before.at_ns) {
            0 => None,
            span => Some(used as f64 / span as f64),
        }
    }
}
