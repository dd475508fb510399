//! Clocks of their own for workers that compute one slow poll after another.
//!
//! Where a poll ends and the next begins while the worker keeps the CPU, only samples show it, and the
//! edge lies anywhere between two of them. Such workers, and no others, get a perf clock: an interrupt
//! every [`PERIOD`] that they run, for as long as there are such uncertain edges.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libbpf_rs::Link;

use crate::capture::programs::Programs;
use crate::capture::threads::Worker;

/// Costs the thread 1 % of its time.
const PERIOD: Duration = Duration::from_millis(2);

/// How long a worker keeps its clock after the last uncertain edge.
const KEEP_FOR: Duration = Duration::from_secs(10);
/// Workers that have a clock at once, at most: each takes a file descriptor.
const MAX_CLOCKS: usize = 128;

/// The workers' clocks.
#[derive(Default)]
pub struct ThreadClocks {
    needs: Needs,
    clocks: HashMap<Worker, Link>,
}

impl ThreadClocks {
    /// Gives clocks to the workers that need one by now, and takes them from those that no longer
    /// do.
    pub fn update(&mut self, programs: &mut Programs<'_>, now: Instant) {
        if programs.sampling.period <= PERIOD {
            return;
        }
        let (begin, end) = self.needs.update(programs.threads.uncertain_edges(), now);
        for worker in end {
            if self.clocks.remove(&worker).is_some() {
                programs.threads.set_thread_clock(worker.0, false);
            }
        }
        for worker in begin {
            match programs.attach_thread_clock(worker, PERIOD) {
                Ok(clock) => drop(self.clocks.insert(worker, clock)),
                // It may have ended, or no descriptor is left: its edges stay uncertain.
                Err(error) => log::info!("{error:#}"),
            }
        }
    }
}

/// Which workers have uncertain edges.
#[derive(Default)]
struct Needs {
    workers: HashMap<Worker, Need>,
}

struct Need {
    /// As counted so far.
    edges: u32,
    until: Instant,
    has_clock: bool,
}

impl Needs {
    /// Takes every worker with its count of uncertain edges. Returns those that begin to need a
    /// clock, and those that need theirs no longer or have ended.
    fn update(
        &mut self,
        counted: impl Iterator<Item = (Worker, u32)>,
        now: Instant,
    ) -> (Vec<Worker>, Vec<Worker>) {
        let counted: HashMap<Worker, u32> = counted.filter(|(_, edges)| *edges > 0).collect();
        let (mut begin, mut end) = (Vec::new(), Vec::new());
        self.workers.retain(|worker, need| {
            let is_there = counted.contains_key(worker);
            if !is_there && need.has_clock {
                end.push(*worker);
            }
            is_there
        });
        let mut clocks = self.workers.values().filter(|need| need.has_clock).count();
        for (worker, edges) in counted {
            let need = self.workers.entry(worker).or_insert(Need {
                edges: 0,
                until: now,
                has_clock: false,
            });
            if need.edges != edges {
                need.edges = edges;
                need.until = now + KEEP_FOR;
            }
            let is_due = now < need.until;
            if is_due && !need.has_clock && clocks < MAX_CLOCKS {
                clocks += 1;
                need.has_clock = true;
                begin.push(worker);
            } else if !is_due && need.has_clock {
                clocks -= 1;
                need.has_clock = false;
                end.push(worker);
            }
        }
        (begin, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: (Vec<Worker>, Vec<Worker>) = (Vec::new(), Vec::new());

    #[test]
    fn a_worker_has_a_clock_while_its_edges_are_uncertain() {
        let mut needs = Needs::default();
        let worker = (3, 77);
        let mut update =
            |edges, now| needs.update([((1, 70), 0), (worker, edges)].into_iter(), now);
        let start = Instant::now();
        assert_eq!(update(0, start), NOTHING);
        assert_eq!(update(1, start), (vec![worker], vec![]));
        assert_eq!(update(2, start + KEEP_FOR / 2), NOTHING);
        assert_eq!(update(2, start + KEEP_FOR), NOTHING);
        assert_eq!(update(2, start + KEEP_FOR * 2), (vec![], vec![worker]));
        assert_eq!(update(2, start + KEEP_FOR * 3), NOTHING);
        assert_eq!(update(3, start + KEEP_FOR * 3), (vec![worker], vec![]));
    }

    #[test]
    fn a_slot_that_changes_its_thread_is_another_worker() {
        let mut needs = Needs::default();
        let now = Instant::now();
        let of = |worker| [(worker, 1)].into_iter();
        assert_eq!(needs.update(of((3, 77)), now), (vec![(3, 77)], vec![]));
        assert_eq!(
            needs.update(of((3, 78)), now),
            (vec![(3, 78)], vec![(3, 77)])
        );
    }

    #[test]
    fn clocks_are_limited() {
        let mut needs = Needs::default();
        let now = Instant::now();
        let all = (0..MAX_CLOCKS as u32 + 5).map(|slot| ((slot, slot + 1), 1));
        assert_eq!(needs.update(all.clone(), now).0.len(), MAX_CLOCKS);
        assert_eq!(needs.update(all, now), NOTHING);
    }
}
