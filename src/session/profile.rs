//! All poll time, added up: which code the workers' CPU time inside polls goes to.
//!
//! Kept by worker and by code, so that it can be narrowed like everything else, each with a call
//! tree. Bounded: workers, code and tree nodes beyond their limits go to an explicit rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::tree::CallTree;
use crate::model::{Cause, Location, Name, PollTime, ProfiledStack, Record};
use crate::text;

/// Nodes of all trees together.
const TREE_NODES: usize = 60_000;
/// Code told apart, over all workers and slices; the rest is added up as [`OTHER`].
const SPOTS: usize = 4_000;
/// Workers told apart; those that come later are one, without a number.
const WORKERS: usize = 256;
/// A window leaves a slice at a time.
const SLICES: u64 = 12;
/// Times on and off that are remembered apart.
const STINTS: usize = 256;
/// Stacks in one record of what is kept.
const RECORD_STACKS: usize = 500;
/// Code beyond the limit.
const OTHER: &str = "(all other code)";

/// The code that CPU time is put down to: a function, and what it called.
pub type SpotKey = (Name, Option<Name>);

/// Everything that was sampled of all poll time.
#[derive(Clone, Debug)]
pub struct Profile {
    /// When it was switched on, and off again.
    stints: VecDeque<(u64, Option<u64>)>,
    /// How long it was on before those.
    earlier_ns: u64,
    room: Room,
    all: Slice,
    /// Length of a slice, and the slices of the window by their numbers.
    window: Option<(u64, VecDeque<(u64, Slice)>)>,
    latest_ns: u64,
    made: Option<(Asked, Arc<ProfileView>)>,
}

/// What a picture was asked for; it is made anew when that changes, or new samples came.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    windowed: bool,
    workers: Option<BTreeSet<u32>>,
    oldest: u64,
}

/// What may still be made.
#[derive(Clone, Copy, Debug)]
struct Room {
    spots: usize,
    nodes: usize,
}

type Slice = BTreeMap<u32, BTreeMap<SpotKey, Spot>>;

#[derive(Clone, Debug, Default)]
struct Spot {
    location: Option<Location>,
    cpu_ns: u64,
    last_seen_ns: u64,
    tree: CallTree,
}

/// All poll time as views show it.
#[derive(Clone, Debug, Default)]
pub struct ProfileView {
    /// CPU time inside polls.
    pub cpu_ns: u64,
    /// Heaviest first.
    pub spots: Vec<Arc<SpotRow>>,
    /// All stacks merged, caller to callee.
    pub tree: Arc<CallTree>,
}

/// Code that CPU time is put down to.
#[derive(Clone, Debug)]
pub struct SpotRow {
    pub key: SpotKey,
    /// Of the newest samples.
    pub location: Option<Location>,
    pub cpu_ns: u64,
    pub last_seen_ns: u64,
    /// Worker threads it was seen on.
    pub workers: usize,
    /// What most of the time went to, by the kernel's facts.
    pub cause: Cause,
    pub tree: Arc<CallTree>,
}

impl SpotRow {
    /// `function -> what it called`.
    pub fn name(&self) -> String {
        text::call(&self.key.0, self.key.1.as_deref())
    }
}

impl ProfileView {
    /// A row's part of all of it, 0 to 1.
    pub fn share(&self, row: &SpotRow) -> f64 {
        match self.cpu_ns {
            0 => 0.0,
            all => row.cpu_ns as f64 / all as f64,
        }
    }

    /// The row of that code.
    pub fn find(&self, key: &SpotKey) -> Option<&Arc<SpotRow>> {
        self.spots.iter().find(|row| row.key == *key)
    }
}

impl Profile {
    /// Nothing sampled; with a window beside the totals.
    pub fn new(window_ns: Option<u64>) -> Self {
        Profile {
            stints: VecDeque::new(),
            earlier_ns: 0,
            room: Room {
                spots: SPOTS,
                nodes: TREE_NODES,
            },
            all: Slice::new(),
            window: window_ns.map(|ns| ((ns / SLICES).max(1), VecDeque::new())),
            latest_ns: 0,
            made: None,
        }
    }

    /// It was switched on or off.
    pub fn switch(&mut self, on: bool, at_ns: u64) {
        match (on, self.stints.back_mut()) {
            (true, Some((_, None))) => {}
            (true, _) => self.stints.push_back((at_ns, None)),
            (false, Some((_, end @ None))) => *end = Some(at_ns),
            (false, _) => {}
        }
        if self.stints.len() > STINTS
            && let Some((from, to)) = self.stints.pop_front()
        {
            self.earlier_ns += to.unwrap_or(from).saturating_sub(from);
        }
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        matches!(self.stints.back(), Some((_, None)))
    }

