//! Worker usage and hud's own cost as JSON holds them, and their conversion from and to the model.

use serde::{Deserialize, Serialize};

use crate::export::micros::Micros;
use crate::model::{SelfCost, WorkerUsage};

/// Cumulative usage of one worker.
#[derive(Serialize, Deserialize)]
pub struct Usage {
    pub on_cpu_us: Micros,
    pub run_queue_us: Micros,
    pub blocked_us: Micros,
    pub parked_us: Micros,
    #[serde(default, skip_serializing_if = "Micros::is_zero")]
    pub asleep_us: Micros,
    pub polls_observed: u64,
    pub longest_poll_us: Micros,
}

impl Usage {
    pub fn of(usage: &WorkerUsage) -> Self {
        Usage {
            on_cpu_us: Micros(usage.on_cpu_ns),
            run_queue_us: Micros(usage.run_queue_ns),
            blocked_us: Micros(usage.blocked_ns),
            parked_us: Micros(usage.parked_ns),
            asleep_us: Micros(usage.asleep_ns),
            polls_observed: usage.polls_observed,
            longest_poll_us: Micros(usage.longest_poll_ns),
        }
    }

    pub fn into_model(self, tid: u32, at: Micros) -> WorkerUsage {
        WorkerUsage {
            tid,
            at_ns: at.0,
            on_cpu_ns: self.on_cpu_us.0,
            run_queue_ns: self.run_queue_us.0,
            blocked_ns: self.blocked_us.0,
            parked_ns: self.parked_us.0,
            asleep_ns: self.asleep_us.0,
            polls_observed: self.polls_observed,
            longest_poll_ns: self.longest_poll_us.0,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub struct Cost {
    pub at_us: Micros,
    pub cpu_us: Micros,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpf_us: Option<Micros>,
    pub peak_rss_bytes: u64,
}

impl Cost {
    pub fn of(cost: &SelfCost) -> Self {
        Cost {
            at_us: Micros(cost.at_ns),
            cpu_us: Micros(cost.cpu_ns),
            bpf_us: cost.bpf_ns.map(Micros),
            peak_rss_bytes: cost.peak_rss,
        }
    }

    pub fn into_model(self) -> SelfCost {
        SelfCost {
            at_ns: self.at_us.0,
            cpu_ns: self.cpu_us.0,
            bpf_ns: self.bpf_us.map(|us| us.0),
            peak_rss: self.peak_rss_bytes,
        }
    }
}
