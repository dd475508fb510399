//! Paths from a worker's loop into a poll: found in unwound stacks, and recognised in others.
//!
//! While a thread is inside a call, the word below the caller's frame is the return address. Tokio's
//! functions that lead into a poll are recognised by their names in one stack; from then on their
//! return addresses and the distances between those suffice, for every thread that runs the same loop.
//! Pure logic over unwound stacks.

use std::sync::Arc;

use crate::capture::{FrameBases, FramePath, MAX_PATHS, PATH_LEVELS, PATH_VARIANTS};
use crate::model::{Flavor, Frame};
use crate::stacks::unwind::Step;
use crate::tokio::names;

/// What the loop of `current_thread` calls itself, other than a root future's `poll`.
const NO_FUTURES: [&str; 3] = ["core::", "alloc::", "std::"];

/// A frame between the loop and the poll cannot be larger, bytes.
const MAX_DISTANCE: u64 = 1 << 16;

/// A path as one stack shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    multi_thread: bool,
    /// Address of its lowest return address.
    pub base: u64,
    slots: [u32; PATH_LEVELS],
    returns: [u64; PATH_LEVELS],
    /// The worker's loop was inlined into another function.
    inlined: bool,
}

/// The path into the poll that this stack is in, if it is in one. `name` gives the functions at an
/// address, inlined ones included.
pub fn find(steps: &[Step], mut name: impl FnMut(u64) -> Vec<Arc<Frame>>) -> Option<Found> {
    let has = |frames: &[Arc<Frame>], wanted: fn(&str) -> bool| {
        frames.iter().any(|frame| wanted(&frame.function))
    };
    let named: Vec<Vec<Arc<Frame>>> = steps.iter().map(|step| name(step.address)).collect();
    // The outermost: what a task polls itself, inside of its own poll, is part of that poll.
    for (index, frames) in named.iter().enumerate().rev() {
        let flavor = frames
            .iter()
            .find_map(|frame| names::runs_task(&frame.function));
        if let Some(flavor) = flavor {
            let inside = named.get(..index)?;
            let is_poll = inside.iter().any(|frames| has(frames, names::polls_task));
            let outside = named.get(index + 1);
            let inlined = !outside.is_some_and(|frames| has(frames, names::is_multi_thread_loop));
            let multi_thread = flavor == Flavor::MultiThread;
            let found = is_poll.then(|| at(steps, index, multi_thread))??;
            return Some(Found { inlined, ..found });
        }
    }
    let position = |wanted: fn(&str) -> bool| named.iter().position(|frames| has(frames, wanted));
    // Where the function that enters the root future is inlined: in a closure of the one that sets
    // the context, which the loop calls.
    let enter = position(names::enters_root).or_else(|| {
        let around = position(names::is_current_thread_loop)?.checked_sub(1)?;
        let called = named.get(around.checked_sub(1)?)?;
        let sets = has(named.get(around)?, names::sets_context);
        (sets && has(called, may_be_future)).then_some(around)
    })?;
    let (inside, outside) = (named.get(..enter)?, named.get(enter + 1..)?);
    let parks = |frames: &Vec<Arc<Frame>>| has(frames, names::is_park_or_wait);
    let by_park = outside.first().is_some_and(parks);
    let no_poll = inside.is_empty() || by_park || inside.iter().any(parks);
    (!no_poll).then(|| at(steps, enter, false))?
}

/// Whether a function that the loop of `current_thread` calls may be a root future.
fn may_be_future(function: &str) -> bool {
    let is_own =
        names::is_runtime(function) || NO_FUTURES.iter().any(|module| function.starts_with(module));
    function.contains("::") && (!is_own || function.ends_with("::poll"))
}

