//! The state machine of poll tracking. Takes observations, returns transitions; has no other effect.

use std::time::Instant;

use super::choice::{COST_OF_FRAMES, fallback};
use super::layout_search::{SearchOutcome, SearchRequest};
use super::layout_trust::{Check, LayoutTrust};
use crate::capture::{Order, ThreadState, TrackingMode};
use crate::model::{Tier, Worker};
use crate::target::memory::Memory;
use crate::tokio::{Discovery, TokioLayout};

#[cfg(test)]
mod tests;

/// How the events that arrive were tracked, and what comes next.
pub struct Tracker {
    discovery: Discovery,
    state: State,
    /// The mode that the ring thread was ordered to restart in, until it has.
    pending: Option<TrackingMode>,
    /// How often a layout was lost.
    losses: u32,
}

/// How the events that arrive were tracked.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one state, which rarely moves"
)]
#[derive(Debug)]
enum State {
    /// Through Tokio's state.
    Layout(LayoutTrust),
    /// Through a layout that broke a rule: polls are not reported. The ring thread is to restart.
    Lost,
    /// By stacks.
    Frames,
    /// Polls are not tracked.
    LoadOnly,
    /// The process has replaced itself by another program: nothing is tracked any more.
    Replaced,
}

/// What an observation causes. To be carried out in the order returned.
#[derive(Debug)]
pub enum Transition {
    /// Report that polls are tracked in this tier from now on, or still, and why.
    Tier { tier: Tier, why: String },
    /// Polls that are open will not be followed to their ends.
    DropPolls,
    /// Send this to the ring thread.
    Order(Order),
    /// Begin a search for another layout, and report its outcome.
    Search(SearchRequest),
    /// End the search.
    EndSearch,
}

impl Tracker {
    /// Begins in `mode`, in a process whose executable gave `discovery`.
    pub fn new(mode: TrackingMode, discovery: Discovery, now: Instant) -> Tracker {
        Tracker {
            state: State::new(mode, &discovery, now),
            discovery,
            pending: None,
            losses: 0,
        }
    }

    /// The layout by which workers can be read, where there is one.
    pub fn layout(&self) -> Option<&TokioLayout> {
        match &self.state {
            State::Layout(trust) => Some(&trust.layout),
            _ => None,
        }
    }

    /// Whether the polls that arrive are to be reported, unless their worker is in doubt.
    pub fn reports_polls(&self) -> bool {
        matches!(self.state, State::Layout(_) | State::Frames)
    }

    /// Whether the polls that arrive are not reported because their layout was lost.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Whether polls are tracked by stacks.
    pub fn is_by_frames(&self) -> bool {
        matches!(self.state, State::Frames)
    }

    /// Whether polls of this worker cannot be told apart reliably.
    pub fn doubts(&self, worker: Option<&Worker>) -> bool {
        let flavor = worker.and_then(|worker| worker.flavor);
        match (&self.state, flavor) {
            (State::Layout(trust), Some(flavor)) => trust.doubts(flavor),
            _ => false,
        }
    }

    /// The workers as they stand; whether one of them is in doubt.
    pub fn observe_workers(
        &mut self,
        states: &[ThreadState],
        in_doubt: bool,
        memory: &dyn Memory,
        now: Instant,
    ) -> Vec<Transition> {
        let State::Layout(trust) = &mut self.state else {
            return Vec::new();
        };
        match trust.check(states, in_doubt, memory, now) {
            Check::Holds => Vec::new(),
            Check::OtherTicks => vec![Transition::Order(Order::CoreTicks(trust.layout))],
            Check::Broken(why) => {
                let lost = trust.layout;
                self.lose(lost, &why)
            }
        }
    }

    /// Falls back to a mode without a layout, and searches for another one.
    fn lose(&mut self, lost: TokioLayout, why: &str) -> Vec<Transition> {
        self.state = State::Lost;
        self.losses += 1;
        let mode = fallback(&self.discovery);
        self.pending = Some(mode);
        let cost = match mode {
            TrackingMode::Frames => COST_OF_FRAMES,
            _ => "polls are not reported",
        };
        vec![
            Transition::Tier {
                tier: mode.tier(),
                why: format!("{why}; a layout that holds is searched for; {cost}"),
            },
            Transition::Order(Order::Reload(mode)),
            Transition::Search(SearchRequest::after_loss(
                &self.discovery,
                lost,
                self.losses,
            )),
        ]
    }

    /// The search has ended.
    pub fn observe_search(&mut self, outcome: SearchOutcome) -> Vec<Transition> {
        match outcome {
            _ if matches!(self.state, State::Replaced) => Vec::new(),
            SearchOutcome::Holds(layout) => {
                let mode = TrackingMode::State(layout);
                self.pending = Some(mode);
                vec![Transition::Order(Order::Reload(mode))]
            }
            SearchOutcome::Nothing(why) => vec![Transition::Tier {
                tier: self.tier(),
                why: format!("no layout of Tokio's state that holds was found: {why}"),
            }],
        }
    }

    /// The ring thread has restarted in this mode: what follows is of the new capture.
    pub fn observe_restart(&mut self, mode: TrackingMode, now: Instant) -> Vec<Transition> {
        if matches!(self.state, State::Replaced) {
            return Vec::new();
        }
        if self.pending != Some(mode) {
            // The ring thread made room for more workers, or was ordered to restart in yet another
            // mode, which follows.
            return vec![Transition::DropPolls];
        }
        self.pending = None;
        self.state = State::new(mode, &self.discovery, now);
        let mut transitions = vec![Transition::DropPolls];
        if let TrackingMode::State(layout) = mode {
            transitions.push(Transition::Tier {
                tier: layout.tier(),
                why: "a layout of Tokio's state that holds was found".to_owned(),
            });
        }
        transitions
    }

    /// The process has replaced itself by another program. Whatever looks like its workers is not.
    pub fn observe_exec(&mut self) -> Vec<Transition> {
        self.state = State::Replaced;
        self.pending = None;
        vec![
            Transition::EndSearch,
            Transition::DropPolls,
            Transition::Tier {
                tier: Tier::Scheduler,
                why: "the process replaced itself by another program (exec), and what was watched \
                      has ended; start hud again to watch the new one"
                    .to_owned(),
            },
        ]
    }

    /// The tier that was reported last.
    fn tier(&self) -> Tier {
        match (&self.pending, &self.state) {
            (Some(pending), _) => pending.tier(),
            (None, State::Layout(trust)) => trust.layout.tier(),
            (None, State::Frames) => Tier::Frames,
            (None, State::Lost | State::LoadOnly | State::Replaced) => Tier::Scheduler,
        }
    }
}

impl State {
    fn new(mode: TrackingMode, discovery: &Discovery, now: Instant) -> State {
        match mode {
            TrackingMode::State(layout) => State::Layout(LayoutTrust::new(layout, discovery, now)),
            TrackingMode::Frames => State::Frames,
            TrackingMode::LoadOnly => State::LoadOnly,
        }
    }
}
