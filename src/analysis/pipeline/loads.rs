//! What the analysis tells where nothing shows polls (tier 5): the threads, and how busy they are.

use super::{Pipeline, Unread};
use crate::capture::Loads;
use crate::model::Record;

impl Pipeline {
    /// The threads as they stand where nothing tells their polls.
    pub(super) fn take_loads(&mut self, loads: &Loads) -> Result<(), Unread> {
        for load in &loads.threads {
            if let Some(worker) = self.workers.meet(load) {
                self.send(Record::Worker(worker))?;
            }
        }
        if self.is_report_due() {
            for load in &loads.threads {
                if let Some(usage) = self.workers.usage_by_load(load, loads.at_ns) {
                    self.send(Record::Usage(usage))?;
                }
            }
            self.tell_cost(loads.at_ns)?;
        }
        for &tid in &loads.gone {
            if self.workers.part_with(tid) {
                let at_ns = loads.at_ns;
                self.send(Record::WorkerGone { tid, at_ns })?;
            }
        }
        self.look_at_search(loads.at_ns)
    }
}
