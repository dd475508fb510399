//! The whole terminal view: a session, the query that the views ask of it, and the views.
//!
//! [`App`] does no input or output: events go in, [`Effect`]s come out, and [`App::draw`] draws the
//! last snapshot. It is the same in a terminal, in a test and in a benchmark.

mod copy;
mod input;
mod mouse;
pub mod screen;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::model::{EndReason, Record};
use crate::session::{
    Filter, Group, Query, RowKey, Scope, Session, SessionOptions, Snapshot, Sort,
};
use crate::tui::frame::footer::Hints;
use crate::tui::frame::header::ExpectedTarget;
use crate::tui::overlays::workers::Picker;
use crate::tui::state::{Prompt, View};
use crate::tui::views::culprits::{self, CulpritsView};
use crate::tui::views::detail::DetailView;
use crate::tui::views::flame::{self, FlameView};
use crate::tui::views::poll_time::PollTimeView;
use crate::tui::views::timeline::TimelineView;
use crate::tui::widgets::canvas::Hits;
use crate::tui::widgets::theme::Theme;

/// A message stays for this long, and for as long again for each letter.
const MESSAGE: Duration = Duration::from_secs(3);
const MESSAGE_LETTER: Duration = Duration::from_millis(50);

/// What no record says.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// A rolling window for the table, beside the totals since the start.
    pub window: Option<Duration>,
    /// Only workers whose thread name begins with this.
    pub workers_prefix: Option<String>,
    /// The records come from a file.
    pub replay: bool,
    pub theme: Theme,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Quit,
    /// Stop hud until `fg`.
    Suspend,
    /// Put a text into the clipboard.
    Copy(String),
    /// Write a text into a new file.
    CopyToFile(String),
    /// Read every thread of the process.
    Census,
    /// Save the trace.
    Save(PathBuf),
    /// Switch the sampling of all poll time on or off.
    AllPollTime(bool),
    /// Capture the mouse, or leave it to the terminal.
    Mouse(bool),
}

/// What is open above the view.
#[derive(Debug)]
pub(super) enum Overlay {
    Help { scroll: usize },
    Workers(Picker),
    Threads { scroll: usize },
}

impl Overlay {
    /// Its keys, for the footer.
    fn hints(&self) -> &'static Hints {
        match self {
            Overlay::Help { .. } => &[("j k", "scroll"), ("Esc", "close")],
            Overlay::Threads { .. } => &[("j k", "scroll"), ("T", "read again"), ("Esc", "close")],
            Overlay::Workers(_) => &[
                ("Space", "toggle"),
                ("a", "all or none"),
                ("Enter", "apply"),
                ("Esc", "cancel"),
            ],
        }
    }
}

/// The whole view.
#[derive(Debug)]
pub struct App {
    options: AppOptions,
    session: Session,
    /// While paused: the session as it was then, which can still be queried.
    frozen: Option<Box<Session>>,
    /// Slow polls since the pause began.
    missed: u64,
    snap: Snapshot,
    pub(super) view: View,
    /// The view that Esc leads back to from the drill-down and the flame view.
    back: View,
    /// The row that the drill-down and the flame view are about.
    subject: Option<RowKey>,
    scope: Scope,
    group: Group,
    sort: Sort,
    min_held_ns: u64,
    workers: Option<BTreeSet<u32>>,
    /// The text searched for, in lower case.
    search: String,
    culprits: CulpritsView,
    detail: DetailView,
    flame: FlameView,
    pub(super) timeline: TimelineView,
    poll_time: PollTimeView,
    pub(super) overlay: Option<Overlay>,
    prompt: Option<Prompt>,
    message: Option<String>,
    message_at: Option<Instant>,
    /// What hud itself is busy with.
    status: Option<String>,
    /// The process about to be watched, while there is no header record.
    expected: Option<ExpectedTarget>,
    mouse: bool,
    hits: Hits,
    size: (u16, u16),
    now_ns: Option<u64>,
    dirty: bool,
    drawn_revision: u64,
}