/// The path whose lowest call returns into the frame `index`.
fn at(steps: &[Step], index: usize, multi_thread: bool) -> Option<Found> {
    let levels = steps.get(index..index + PATH_LEVELS)?;
    let base = levels.first()?.place;
    let mut found = Found {
        multi_thread,
        base,
        slots: [0; PATH_LEVELS],
        returns: [0; PATH_LEVELS],
        inlined: false,
    };
    let slots = found.slots.iter_mut().zip(&mut found.returns);
    for ((place, returns), step) in slots.zip(levels) {
        let distance = step.place.checked_sub(base)?;
        if step.place == 0 || distance > MAX_DISTANCE {
            return None;
        }
        *place = distance as u32;
        *returns = step.returns;
    }
    found.slots.is_sorted().then_some(found)
}

/// The paths found so far.
#[derive(Debug, Default)]
pub struct FramePaths {
    pub all: Vec<FramePath>,
    /// By path: so much is inlined that `block_in_place` may have no frame of its own.
    pub inlined: Vec<bool>,
}

impl FramePaths {
    /// Takes a path that a stack shows. Returns which one it is, and whether anything of it is new;
    /// None if there are too many.
    pub fn learn(&mut self, found: &Found) -> Option<(usize, bool)> {
        // The same frames with another call in one of them: a task polled right after another.
        let same = |path: &FramePath| {
            let outer = path.returns.iter().zip(&found.returns).skip(1);
            path.multi_thread == found.multi_thread
                && path.slots == found.slots
                && outer.into_iter().any(|(known, new)| known.contains(new))
        };
        let index = match self.all.iter().position(same) {
            Some(index) => index,
            None if self.all.len() < MAX_PATHS => {
                self.all.push(FramePath {
                    multi_thread: found.multi_thread,
                    slots: found.slots,
                    ..FramePath::default()
                });
                self.inlined.push(found.multi_thread && found.inlined);
                self.all.len() - 1
            }
            None => return None,
        };
        let path = self.all.get_mut(index)?;
        let mut is_new = false;
        for (known, new) in path.returns.iter_mut().zip(&found.returns) {
            if !known.contains(new) && known.len() < PATH_VARIANTS {
                known.push(*new);
                is_new = true;
            }
        }
        Some((index, is_new))
    }

    /// The bases of the paths on this stack, whatever the thread does just now: its loop is recognised
    /// by the caller's return address.
    pub fn bases(&self, steps: &[Step]) -> FrameBases {
        let mut bases = FrameBases::default();
        for (place, path) in bases.iter_mut().zip(&self.all) {
            let [_, loop_at, top_at] = path.slots;
            let [_, _, top] = &path.returns;
            let caller = steps.iter().rev().find(|step| top.contains(&step.returns));
            let Some(base) = caller.and_then(|step| step.place.checked_sub(top_at.into())) else {
                continue;
            };
            // The frame of the loop must have its size, wherever in it the thread is.
            let loop_place = base.wrapping_add(loop_at.into());
            if steps.iter().any(|step| step.place == loop_place) {
                *place = base;
            }
        }
        bases
    }

    /// Learns the return address of a park from the stack of a thread with these bases. Whether it is
    /// new.
    pub fn learn_park(
        &mut self,
        steps: &[Step],
        bases: &FrameBases,
        mut name: impl FnMut(u64) -> Vec<Arc<Frame>>,
    ) -> bool {
        if self.polls(steps, bases).is_some() {
            return false;
        }
        let paths = self.all.iter_mut().zip(bases);
        for (path, base) in paths.filter(|(_, base)| **base != 0) {
            let [_, loop_at, _] = path.slots;
            let loop_place = base.wrapping_add(loop_at.into());
            let Some(at) = steps.iter().position(|step| step.place == loop_place) else {
                continue;
            };
            let (inside, rest) = steps.split_at(at);
            let Some(returns) = rest.first().map(|step| step.returns) else {
                continue;
            };
            let [_, polls, _] = &path.returns;
            let parks = |step: &Step| {
                name(step.address)
                    .iter()
                    .any(|f| names::is_park_or_wait(&f.function))
            };
            if !path.parks.contains(&returns)
                && !polls.contains(&returns)
                && path.parks.len() < PATH_VARIANTS
                && inside.iter().any(parks)
            {
                path.parks.push(returns);
                return true;
            }
        }
        false
    }

