//! Identifies workers: from a thread to its runtime and its index there, and its usage.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::capture::{Phase, Runs, SeenAs, ThreadExit, ThreadLoad, ThreadState, Usage};
use crate::model::{Flavor, Role, Worker, WorkerUsage};
use crate::target::memory::Memory;
use crate::tokio::{self, ThreadView, TokioLayout, Verdict};

/// The known workers.
#[derive(Debug, Default)]
pub struct Workers {
    /// By thread.
    known: HashMap<u32, Known>,
    /// Numbers of runtimes, by the address of their shared handle.
    runtimes: HashMap<u64, u32>,
    next_runtime: u32,
}

/// Replaces the address of the scheduler's context in tier 5.
const NO_SCHEDULER: u64 = 0;

#[derive(Debug)]
struct Known {
    worker: Worker,
    scheduler: u64,
    usage: WorkerUsage,
    /// What the kernel side counted before its last restart.
    before: WorkerUsage,
}

impl Workers {
    /// The worker on a thread.
    pub fn get(&self, tid: u32) -> Option<&Worker> {
        self.known.get(&tid).map(|known| &known.worker)
    }

    /// Identifies the worker on a thread. Returns it if it is new or has changed. Without a layout, only
    /// the thread's name is used.
    pub fn identify(
        &mut self,
        state: &ThreadState,
        layout: Option<&TokioLayout>,
        memory: &dyn Memory,
    ) -> Option<Worker> {
        let Some(layout) = layout else {
            return self.assume(state);
        };
        let known = self.known.get(&state.tid);
        let (usage, before) = known.map_or_else(Default::default, |known| {
            let Known { usage, before, .. } = known;
            (*usage, *before)
        });
        if known.is_some_and(|known| known.scheduler == state.scheduler)
            || state.scheduler == 0
            || matches!(state.phase, Phase::Detached | Phase::Unknown) && known.is_none()
        {
            return None;
        }
        let view = ThreadView {
            tid: state.tid,
            thread_pointer: state.thread_pointer,
            stack_pointer: 0,
            stack: None,
            parked: None,
        };
        let worker = match tokio::check(layout, memory, &view) {
            Verdict::Worker(found) => Worker {
                tid: state.tid,
                role: Role::Worker,
                index: found.worker_index,
                runtime: self.runtime_of(found.handle.unwrap_or(0)),
                flavor: Some(found.flavor),
                thread_name: state.comm.as_str().into(),
            },
            Verdict::Root(root) => Worker {
                tid: state.tid,
                role: Role::RootFuture,
                index: None,
                runtime: self.runtime_of(root.handle),
                flavor: None,
                thread_name: state.comm.as_str().into(),
            },
            // The thread is switching runtimes; retried on the next read.
            Verdict::NotAWorker | Verdict::Violated(_) => return None,
        };
        self.known.insert(
            state.tid,
            Known {
                worker: worker.clone(),
                scheduler: state.scheduler,
                usage,
                before,
            },
        );
        Some(worker)
    }

    /// Adds a worker whose runtime is a guess from its thread's name. Returns it if it is new.
    fn assume(&mut self, state: &ThreadState) -> Option<Worker> {
        if state.scheduler == 0 {
            return None;
        }
        let flavor = match state.runs {
            Runs::MultiThread => Flavor::MultiThread,
            Runs::CurrentThread => Flavor::CurrentThread,
            Runs::RootFuture => return None,
        };
        self.by_name(state.tid, &state.comm, Some(flavor), state.scheduler)
    }

    /// Adds a thread of which only the scheduler's counters are known (tier 5): that it is a worker is
    /// a guess from its name. Returns it if it is new.
    pub fn add_load_only(&mut self, load: &ThreadLoad) -> Option<Worker> {
        self.by_name(load.tid, &load.comm, None, NO_SCHEDULER)
    }

