//! Gives the tracker its observations and carries out its transitions; runs tier 4 where polls are
//! tracked by stacks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{IDLE, Pipeline, Unread};
use crate::capture::{Capture, Order, ThreadState, TrackingMode};
use crate::clock::monotonic_ns;
use crate::model::Record;
use crate::stacks::reader::StackReader;
use crate::tracking::frames::{Frames, Judgement};
use crate::tracking::{Reacquire, SearchOutcome, Transition};

impl Pipeline {
    /// Checks whether the layout in use still holds.
    pub(super) fn check_layout(
        &mut self,
        at_ns: u64,
        states: &[ThreadState],
    ) -> Result<(), Unread> {
        let in_doubt = states.iter().any(|state| self.doubts(state.tid));
        let transitions =
            self.tracker
                .observe_workers(states, in_doubt, &self.memory, Instant::now());
        self.carry_out(at_ns, transitions)
    }

    /// Checks whether the search for another layout has ended.
    pub(super) fn check_search(&mut self, at_ns: u64) -> Result<(), Unread> {
        let Some(outcome) = self.search.as_ref().and_then(Reacquire::outcome) else {
            return Ok(());
        };
        self.search = None;
        let transitions = self.tracker.observe_search(outcome);
        self.carry_out(at_ns, transitions)
    }

    /// The ring thread has begun another capture: the kernel side knows nothing of the old one.
    pub(super) fn restart(&mut self, at_ns: u64, mode: TrackingMode) -> Result<(), Unread> {
        self.workers.restart();
        self.last_states.clear();
        // Those that only their names made workers are added again if they are.
        for tid in self.workers.remove_load_only() {
            self.send(Record::WorkerGone { tid, at_ns })?;
        }
        let transitions = self.tracker.observe_restart(mode, Instant::now());
        self.start_frames();
        self.carry_out(at_ns, transitions)
    }

    /// The process has replaced itself by another program.
    pub(super) fn take_exec(&mut self) -> Result<(), Unread> {
        let transitions = self.tracker.observe_exec();
        self.carry_out(monotonic_ns(), transitions)?;
        self.status.replaced.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn carry_out(&mut self, at_ns: u64, transitions: Vec<Transition>) -> Result<(), Unread> {
        for transition in transitions {
            match transition {
                Transition::Tier { tier, why } => {
                    self.send(Record::TierChanged { tier, at_ns, why })?;
                }
                Transition::DropPolls => {
                    // What was reported as running will not be reported to its end.
                    self.losses.poll_unconfirmed += self.running.len() as u64;
                    self.running.clear();
                    self.polls.restart();
                }
                Transition::Order(order) => self.order(order),
                Transition::Search(request) => match Reacquire::begin(self.pid, request) {
                    Ok(search) => self.search = Some(search),
                    Err(error) => {
                        let outcome = SearchOutcome::Nothing(format!("{error:#}"));
                        let transitions = self.tracker.observe_search(outcome);
                        self.carry_out(at_ns, transitions)?;
                    }
                },
                Transition::EndSearch => self.search = None,
            }
        }
        Ok(())
    }

    fn order(&self, order: Order) {
        // A ring thread that has failed ends the session.
        let _ = self.orders.send(order);
    }

    /// Begins with tier 4 if polls are tracked by stacks from now on.
    pub(super) fn start_frames(&mut self) {
        let by_frames = self.tracker.is_by_frames();
        self.frames = by_frames.then(|| Frames::new(self.pid));
    }

    /// Lets tier 4 work, and passes its orders on.
    fn with_frames<R>(
        &mut self,
        work: impl FnOnce(&mut Frames, &mut StackReader) -> R,
    ) -> Option<R> {
        let frames = self.frames.as_mut()?;
        let result = work(frames, &mut self.stacks);
        for order in frames.take_orders() {
            self.order(Order::Frames(order));
        }
        Some(result)
    }

    /// Samples the target's threads where polls are tracked by stacks. Returns how long the next
    /// sample may wait.
    pub(super) fn sample_frames(&mut self) -> Duration {
        let look = |frames: &mut Frames, stacks: &mut StackReader| {
            if let Err(error) = frames.sample(stacks) {
                log::info!("cannot sample the threads: {error:#}");
            }
            frames.pause()
        };
        self.with_frames(look).unwrap_or(IDLE)
    }

    pub(super) fn take_unknown_frames(&mut self, capture: &Capture) {
        let result = self.with_frames(|frames, stacks| frames.take_unknown(capture, stacks));
        if let Some(Err(error)) = result {
            log::info!("cannot read a thread: {error:#}");
        }
    }

    /// What a stack says of the poll it was taken in, or only of the moment if it is a sample of all
    /// poll time. Where Tokio's state tells polls, there is no doubt.
    pub(super) fn judge(&mut self, capture: &Capture, is_sample: bool) -> Judgement {
        let sequence = (!is_sample).then_some(capture.poll.sequence);
        self.with_frames(|frames, stacks| frames.judge(sequence, capture, stacks))
            .unwrap_or(Judgement::Poll)
    }

    /// Whether this is a poll for certain, as far as its stacks have shown.
    pub(super) fn is_confirmed(&mut self, tid: u32, sequence: u64, ended: bool) -> bool {
        let Some(frames) = &mut self.frames else {
            return true;
        };
        let confirmed = frames.is_confirmed(tid, sequence);
        if ended {
            frames.poll_ended(tid, sequence);
            // A stack that shows it is none is no loss.
            self.losses.poll_unconfirmed += u64::from(confirmed.is_none());
        }
        confirmed == Some(true)
    }
}
