//! Distributes a poll's time over its stacks and causes.

use crate::analysis::cause::{self, KernelFacts};
use crate::capture::{Capture, PollEnd, PollTimes, Site, StackKind};
use crate::model::{Activity, Cause};
use crate::stacks::unwind::Unwound;

/// A captured stack of a poll.
#[derive(Clone, Debug, PartialEq)]
pub struct PollStack {
    pub kind: StackKind,
    pub site: Site,
    /// The poll's CPU time at the capture.
    pub on_cpu_ns: u64,
    pub user: Unwound,
    /// Kernel addresses, leaf first.
    pub kernel: Vec<u64>,
    /// The kernel stack goes through the page-fault entry.
    pub page_fault: bool,
}

impl PollStack {
    /// The capture without its bytes.
    pub fn new(capture: &Capture, user: Unwound, page_fault: bool) -> Self {
        PollStack {
            kind: capture.kind,
            site: capture.site,
            on_cpu_ns: capture.poll.on_cpu_ns,
            user,
            kernel: capture.kernel.clone(),
            page_fault,
        }
    }

    /// Why the thread was there, by the kernel's facts.
    pub fn cause(&self) -> Cause {
        match self.kind {
            StackKind::Blocked => of_site(&self.site),
            StackKind::Sample => cause::of_running(&KernelFacts {
                in_kernel: !self.kernel.is_empty(),
                page_fault_entry: self.page_fault,
                ..facts(&self.site)
            }),
            // Its kernel stack shows the switch, not what it did.
            StackKind::Preempted => Cause::Cpu,
        }
    }
}

/// A stack with its share of the poll's time, not yet symbolised.
#[derive(Clone, Debug, PartialEq)]
pub struct WeighedStack {
    pub activity: Activity,
    pub cause: Cause,
    pub weight_ns: u64,
    pub user: Unwound,
    pub kernel: Vec<u64>,
}

/// The parts of a poll's time.
#[derive(Default)]
pub struct Shares {
    causes: Vec<(Cause, u64)>,
    stacks: Vec<WeighedStack>,
}

impl Shares {
    fn charge(&mut self, cause: Cause, ns: u64) {
        if ns == 0 {
            return;
        }
        match self.causes.iter_mut().find(|(other, _)| *other == cause) {
            Some((_, sum)) => *sum = sum.saturating_add(ns),
            None => self.causes.push((cause, ns)),
        }
    }

    fn stack(&mut self, captured: &PollStack, activity: Activity, cause: Cause, weight_ns: u64) {
        let kernel = if captured.kind == StackKind::Preempted {
            Vec::new()
        } else {
            captured.kernel.clone()
        };
        self.stacks.push(WeighedStack {
            activity,
            cause,
            weight_ns,
            user: captured.user.clone(),
            kernel,
        });
    }

    /// Adds CPU time. Each sample stands for the time since the one before, the last also for the
    /// rest. Page faults took at least `faults_ns` of it.
    pub fn add_running(&mut self, captured: &[PollStack], on_cpu_ns: u64, faults_ns: u64) {
        let of_kind = |kind| -> Vec<&PollStack> {
            captured
                .iter()
                .filter(|captured| captured.kind == kind)
                .collect()
        };
        let mut samples = of_kind(StackKind::Sample);
        if samples.is_empty() {
            // Poor samples: the kernel and wake-ups determine where a thread loses the CPU.
            samples = of_kind(StackKind::Preempted);
        }
        samples.sort_by_key(|sample| sample.on_cpu_ns);
        let mut before = 0;
        for (i, sample) in samples.iter().enumerate() {
            let upto = if i + 1 == samples.len() {
                on_cpu_ns
            } else {
                sample.on_cpu_ns.min(on_cpu_ns)
            };
            let weight_ns = upto.saturating_sub(before);
            before = before.max(upto);
            self.charge(sample.cause(), weight_ns);
            self.stack(sample, Activity::OnCpu, sample.cause(), weight_ns);
        }
        self.charge(Cause::Cpu, on_cpu_ns.saturating_sub(before));
        if samples.iter().any(|sample| sample.page_fault) {
            self.raise_faults(faults_ns);
        }
    }

