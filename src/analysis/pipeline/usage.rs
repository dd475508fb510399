//! The workers and where their time goes, in every mode; and what hud lost and costs.

use std::time::{Duration, Instant};

use super::{Pipeline, Unread};
use crate::capture::{CaptureLosses, Loads, ThreadState};
use crate::cost;
use crate::model::{Record, SelfCost};

/// Interval of the reports.
const REPORT_EVERY: Duration = Duration::from_millis(200);

impl Pipeline {
    /// Reports workers that are new or have changed.
    pub(super) fn identify_workers(&mut self, states: &[ThreadState]) -> Result<(), Unread> {
        if !self.tracker.reports_polls() {
            return Ok(());
        }
        for state in states {
            let layout = self.tracker.layout();
            if let Some(worker) = self.workers.identify(state, layout, &self.memory) {
                self.send(Record::Worker(worker))?;
            }
        }
        Ok(())
    }

    /// Reports usage, losses and cost if that is due.
    pub(super) fn report_usage(
        &mut self,
        at_ns: u64,
        states: &[ThreadState],
    ) -> Result<(), Unread> {
        if !self.is_report_due() {
            return Ok(());
        }
        for state in states {
            if let Some(usage) = self.workers.usage(state, at_ns) {
                self.send(Record::Usage(usage))?;
            }
        }
        self.report_cost(at_ns)
    }

    /// The scheduler's counters of the threads, where polls are not tracked (tier 5).
    pub(super) fn take_loads(&mut self, loads: &Loads) -> Result<(), Unread> {
        let at_ns = loads.at_ns;
        for load in &loads.threads {
            if let Some(worker) = self.workers.add_load_only(load) {
                self.send(Record::Worker(worker))?;
            }
        }
        if self.is_report_due() {
            for load in &loads.threads {
                if let Some(usage) = self.workers.usage_by_load(load, at_ns) {
                    self.send(Record::Usage(usage))?;
                }
            }
            self.report_cost(at_ns)?;
        }
        for &tid in &loads.gone {
            if self.workers.forget(tid) {
                self.send(Record::WorkerGone { tid, at_ns })?;
            }
        }
        self.check_search(at_ns)
    }

    fn is_report_due(&mut self) -> bool {
        let last = self.usage_reported_at;
        let is_due = last.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if is_due {
            self.usage_reported_at = Some(Instant::now());
        }
        is_due
    }

    fn report_cost(&mut self, at_ns: u64) -> Result<(), Unread> {
        self.report_losses()?;
        self.send(Record::Cost(SelfCost {
            bpf_ns: self.bpf_ns,
            ..cost::of_self(at_ns)
        }))
    }

    /// Takes what was lost up to the analysis.
    pub(super) fn count_losses(&mut self, losses: &CaptureLosses) {
        self.losses.ring_full = losses.kernel.ring_full;
        self.losses.stack_unreadable = losses.kernel.stack_unreadable;
        self.losses.worker_untracked = losses.kernel.worker_untracked;
        self.losses.state_unread = losses.kernel.state_unread;
        self.losses.undecodable = losses.undecodable;
        self.losses.analysis_full = losses.unreceived;
    }

    /// Reports the losses if they have changed.
    pub(super) fn report_losses(&mut self) -> Result<(), Unread> {
        if self.losses == self.reported_losses {
            return Ok(());
        }
        self.reported_losses = self.losses;
        self.send(Record::Losses(self.losses))
    }
}