    /// Whether the stack of a thread with these bases is inside a poll, and by which path.
    pub fn polls(&self, steps: &[Step], bases: &FrameBases) -> Option<usize> {
        let is_inside = |path: &FramePath, base: u64| {
            path.slots.iter().zip(&path.returns).all(|(at, returns)| {
                let place = base.wrapping_add((*at).into());
                let mut frames = steps.iter();
                frames.any(|step| step.place == place && returns.contains(&step.returns))
            })
        };
        let mut paths = self.all.iter().zip(bases);
        paths.position(|(path, base)| *base != 0 && is_inside(path, *base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    const RUN_TASK: &str = "tokio::runtime::scheduler::multi_thread::worker::Context::run_task";
    const SET: &str = "tokio::runtime::context::scoped::Scoped::set";

    /// A stack, leaf first: each frame's functions, where it returns to and where that lies.
    type Stack<'a> = [(&'a str, u64, u64)];

    fn steps(stack: &Stack<'_>) -> Vec<Step> {
        let step = |(index, (_, returns, place)): (usize, &(&str, u64, u64))| Step {
            address: index as u64,
            returns: *returns,
            place: *place,
        };
        stack.iter().enumerate().map(step).collect()
    }

    fn named(stack: &Stack<'_>) -> Option<Found> {
        find(&steps(stack), |address| {
            let functions = stack[address as usize].0;
            functions.split(' ').map(frame).collect()
        })
    }

    fn poll(by: u64) -> Vec<(&'static str, u64, u64)> {
        vec![
            ("app::work", 0, 0),
            ("tokio::runtime::task::harness::Harness::poll", 0x10, 0x7100),
            (RUN_TASK, by, 0x7200),
            (names::MULTI_THREAD_LOOP, 0x30, 0x7280),
            (SET, 0x40, 0x72f0),
            ("start", 0x50, 0x7400),
        ]
    }

    const PARK: [(&str, u64, u64); 4] = [
        ("epoll_wait", 0, 0),
        ("tokio::runtime::time::Driver::park_internal", 0x90, 0x8200),
        (names::MULTI_THREAD_LOOP, 0x91, 0x8280),
        (SET, 0x40, 0x82f0),
    ];

    #[test]
    fn a_poll_shows_the_way_into_it() {
        let found = named(&poll(0x20)).unwrap();
        assert_eq!(found.base, 0x7200);
        assert_eq!(found.slots, [0, 0x80, 0xf0]);
        assert_eq!(found.returns, [0x20, 0x30, 0x40]);
        assert!(found.multi_thread);
    }

    #[test]
    fn a_park_and_the_loop_itself_are_no_polls() {
        assert_eq!(named(&PARK), None);
        // run_task calls other functions, too.
        let mut stack = poll(0x21);
        stack[1].0 = "tokio::runtime::scheduler::multi_thread::idle::Idle::wake";
        assert_eq!(named(&stack), None);
        // Cut off above: the loop's caller is not known.
        assert_eq!(named(&poll(0x20)[..4]), None);
    }

    #[test]
    fn the_root_future_is_polled_where_current_thread_enters_and_does_not_park() {
        let block_on = "tokio::runtime::scheduler::current_thread::CoreGuard::block_on";
        let mut stack = vec![
            ("app::work", 0, 0),
            ("app::main::{{closure}}", 0x10, 0x7100),
            (names::ENTER_ROOT, 0x20, 0x7200),
            (SET, 0x30, 0x7280),
            (block_on, 0x40, 0x72f0),
            ("main", 0x50, 0x7400),
        ];
        let found = named(&stack).unwrap();
        assert_eq!((found.base, found.multi_thread), (0x7200, false));
        stack[1].0 = "tokio::runtime::time::Driver::park_internal";
        assert_eq!(named(&stack), None);
        stack[1].0 = "app::main::{{closure}}";
        stack[3].0 = "tokio::runtime::scheduler::current_thread::Context::park";
        assert_eq!(named(&stack), None);
    }

    #[test]
    fn a_root_future_is_polled_from_the_loop_itself_where_the_entry_is_inlined() {
        let called = |function| {
            vec![
                ("app::work", 0, 0),
                (function, 0x20, 0x7200),
                (SET, 0x30, 0x7280),
                (names::CURRENT_THREAD_LOOP, 0x40, 0x72f0),
                ("main", 0x50, 0x7400),
            ]
        };
        // The call of the loop's own frame.
        let found = named(&called("app::main")).unwrap();
        assert_eq!((found.base, found.returns[0]), (0x7280, 0x30));
        assert!(named(&called("core::future::poll_fn::PollFn::poll")).is_some());
        for other in [
            "tokio::runtime::scheduler::current_thread::Core::next_task",
            "tokio::runtime::scheduler::current_thread::Context::park",
            "core::ptr::drop_in_place",
            "free",
        ] {
            assert_eq!(named(&called(other)), None, "{other}");
        }
    }

    fn frame(function: &str) -> Arc<Frame> {
        Arc::new(Frame {
            function: function.into(),
            raw: None,
            location: None,
            module: None,
            origin: Origin::Runtime,
            inlined: false,
            uncertain: false,
            address: None,
        })
    }

    #[test]
    fn a_park_is_known_by_the_loops_call_once_it_was_seen() {
        let mut paths = FramePaths::default();
        paths.learn(&named(&poll(0x20)).unwrap());
        let name = |stack: &'static Stack<'static>| {
            move |address: u64| vec![frame(stack[address as usize].0)]
        };
        let park = steps(&PARK);
        let bases = paths.bases(&park);
        assert!(paths.learn_park(&park, &bases, name(&PARK)));
        assert_eq!(paths.all[0].parks, [0x91]);
        assert!(!paths.learn_park(&park, &bases, name(&PARK)), "known");
        // Something else that the loop calls is no park, and neither is a poll.
        const OTHER: [(&str, u64, u64); 4] = [
            ("memcpy", 0, 0),
            ("tokio::runtime::scheduler::inject::pop", 0x92, 0x8200),
            (names::MULTI_THREAD_LOOP, 0x93, 0x8280),
            (SET, 0x40, 0x82f0),
        ];
        assert!(!paths.learn_park(&steps(&OTHER), &bases, name(&OTHER)));
        let stack = steps(&poll(0x20));
        let bases = paths.bases(&stack);
        assert!(!paths.learn_park(&stack, &bases, |_| vec![frame(PARK[1].0)]));
    }

    #[test]
    fn a_second_call_in_the_same_frames_is_the_same_way() {
        let mut paths = FramePaths::default();
        assert_eq!(paths.learn(&named(&poll(0x20)).unwrap()), Some((0, true)));
        assert_eq!(paths.learn(&named(&poll(0x20)).unwrap()), Some((0, false)));
        assert_eq!(paths.learn(&named(&poll(0x28)).unwrap()), Some((0, true)));
        assert_eq!(paths.all[0].returns[0], [0x20, 0x28]);
        // Frames of another size are another path.
        let mut other = poll(0x20);
        other[3].2 += 16;
        assert_eq!(paths.learn(&named(&other).unwrap()), Some((1, true)));
    }

    #[test]
    fn other_threads_are_known_by_their_loop_alone_and_judged_by_all_of_it() {
        let mut paths = FramePaths::default();
        paths.learn(&named(&poll(0x20)).unwrap());
        let park = steps(&PARK);
        let bases = paths.bases(&park);
        assert_eq!(bases[0], 0x8200);
        assert_eq!(paths.polls(&park, &bases), None);
        let stack = steps(&poll(0x20));
        let bases = paths.bases(&stack);
        assert_eq!(bases[0], 0x7200);
        assert_eq!(paths.polls(&stack, &bases), Some(0));
        // Another call in run_task, or another thread's bases: no poll.
        assert_eq!(paths.polls(&steps(&poll(0x21)), &bases), None);
        assert_eq!(paths.polls(&stack, &[0x8200, 0, 0, 0]), None);
        // A thread outside the loop takes no path.
        assert_eq!(paths.bases(&stack[..3]), FrameBases::default());
        assert_eq!(paths.bases(&[]), FrameBases::default());
    }
}