    /// How long it was on, up to `now_ns`, since `since_ns`.
    pub fn sampled_ns(&self, since_ns: u64, now_ns: u64) -> u64 {
        let earlier = if since_ns == 0 { self.earlier_ns } else { 0 };
        let stints = self.stints.iter().map(|(from, to)| {
            let to = to.unwrap_or(now_ns).min(now_ns);
            to.saturating_sub((*from).max(since_ns))
        });
        stints.fold(earlier, u64::saturating_add)
    }

    /// Forgets all samples; on stays on.
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
        self.made = None;
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

    /// Lets go of what has left the window.
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

    /// All of it, or of the window up to `now_ns`; of the chosen workers only, if any are.
    pub fn view(
        &mut self,
        windowed: bool,
        workers: Option<&BTreeSet<u32>>,
        now_ns: u64,
    ) -> Arc<ProfileView> {
        self.advance(now_ns);
        let slices = self.window.as_ref().filter(|_| windowed);
        let asked = Asked {
            windowed: slices.is_some(),
            workers: workers.cloned(),
            oldest: slices
                .and_then(|(_, slices)| slices.front())
                .map_or(0, |(n, _)| *n),
        };
        if let Some((made_for, view)) = &self.made
            && *made_for == asked
        {
            return view.clone();
        }
        let slices: Vec<&Slice> = match slices {
            Some((_, slices)) => slices.iter().map(|(_, slice)| slice).collect(),
            None => vec![&self.all],
        };
        let view = Arc::new(merge(&slices, workers));
        self.made = Some((asked, view.clone()));
        view
    }

