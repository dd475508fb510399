//! Workers that compute one slow poll after another are sampled more closely.
//!
//! Where a poll ends and the next begins while the worker keeps the CPU, nothing but samples tells,
//! and the edge lies anywhere between two of them. Such workers, and no others, get a clock of their
//! own: an interrupt every [`PERIOD`] that they run, as long as such edges come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libbpf_rs::Link;

use super::loader::Loaded;
use super::threads::Worker;

/// An interrupt costs a virtual machine 14 us, measured as what a computing thread lost: 1 % of it.
const PERIOD: Duration = Duration::from_millis(2);

/// How long after the last unsure edge a worker is sampled closely.
const SAMPLE_FOR: Duration = Duration::from_secs(10);
/// So many workers at once: each takes a file descriptor.
const MOST: usize = 128;

/// The clocks of workers.
#[derive(Default)]
pub(super) struct Closely {
    needs: Needs,
    clocks: HashMap<Worker, Link>,
}

impl Closely {
    /// Gives clocks to the workers that need one by now, and takes them from those that no longer
    /// do.
    pub fn look(&mut self, loaded: &mut Loaded<'_>, now: Instant) {
        if loaded.sampling.period <= PERIOD {
            return;
        }
        let (begin, end) = self.needs.look(loaded.threads.unsure_edges(), now);
        for worker in end {
            if self.clocks.remove(&worker).is_some() {
                loaded.threads.set_closely(worker.0, false);
            }
        }
        for worker in begin {
            match loaded.sample_closely(worker, PERIOD) {
                Ok(clock) => drop(self.clocks.insert(worker, clock)),
                // It may have ended, or there are no descriptors left: its edges stay unsure.
                Err(error) => log::info!("{error:#}"),
            }
        }
    }
}

/// Which workers have unsure edges.
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
    /// Takes in every worker with its count of unsure edges; says which begin to need a clock, and
    /// which need theirs no longer or are gone.
    fn look(
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
                need.until = now + SAMPLE_FOR;
            }
            let is_due = now < need.until;
            if is_due && !need.has_clock && clocks < MOST {
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
    fn a_worker_is_sampled_closely_while_unsure_edges_come() {
        let mut needs = Needs::default();
        let worker = (3, 77);
        let mut look = |edges, now| needs.look([((1, 70), 0), (worker, edges)].into_iter(), now);
        let start = Instant::now();
        assert_eq!(look(0, start), NOTHING);
        assert_eq!(look(1, start), (vec![worker], vec![]));
        assert_eq!(look(2, start + SAMPLE_FOR / 2), NOTHING);
        assert_eq!(look(2, start + SAMPLE_FOR), NOTHING);
        assert_eq!(look(2, start + SAMPLE_FOR * 2), (vec![], vec![worker]));
        assert_eq!(look(2, start + SAMPLE_FOR * 3), NOTHING);
        assert_eq!(look(3, start + SAMPLE_FOR * 3), (vec![worker], vec![]));
    }

    #[test]
    fn what_another_thread_left_in_its_place_is_no_need_of_a_worker() {
        let mut needs = Needs::default();
        let now = Instant::now();
        let of = |worker| [(worker, 1)].into_iter();
        assert_eq!(needs.look(of((3, 77)), now), (vec![(3, 77)], vec![]));
        assert_eq!(needs.look(of((3, 78)), now), (vec![(3, 78)], vec![(3, 77)]));
    }

    #[test]
    fn clocks_are_limited() {
        let mut needs = Needs::default();
        let now = Instant::now();
        let all = (0..MOST as u32 + 5).map(|slot| ((slot, slot + 1), 1));
        assert_eq!(needs.look(all.clone(), now).0.len(), MOST);
        assert_eq!(needs.look(all, now), NOTHING);
    }
}