    fn by_name(
        &mut self,
        tid: u32,
        name: &str,
        flavor: Option<Flavor>,
        scheduler: u64,
    ) -> Option<Worker> {
        if self.known.contains_key(&tid) {
            return None;
        }
        // In a known runtime, if there is one. Each `current_thread` runtime has its own thread.
        let is_alike = |worker: &&Worker| {
            (flavor.is_none() || worker.flavor == flavor)
                && flavor != Some(Flavor::CurrentThread)
                && worker.thread_name == name
        };
        let known = self.known.values().map(|known| &known.worker);
        let alike = known.filter(is_alike).map(|worker| worker.runtime).min();
        let runtime = alike.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            (flavor, name).hash(&mut hasher);
            self.runtime_of(hasher.finish())
        });
        let worker = Worker {
            tid,
            role: Role::Worker,
            index: None,
            runtime,
            flavor,
            thread_name: name.into(),
        };
        let known = Known {
            worker: worker.clone(),
            scheduler,
            usage: WorkerUsage::default(),
            before: WorkerUsage::default(),
        };
        self.known.insert(tid, known);
        Some(worker)
    }

    /// Forgets a thread. Whether it was known.
    pub fn forget(&mut self, tid: u32) -> bool {
        self.known.remove(&tid).is_some()
    }

    /// Forgets the workers of tier 5. Returns their threads.
    pub fn remove_load_only(&mut self) -> Vec<u32> {
        let removed = self
            .known
            .extract_if(|_, known| known.scheduler == NO_SCHEDULER);
        removed.map(|(tid, _)| tid).collect()
    }

    /// The kernel side restarts and counts from 0 again.
    pub fn restart(&mut self) {
        for known in self.known.values_mut() {
            known.before = known.usage;
        }
    }

    fn runtime_of(&mut self, handle: u64) -> u32 {
        *self.runtimes.entry(handle).or_insert_with(|| {
            let number = self.next_runtime;
            self.next_runtime += 1;
            number
        })
    }

    /// A worker's usage up to `now_ns`: the kernel side's counters and the current sleep. Never less than
    /// before.
    pub fn usage(&mut self, state: &ThreadState, now_ns: u64) -> Option<WorkerUsage> {
        let known = self.known.get_mut(&state.tid)?;
        let mut usage = usage_of(state.tid, now_ns, &state.usage);
        if state.seen_as == SeenAs::Blocked {
            let asleep = now_ns.saturating_sub(state.seen_ns);
            match state.phase {
                Phase::Poll => usage.blocked_ns += asleep,
                Phase::Idle => usage.parked_ns += asleep,
                Phase::Unknown | Phase::Detached => {}
            }
        }
        known.usage = grown(&known.usage, sum(&known.before, usage));
        Some(known.usage)
    }

    /// The same in tier 5.
    pub fn usage_by_load(&mut self, load: &ThreadLoad, now_ns: u64) -> Option<WorkerUsage> {
        let known = self.known.get_mut(&load.tid)?;
        let usage = WorkerUsage {
            tid: load.tid,
            at_ns: now_ns,
            on_cpu_ns: load.on_cpu_ns,
            run_queue_ns: load.run_queue_ns,
            asleep_ns: load.asleep_ns,
            ..WorkerUsage::default()
        };
        known.usage = grown(&known.usage, sum(&known.before, usage));
        Some(known.usage)
    }

    /// Forgets a thread that ended. Returns its last usage.
    pub fn remove(&mut self, exit: &ThreadExit) -> Option<WorkerUsage> {
        let known = self.known.remove(&exit.tid)?;
        let Worker {
            flavor, runtime, ..
        } = known.worker;
        let is_alive = |known: &Known| known.worker.runtime == runtime;
        // Another runtime may reuse the address. A `current_thread` runtime may continue in another
        // thread.
        if flavor == Some(Flavor::MultiThread) && !self.known.values().any(is_alive) {
            self.runtimes.retain(|_, number| *number != runtime);
        }
        let usage = usage_of(exit.tid, exit.at_ns, &exit.usage);
        Some(grown(&known.usage, sum(&known.before, usage)))
    }
}

fn usage_of(tid: u32, at_ns: u64, counted: &Usage) -> WorkerUsage {
    WorkerUsage {
        tid,
        at_ns,
        on_cpu_ns: counted.on_cpu_ns,
        run_queue_ns: counted.run_queue_ns,
        blocked_ns: counted.blocked_ns,
        parked_ns: counted.parked_ns,
        asleep_ns: 0,
        polls_observed: counted.polls_observed,
        longest_poll_ns: counted.longest_poll_ns,
    }
}

