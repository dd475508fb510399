//! The timeline: every worker's lane over the whole session, to zoom and pan, with a cursor that
//! selects slow polls.

mod cells;
mod draw;
mod poll;

use std::sync::Arc;

use ratatui::layout::Rect;

use self::cells::columns_of;
use crate::model::SlowPoll;
use crate::session::{Filter, Snapshot, WorkerView};
use crate::tui::state::keys::Action;
use crate::tui::widgets::canvas::Hit;

/// The finest zoom.
const FINEST_NS: u64 = 1_000_000;

/// The part of the session in view, and where the cursor is.
#[derive(Debug, Default)]
pub struct TimelineView {
    /// The whole session, from its start to now.
    all: (u64, u64),
    /// The part in view; None: all of it.
    zoomed: Option<(u64, u64)>,
    cursor_ns: u64,
    /// Threads with a lane, top down.
    lanes: Vec<u32>,
    lane: usize,
    offset: usize,
    /// The slow polls that the filter admits, by start.
    polls: Vec<Arc<SlowPoll>>,
    /// The poll under the cursor: its thread and start.
    picked: Option<(u32, u64)>,
    /// Where the lanes and the scrubber were drawn last.
    lanes_area: Rect,
    scrubber: Rect,
    /// The user moved the cursor. Until then it stays on the last poll.
    moved: bool,
    /// Rank, by length, of the poll that the last key jumped to; 0 is the longest.
    jumped: Option<usize>,
}

impl TimelineView {
    /// Takes a new snapshot, whose `in_span` has the slow polls of the whole session.
    pub fn update(&mut self, snap: &Snapshot, filter: &Filter) {
        let start = snap.header.as_ref().map_or(snap.now_ns, |h| h.start_ns);
        let end = snap.ended.map_or(snap.now_ns, |(_, at)| at);
        // A poll that was under way at the start belongs to the session.
        let first = snap.in_span.first().map_or(start, |poll| poll.start_ns);
        self.all = (first.min(start), end.max(start + FINEST_NS));
        let chosen = |w: &&WorkerView| {
            filter
                .workers
                .as_ref()
                .is_none_or(|set| set.contains(&w.worker.tid))
        };
        let held = self.lanes.get(self.lane).copied();
        self.lanes.clear();
        self.lanes
            .extend(snap.workers.iter().filter(chosen).map(|w| w.worker.tid));
        // A thread id that was reused has one lane, that of the living thread.
        let mut seen = std::collections::BTreeSet::new();
        self.lanes.retain(|tid| seen.insert(*tid));
        self.lane = self
            .lanes
            .iter()
            .position(|tid| Some(*tid) == held)
            .unwrap_or(0);
        self.polls.clear();
        let admitted = snap.in_span.iter().filter(|poll| filter.admits(poll));
        self.polls.extend(admitted.cloned());
        // After the end, polls that never ended are in `in_span` as well.
        if snap.ended.is_none() {
            let running = snap.running.iter().filter(|poll| filter.admits(poll));
            self.polls.extend(running.cloned());
            self.polls.sort_by_key(|poll| (poll.start_ns, poll.tid));
        }
        if !self.moved {
            self.cursor_ns = self.all.1 - 1;
            if let Some(last) = self.polls.last().cloned() {
                self.put_on(&last);
            }
        }
        self.cursor_ns = self.cursor_ns.clamp(self.all.0, self.all.1 - 1);
    }

    fn view(&self) -> (u64, u64) {
        self.zoomed.unwrap_or(self.all)
    }

    /// The slow poll under the cursor.
    pub fn poll(&self) -> Option<&Arc<SlowPoll>> {
        let (tid, start) = self.picked?;
        self.polls
            .iter()
            .find(|p| (p.tid, p.start_ns) == (tid, start))
    }

    /// Does what a key asks for.
    pub fn act(&mut self, action: Action) {
        self.moved = true;
        if action != Action::Longest {
            self.jumped = None;
        }
        let column = self.column_ns();
        let page = i128::from(column) * i128::from(self.lanes_area.width / 2);
        match action {
            Action::Left => self.move_by(-i128::from(column)),
            Action::Right => self.move_by(i128::from(column)),
            Action::PageUp => self.move_by(-page),
            Action::PageDown => self.move_by(page),
            Action::Home => self.move_to(self.all.0),
            Action::End => self.move_to(self.all.1 - 1),
            Action::Up => self.go_to_lane(self.lane.saturating_sub(1)),
            Action::Down => self.go_to_lane(self.lane + 1),
            Action::Next => self.jump(false),
            Action::Previous => self.jump(true),
            Action::Longest => self.longest(),
            Action::ZoomIn => self.zoom(true),
            Action::ZoomOut => self.zoom(false),
            Action::Whole => self.zoomed = None,
            _ => {}
        }
    }