impl App {
    /// An app without any record.
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
            culprits: CulpritsView::default(),
            detail: DetailView::default(),
            flame: FlameView::default(),
            timeline: TimelineView::default(),
            poll_time: PollTimeView::default(),
            overlay: None,
            prompt: None,
            message: None,
            message_at: None,
            status: None,
            expected: None,
            mouse: true,
            hits: Hits::default(),
            size: (0, 0),
            now_ns: None,
            dirty: true,
            drawn_revision: 0,
        }
    }

    /// Adds a record to the session. Shown from the next [`App::refresh`] on.
    pub fn apply(&mut self, record: &Record) {
        self.session.apply(record);
        if self.frozen.is_some() && matches!(record, Record::SlowPoll(_)) {
            self.missed += 1;
        }
    }

    /// Takes a new snapshot for the moment `now_ns` on `CLOCK_MONOTONIC`; None for a recording, which
    /// is shown as of its last record.
    pub fn refresh(&mut self, now_ns: Option<u64>) {
        if self.frozen.is_none() {
            let ended = self.snap.ended.is_some();
            self.now_ns = now_ns.filter(|_| !ended);
        }
        let query = self.query();
        let session = self.frozen.as_deref_mut().unwrap_or(&mut self.session);
        self.snap = session.snapshot(&query);
        self.drawn_revision = self.session.revision();
        self.culprits.table.update(&self.snap, &self.search);
        match self.view {
            View::Culprits => {}
            View::Detail => self.detail.update(&self.snap),
            View::Flame => self.flame.update(&self.snap),
            View::Timeline => self.timeline.update(&self.snap, &query.filter),
            View::PollTime => self.poll_time.update(&self.snap, &self.search),
        }
        self.dirty = false;
    }

    /// Takes a new snapshot of the same moment if a key changed something since the last one.
    fn settle(&mut self) {
        if self.dirty {
            self.refresh(self.now_ns);
        }
    }

    /// Whether the screen would change: a key changed something, a record came, or (on a running
    /// clock) enough time has passed since the last snapshot, `since` ago.
    pub fn needs_redraw(&self, since: Duration) -> bool {
        if self.dirty {
            return true;
        }
        if self.frozen.is_some() {
            // Only the count of missed polls changes.
            return self.missed > 0 && since >= Duration::from_secs(1);
        }
        let clock = !self.options.replay && self.snap.ended.is_none();
        let running = !self.snap.running.is_empty();
        self.session.revision() != self.drawn_revision
            || clock && (running || since >= Duration::from_secs(1))
    }

    /// The session, for uses other than drawing.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Shows a message until the next key, or until there was time to read it.
    pub fn say(&mut self, message: impl Into<String>) {
        self.message = Some(message.into());
        self.message_at = Some(Instant::now());
        self.dirty = true;
    }

    /// Removes the message if there was time to read it.
    pub fn expire_message(&mut self, now: Instant) {
        let (Some(message), Some(at)) = (&self.message, self.message_at) else {
            return;
        };
        let letters = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let time = MESSAGE.saturating_add(MESSAGE_LETTER.saturating_mul(letters));
        if now.saturating_duration_since(at) >= time {
            self.message = None;
            self.dirty = true;
        }
    }

    /// Chooses the colours for a light or a dark background.
    pub fn set_light(&mut self, light: bool) {
        self.dirty |= self.options.theme.light != light;
        self.options.theme.light = light;
    }

    /// Sets what hud itself is busy with, if with anything.
    pub fn set_status(&mut self, status: Option<String>) {
        self.dirty |= status != self.status;
        self.status = status;
    }

    /// Names the process about to be watched, before the first record.
    pub fn expect(&mut self, process: &str, pid: u32, command: &str) {
        self.expected = Some(ExpectedTarget {
            process: process.to_owned(),
            pid,
            command: command.to_owned(),
        });
        self.dirty = true;
    }

    /// Columns and rows of the last drawn screen.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Why the session ended, if its records say so.
    pub fn ended(&self) -> Option<EndReason> {
        self.snap.ended.map(|(reason, _)| reason)
    }

    fn touch(&mut self) {
        self.dirty = true;
    }

    fn paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Pauses the view, or resumes it.
    fn toggle_pause(&mut self) {
        self.missed = 0;
        self.frozen = match self.frozen.take() {
            Some(_) => None,
            None => Some(Box::new(self.session.clone())),
        };
    }

    /// Clears the slow polls so far.
    fn clear(&mut self) {
        self.session.clear();
        self.frozen = None;
        self.missed = 0;
        self.culprits.table.select_first();
    }

    /// The threshold that the capture applied, nanoseconds.
    fn captured_ns(&self) -> u64 {
        self.snap.header.as_ref().map_or(0, |h| h.threshold_ns)
    }

    /// A snapshot with the details of one row.
    fn snapshot_of(&mut self, key: &RowKey) -> Snapshot {
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
                View::Culprits if culprits::has_room_for_preview(self.size) => {
                    self.culprits.table.selected_key()
                }
                View::Detail => self.subject.clone(),
                View::Flame if !everything => self.subject.clone(),
                _ => None,
            },
            recent: 0,
            // The timeline steps through all polls of the session.
            span: (self.view == View::Timeline).then_some((0, u64::MAX)),
            profile: self.view == View::PollTime,
        }
    }
}
