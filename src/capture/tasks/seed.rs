//! Seeds: the states of workers that existed before the kernel side was attached, or that user space
//! finds later.
//!
//! A parked worker would not be observed before it wakes, and a poll that sleeps not before it ends,
//! which may be never. A seed holds only as long as its thread has not run; the kernel side checks that
//! by the thread's count of context switches.

use super::TaskState;
use crate::bpf::types::{hud_observed, hud_phase, hud_poll_flags, hud_thread};
use crate::capture::events::{Capture, PollTimes, Site, StackKind};
use crate::capture::frames::FrameBases;
use crate::capture::threads::Runs;
use crate::model::Flavor;
use crate::target::memory::{Memory, read_stack};
use crate::tokio::{self, TokioLayout, Verdict};

/// The number of a seeded poll among its thread's polls.
const SEED_SEQUENCE: u64 = 1;

/// A worker as user space finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundWorker {
    pub task: TaskState,
    /// Address of its `scheduler::Context`.
    pub scheduler: u64,
    pub runs: Runs,
    /// The poll it is asleep in.
    pub poll: Option<SleepingPoll>,
    /// Tier 4: where its loop lies on its stack.
    pub frame_bases: FrameBases,
}

/// A poll that is asleep.
#[derive(Clone, Debug, PartialEq)]
pub struct SleepingPoll {
    pub core: u64,
    pub tick: u32,
    pub task: u64,
    /// What is left of its budget, where no task id is known; else 0.
    pub budget_left: u8,
    /// The thread's stack from its stack pointer's page on.
    pub stack_base: u64,
    pub stack: Vec<u8>,
}

/// The worker that a thread is by this layout, with the poll it is asleep in.
pub(in crate::capture) fn find_worker(
    layout: &TokioLayout,
    task: &TaskState,
    memory: &dyn Memory,
) -> Option<FoundWorker> {
    let found = |scheduler, runs, poll: Option<OpenPoll>| FoundWorker {
        task: task.clone(),
        scheduler,
        runs,
        poll: poll.filter(|_| task.is_asleep()).map(|poll| {
            let (stack_base, stack) = read_stack(memory, task.registers.sp);
            SleepingPoll {
                core: poll.core,
                tick: poll.tick,
                task: poll.task,
                budget_left: poll.budget_left,
                stack_base,
                stack,
            }
        }),
        frame_bases: FrameBases::default(),
    };
    match tokio::check(layout, memory, &task.view()) {
        Verdict::Worker(state) => {
            let poll = state.core.zip(state.tick).map(|(core, tick)| OpenPoll {
                core,
                tick,
                task: state.task_id,
                budget_left: match layout.poll.context.task_id {
                    Some(_) => 0,
                    None => state.budget_left,
                },
            });
            let runs = match state.flavor {
                Flavor::CurrentThread => Runs::CurrentThread,
                Flavor::MultiThread => Runs::MultiThread,
            };
            Some(found(state.scheduler, runs, poll.filter(|_| state.in_poll)))
        }
        Verdict::Root(root) => {
            let poll = root.budget_left.map(|budget_left| OpenPoll {
                core: root.handle,
                tick: 0,
                task: 0,
                budget_left,
            });
            Some(found(root.handle, Runs::RootFuture, poll))
        }
        Verdict::NotAWorker | Verdict::Violated(_) => None,
    }
}

/// What identifies the poll that a thread is in.
struct OpenPoll {
    core: u64,
    tick: u32,
    task: u64,
    budget_left: u8,
}

impl FoundWorker {
    /// Its state for the kernel side; `clock` is the scheduler's clock now.
    pub(in crate::capture) fn state(&self, clock: u64) -> hud_thread {
        let task = &self.task;
        let mut state = hud_thread {
            tid: task.tid,
            phase: hud_phase::HUD_PHASE_IDLE.0,
            observed_as: hud_observed::HUD_OBSERVED_BLOCKED.0,
            flavor: self.runs.to_kernel().0,
            scheduler: self.scheduler,
            thread_pointer: task.thread_pointer,
            frame_bases: self.frame_bases,
            seeded: task.switches + 1,
            site: u32::MAX,
            observed_clock: clock,
            observed_run_delay: task.run_delay_ns,
            observed_exec: task.sum_exec_ns,
            last_syscall: -1,
            ..hud_thread::default()
        };
        for (to, from) in state.comm.iter_mut().zip(task.comm.bytes().take(15)) {
            *to = from as i8;
        }
        if !task.is_asleep() {
            // It runs: the next observation tells.
            state.phase = hud_phase::HUD_PHASE_UNKNOWN.0;
            state.observed_as = hud_observed::HUD_OBSERVED_RUNNING.0;
        } else if let Some(poll) = &self.poll {
            state.phase = hud_phase::HUD_PHASE_POLL.0;
            // Asleep ever since it last was on a CPU.
            state.observed_clock = self.asleep_since(clock);
            state.poll.sequence = SEED_SEQUENCE;
            state.poll.core = poll.core;
            state.poll.tick = poll.tick;
            state.poll.task = poll.task;
            state.poll.budget_left = poll.budget_left.into();
            state.poll.start_clock = state.observed_clock;
            state.poll.first_seen_clock = state.observed_clock;
            state.poll.flags = hud_poll_flags::HUD_POLL_BEGAN_BEFORE.0;
            if task.is_stopped() {
                state.observed_as = hud_observed::HUD_OBSERVED_STOPPED.0;
                return state;
            }
            let site = self.site();
            state.site = 0;
            state.poll.site_count = 1;
            let raw = &mut state.poll.sites[0];
            raw.syscall = site.syscall;
            raw.previous_syscall = site.previous_syscall;
            raw.args = site.args;
            raw.sp = site.sp;
            raw.fd_mode = site.fd_mode;
            raw.in_iowait = site.in_iowait.into();
            raw.has_children = site.has_children.into();
            raw.count = site.count;
            raw.captured = 1;
        }
        state
    }

    /// The stack of the poll it is asleep in, as the kernel side would have sent it. `offset` is
    /// `CLOCK_MONOTONIC` minus the scheduler's clock, `clock` the latter's now.
    pub(in crate::capture) fn capture(&self, clock: u64, offset: i64) -> Option<Capture> {
        let poll = self.poll.as_ref().filter(|_| self.task.is_asleep())?;
        Some(Capture {
            tid: self.task.tid,
            at_ns: clock.wrapping_add_signed(offset),
            kind: match self.task.is_stopped() {
                true => StackKind::Preempted,
                false => StackKind::Blocked,
            },
            poll: PollTimes {
                sequence: SEED_SEQUENCE,
                task: poll.task,
                start_ns: self.asleep_since(clock).wrapping_add_signed(offset),
                began_before_attach: true,
                ..PollTimes::default()
            },
            site: self.site(),
            registers: self.task.registers,
            kernel: Vec::new(),
            stack_base: poll.stack_base,
            stack: poll.stack.clone(),
            cut: false,
        })
    }

    fn asleep_since(&self, clock: u64) -> u64 {
        self.task.last_arrival_clock.min(clock)
    }

    fn site(&self) -> Site {
        let task = &self.task;
        Site {
            syscall: i32::try_from(task.syscall).unwrap_or(-1),
            previous_syscall: -1,
            args: task.args,
            sp: task.registers.sp,
            fd_mode: task.fd_mode,
            in_iowait: task.in_iowait,
            has_children: task.has_children,
            count: 1,
            blocked_ns: 0,
        }
    }
}
