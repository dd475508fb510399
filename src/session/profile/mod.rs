//! All poll time: which code the workers' CPU time inside polls goes to.
//!
//! Summed up by worker and code, each with a call tree, so that it can be filtered by worker. Workers,
//! code and tree nodes beyond their limits are added to an explicit rest.

#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::tree::CallTree;
use crate::model::{Location, Name, PollTime, ProfiledStack, Record};

pub use self::view::{ProfileView, SpotRow};

/// Nodes of all trees together.
const TREE_NODES: usize = 60_000;
/// Distinct code, over all workers and slices; the rest is summed up as [`OTHER`].
const SPOTS: usize = 4_000;
/// Distinct workers; later ones are summed up as thread 0.
const WORKERS: usize = 256;
/// Slices of a window; samples leave it a slice at a time.
const SLICES: u64 = 12;
/// Periods of sampling that are kept individually.
const PERIODS: usize = 256;
/// Stacks per record in [`Profile::records`].
const RECORD_STACKS: usize = 500;
/// Stands for code beyond the limit.
const OTHER: &str = "(all other code)";

/// The code that CPU time is attributed to: a function, and what it called.
pub type SpotKey = (Name, Option<Name>);

/// Everything that was sampled of all poll time.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Start and end of each period of sampling.
    periods: VecDeque<(u64, Option<u64>)>,
    /// Duration of the periods before those.
    earlier_ns: u64,
    room: Room,
    all: Slice,
    /// Length of a slice in nanoseconds, and the slices of the window by number.
    window: Option<(u64, VecDeque<(u64, Slice)>)>,
    latest_ns: u64,
    cached: Option<(ViewKey, Arc<ProfileView>)>,
}

/// What the cached view was made for.
#[derive(Clone, Debug, PartialEq)]
struct ViewKey {
    windowed: bool,
    workers: Option<BTreeSet<u32>>,
    oldest: u64,
}

/// What may still be added.
#[derive(Clone, Copy, Debug)]
struct Room {
    spots: usize,
    nodes: usize,
}

/// Sums by worker and code.
type Slice = BTreeMap<u32, BTreeMap<SpotKey, Spot>>;

#[derive(Clone, Debug, Default)]
struct Spot {
    location: Option<Location>,
    cpu_ns: u64,
    last_seen_ns: u64,
    tree: CallTree,
}

impl Profile {
    /// No samples. With `window_ns`, a rolling window is kept beside the totals.
    pub fn new(window_ns: Option<u64>) -> Self {
        Profile {
            periods: VecDeque::new(),
            earlier_ns: 0,
            room: Room {
                spots: SPOTS,
                nodes: TREE_NODES,
            },
            all: Slice::new(),
            window: window_ns.map(|ns| ((ns / SLICES).max(1), VecDeque::new())),
            latest_ns: 0,
            cached: None,
        }
    }

    /// Sampling was switched on or off.
    pub fn switch(&mut self, on: bool, at_ns: u64) {
        match (on, self.periods.back_mut()) {
            (true, Some((_, None))) => {}
            (true, _) => self.periods.push_back((at_ns, None)),
            (false, Some((_, end @ None))) => *end = Some(at_ns),
            (false, _) => {}
        }
        if self.periods.len() > PERIODS
            && let Some((from, to)) = self.periods.pop_front()
        {
            self.earlier_ns += to.unwrap_or(from).saturating_sub(from);
        }
    }

    /// Whether sampling is on.
    pub fn is_on(&self) -> bool {
        matches!(self.periods.back(), Some((_, None)))
    }

    /// How long sampling was on between `since_ns` and `now_ns`.
    pub fn sampled_ns(&self, since_ns: u64, now_ns: u64) -> u64 {
        let earlier = if since_ns == 0 { self.earlier_ns } else { 0 };
        let periods = self.periods.iter().map(|(from, to)| {
            let to = to.unwrap_or(now_ns).min(now_ns);
            to.saturating_sub((*from).max(since_ns))
        });
        periods.fold(earlier, u64::saturating_add)
    }

    /// Discards all samples. Sampling stays on or off.
    pub fn clear(&mut self, now_ns: u64) {
        let on = self.is_on();
        let window_ns = self.window.as_ref().map(|(slice_ns, _)| slice_ns * SLICES);
        *self = Profile::new(window_ns);
        if on {
            self.switch(true, now_ns);
        }
    }

