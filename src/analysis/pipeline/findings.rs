//! Slow polls: their stacks as they arrive, their ends, those that still run, and who ended their
//! waits.

use std::sync::Arc;

use super::{Pipeline, Unread};
use crate::analysis::naming;
use crate::analysis::polls::{AssembledPoll, PollStack};
use crate::capture::{Capture, OtherStack, PollEnd, Released, StackKind, ThreadExit, ThreadState};
use crate::model::{Frame, Record, SlowPoll};
use crate::stacks::kernel;
use crate::stacks::unwind::Unwound;
use crate::tracking::frames::Judgement;

impl Pipeline {
    pub(super) fn take_stack(&mut self, capture: &Capture) {
        if !self.polls.needs(capture) || self.judge(capture, false) == Judgement::NoPoll {
            return;
        }
        let user = self.unwind(capture);
        let page_fault = self.is_in_page_fault(capture);
        self.polls.add(
            capture.tid,
            capture.poll.sequence,
            PollStack::new(capture, user, page_fault),
        );
    }

    /// The frames of a capture. Counts it if they do not reach the thread's start.
    pub(super) fn unwind(&mut self, capture: &Capture) -> Unwound {
        let Capture {
            registers,
            stack_base,
            stack,
            ..
        } = capture;
        let user = self.stacks.unwind(registers, *stack_base, stack);
        self.losses.stack_incomplete += u64::from(!user.complete);
        user
    }

    pub(super) fn is_in_page_fault(&mut self, capture: &Capture) -> bool {
        capture.kind == StackKind::Sample
            && kernel::shows_page_fault(
                &self.stacks.symbolizer.kernel_frames(&capture.kernel),
                capture.site.syscall,
            )
    }

    pub(super) fn take_poll_end(&mut self, end: &PollEnd) -> Result<(), Unread> {
        self.running.remove(&end.tid);
        if !self.tracker.reports_polls() {
            // Its boundaries may not be Tokio's.
            self.losses.poll_unconfirmed += u64::from(self.tracker.is_lost());
            return Ok(());
        }
        let assembled = self.polls.end(end);
        if !self.is_confirmed(end.tid, end.poll.sequence, true) {
            return Ok(());
        }
        self.losses.stack_overwritten += assembled.missing_stacks;
        let named = self.name(assembled);
        match named.filter(|poll| !self.doubts(poll.tid)) {
            Some(poll) => {
                log::trace!("slow poll on thread {}", poll.tid);
                self.send(Record::SlowPoll(Arc::new(poll)))
            }
            None => Ok(()),
        }
    }

    /// Reports a worker's poll that is slow and has not ended.
    pub(super) fn report_running(&mut self, at_ns: u64, state: &ThreadState) -> Result<(), Unread> {
        let is_reported = self.tracker.reports_polls() && !self.doubts(state.tid);
        let Some(poll) = state.poll.as_ref().filter(|_| is_reported) else {
            return Ok(());
        };
        let sequence = poll.times.sequence;
        if at_ns.saturating_sub(poll.times.start_ns) < self.threshold_ns
            || !self.is_confirmed(state.tid, sequence, false)
        {
            return Ok(());
        }
        let assembled = self.polls.running(state.tid, at_ns, state.seen_ns, poll);
        // Its stack is still being fetched.
        if assembled.stacks.is_empty() {
            return Ok(());
        }
        self.running.insert(state.tid, sequence);
        match self.name(assembled) {
            Some(poll) => self.send(Record::Running(Arc::new(poll))),
            None => Ok(()),
        }
    }

    fn name(&mut self, mut assembled: AssembledPoll) -> Option<SlowPoll> {
        if self.frames.is_some() {
            // Not Tokio's id: a number that tells polls apart.
            assembled.times.task = 0;
        }
        let worker = self.workers.get(assembled.tid);
        naming::name_poll(
            assembled,
            worker,
            &mut self.stacks.symbolizer,
            &self.stacks.modules,
        )
    }

    pub(super) fn take_thread_exit(&mut self, exit: &ThreadExit) -> Result<(), Unread> {
        self.polls.forget(exit.tid);
        self.running.remove(&exit.tid);
        if let Some(frames) = &mut self.frames {
            frames.forget(exit.tid);
        }
        let Some(usage) = self.workers.remove(exit) else {
            return Ok(());
        };
        self.send(Record::Usage(usage))?;
        self.send(Record::WorkerGone {
            tid: exit.tid,
            at_ns: exit.at_ns,
        })
    }

    /// Names at once who ended a wait: there are few, each in a poll that is slow already.
    pub(super) fn take_release(&mut self, released: &Released) {
        let at_wake = self.frames_of(&released.at_wake);
        let meanwhile = released
            .meanwhile
            .as_ref()
            .map(|stack| self.frames_of(stack));
        if let Some(by) = self.releases.name(released, at_wake, meanwhile) {
            self.polls.add_release(released.tid, released.sequence, by);
        }
    }

    fn frames_of(&mut self, stack: &OtherStack) -> Vec<Arc<Frame>> {
        let user = self
            .stacks
            .unwind(&stack.registers, stack.base, &stack.bytes);
        self.stacks.named(&user)
    }
}
