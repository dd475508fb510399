//! The ring thread's way out: passes on without ever waiting, and counts what is lost.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::capture::drained::{CaptureLosses, Drained};
use crate::capture::events::{Capture, Event};
use crate::capture::programs::{KernelLosses, Programs};

/// Samples of all poll time that may wait in the channel. A slow poll is worth more than they are and
/// must find room.
const MAX_PROFILE_BACKLOG: usize = 512;

/// The channel to the analysis, and what was lost on the way there.
pub struct Outbox {
    out: SyncSender<Drained>,
    undecodable: Cell<u64>,
    unreceived: Cell<u64>,
    /// Shared by the samples of all poll time that wait.
    backlog: Arc<()>,
    /// What earlier captures lost in the kernel, and the nanoseconds they spent there.
    earlier: KernelLosses,
    earlier_ns: Option<u64>,
}

impl Outbox {
    /// Nothing is lost yet.
    pub fn new(out: SyncSender<Drained>) -> Self {
        Outbox {
            out,
            undecodable: Cell::default(),
            unreceived: Cell::default(),
            backlog: Arc::default(),
            earlier: KernelLosses::default(),
            earlier_ns: None,
        }
    }

    /// Passes something on, unless the channel is full.
    pub fn pass(&self, what: Drained) {
        if let Err(TrySendError::Full(_)) = self.out.try_send(what) {
            self.unreceived.set(self.unreceived.get() + 1);
        }
    }

    /// Passes something on that may be tried again; None if the channel is full.
    pub fn try_pass(&self, what: Drained) -> Option<()> {
        match self.out.try_send(what) {
            Err(TrySendError::Full(_)) => None,
            // Without a receiver the thread is about to be stopped.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Some(()),
        }
    }

    /// Passes an event on.
    pub fn event(&self, event: Event) {
        match event {
            Event::Profile(capture, weight_ns) => self.profile(capture, weight_ns),
            event => self.pass(Drained::Event(event)),
        }
    }

    /// Passes a stack on that user space has read.
    pub fn stack(&self, capture: Capture) {
        self.event(Event::Stack(Box::new(capture)));
    }

    fn profile(&self, capture: Box<Capture>, weight_ns: u64) {
        if Arc::strong_count(&self.backlog) > MAX_PROFILE_BACKLOG {
            self.unreceived.set(self.unreceived.get() + 1);
            return;
        }
        self.pass(Drained::Profile {
            capture,
            weight_ns,
            backlog: Arc::clone(&self.backlog),
        });
    }

    /// Counts an event that is not one.
    pub fn count_undecodable(&self) {
        self.undecodable.set(self.undecodable.get() + 1);
    }

    /// Reports everything lost so far, in this capture's kernel side that much.
    pub fn report_losses(&self, kernel: KernelLosses) {
        self.pass(Drained::Losses(CaptureLosses {
            kernel: kernel.and(self.earlier),
            undecodable: self.undecodable.get(),
            unreceived: self.unreceived.get(),
        }));
    }

    /// Reports the time spent in the programs so far.
    pub fn report_bpf_time(&self, programs: &Programs<'_>) {
        self.pass(Drained::BpfTime(self.bpf_ns(programs)));
    }

    fn bpf_ns(&self, programs: &Programs<'_>) -> Option<u64> {
        let now = programs.run_time_ns();
        now.map_or(self.earlier_ns, |now| {
            Some(now + self.earlier_ns.unwrap_or(0))
        })
    }

    /// A capture has ended: what it lost and took counts on. If the next one `grows`, it tracks the
    /// workers that this one had no room for.
    pub fn end_capture(&mut self, programs: &Programs<'_>, grows: bool) {
        let mut losses = programs.losses();
        if grows {
            losses.worker_untracked = 0;
        }
        self.earlier = losses.and(self.earlier);
        self.earlier_ns = self.bpf_ns(programs);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn profile() -> Event {
        let capture = Capture {
            tid: 1,
            at_ns: 0,
            kind: crate::capture::StackKind::Sample,
            poll: Default::default(),
            site: Default::default(),
            registers: Default::default(),
            kernel: Vec::new(),
            stack_base: 0,
            stack: Vec::new(),
            cut: false,
        };
        Event::Profile(Box::new(capture), 1)
    }

    #[test]
    fn samples_of_all_poll_time_leave_room_for_slow_polls_and_drops_are_counted() {
        let (out, drained) = sync_channel(MAX_PROFILE_BACKLOG + 1);
        let outbox = Outbox::new(out);
        for _ in 0..MAX_PROFILE_BACKLOG + 3 {
            outbox.event(profile());
        }
        outbox.event(Event::Exec);
        outbox.event(Event::Exec);
        assert_eq!(outbox.unreceived.get(), 3 + 1);
        let kept: Vec<Drained> = drained.try_iter().collect();
        assert!(matches!(kept.last(), Some(Drained::Event(Event::Exec))));
        // What was taken out of the channel no longer counts as waiting.
        drop(kept);
        outbox.event(profile());
        assert!(drained.try_recv().is_ok(), "the backlog is gone");
    }
}