    /// Adds samples.
    pub fn add(&mut self, time: &PollTime) {
        self.cached = None;
        self.latest_ns = self.latest_ns.max(time.to_ns);
        if let Some((slice_ns, slices)) = &mut self.window {
            let number = time.to_ns / *slice_ns;
            if slices.back().is_none_or(|(newest, _)| *newest < number) {
                slices.push_back((number, Slice::new()));
            }
            let found = slices.iter_mut().rev().find(|(n, _)| *n == number);
            if let Some((_, slice)) = found {
                add(slice, time, &mut self.room);
            }
            let latest = self.latest_ns;
            self.advance(latest);
        }
        add(&mut self.all, time, &mut self.room);
    }

    /// Removes what has left the window.
    fn advance(&mut self, now_ns: u64) {
        let Some((slice_ns, slices)) = &mut self.window else {
            return;
        };
        let oldest = (now_ns / *slice_ns).saturating_sub(SLICES);
        while slices.front().is_some_and(|(n, _)| *n < oldest) {
            if let Some((_, slice)) = slices.pop_front() {
                for (key, spot) in slice.values().flatten() {
                    self.room.nodes += spot.tree.len();
                    self.room.spots += usize::from(key.0 != OTHER);
                }
            }
        }
    }

    /// The sums since the start, or of the window up to `now_ns`; of the chosen workers only, if any
    /// are.
    pub fn view(
        &mut self,
        windowed: bool,
        workers: Option<&BTreeSet<u32>>,
        now_ns: u64,
    ) -> Arc<ProfileView> {
        self.advance(now_ns);
        let slices = self.window.as_ref().filter(|_| windowed);
        let key = ViewKey {
            windowed: slices.is_some(),
            workers: workers.cloned(),
            oldest: slices
                .and_then(|(_, slices)| slices.front())
                .map_or(0, |(n, _)| *n),
        };
        if let Some((made_for, view)) = &self.cached
            && *made_for == key
        {
            return view.clone();
        }
        let slices: Vec<&Slice> = match slices {
            Some((_, slices)) => slices.iter().map(|(_, slice)| slice).collect(),
            None => vec![&self.all],
        };
        let view = Arc::new(view::merge(&slices, workers));
        self.cached = Some((key, view.clone()));
        view
    }

    /// The kept samples as records.
    pub fn records(&self, now_ns: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for (from, to) in &self.periods {
            records.push(Record::AllPollTime {
                on: true,
                at_ns: *from,
            });
            records.extend(to.map(|at_ns| Record::AllPollTime { on: false, at_ns }));
        }
        let from_ns = self.periods.front().map_or(now_ns, |(from, _)| *from);
        for (tid, spots) in &self.all {
            let stacks: Vec<ProfiledStack> = spots
                .iter()
                .flat_map(|((function, calls), spot)| {
                    let stacks = spot.tree.heaviest_stacks(usize::MAX).into_iter();
                    stacks.map(move |stack| ProfiledStack {
                        stack,
                        function: function.clone(),
                        calls: calls.clone(),
                        location: spot.location.clone(),
                    })
                })
                .collect();
            records.extend(stacks.chunks(RECORD_STACKS).map(|stacks| {
                Record::PollTime(Arc::new(PollTime {
                    tid: *tid,
                    from_ns,
                    to_ns: self.latest_ns.max(from_ns),
                    stacks: stacks.to_vec(),
                }))
            }));
        }
        records
    }
}

fn add(slice: &mut Slice, time: &PollTime, room: &mut Room) {
    let tid = match slice.len() < WORKERS || slice.contains_key(&time.tid) {
        true => time.tid,
        false => 0,
    };
    let spots = slice.entry(tid).or_default();
    for profiled in &time.stacks {
        let mut key = (profiled.function.clone(), profiled.calls.clone());
        if !spots.contains_key(&key) {
            match room.spots.checked_sub(1) {
                Some(left) => room.spots = left,
                None => key = (OTHER.into(), None),
            }
        }
        let spot = spots.entry(key).or_default();
        spot.cpu_ns = spot.cpu_ns.saturating_add(profiled.stack.weight_ns);
        spot.last_seen_ns = spot.last_seen_ns.max(time.to_ns);
        if profiled.location.is_some() {
            spot.location.clone_from(&profiled.location);
        }
        spot.tree.add(&profiled.stack, &mut room.nodes);
    }
}