    /// The mouse wheel over the lanes: zooms at the moment under it.
    pub fn wheel(&mut self, column: u16, into: bool) {
        if let Some(at_ns) = self.moment(self.lanes_area, self.view(), column) {
            self.moved = true;
            self.cursor_ns = at_ns;
            self.zoom(into);
        }
    }

    /// A click on a lane, or on the scrubber.
    pub fn click(&mut self, column: u16, hit: Hit) {
        self.moved = true;
        match hit {
            Hit::Lane(lane) => {
                if let Some(at_ns) = self.moment(self.lanes_area, self.view(), column) {
                    self.lane = lane.min(self.lanes.len().saturating_sub(1));
                    self.move_to(at_ns);
                }
            }
            Hit::Scrubber => {
                if let Some(at_ns) = self.moment(self.scrubber, self.all, column) {
                    self.move_to(at_ns);
                }
            }
            _ => {}
        }
    }

    /// The moment in the middle of a screen column.
    fn moment(&self, area: Rect, (from, to): (u64, u64), column: u16) -> Option<u64> {
        let column = column.checked_sub(area.x).filter(|c| *c < area.width)?;
        let (start, end) = columns_of(from, to, area.width, column);
        Some(start + (end - start) / 2)
    }

    fn column_ns(&self) -> u64 {
        let (from, to) = self.view();
        // Not drawn yet: any width will do.
        let columns = match self.lanes_area.width {
            0 => 100,
            columns => u64::from(columns),
        };
        (to.saturating_sub(from) / columns).max(1)
    }

    fn move_by(&mut self, by: i128) {
        let to = (i128::from(self.cursor_ns) + by).clamp(0, i128::from(u64::MAX));
        self.move_to(to as u64);
    }

    /// Puts the cursor on a moment, pans there, and selects the poll under it.
    fn move_to(&mut self, at_ns: u64) {
        self.cursor_ns = at_ns.clamp(self.all.0, self.all.1.saturating_sub(1));
        self.reveal();
        self.pick();
    }

    fn go_to_lane(&mut self, lane: usize) {
        self.lane = lane.min(self.lanes.len().saturating_sub(1));
        self.pick();
    }

    /// The longest poll on the cursor's lane within the cursor's column.
    fn pick(&mut self) {
        let half = self.column_ns().div_ceil(2);
        let (from, to) = (
            self.cursor_ns.saturating_sub(half),
            self.cursor_ns.saturating_add(half),
        );
        let lane = self.lanes.get(self.lane);
        let here = |p: &&Arc<SlowPoll>| Some(&p.tid) == lane && p.start_ns < to && p.end_ns > from;
        let picked = self.polls.iter().filter(here).max_by_key(|p| p.held_ns());
        self.picked = picked.map(|p| (p.tid, p.start_ns));
    }

    /// Pans so that the cursor is in view, a tenth from the edge.
    fn reveal(&mut self) {
        let Some((from, to)) = self.zoomed else {
            return;
        };
        let span = to.saturating_sub(from);
        if (from..to).contains(&self.cursor_ns) {
            return;
        }
        let from = match self.cursor_ns < from {
            true => self.cursor_ns.saturating_sub(span / 10),
            false => self.cursor_ns.saturating_sub(span - span / 10),
        };
        self.show(from, span);
    }

    /// Shows `span` of the session from `from` on, shifted to lie within it.
    fn show(&mut self, from: u64, span: u64) {
        let whole = self.all.1.saturating_sub(self.all.0);
        if span >= whole {
            self.zoomed = None;
            return;
        }
        let from = from.clamp(self.all.0, self.all.1 - span);
        self.zoomed = Some((from, from + span));
    }

    fn zoom(&mut self, into: bool) {
        let (from, to) = self.view();
        let span = to.saturating_sub(from).max(1);
        let next = match into {
            true => (span / 2).max(FINEST_NS),
            false => span.saturating_mul(2),
        };
        // The moment under the cursor stays in its column.
        let before = self.cursor_ns.clamp(from, to).saturating_sub(from);
        let before = (u128::from(before) * u128::from(next) / u128::from(span)) as u64;
        self.show(self.cursor_ns.saturating_sub(before), next);
        self.reveal();
    }

    /// Puts the cursor on a poll.
    fn put_on(&mut self, poll: &SlowPoll) {
        if let Some(lane) = self.lanes.iter().position(|tid| *tid == poll.tid) {
            self.lane = lane;
        }
        let middle = poll.start_ns + poll.held_ns() / 2;
        self.cursor_ns = middle.clamp(self.all.0, self.all.1.saturating_sub(1));
        self.reveal();
        self.picked = Some((poll.tid, poll.start_ns));
    }

