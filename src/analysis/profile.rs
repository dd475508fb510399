//! All poll time: samples inside polls, slow or not, merged by stack before they are named.
//!
//! So each stack is named once, and the output is bounded: one record per worker and second, with no
//! more stacks than there were samples.

use std::collections::{BTreeMap, HashMap};

use super::naming;
use super::polls::{PollStack, WeighedStack};
use crate::capture::Capture;
use crate::model::{Activity, Cause, PollTime, ProfiledStack, WeightedStack};
use crate::stacks::culprit::culprit;
use crate::stacks::symbolize::Symbolizer;
use crate::stacks::unwind::Unwound;
use crate::target::modules::ModuleMap;

/// Distinct stacks that are held at most; a full profile is reported early.
const MAX_STACKS: usize = 4096;

/// Samples since the last records.
#[derive(Debug, Default)]
pub struct Profile {
    by_worker: BTreeMap<u32, HashMap<Stack, u64>>,
    stacks: usize,
    from_ns: u64,
}

/// The identity of a stack before it has names.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Stack {
    user: Unwound,
    kernel: Vec<u64>,
    cause: Cause,
    /// Only its task id indicates a poll, so its frames have to confirm it.
    unconstrained: bool,
}

impl Profile {
    /// Adds a sample that stands for `weight_ns` of CPU time.
    pub fn add(&mut self, capture: &Capture, user: Unwound, page_fault: bool, weight_ns: u64) {
        let unconstrained = capture.poll.unconstrained;
        let sample = PollStack::new(capture, user, page_fault);
        let stack = Stack {
            cause: sample.cause(),
            user: sample.user,
            kernel: sample.kernel,
            unconstrained,
        };
        let known = self.by_worker.entry(capture.tid).or_default();
        let before = known.len();
        let weight = known.entry(stack).or_default();
        *weight = weight.saturating_add(weight_ns);
        self.stacks += known.len() - before;
    }

    /// Whether it should be reported now.
    pub fn is_full(&self) -> bool {
        self.stacks >= MAX_STACKS
    }

    /// Returns the samples up to `now_ns` by worker, with names, and discards them.
    pub fn drain(
        &mut self,
        now_ns: u64,
        symbolizer: &mut Symbolizer,
        modules: &ModuleMap,
    ) -> Vec<PollTime> {
        let from_ns = std::mem::replace(&mut self.from_ns, now_ns);
        self.stacks = 0;
        let mut drained = Vec::new();
        for (tid, stacks) in std::mem::take(&mut self.by_worker) {
            // Hash maps have no order.
            let mut stacks: Vec<_> = stacks.into_iter().collect();
            stacks.sort_by(|(a, a_ns), (b, b_ns)| {
                b_ns.cmp(a_ns)
                    .then_with(|| a.user.addresses.cmp(&b.user.addresses))
            });
            let named = stacks.into_iter().filter_map(|(stack, weight_ns)| {
                let named = naming::name_stack(
                    WeighedStack {
                        activity: Activity::OnCpu,
                        cause: stack.cause,
                        weight_ns,
                        user: stack.user,
                        kernel: stack.kernel,
                    },
                    symbolizer,
                    modules,
                );
                (!stack.unconstrained || !naming::parks(&named)).then_some(named)
            });
            let stacks: Vec<_> = naming::merge(named).into_iter().map(attribute).collect();
            if !stacks.is_empty() {
                drained.push(PollTime {
                    tid,
                    from_ns,
                    to_ns: now_ns,
                    stacks,
                });
            }
        }
        drained
    }
}

/// A stack with the code that its time is attributed to.
pub(super) fn attribute(stack: WeightedStack) -> ProfiledStack {
    let culprit = culprit(&stack.frames).unwrap_or_else(|| naming::nameless(stack.cause));
    ProfiledStack {
        stack,
        function: culprit.function,
        calls: culprit.calls,
        location: culprit.location,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{PollTimes, Site, StackKind};

    fn sample(tid: u32, syscall: i64) -> Capture {
        Capture {
            tid,
            at_ns: 0,
            kind: StackKind::Sample,
            poll: PollTimes::default(),
            site: Site {
                syscall: syscall as i32,
                ..Site::default()
            },
            registers: Default::default(),
            kernel: Vec::new(),
            stack_base: 0,
            stack: Vec::new(),
            cut: false,
        }
    }

    fn user(address: u64) -> Unwound {
        Unwound {
            addresses: vec![address],
            complete: true,
            ..Unwound::default()
        }
    }

    /// Of each record: worker, start, and weights with causes.
    type Drained = (u32, u64, Vec<(u64, Cause)>);

    fn drain(profile: &mut Profile, now_ns: u64) -> Vec<Drained> {
        let modules = ModuleMap::read(std::process::id()).unwrap();
        let times = profile.drain(now_ns, &mut Symbolizer::new(), &modules);
        let tell = |time: &PollTime| {
            assert_eq!(time.to_ns, now_ns);
            let stacks = time.stacks.iter();
            let stacks = stacks.map(|s| (s.stack.weight_ns, s.stack.cause));
            (time.tid, time.from_ns, stacks.collect())
        };
        times.iter().map(tell).collect()
    }

    #[test]
    fn samples_add_up_by_worker_and_stack_and_are_reported_once() {
        let mut profile = Profile::default();
        assert_eq!(drain(&mut profile, 5), []);
        profile.add(&sample(2, -1), user(8), false, 4);
        profile.add(&sample(1, -1), user(8), false, 4);
        profile.add(&sample(1, -1), user(16), false, 4);
        profile.add(&sample(1, -1), user(16), false, 8);
        // The same code in a page fault is a stack of its own.
        let mut fault = sample(1, -1);
        fault.kernel = vec![0xffff_ffff_8100_0000];
        profile.add(&fault, user(16), true, 1);
        let stacks = vec![(12, Cause::Cpu), (4, Cause::Cpu), (1, Cause::PageFault)];
        let expected = [(1, 5, stacks), (2, 5, vec![(4, Cause::Cpu)])];
        assert_eq!(drain(&mut profile, 9), expected);
        assert_eq!(drain(&mut profile, 11), []);
    }

    #[test]
    fn a_full_profile_is_reported_early() {
        let mut profile = Profile::default();
        for address in 0..MAX_STACKS as u64 {
            assert!(!profile.is_full());
            profile.add(&sample(1, -1), user(address), false, 1);
        }
        assert!(profile.is_full());
        drain(&mut profile, 1);
        assert!(!profile.is_full());
    }
}
