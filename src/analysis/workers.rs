//! Who the workers are: from a thread to its runtime and its index there, and where its time goes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::capture::{Phase, SeenAs, ThreadExit, ThreadState};
use crate::model::{Flavor, Worker, WorkerUsage};
use crate::target::layout::{self, ThreadView, TokioLayout, Verdict};
use crate::target::memory::Memory;

/// The workers found so far.
#[derive(Debug, Default)]
pub struct Workers {
    /// By thread: the worker, and the scheduler context it was read from.
    known: HashMap<u32, Known>,
    /// Runtimes by the address of their shared handle; the value is the runtime's number.
    runtimes: HashMap<u64, u32>,
    next_runtime: u32,
}

#[derive(Debug)]
struct Known {
    worker: Worker,
    scheduler: u64,
    usage: WorkerUsage,
}

impl Workers {
    /// The worker on a thread.
    pub fn get(&self, tid: u32) -> Option<&Worker> {
        self.known.get(&tid).map(|known| &known.worker)
    }

    /// Looks at a thread; returns its worker if that is new or has changed. Without a layout its
    /// memory tells nothing.
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
        let usage = known.map_or(WorkerUsage::default(), |known| known.usage);
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
            parked: false,
        };
        let Verdict::Worker(found) = layout::check(layout, memory, &view) else {
            return None; // between two lives: the next look tells
        };
        let worker = Worker {
            tid: state.tid,
            index: found.worker_index,
            runtime: self.runtime_of(found.handle.unwrap_or(0)),
            flavor: found.flavor,
            thread_name: state.comm.clone(),
        };
        self.known.insert(
            state.tid,
            Known {
                worker: worker.clone(),
                scheduler: state.scheduler,
                usage,
            },
        );
        Some(worker)
    }

    /// A worker whose memory cannot tell: only its thread's name says which runtime it belongs to.
    /// Returns it if it is new.
    fn assume(&mut self, state: &ThreadState) -> Option<Worker> {
        if state.scheduler == 0 || self.known.contains_key(&state.tid) {
            return None;
        }
        let mut name = DefaultHasher::new();
        (state.multi_thread, &state.comm).hash(&mut name);
        let flavor = match state.multi_thread {
            true => Flavor::MultiThread,
            false => Flavor::CurrentThread,
        };
        let worker = Worker {
            tid: state.tid,
            index: None,
            runtime: self.runtime_of(name.finish()),
            flavor,
            thread_name: state.comm.clone(),
        };
        let known = Known {
            worker: worker.clone(),
            scheduler: state.scheduler,
            usage: WorkerUsage::default(),
        };
        self.known.insert(state.tid, known);
        Some(worker)
    }

    fn runtime_of(&mut self, handle: u64) -> u32 {
        *self.runtimes.entry(handle).or_insert_with(|| {
            let number = self.next_runtime;
            self.next_runtime += 1;
            number
        })
    }

    /// A worker's usage up to `now_ns`: what the kernel side has counted, and the sleep that goes
    /// on. Never less than before.
    pub fn usage(&mut self, state: &ThreadState, now_ns: u64) -> Option<WorkerUsage> {
        let known = self.known.get_mut(&state.tid)?;
        let mut usage = WorkerUsage {
            tid: state.tid,
            at_ns: now_ns,
            on_cpu_ns: state.on_cpu_ns,
            run_queue_ns: state.run_queue_ns,
            blocked_ns: state.blocked_ns,
            parked_ns: state.parked_ns,
            polls_observed: state.polls_observed,
            longest_poll_ns: state.longest_poll_ns,
        };
        if state.seen_as == SeenAs::Blocked {
            let asleep = now_ns.saturating_sub(state.seen_ns);
            match state.phase {
                Phase::Poll => usage.blocked_ns += asleep,
                Phase::Idle => usage.parked_ns += asleep,
                Phase::Unknown | Phase::Detached => {}
            }
        }
        known.usage = grown(&known.usage, usage);
        Some(known.usage)
    }

    /// Forgets a thread that ended; returns its last usage.
    pub fn remove(&mut self, exit: &ThreadExit) -> Option<WorkerUsage> {
        let known = self.known.remove(&exit.tid)?;
        Some(grown(
            &known.usage,
            WorkerUsage {
                tid: exit.tid,
                at_ns: exit.at_ns,
                on_cpu_ns: exit.on_cpu_ns,
                run_queue_ns: exit.run_queue_ns,
                blocked_ns: exit.blocked_ns,
                parked_ns: exit.parked_ns,
                polls_observed: exit.polls_observed,
                longest_poll_ns: exit.longest_poll_ns,
            },
        ))
    }
}

/// Cumulative counters never fall, though an estimate of sleep that goes on may turn out a little
/// too long.
fn grown(before: &WorkerUsage, now: WorkerUsage) -> WorkerUsage {
    WorkerUsage {
        on_cpu_ns: now.on_cpu_ns.max(before.on_cpu_ns),
        run_queue_ns: now.run_queue_ns.max(before.run_queue_ns),
        blocked_ns: now.blocked_ns.max(before.blocked_ns),
        parked_ns: now.parked_ns.max(before.parked_ns),
        ..now
    }
}