    /// The next poll by start, or the one before, on any lane.
    fn jump(&mut self, back: bool) {
        let at = self.picked.and_then(|(tid, start)| {
            self.polls
                .iter()
                .position(|p| (p.tid, p.start_ns) == (tid, start))
        });
        let after = self.polls.partition_point(|p| p.start_ns <= self.cursor_ns);
        let to = match (at, back) {
            (Some(at), false) => at + 1,
            (Some(at), true) => at.wrapping_sub(1),
            (None, false) => after,
            (None, true) => after.wrapping_sub(1),
        };
        if let Some(poll) = self.polls.get(to).cloned() {
            self.put_on(&poll);
        }
    }

    /// The longest poll; from there, the next longest.
    fn longest(&mut self) {
        let mut by_length: Vec<_> = self.polls.iter().collect();
        by_length.sort_by_key(|p| (std::cmp::Reverse(p.held_ns()), p.start_ns, p.tid));
        let next = self.jumped.map_or(0, |at| at + 1);
        if let Some(poll) = by_length.get(next).map(|p| (**p).clone()) {
            self.put_on(&poll);
            self.jumped = Some(next);
        }
    }
}

/// The column a moment falls into.
fn column_at(from: u64, to: u64, width: u16, at_ns: u64) -> Option<u16> {
    let (at, span) = (at_ns.checked_sub(from)?, to.saturating_sub(from).max(1));
    let column = u128::from(at) * u128::from(width) / u128::from(span);
    u16::try_from(column).ok().filter(|column| *column < width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{self as t, MS, START_NS};
    use crate::session::{Query, Session, SessionOptions};

    fn view() -> TimelineView {
        let mut session = Session::new(SessionOptions::default());
        t::session().iter().for_each(|record| session.apply(record));
        let mut view = TimelineView {
            lanes_area: Rect::new(0, 0, 100, 3),
            ..TimelineView::default()
        };
        let snap = session.snapshot(&Query {
            span: Some((0, u64::MAX)),
            ..Query::default()
        });
        view.update(&snap, &Filter::default());
        view
    }

    #[test]
    fn it_starts_on_the_last_poll_and_steps_through_all() {
        let mut view = view();
        assert_eq!(view.all, (START_NS, START_NS + 10_000 * MS));
        let last = view.polls.last().unwrap().start_ns;
        assert_eq!(view.poll().unwrap().start_ns, last);
        for _ in 1..view.polls.len() {
            view.act(Action::Previous);
        }
        assert_eq!(view.poll().unwrap().start_ns, START_NS + 100 * MS);
        view.act(Action::Next);
        view.act(Action::Next);
        let third = view.polls[2].clone();
        assert_eq!(view.poll(), Some(&third));
        assert_eq!(view.lanes[view.lane], third.tid);
    }

    #[test]
    fn the_longest_comes_first_then_the_next_longest() {
        let mut view = view();
        view.act(Action::Home);
        let mut held = Vec::new();
        for _ in 0..3 {
            view.act(Action::Longest);
            held.push(view.poll().unwrap().held_ns() / MS);
        }
        assert_eq!(held, [79, 78, 77]);
    }

    #[test]
    fn zooming_keeps_the_moment_in_its_column_and_panning_follows_the_cursor() {
        let mut view = view();
        view.act(Action::Longest);
        let column = |view: &TimelineView| {
            let (from, to) = view.view();
            column_at(from, to, 100, view.cursor_ns)
        };
        let before = column(&view).unwrap();
        for _ in 0..4 {
            view.act(Action::ZoomIn);
        }
        assert!(column(&view).unwrap().abs_diff(before) <= 1);
        let (from, to) = view.view();
        assert_eq!(to - from, 10_000 * MS / 16);
        view.act(Action::Home);
        assert_eq!(view.view().0, view.all.0);
        view.act(Action::End);
        assert_eq!(view.view().1, view.all.1);
        for _ in 0..60 {
            view.act(Action::ZoomIn);
        }
        let (from, to) = view.view();
        assert_eq!(to - from, FINEST_NS);
        for _ in 0..60 {
            view.act(Action::ZoomOut);
        }
        assert_eq!(view.view(), view.all);
    }

    #[test]
    fn a_click_picks_the_poll_on_its_lane() {
        let mut view = view();
        // The first poll of worker 0 lasts from 100 to 160 ms: column 1 of 100 over 10 s.
        view.click(1, Hit::Lane(0));
        let poll = view.poll().unwrap();
        assert_eq!((poll.tid, poll.held_ns()), (4001, 60 * MS));
        view.click(3, Hit::Lane(0));
        assert_eq!(view.poll(), None);
    }
}
