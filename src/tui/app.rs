//! The state of the terminal view: a session, what is asked of it, and where the cursor is.
//!
//! [`App`] does no input or output: events go in, [`Effect`]s come out, and [`App::draw`] paints
//! the last snapshot. That makes it the same under a terminal, a test and a benchmark.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tui_input::Input;

use super::canvas::Hits;
use super::culprits::Table;
use super::detail::DetailView;
use super::flame::{self, FlameView};
use super::poll_time::PollTimeView;
use super::theme::Theme;
use super::timeline::TimelineView;
use super::workers_filter::Picker;
use crate::model::Record;
use crate::session::{
    Filter, Group, Query, RowKey, Scope, Session, SessionOptions, Snapshot, Sort,
};

/// A message is seen after this long, and read after as long again for each letter.
const SEEN: Duration = Duration::from_secs(3);
const READ_LETTER: Duration = Duration::from_millis(50);

/// The screens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// The first screen: workers, what is stuck, and the table of culprits.
    #[default]
    Culprits,
    /// Everything about one row of the table.
    Detail,
    /// Call trees as bars, of one row or of all.
    Flame,
    /// Workers over the whole session.
    Timeline,
    /// Where all of the workers' CPU time in polls goes, slow or not.
    PollTime,
}

impl View {
    /// In the order of their keys.
    pub const ALL: [View; 5] = [
        View::Culprits,
        View::Detail,
        View::Flame,
        View::Timeline,
        View::PollTime,
    ];

    /// The view to its right, round to the first.
    pub fn next(self) -> View {
        self.step(1)
    }

    /// The view to its left, round to the last.
    pub fn previous(self) -> View {
        self.step(View::ALL.len() - 1)
    }

    fn step(self, by: usize) -> View {
        let at = View::ALL.iter().position(|v| *v == self).unwrap_or(0);
        View::ALL[(at + by) % View::ALL.len()]
    }
}

/// What the view needs to know that no record says.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// Rolling window of the table beside the totals since the start.
    pub window: Option<Duration>,
    /// Only workers whose thread name begins with this.
    pub workers_prefix: Option<String>,
    /// The records come from a file.
    pub replay: bool,
    pub theme: Theme,
}

/// What the world outside is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Quit,
    /// Give the terminal back to the shell until `fg`.
    Suspend,
    /// Put a text into the clipboard.
    Copy(String),
    /// Write a text into a new file.
    CopyToFile(String),
    /// Look at every thread of the process.
    Census,
    /// Save the trace.
    Save(PathBuf),
    /// Sample all poll time, or no longer.
    AllPollTime(bool),
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
}

/// A line being typed.
#[derive(Debug)]
pub enum Prompt {
    Search(Input),
    Save(Input),
}

/// What lies above the view.
#[derive(Debug)]
pub enum Overlay {
    Help {
        scroll: usize,
    },
    Workers(Picker),
    /// Every thread, as of the last look.
    Census {
        scroll: usize,
    },
}

/// The whole view.
#[derive(Debug)]
pub struct App {
    pub(super) options: AppOptions,
    session: Session,
    /// The session as it was when the picture was frozen: everything can still be asked of it.
    frozen: Option<Box<Session>>,
    /// Slow polls since then.
    pub(super) missed: u64,
    pub(super) snap: Snapshot,
    pub(super) view: View,
    /// Where Esc leads from the drill-down and the flame view.
    pub(super) back: View,
    /// The row that the drill-down and the flame view are about.
    pub(super) subject: Option<RowKey>,
    pub(super) scope: Scope,
    pub(super) group: Group,
    pub(super) sort: Sort,
    pub(super) min_held_ns: u64,
    pub(super) workers: Option<BTreeSet<u32>>,
    /// The text searched for, as typed; lower case.
    pub(super) search: String,
    pub(super) table: Table,
    pub(super) lanes_scroll: usize,
    pub(super) detail: DetailView,
    pub(super) flame: FlameView,
    pub(super) timeline: TimelineView,
    pub(super) poll_time: PollTimeView,
    pub(super) overlay: Option<Overlay>,
    pub(super) prompt: Option<Prompt>,
    pub(super) message: Option<String>,
    /// When it was said.
    said: Option<Instant>,
    pub(super) status: Option<String>,
    /// Process, number and command, as long as there is no header.
    pub(super) watches: Option<(String, u32, String)>,
    pub(super) mouse: bool,
    pub(super) hits: Hits,
    pub(super) size: (u16, u16),
    now_ns: Option<u64>,
    dirty: bool,
    drawn_revision: u64,
}

impl App {
    /// Nothing known yet.
    pub fn new(options: AppOptions) -> App {
        let mut session = Session::new(SessionOptions {
            window: options.window,
            workers_prefix: options.workers_prefix.clone(),
            ..SessionOptions::default()
        });
        let scope = match options.window {
            Some(_) => Scope::Window,
            None => Scope::Session,
        };
        App {
            snap: session.snapshot(&Query::default()),
            options,
            session,
            frozen: None,
            missed: 0,
            view: View::Culprits,
            back: View::Culprits,
            subject: None,
            scope,
            group: Group::default(),
            sort: Sort::default(),
            min_held_ns: 0,
            workers: None,
            search: String::new(),
            table: Table::default(),
            lanes_scroll: 0,
            detail: DetailView::default(),
            flame: FlameView::default(),
            timeline: TimelineView::default(),
            poll_time: PollTimeView::default(),
            overlay: None,
            prompt: None,
            message: None,
            said: None,
            status: None,
            watches: None,
            mouse: true,
            hits: Hits::default(),
            size: (0, 0),
            now_ns: None,
            dirty: true,
            drawn_revision: 0,
        }
    }

