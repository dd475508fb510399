//! All poll time: takes its samples, and reports them once a second while it is on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Pipeline, Unread};
use crate::capture::Capture;
use crate::clock::monotonic_ns;
use crate::model::Record;
use crate::tracking::frames::Judgement;

/// Interval of the reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Pipeline {
    /// A sample that stands for `weight_ns` of CPU time inside polls.
    pub(super) fn take_sample(&mut self, capture: &Capture, weight_ns: u64) -> Result<(), Unread> {
        if !self.tracker.reports_polls() || self.judge(capture, true) == Judgement::NoPoll {
            return Ok(());
        }
        let user = self.unwind(capture);
        let page_fault = self.is_in_page_fault(capture);
        self.profile.add(capture, user, page_fault, weight_ns);
        match self.profile.is_full() {
            true => self.report_poll_time(monotonic_ns()),
            false => Ok(()),
        }
    }

    pub(super) fn report_poll_time_if_due(&mut self, now_ns: u64) -> Result<(), Unread> {
        match self.profile_reported_at.elapsed() >= REPORT_EVERY {
            true => self.report_poll_time(now_ns),
            false => Ok(()),
        }
    }

    /// Reports the samples since the last report.
    pub(super) fn report_poll_time(&mut self, now_ns: u64) -> Result<(), Unread> {
        self.profile_reported_at = Instant::now();
        let stacks = &mut self.stacks;
        let times = self
            .profile
            .drain(now_ns, &mut stacks.symbolizer, &stacks.modules);
        for time in times {
            self.send(Record::PollTime(Arc::new(time)))?;
        }
        Ok(())
    }
}