    /// What is kept, as records.
    pub fn records(&self, now_ns: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for (from, to) in &self.stints {
            records.push(Record::AllPollTime {
                on: true,
                at_ns: *from,
            });
            records.extend(to.map(|at_ns| Record::AllPollTime { on: false, at_ns }));
        }
        let from_ns = self.stints.front().map_or(now_ns, |(from, _)| *from);
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

fn merge(slices: &[&Slice], workers: Option<&BTreeSet<u32>>) -> ProfileView {
    struct Merged {
        spot: Spot,
        workers: BTreeSet<u32>,
    }
    let mut by_code: BTreeMap<&SpotKey, Merged> = BTreeMap::new();
    let mut tree = CallTree::default();
    // No more nodes can come together than there are.
    let mut room = usize::MAX;
    for (tid, spots) in slices.iter().flat_map(|slice| slice.iter()) {
        if workers.is_some_and(|chosen| !chosen.contains(tid)) {
            continue;
        }
        for (key, spot) in spots {
            let merged = by_code.entry(key).or_insert_with(|| Merged {
                spot: Spot::default(),
                workers: BTreeSet::new(),
            });
            let sum = &mut merged.spot;
            sum.cpu_ns = sum.cpu_ns.saturating_add(spot.cpu_ns);
            sum.tree.merge(&spot.tree, &mut room);
            if spot.last_seen_ns >= sum.last_seen_ns {
                sum.last_seen_ns = spot.last_seen_ns;
                sum.location.clone_from(&spot.location);
            }
            merged.workers.insert(*tid);
            tree.merge(&spot.tree, &mut room);
        }
    }
    let mut rows: Vec<_> = by_code
        .into_iter()
        .map(|(key, Merged { spot, workers })| {
            Arc::new(SpotRow {
                key: key.clone(),
                location: spot.location,
                cpu_ns: spot.cpu_ns,
                last_seen_ns: spot.last_seen_ns,
                workers: workers.len(),
                cause: chief_cause(&spot.tree),
                tree: Arc::new(spot.tree),
            })
        })
        .collect();
    rows.sort_by(|a, b| b.cpu_ns.cmp(&a.cpu_ns).then_with(|| a.key.cmp(&b.key)));
    ProfileView {
        cpu_ns: rows
            .iter()
            .fold(0, |sum, row| sum.saturating_add(row.cpu_ns)),
        spots: rows,
        tree: Arc::new(tree),
    }
}

fn chief_cause(tree: &CallTree) -> Cause {
    let mut causes: BTreeMap<Cause, u64> = BTreeMap::new();
    let nodes = (0..=tree.len()).filter_map(|at| tree.node(at));
    for leaf in nodes.flat_map(|node| &node.own) {
        let sum = causes.entry(leaf.cause).or_default();
        *sum = sum.saturating_add(leaf.ns);
    }
    let chief = causes.into_iter().rev().max_by_key(|(_, ns)| *ns);
    chief.map_or(Cause::Cpu, |(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{self as t, MS, START_NS};

    fn times(view: &ProfileView) -> Vec<(&str, u64)> {
        let rows = view.spots.iter();
        rows.map(|row| (row.key.0.as_str(), row.cpu_ns / MS))
            .collect()
    }

    #[test]
    fn time_adds_up_by_code_and_narrows_to_workers() {
        let mut profile = Profile::new(None);
        profile.switch(true, START_NS);
        profile.add(&t::poll_time(
            0,
            1000,
            &[("shop::render", "json::write", 60)],
        ));
        profile.add(&t::poll_time(
            1,
            1000,
            &[
                ("shop::render", "json::write", 20),
                ("shop::parse", "json::read", 30),
            ],
        ));
        let all = profile.view(false, None, START_NS + 1000 * MS);
        assert_eq!(times(&all), [("shop::render", 80), ("shop::parse", 30)]);
        assert_eq!((all.cpu_ns, all.tree.total_ns()), (110 * MS, 110 * MS));
        assert_eq!(all.spots[0].workers, 2);
        assert_eq!(all.spots[0].tree.total_ns(), 80 * MS);
        let one = profile.view(false, Some(&BTreeSet::from([4001])), START_NS);
        assert_eq!(times(&one), [("shop::render", 60)]);
        // What is kept says the same again.
        let mut again = Profile::new(None);
        for record in profile.records(START_NS) {
            match record {
                Record::PollTime(time) => again.add(&time),
                Record::AllPollTime { on, at_ns } => again.switch(on, at_ns),
                other => panic!("{other:?}"),
            }
        }
        assert!(again.is_on());
        assert_eq!(times(&again.view(false, None, 0)), times(&all));
    }

    #[test]
    fn a_window_lets_go() {
        let mut profile = Profile::new(Some(12_000 * MS));
        for second in 0..30 {
            profile.add(&t::poll_time(0, second * 1000, &[("a::b", "c::d", 10)]));
        }
        let now = START_NS + 29_000 * MS;
        let windowed = profile.view(true, None, now).cpu_ns / MS;
        assert!((110..=140).contains(&windowed), "{windowed}");
        assert_eq!(profile.view(false, None, now).cpu_ns, 300 * MS);
        assert_eq!(profile.view(true, None, now + 60_000 * MS).cpu_ns, 0);
    }

    #[test]
    fn what_leaves_the_window_makes_room() {
        let mut profile = Profile::new(Some(1_000 * MS));
        let mut room = Vec::new();
        for second in 0..20 {
            profile.add(&t::poll_time(0, second * 1000, &[("a::b", "c::d", 10)]));
            room.push((profile.room.spots, profile.room.nodes));
        }
        assert_eq!(room[5], room[19]);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_dropped() {
        let mut profile = Profile::new(None);
        for i in 0..2 * SPOTS as u64 {
            let name = format!("shop::f{i}");
            profile.add(&t::poll_time(0, i, &[(name.as_str(), "json::write", 1)]));
        }
        for worker in 0..2 * WORKERS as u32 {
            profile.add(&t::poll_time(worker, 1, &[("shop::g", "json::write", 1)]));
        }
        let view = profile.view(false, None, START_NS);
        assert_eq!(view.cpu_ns, 2 * (SPOTS + WORKERS) as u64 * MS);
        assert!(view.spots.len() <= SPOTS + 1);
        assert!(view.find(&(OTHER.into(), None)).is_some());
        assert!(profile.all.len() <= WORKERS + 1);
        let nodes: usize = profile
            .all
            .values()
            .flat_map(BTreeMap::values)
            .map(|s| s.tree.len())
            .sum();
        assert!(nodes <= TREE_NODES);
    }

    #[test]
    fn time_counts_while_it_is_on() {
        let mut profile = Profile::new(None);
        profile.switch(true, 10);
        profile.switch(true, 15);
        profile.switch(false, 20);
        profile.switch(false, 30);
        assert_eq!((profile.is_on(), profile.sampled_ns(0, 100)), (false, 10));
        profile.switch(true, 50);
        assert_eq!((profile.is_on(), profile.sampled_ns(0, 100)), (true, 60));
        assert_eq!(profile.sampled_ns(90, 100), 10);
    }
}
