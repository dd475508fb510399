//! The search for the layout of a live target, step by step: layouts that the file suggests are
//! tried on the threads as they are, those from the version table are watched until their fields do
//! their job, and where none holds, a layout is learnt from what the threads do.

use std::time::{Duration, Instant};

use super::learn::{self, Finding, Survey};
use super::live::ThreadView;
use super::select::{Selection, select};
use super::table::{self, Row};
use super::{Discovery, Source, TokioLayout};
use crate::target::memory::Memory;

/// How often threads are sampled while a layout is watched or learnt, and while no runtime runs.
const SAMPLE_EVERY: Duration = Duration::from_millis(2);
const WAIT: Duration = Duration::from_millis(100);
/// Backs off: the next sampling follows after this fraction of the time spent on learning.
const BACK_OFF: u32 = 2500;
/// After each trial of the known layouts, which takes long where there are no symbols, sampling has
/// this many times as long.
const SAMPLING_SHARE: u32 = 4;

/// How long a layout from the table is watched that nothing contradicts: an idle program shows no
/// more.
const PROBATION: Duration = Duration::from_millis(300);

/// How long a target that no known layout fits is watched before learning starts, and how long
/// after its runtime was seen the search gives up.
const LEARN_AFTER: Duration = Duration::from_millis(300);
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);
/// The same where functions have names, since polls can be tracked by those instead.
const GIVE_UP_NAMED_AFTER: Duration = Duration::from_secs(10);

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This layout is the target's.
    Found(TokioLayout),
    /// Take the next step after this time.
    Wait(Duration, Waiting),
    /// No layout can be found; why.
    Failed(String),
}

/// What a search waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A decision within a fraction of a second.
    Shortly,
    /// A runtime that runs.
    Runtime,
    /// Polls to learn an unknown layout from.
    Polls,
}

/// A search under way.
pub struct Search {
    discovery: Discovery,
    survey: Option<Survey>,
    /// When the known layouts are tried next, and why the likeliest did not hold the last time.
    next_trial: Instant,
    refuted: Option<String>,
    /// Since when something like a worker has been seen.
    since: Option<Instant>,
    /// Learning takes a while: it is tried again once there are this many samples.
    learn_at: usize,
    obstacle: &'static str,
    /// The layout from the table that is watched, and since when.
    watched: Option<(TokioLayout, Instant)>,
    row: &'static Row,
}

impl Search {
    /// Starts a search in a target whose executable gave `discovery`.
    pub fn new(discovery: &Discovery) -> Self {
        // Where symbols give the range of Tokio's thread-locals, no other can be mistaken for one.
        let block = discovery.thread_local_block.clone();
        let range = block.map(|block| match &discovery.locals {
            Some(locals) => locals.start..locals.end.min(block.end),
            None => block,
        });
        let minor = discovery
            .tokio_version()
            .and_then(|version| version.split('.').nth(1)?.parse().ok());
        Search {
            discovery: discovery.clone(),
            survey: range.map(Survey::new),
            next_trial: Instant::now(),
            refuted: None,
            since: None,
            learn_at: 0,
            obstacle: "its threads were not watched long enough",
            watched: None,
            row: table::row(minor),
        }
    }

    /// Reads the threads once.
    pub fn step(&mut self, memory: &dyn Memory, threads: &[ThreadView]) -> Progress {
        let any_worker = self
            .survey
            .as_mut()
            .is_some_and(|survey| survey.sample(memory, threads));
        if let Some((layout, since)) = self.watched {
            return self.watch(layout, since);
        }
        match self.try_known(memory, threads) {
            Some(layout) if layout.poll.source == Source::DebugInfo => {
                return Progress::Found(layout);
            }
            Some(layout) => {
                let now = Instant::now();
                self.watched = Some((layout, now));
                return self.watch(layout, now);
            }
            None => {}
        }
        if any_worker || self.refuted.is_some() {
            self.since.get_or_insert_with(Instant::now);
        }
        let Some(since) = self.since else {
            return Progress::Wait(WAIT, Waiting::Runtime);
        };
        if since.elapsed() < LEARN_AFTER {
            return Progress::Wait(SAMPLE_EVERY, Waiting::Shortly);
        }
        if let Some(layout) = self.learn() {
            return Progress::Found(layout);
        }
        // Words that point into a stack without a runtime behind them are the program's own.
        let is_runtime = self.refuted.is_some() && self.discovery.context_symbol
            || self.obstacle != learn::NO_RUNTIME;
        if !is_runtime {
            return Progress::Wait(WAIT, Waiting::Runtime);
        }
        let give_up_after = match self.discovery.has_symbols {
            true => GIVE_UP_NAMED_AFTER,
            false => GIVE_UP_AFTER,
        };
        if since.elapsed() >= give_up_after {
            let why = self.refuted.as_deref().unwrap_or("no known layout fits");
            return Progress::Failed(format!("{why}; and it cannot be learnt: {}", self.obstacle));
        }
        // Fields not seen by now rarely do their job, and sampling takes a good part of a CPU.
        let rest = SAMPLE_EVERY.max(since.elapsed() / BACK_OFF);
        Progress::Wait(rest, Waiting::Polls)
    }

    /// The layout among those that the file suggests that holds on these threads.
    fn try_known(&mut self, memory: &dyn Memory, threads: &[ThreadView]) -> Option<TokioLayout> {
        let start = Instant::now();
        if start < self.next_trial {
            return None;
        }
        let selection = select(&self.discovery, memory, threads);
        self.next_trial = Instant::now() + start.elapsed() * SAMPLING_SHARE;
        let (layout, refuted) = match selection {
            Selection::Chosen(layout) => (Some(layout), None),
            Selection::Refuted(why) => (None, Some(why)),
            Selection::Undecided => (None, None),
        };
        self.refuted = refuted;
        layout
    }

    /// Tries to learn a layout, once there are enough new samples.
    fn learn(&mut self) -> Option<TokioLayout> {
        let survey = self.survey.as_ref()?;
        let samples = survey.samples().len();
        if samples < self.learn_at {
            return None;
        }
        self.learn_at = samples * 3 / 2;
        match learn::learn(survey, self.row) {
            Ok(layout) => Some(layout),
            Err(obstacle) => {
                log::debug!("after {samples} samples: {obstacle}");
                self.obstacle = obstacle;
                None
            }
        }
    }

    /// A layout from the table that holds at the moment is accepted once its fields were seen to do
    /// their job.
    fn watch(&mut self, layout: TokioLayout, since: Instant) -> Progress {
        let finding = self
            .survey
            .as_ref()
            .map_or(Finding::Maybe, |survey| learn::judge(survey, &layout));
        match finding {
            Finding::Yes => Progress::Found(layout),
            Finding::Maybe if since.elapsed() >= PROBATION => Progress::Found(layout),
            Finding::Maybe => Progress::Wait(SAMPLE_EVERY, Waiting::Shortly),
            Finding::No => {
                log::debug!("{layout:?} held, but its fields do not do their job");
                self.discovery.forget(&layout);
                self.watched = None;
                Progress::Wait(SAMPLE_EVERY, Waiting::Shortly)
            }
        }
    }
}
