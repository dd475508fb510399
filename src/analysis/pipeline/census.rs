//! The census: every thread of the process with names and a diagnosis.

use std::sync::Arc;

use super::{Pipeline, Unread};
use crate::analysis::{census, diagnosis};
use crate::capture::ThreadState;
use crate::model::Record;
use crate::stacks::unwind::Unwound;

impl Pipeline {
    /// Reports the census that waits, if one does. `before` is how the workers stood before it.
    pub(super) fn report_census(&mut self, before: &[ThreadState]) -> Result<(), Unread> {
        let Some((at_ns, seen)) = self.census.take() else {
            return Ok(());
        };
        let mut threads = Vec::with_capacity(seen.len());
        for thread in &seen {
            let tid = thread.task.tid;
            let user = match thread.stack.is_empty() {
                true => Unwound::default(),
                false => {
                    self.stacks
                        .unwind(&thread.task.registers, thread.stack_base, &thread.stack)
                }
            };
            let frames = self.stacks.named(&user);
            let of = |states: &[ThreadState]| states.iter().find(|s| s.tid == tid).cloned();
            let states = of(before).zip(of(&self.last_states));
            let states = states.filter(|_| self.tracker.reports_polls());
            threads.push(census::name_thread(
                thread,
                self.workers.get(tid),
                states.as_ref(),
                at_ns,
                frames,
                user.complete,
            ));
        }
        self.send(Record::Census(Arc::new(diagnosis::census(at_ns, threads))))
    }
}
