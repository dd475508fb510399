//! The search for the layout of a live target, step by step: what the file suggests, tried on the
//! threads as they are; what is only a guess, watched at work; and where no guess holds, a layout
//! learnt from what the threads do.

use std::time::{Duration, Instant};

use super::learn::Era;
use super::learn::behaviour::Finding;
use super::learn::survey::Survey;
use super::live::ThreadView;
use super::select::{Selection, select};
use super::{Discovery, TokioLayout, learn};
use crate::model::Tier;
use crate::target::memory::Memory;

/// How often threads are looked at while a layout is watched at work, and while no runtime runs.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const WAIT: Duration = Duration::from_millis(100);
/// Later a look comes after each such part of the time that the search has lasted.
const RARER: u32 = 2500;

/// How long a guess that nothing contradicts is watched: an idle program shows no more.
const PROBATION: Duration = Duration::from_millis(300);

/// How long a target is watched that no known layout fits before that is told, and how long after
/// its runtime was seen the search is given up.
const LEARN_AFTER: Duration = Duration::from_millis(300);
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);
/// The same where functions have names, by which polls are known as well.
const GIVE_UP_NAMED_AFTER: Duration = Duration::from_secs(10);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This layout is the target's.
    Chosen(TokioLayout, Tier),
    /// Look again after a while.
    Wait(Duration, Waiting),
    /// No layout can be found; why.
    Failed(String),
}

/// What a search waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing that takes long.
    Shortly,
    /// A runtime that runs.
    Runtime,
    /// Polls to learn an unknown layout from.
    Polls,
}

/// A search under way.
#[derive(Debug)]
pub struct Search {
    discovery: Discovery,
    survey: Option<Survey>,
    /// Since when something like a worker has been seen.
    since: Option<Instant>,
    /// Learning takes a while: it is tried again when there are this many samples.
    learn_at: usize,
    obstacle: &'static str,
    /// The guess being watched, and since when.
    guess: Option<(TokioLayout, Tier, Instant)>,
    era: Era,
}

impl Search {
    pub fn new(discovery: &Discovery) -> Self {
        // Where the symbols are known, no other thread-local can be taken for a field.
        let range = discovery
            .thread_local_block
            .clone()
            .map(|block| match &discovery.state {
                Some(state) => state.start..state.end.min(block.end),
                None => block,
            });
        let minor = discovery
            .tokio_version()
            .and_then(|version| version.split('.').nth(1)?.parse().ok());
        Search {
            discovery: discovery.clone(),
            survey: range.map(Survey::new),
            since: None,
            learn_at: 0,
            obstacle: "its threads were not watched long enough",
            guess: None,
            era: Era::of(minor.unwrap_or(u32::MAX)),
        }
    }

    /// Looks at the threads once.
    pub fn step(&mut self, memory: &dyn Memory, threads: &[ThreadView]) -> Found {
        let shows = self
            .survey
            .as_mut()
            .is_some_and(|survey| survey.look(memory, threads));
        if let Some((layout, tier, since)) = self.guess {
            return self.watch(layout, tier, since);
        }
        let why = match select(&self.discovery, memory, threads) {
            Selection::Chosen(layout, Tier::DebugInfo) => {
                return Found::Chosen(layout, Tier::DebugInfo);
            }
            Selection::Chosen(layout, tier) => {
                self.guess = Some((layout, tier, Instant::now()));
                return self.watch(layout, tier, Instant::now());
            }
            Selection::Refuted(why) => Some(why),
            Selection::Undecided => None,
        };
        if shows || why.is_some() {
            self.since.get_or_insert_with(Instant::now);
        }
        let Some(since) = self.since else {
            return Found::Wait(WAIT, Waiting::Runtime);
        };
        if since.elapsed() < LEARN_AFTER {
            return Found::Wait(LOOK_EVERY, Waiting::Shortly);
        }
        if let Some(survey) = &self.survey
            && survey.samples().len() >= self.learn_at
        {
            self.learn_at = survey.samples().len() * 3 / 2;
            match learn::learn(survey, self.era) {
                Ok(layout) => return Found::Chosen(layout, Tier::Scan),
                Err(obstacle) => {
                    log::debug!("after {} samples: {obstacle}", survey.samples().len());
                    self.obstacle = obstacle;
                }
            }
        }
        // Words that point into a stack without a runtime behind them are the program's own.
        let is_runtime =
            why.is_some() && self.discovery.context_symbol || self.obstacle != learn::NO_RUNTIME;
        if !is_runtime {
            return Found::Wait(WAIT, Waiting::Runtime);
        }
        let give_up_after = match self.discovery.has_symbols {
            true => GIVE_UP_NAMED_AFTER,
            false => GIVE_UP_AFTER,
        };
        if since.elapsed() >= give_up_after {
            let why = why.unwrap_or_else(|| "no known layout fits".to_owned());
            return Found::Failed(format!("{why}; and it cannot be learnt: {}", self.obstacle));
        }
        // What was not seen by now shows itself seldom; looking costs a good part of a CPU.
        let rest = LOOK_EVERY.max(since.elapsed() / RARER);
        Found::Wait(rest, Waiting::Polls)
    }

    /// A guess that holds for the moment is believed once its fields were seen at work.
    fn watch(&mut self, layout: TokioLayout, tier: Tier, since: Instant) -> Found {
        let finding = self
            .survey
            .as_ref()
            .map_or(Finding::Maybe, |survey| learn::judge(survey, &layout));
        match finding {
            Finding::Yes => Found::Chosen(layout, tier),
            Finding::Maybe if since.elapsed() >= PROBATION => Found::Chosen(layout, tier),
            Finding::Maybe => Found::Wait(LOOK_EVERY, Waiting::Shortly),
            Finding::No => {
                log::debug!("{layout:?} held, but does not behave");
                self.discovery.forget(&layout);
                self.guess = None;
                Found::Wait(LOOK_EVERY, Waiting::Shortly)
            }
        }
    }
}