/// The sum of both.
fn sum(before: &WorkerUsage, now: WorkerUsage) -> WorkerUsage {
    WorkerUsage {
        on_cpu_ns: now.on_cpu_ns + before.on_cpu_ns,
        run_queue_ns: now.run_queue_ns + before.run_queue_ns,
        blocked_ns: now.blocked_ns + before.blocked_ns,
        parked_ns: now.parked_ns + before.parked_ns,
        asleep_ns: now.asleep_ns + before.asleep_ns,
        polls_observed: now.polls_observed + before.polls_observed,
        longest_poll_ns: now.longest_poll_ns.max(before.longest_poll_ns),
        ..now
    }
}

/// Keeps the counters from falling: an estimate of the current sleep may have been slightly too long.
fn grown(before: &WorkerUsage, now: WorkerUsage) -> WorkerUsage {
    WorkerUsage {
        on_cpu_ns: now.on_cpu_ns.max(before.on_cpu_ns),
        run_queue_ns: now.run_queue_ns.max(before.run_queue_ns),
        blocked_ns: now.blocked_ns.max(before.blocked_ns),
        parked_ns: now.parked_ns.max(before.parked_ns),
        asleep_ns: now.asleep_ns.max(before.asleep_ns),
        ..now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a thread without a layout.
    fn state(tid: u32, comm: &str, on_cpu_ns: u64) -> ThreadState {
        ThreadState {
            slot: 0,
            tid,
            phase: Phase::Idle,
            seen_as: SeenAs::Runnable,
            seen_ns: 0,
            runs: Runs::MultiThread,
            scheduler: 0x1000,
            thread_pointer: 0,
            comm: comm.to_owned(),
            usage: Usage {
                on_cpu_ns,
                polls_observed: on_cpu_ns,
                longest_poll_ns: on_cpu_ns,
                ..Usage::default()
            },
            poll: None,
        }
    }

    #[test]
    fn usage_continues_when_the_kernel_side_restarts() {
        let mut workers = Workers::default();
        let memory = crate::target::memory::ProcessMemory::new(0);
        assert!(workers.identify(&state(7, "w", 0), None, &memory).is_some());
        let usage = |workers: &mut Workers, on_cpu_ns| {
            let usage = workers.usage(&state(7, "w", on_cpu_ns), 1).unwrap();
            (usage.on_cpu_ns, usage.polls_observed, usage.longest_poll_ns)
        };
        assert_eq!(usage(&mut workers, 50), (50, 50, 50));
        workers.restart();
        assert_eq!(usage(&mut workers, 3), (53, 53, 50));
        workers.restart();
        assert_eq!(usage(&mut workers, 1), (54, 54, 50));
        let exit = ThreadExit {
            tid: 7,
            at_ns: 2,
            usage: Usage {
                on_cpu_ns: 4,
                polls_observed: 4,
                longest_poll_ns: 60,
                ..Usage::default()
            },
        };
        let last = workers.remove(&exit).unwrap();
        assert_eq!((last.on_cpu_ns, last.longest_poll_ns), (57, 60));
    }

    #[test]
    fn without_a_layout_threads_of_one_name_share_a_runtime() {
        let mut workers = Workers::default();
        let memory = crate::target::memory::ProcessMemory::new(0);
        let mut runtime = |tid, comm: &str| {
            let found = workers.identify(&state(tid, comm, 0), None, &memory);
            found.unwrap().runtime
        };
        let (first, other) = (runtime(1, "one"), runtime(2, "two"));
        assert_ne!(first, other);
        assert_eq!((runtime(3, "one"), runtime(4, "two")), (first, other));
    }

    #[test]
    fn a_later_runtime_at_the_same_address_is_another_one() {
        let mut workers = Workers::default();
        let memory = crate::target::memory::ProcessMemory::new(0);
        let runtime = |workers: &mut Workers, tid| {
            let found = workers.identify(&state(tid, "w", 0), None, &memory);
            found.unwrap().runtime
        };
        let exit = |tid| ThreadExit {
            tid,
            at_ns: 2,
            usage: Usage::default(),
        };
        let first = runtime(&mut workers, 1);
        assert_eq!(runtime(&mut workers, 2), first);
        workers.remove(&exit(1));
        assert_eq!(
            runtime(&mut workers, 3),
            first,
            "one of its workers is left"
        );
        workers.remove(&exit(2));
        workers.remove(&exit(3));
        assert_ne!(runtime(&mut workers, 4), first);
    }
}
