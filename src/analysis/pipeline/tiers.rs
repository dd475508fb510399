//! How the analysis goes from one tier to another while it runs: a layout that no longer holds is
//! left, one that does is taken, and both ends of the ring begin anew in between.

use std::sync::atomic::Ordering;

use super::{Pipeline, Unread};
use crate::capture::Tracking;
use crate::clock::monotonic_ns;
use crate::model::{Record, Tier};
use crate::tokio::TokioLayout;
use crate::tracking::frames::Frames;
use crate::tracking::frames_tell_polls;
use crate::tracking::regain::{Outcome, Regain};
use crate::tracking::trust::Trust;

/// How polls will be known once the kernel side has begun anew.
pub(super) enum Coming {
    Frames(Box<Frames>),
    State(TokioLayout),
    /// They will not.
    Nothing,
}

impl Pipeline {
    /// The layout in use no longer holds: polls are known by the workers' frames from now on, where
    /// that is possible. Those that are open are not told.
    pub(super) fn lose_layout(&mut self, at_ns: u64, why: &str) -> Result<(), Unread> {
        let Some(refuted) = self.trust.lose() else {
            return Ok(());
        };
        self.times_lost += 1;
        let by_frames = match frames_tell_polls(&self.subject.discovery) {
            true => Frames::new(self.subject.pid, self.subject.learnt.frames.clone())
                .inspect_err(|error| log::warn!("cannot look at the workers' frames: {error:#}"))
                .ok(),
            false => None,
        };
        self.regain = Regain::begin(
            self.subject.pid,
            &self.subject.discovery,
            refuted,
            self.times_lost,
        )
        .inspect_err(|error| log::warn!("cannot search for another layout: {error:#}"))
        .ok();
        let search = match self.regain {
            Some(_) => "; a layout that holds is searched for",
            None => "",
        };
        let (coming, tracking, tier, why) = match by_frames {
            Some(frames) => {
                let coming = Coming::Frames(Box::new(frames));
                let costs = "see 'Tracking tiers' in hud --help for what that costs";
                let why = format!("{why}{search}; {costs}");
                (coming, Tracking::Frames, Tier::Frames, why)
            }
            None => {
                let why = format!("{why}; polls are not reported{search}");
                (Coming::Nothing, Tracking::Nothing, Tier::Scheduler, why)
            }
        };
        self.coming = Some(coming);
        self.subject.learnt.change.order(tracking);
        self.send(Record::TierChanged { tier, at_ns, why })
    }

    /// Goes by the layout that was searched for, if it was found.
    pub(super) fn look_at_search(&mut self, at_ns: u64) -> Result<(), Unread> {
        // One change after the other.
        let regain = self.regain.as_ref().filter(|_| self.coming.is_none());
        match regain.and_then(Regain::outcome) {
            Some(outcome) => self.take_outcome(at_ns, outcome),
            None => Ok(()),
        }
    }

    /// The search for a layout that holds has ended.
    fn take_outcome(&mut self, at_ns: u64, outcome: Outcome) -> Result<(), Unread> {
        self.regain = None;
        match outcome {
            Outcome::Holds(layout) => {
                log::info!("a layout that holds: {layout:?}");
                self.subject.learnt.core_ticks.set(&layout);
                self.subject.learnt.change.order(Tracking::State(layout));
                self.coming = Some(Coming::State(layout));
                Ok(())
            }
            Outcome::Nothing(why) => self.send(Record::TierChanged {
                tier: match self.frames {
                    Some(_) => Tier::Frames,
                    None => Tier::Scheduler,
                },
                at_ns,
                why: format!("no layout of Tokio's state that holds was found: {why}"),
            }),
        }
    }

    /// The kernel side has begun anew, as ordered: nothing that was open is heard of again.
    pub(super) fn begin_anew(&mut self, at_ns: u64) -> Result<(), Unread> {
        self.drop_running();
        self.polls.restart();
        self.workers.restart();
        self.last_look.clear();
        // Those that only their names made workers are met again if they are.
        for tid in self.workers.part_with_all_met() {
            self.send(Record::WorkerGone { tid, at_ns })?;
        }
        let (frames, layout, tier) = match self.coming.take() {
            Some(Coming::Frames(frames)) => (Some(*frames), None, Tier::Frames),
            Some(Coming::State(layout)) => (None, Some(layout), layout.tier()),
            Some(Coming::Nothing) => (None, None, Tier::Scheduler),
            None => return Ok(()),
        };
        self.frames = frames;
        self.subject.layout = layout;
        self.subject.tier = tier;
        let Some(layout) = layout else {
            self.trust = Trust::new(&self.subject);
            return Ok(());
        };
        self.subject.other_ticks = self.subject.discovery.other_ticks(&layout);
        self.trust = Trust::new(&self.subject);
        self.send(Record::TierChanged {
            tier,
            at_ns,
            why: "a layout of Tokio's state that holds was found".to_owned(),
        })
    }

    /// What was told as running will not be told to its end.
    fn drop_running(&mut self) {
        self.losses.poll_unconfirmed += self.running.len() as u64;
        self.running.clear();
    }

    /// The process has become another program: the one that was watched is gone, and whatever looks
    /// like its workers is not.
    pub(super) fn end_with_program(&mut self) -> Result<(), Unread> {
        self.trust.lose();
        self.regain = None;
        self.drop_running();
        self.send(Record::TierChanged {
            tier: Tier::Scheduler,
            at_ns: monotonic_ns(),
            why: "the process replaced itself by another program (exec), and what was watched has \
                  ended; start hud again to watch the new one"
                .to_owned(),
        })?;
        self.subject.replaced.store(true, Ordering::Relaxed);
        Ok(())
    }
}