    /// Moves CPU time to page faults up to their minimal cost, since few samples may miss many faults.
    fn raise_faults(&mut self, faults_ns: u64) {
        let of = |cause| {
            let mut charged = self.causes.iter();
            let found = charged.find(|(other, _)| *other == cause);
            found.map_or(0, |(_, ns)| *ns)
        };
        let missed_ns = faults_ns.saturating_sub(of(Cause::PageFault));
        let moved_ns = missed_ns.min(of(Cause::Cpu));
        self.charge(Cause::PageFault, moved_ns);
        for (_, ns) in self.causes.iter_mut().filter(|(c, _)| *c == Cause::Cpu) {
            *ns -= moved_ns;
        }
    }

    /// Adds sleep, which is summed up by place. Returns how many places of at least `notable_ns` have
    /// no stack.
    pub fn add_sites(&mut self, captured: &[PollStack], end: &PollEnd, notable_ns: u64) -> u64 {
        let mut missing = 0;
        let mut known_ns: u64 = 0;
        let mut largest: Option<(u64, Cause)> = None;
        for site in &end.sites {
            let cause = of_site(site);
            known_ns = known_ns.saturating_add(site.blocked_ns);
            self.charge(cause, site.blocked_ns);
            if largest.is_none_or(|(ns, _)| site.blocked_ns > ns) {
                largest = Some((site.blocked_ns, cause));
            }
            match captured.iter().find(|captured| {
                captured.kind == StackKind::Blocked && captured.site.same_place(site)
            }) {
                Some(captured) => self.stack(captured, Activity::Blocked, cause, site.blocked_ns),
                None => missing += u64::from(site.blocked_ns >= notable_ns.max(1)),
            }
        }
        // The cost of wake-ups, and sleep without a place, are added to the largest.
        let wakes_ns = end.poll.wake_delay_ns.min(end.poll.run_queue_ns);
        let rest = end.poll.blocked_ns.saturating_sub(known_ns);
        let rest = rest.saturating_add(wakes_ns);
        self.charge(largest.map_or(Cause::Unknown, |(_, cause)| cause), rest);
        missing
    }

    /// Adds the waits imposed on the poll: for a CPU, and stops.
    pub fn add_waits(&mut self, captured: &[PollStack], times: &PollTimes) {
        let waited = times.run_queue_ns.saturating_sub(times.wake_delay_ns);
        self.charge(Cause::RunQueue, waited);
        self.charge(Cause::Stopped, times.stopped_ns);
        if let Some(captured) = captured
            .iter()
            .rev()
            .find(|captured| captured.kind == StackKind::Preempted)
        {
            self.stack(captured, Activity::RunQueue, Cause::RunQueue, waited);
            self.stack(
                captured,
                Activity::Blocked,
                Cause::Stopped,
                times.stopped_ns,
            );
        }
    }

    /// Time by cause, and the stacks, both largest first.
    pub fn sorted(self) -> (Vec<(Cause, u64)>, Vec<WeighedStack>) {
        let Shares { mut causes, stacks } = self;
        causes.sort_by_key(|&(_, ns)| std::cmp::Reverse(ns));
        let mut stacks = merge(stacks);
        stacks.sort_by_key(|stack| std::cmp::Reverse(stack.weight_ns));
        (causes, stacks)
    }
}

/// Stacks of the same frames, activity and cause become one.
fn merge(stacks: Vec<WeighedStack>) -> Vec<WeighedStack> {
    let mut merged: Vec<WeighedStack> = Vec::with_capacity(stacks.len());
    for stack in stacks.into_iter().filter(|stack| stack.weight_ns > 0) {
        match merged.iter_mut().find(|other| {
            (other.activity, other.cause) == (stack.activity, stack.cause)
                && other.user.addresses == stack.user.addresses
        }) {
            Some(other) => other.weight_ns = other.weight_ns.saturating_add(stack.weight_ns),
            None => merged.push(stack),
        }
    }
    merged
}

fn facts(site: &Site) -> KernelFacts {
    KernelFacts {
        syscall: site.syscall.into(),
        previous_syscall: site.previous_syscall.into(),
        args: site.args,
        fd_mode: site.fd_mode,
        in_iowait: site.in_iowait,
        has_children: site.has_children,
        ..KernelFacts::default()
    }
}

fn of_site(site: &Site) -> Cause {
    cause::of_blocked(&facts(site))
}