    /// Takes in what happened. The picture changes with the next [`App::refresh`].
    pub fn apply(&mut self, record: &Record) {
        self.session.apply(record);
        if self.frozen.is_some() && matches!(record, Record::SlowPoll(_)) {
            self.missed += 1;
        }
    }

    /// Takes a new picture, for the moment `now_ns` on `CLOCK_MONOTONIC`; none for a recording,
    /// which is shown as of its last record.
    pub fn refresh(&mut self, now_ns: Option<u64>) {
        if self.frozen.is_none() {
            let ended = self.snap.ended.is_some();
            self.now_ns = now_ns.filter(|_| !ended);
        }
        let query = self.query();
        let session = self.frozen.as_deref_mut().unwrap_or(&mut self.session);
        self.snap = session.snapshot(&query);
        self.drawn_revision = self.session.revision();
        self.table.update(&self.snap, &self.search);
        match self.view {
            View::Culprits => {}
            View::Detail => self.detail.update(&self.snap, &self.search),
            View::Flame => self.flame.update(&self.snap),
            View::Timeline => self.timeline.update(&self.snap, &query.filter),
            View::PollTime => self.poll_time.update(&self.snap, &self.search),
        }
        self.dirty = false;
    }

    /// Takes a new picture of the same moment if something was pressed since the last one.
    pub(super) fn settle(&mut self) {
        if self.dirty {
            self.refresh(self.now_ns);
        }
    }

    /// Whether a new picture would differ: something was pressed, a record came, or (with the
    /// clock running) time passed since the last picture, `since` ago.
    pub fn needs_redraw(&self, since: Duration) -> bool {
        if self.dirty {
            return true;
        }
        if self.frozen.is_some() {
            // Only the count of what is missed goes on.
            return self.missed > 0 && since >= Duration::from_secs(1);
        }
        let clock = !self.options.replay && self.snap.ended.is_none();
        let running = !self.snap.running.is_empty();
        self.session.revision() != self.drawn_revision
            || clock && (running || since >= Duration::from_secs(1))
    }

    /// All that is known, for what is done with it beside drawing.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Says something in the footer until the next key, or until there was time to read it.
    pub fn say(&mut self, message: impl Into<String>) {
        self.message = Some(message.into());
        self.said = Some(Instant::now());
        self.dirty = true;
    }

    /// Takes back what was said, if by now there was time to read it.
    pub fn forget_old_message(&mut self, now: Instant) {
        let (Some(message), Some(said)) = (&self.message, self.said) else {
            return;
        };
        let letters = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let time = SEEN.saturating_add(READ_LETTER.saturating_mul(letters));
        if now.saturating_duration_since(said) >= time {
            self.message = None;
            self.dirty = true;
        }
    }

    /// The terminal's background is light, or it is not.
    pub fn set_light(&mut self, light: bool) {
        self.dirty |= self.options.theme.light != light;
        self.options.theme.light = light;
    }

    /// What hud itself is busy with; none when with nothing special.
    pub fn set_status(&mut self, status: Option<String>) {
        self.dirty |= status != self.status;
        self.status = status;
    }

    /// Names the process that is going to be watched, before there is a first record.
    pub fn watches(&mut self, process: &str, pid: u32, command: &str) {
        self.watches = Some((process.to_owned(), pid, command.to_owned()));
        self.dirty = true;
    }

    /// Columns and rows of the last drawn picture.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// The session has come to its end, by its own records.
    pub fn ended(&self) -> Option<crate::model::EndReason> {
        self.snap.ended.map(|(reason, _)| reason)
    }

    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    pub(super) fn paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Freezes the picture, or lets it go on.
    pub(super) fn toggle_pause(&mut self) {
        self.missed = 0;
        self.frozen = match self.frozen.take() {
            Some(_) => None,
            None => Some(Box::new(self.session.clone())),
        };
    }

    /// Forgets the slow polls so far.
    pub(super) fn clear(&mut self) {
        self.session.clear();
        self.frozen = None;
        self.missed = 0;
        self.table.select(None);
    }

    /// The threshold that the capture applied, nanoseconds.
    pub(super) fn captured_ns(&self) -> u64 {
        self.snap.header.as_ref().map_or(0, |h| h.threshold_ns)
    }

    /// The picture with one row's details, wherever the view is.
    pub(super) fn snapshot_of(&mut self, key: &RowKey) -> Snapshot {
        let query = Query {
            selected: Some(key.clone()),
            ..self.query()
        };
        let session = self.frozen.as_deref_mut().unwrap_or(&mut self.session);
        session.snapshot(&query)
    }

    fn query(&self) -> Query {
        let everything = self.view == View::Flame && self.flame.everything;
        Query {
            now_ns: self.now_ns,
            scope: self.scope,
            group: self.group,
            sort: self.sort,
            filter: Filter {
                min_held_ns: self.min_held_ns,
                workers: self.workers.clone(),
            },
            details: if everything { flame::ROWS } else { 0 },
            selected: match self.view {
                View::Culprits if super::preview::fits(self.size) => self.table.selected_key(),
                View::Detail => self.subject.clone(),
                View::Flame if !everything => self.subject.clone(),
                _ => None,
            },
            recent: 0,
            // Next, previous and longest go over all there are.
            span: (self.view == View::Timeline).then_some((0, u64::MAX)),
            profile: self.view == View::PollTime,
        }
    }
}
