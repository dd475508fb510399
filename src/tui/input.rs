//! What events do: keys, the mouse, and typing into a prompt.

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler;

use super::app::{App, Effect, Overlay, Prompt, View};
use super::canvas::Hit;
use super::copy;
use super::flame::Done;
use super::keys::{self, Action};
use super::text;
use super::workers_filter::{Choice, Picker};
use crate::session::{Group, RowKey, Scope, Sort};

/// Thresholds of the view, milliseconds.
const THRESHOLDS_MS: [u64; 15] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000,
];
/// Rows a turn of the mouse wheel moves.
const WHEEL: isize = 3;

impl App {
    /// Takes in an event; gives what the world outside is asked to do.
    pub fn handle(&mut self, event: &Event) -> Option<Effect> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let effect = self.key(key);
                self.touch();
                effect
            }
            Event::Mouse(mouse) => self.mouse(mouse),
            Event::Resize(..) => {
                self.touch();
                None
            }
            Event::Paste(text) => {
                self.touch();
                if let Some(Prompt::Search(input) | Prompt::Save(input)) = &mut self.prompt {
                    *input = Input::new(format!("{}{}", input.value(), text::clean(text)));
                    self.typed();
                }
                None
            }
            _ => None,
        }
    }

    fn key(&mut self, key: &KeyEvent) -> Option<Effect> {
        self.message = None;
        // Keys come faster than pictures: each acts on what the one before it led to.
        self.settle();
        let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
        if ctrl_c {
            return Some(Effect::Quit);
        }
        if self.prompt.is_some() {
            return self.prompt_key(key);
        }
        match &mut self.overlay {
            Some(Overlay::Help { scroll } | Overlay::Census { scroll }) => {
                match keys::action(key) {
                    Some(Action::Threads) => return self.threads(),
                    Some(Action::Down) => *scroll += 1,
                    Some(Action::Up) => *scroll = scroll.saturating_sub(1),
                    Some(Action::PageDown) => *scroll += 10,
                    Some(Action::PageUp) => *scroll = scroll.saturating_sub(10),
                    Some(Action::Home) => *scroll = 0,
                    Some(Action::End) => *scroll = usize::MAX,
                    Some(Action::Help | Action::Back | Action::Quit) => self.overlay = None,
                    Some(Action::View(view)) => {
                        self.overlay = None;
                        self.go(view);
                    }
                    _ => {}
                }
                return None;
            }
            Some(Overlay::Workers(picker)) => {
                match picker.key(key) {
                    Choice::Open => {}
                    Choice::Cancelled => self.overlay = None,
                    Choice::Made(workers) => {
                        self.workers = workers;
                        self.overlay = None;
                    }
                }
                return None;
            }
            None => {}
        }
        keys::action(key).and_then(|action| self.act(action))
    }

    fn prompt_key(&mut self, key: &KeyEvent) -> Option<Effect> {
        match (key.code, self.prompt.take()) {
            (KeyCode::Esc, Some(Prompt::Search(_))) => {
                self.search.clear();
                None
            }
            (KeyCode::Enter, Some(Prompt::Save(input))) => {
                let path = input.value().trim();
                (!path.is_empty()).then(|| Effect::Save(path.into()))
            }
            (KeyCode::Esc | KeyCode::Enter, _) => None,
            (_, prompt) => {
                self.prompt = prompt;
                if let Some(Prompt::Search(input) | Prompt::Save(input)) = &mut self.prompt {
                    input.handle_event(&Event::Key(*key));
                }
                self.typed();
                None
            }
        }
    }

    /// The search follows the typing.
    fn typed(&mut self) {
        if let Some(Prompt::Search(input)) = &self.prompt {
            self.search = input.value().to_lowercase();
        }
    }

    fn act(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::View(view) => self.go(view),
            Action::NextView => self.go(self.view.next()),
            Action::PreviousView => self.go(self.view.previous()),
            Action::Search => self.prompt = Some(Prompt::Search(Input::new(self.search.clone()))),
            Action::Clear if self.options.replay => {
                self.say("a recording is not cleared");
            }
            Action::Clear => {
                self.clear();
                self.say("cleared: the table starts anew");
            }
            Action::Group => {
                let at = Group::ALL.iter().position(|g| *g == self.group);
                let next = at.map_or(0, |i| (i + 1) % Group::ALL.len());
                self.group = Group::ALL[next];
                self.table.select(None);
                self.go(View::Culprits);
            }
            Action::Sort => self.sort_by(1),
            Action::SortBack => self.sort_by(Sort::ALL.len() - 1),
            Action::Reverse => self.table.reversed = !self.table.reversed,
            Action::Pause => self.toggle_pause(),
            Action::Raise => self.threshold(true),
            Action::Lower => self.threshold(false),
            Action::Workers => {
                let picker = Picker::new(&self.snap, self.workers.as_ref());
                self.overlay = Some(Overlay::Workers(picker));
            }
            Action::Save => {
                let name = self.snap.header.as_ref().map_or("hud", |h| &h.process);
                let name: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
                self.prompt = Some(Prompt::Save(Input::new(format!("{name}.trace.json"))));
            }
            Action::Copy => return self.selection_text().map(Effect::Copy),
            Action::CopyToFile => return self.selection_text().map(Effect::CopyToFile),
            Action::Threads => return self.threads(),
            Action::Help => self.overlay = Some(Overlay::Help { scroll: 0 }),
            Action::Mouse => {
                self.mouse = !self.mouse;
                self.say(match self.mouse {
                    true => "the mouse is hud's: click and wheel",
                    false => "the mouse is the terminal's: select text with it",
                });
                return Some(Effect::Mouse(self.mouse));
            }
            Action::AllPollTime => return self.switch_all_poll_time(),
            Action::Scope => self.switch_scope(),
            Action::LanesUp => self.lanes_scroll = self.lanes_scroll.saturating_sub(1),
            Action::LanesDown => self.lanes_scroll += 1,
            other => match self.view {
                View::Culprits => self.in_table(other),
                View::Detail => self.in_detail(other),
                View::Flame => self.in_flame(other),
                View::Timeline => self.in_timeline(other),
                View::PollTime => self.in_poll_time(other),
            },
        }
        None
    }

    fn in_table(&mut self, action: Action) {
        let page = self.table.page() as isize;
        match action {
            Action::Up => self.table.move_by(-1),
            Action::Down => self.table.move_by(1),
            Action::PageUp => self.table.move_by(-page),
            Action::PageDown => self.table.move_by(page),
            Action::Home => self.table.select(None),
            Action::End => self.table.select_row(usize::MAX),
            Action::Open | Action::Right => self.go(View::Detail),
            Action::Back => self.search.clear(),
            _ => {}
        }
    }

    fn in_detail(&mut self, action: Action) {
        match action {
            Action::Back => self.go(self.back),
            other => self.detail.act(other, &self.search),
        }
    }

    fn in_flame(&mut self, action: Action) {
        match action {
            Action::Everything if self.flame.everything && self.subject.is_none() => {
                self.say("choose a culprit in the table first");
            }
            Action::Everything => self.flame.about(!self.flame.everything),
            other => {
                if self.flame.act(other, &self.search) == Done::Leave {
                    self.go(self.back);
                }
            }
        }
    }

    fn in_timeline(&mut self, action: Action) {
        match (action, self.timeline.poll()) {
            (Action::Back, _) => self.go(View::Culprits),
            (Action::Open, Some(poll)) => {
                let key = RowKey::of(poll, self.group);
                self.open(key);
                self.go(View::Detail);
            }
            (Action::Open, None) => self.say("no slow poll under the cursor: n finds the next"),
            (other, _) => self.timeline.act(other),
        }
    }

    fn in_poll_time(&mut self, action: Action) {
        if self.poll_time.act(action, &self.search) == Done::Leave {
            match self.search.is_empty() {
                true => self.go(View::Culprits),
                false => self.search.clear(),
            }
        }
    }

    /// Only the ring thread can tell that it took effect: the view changes with its record.
    fn switch_all_poll_time(&mut self) -> Option<Effect> {
        if self.options.replay || self.snap.ended.is_some() {
            self.say("all poll time can be sampled only while a process is watched");
            return None;
        }
        let on = !self.session().is_profiling();
        self.say(match on {
            true => "all poll time is sampled from now on: view 5 shows it, x ends it",
            false => "all poll time is no longer sampled",
        });
        Some(Effect::AllPollTime(on))
    }

    /// Goes to a view, about the culprit under the cursor where it is about one.
    pub(super) fn go(&mut self, view: View) {
        if self.view == View::Culprits
            && let Some(key) = self.table.selected_key()
        {
            self.open(key);
        }
        match (self.view, view) {
            (_, View::Detail) if self.subject.is_none() => {
                self.say("no culprit yet");
                return;
            }
            // Of what stands in the view one comes from: of one culprit, or of all.
            (View::Detail, View::Flame) => self.flame.about(false),
            (_, View::Flame) => self.flame.about(true),
            _ => {}
        }
        if view != self.view {
            self.back = match (self.view, view) {
                (View::Timeline, View::Detail) => View::Timeline,
                (View::Detail, View::Flame) => View::Detail,
                _ => View::Culprits,
            };
        }
        self.view = view;
        self.search.clear();
    }

    /// Makes a row the one that the drill-down is about.
    fn open(&mut self, key: RowKey) {
        if self.subject.as_ref() != Some(&key) {
            self.detail = Default::default();
        }
        self.subject = Some(key);
    }

    fn sort_by(&mut self, step: usize) {
        let at = Sort::ALL.iter().position(|s| *s == self.sort).unwrap_or(0);
        self.sort = Sort::ALL[(at + step) % Sort::ALL.len()];
    }

    fn threshold(&mut self, up: bool) {
        let captured = self.captured_ns();
        let now = self.min_held_ns.max(captured);
        let steps = THRESHOLDS_MS.map(|ms| ms * 1_000_000);
        let next = match up {
            true => steps.into_iter().find(|ns| *ns > now),
            false => steps.into_iter().rev().find(|ns| *ns < now),
        };
        match next {
            Some(ns) if ns > captured => {
                self.min_held_ns = ns;
                self.say(format!("polls of {} and longer", text::duration(ns)));
            }
            Some(_) => {
                self.min_held_ns = 0;
                self.say(format!(
                    "all of them: shorter ones than {} are not captured (--threshold)",
                    text::duration(captured)
                ));
            }
            None => {}
        }
    }

    fn switch_scope(&mut self) {
        if self.options.window.is_none() {
            self.say("there is no window beside the totals: start with --window SECS");
            return;
        }
        self.scope = match self.scope {
            Scope::Session => Scope::Window,
            Scope::Window => Scope::Session,
        };
    }

    /// What is selected, as text.
    fn selection_text(&mut self) -> Option<String> {
        let key = match self.view {
            View::Culprits => self.table.selected_key(),
            View::Detail | View::Flame => self.subject.clone(),
            View::Timeline | View::PollTime => None,
        };
        let snap = key.map(|key| self.snapshot_of(&key));
        let spot = self.poll_time.selected(&self.snap);
        let text = match (self.view, self.timeline.poll()) {
            (View::PollTime, _) => spot.map(|row| copy::spot(&self.snap, &row)),
            (View::Timeline, Some(poll)) => Some(copy::poll(&self.snap, poll)),
            _ => snap.and_then(|snap| copy::culprit(&snap)),
        };
        if text.is_none() {
            self.say("nothing to copy yet");
        }
        text
    }

    fn mouse(&mut self, mouse: &MouseEvent) -> Option<Effect> {
        let hit = self.hits.at(mouse.column, mouse.row);
        match mouse.kind {
            MouseEventKind::ScrollDown => self.wheel(hit, mouse.column, WHEEL),
            MouseEventKind::ScrollUp => self.wheel(hit, mouse.column, -WHEEL),
            MouseEventKind::Down(MouseButton::Left) => self.click(hit?, mouse.column),
            // The scrubber follows the mouse.
            MouseEventKind::Drag(MouseButton::Left) if hit == Some(Hit::Scrubber) => {
                self.timeline.click(mouse.column, Hit::Scrubber);
            }
            _ => return None,
        }
        self.touch();
        None
    }

    /// Opens the census; a live process is looked at anew.
    fn threads(&mut self) -> Option<Effect> {
        if self.options.replay || self.snap.ended.is_some() {
            if self.snap.census.is_none() {
                self.say("this recording has no census of the threads");
                return None;
            }
            self.overlay = Some(Overlay::Census { scroll: 0 });
            return None;
        }
        self.overlay = Some(Overlay::Census { scroll: 0 });
        Some(Effect::Census)
    }

    fn wheel(&mut self, hit: Option<Hit>, column: u16, by: isize) {
        match (&mut self.overlay, hit) {
            (Some(Overlay::Help { scroll } | Overlay::Census { scroll }), _) => {
                *scroll = scroll.saturating_add_signed(by);
            }
            (Some(Overlay::Workers(_)), _) => {}
            (None, Some(Hit::Lanes)) => {
                self.lanes_scroll = self.lanes_scroll.saturating_add_signed(by);
            }
            (None, hit) => match self.view {
                View::Culprits => self.table.move_by(by),
                View::Detail => self.detail.scroll(by, hit == Some(Hit::Facts)),
                View::Flame => self.in_flame(if by > 0 { Action::Down } else { Action::Up }),
                View::Timeline => self.timeline.wheel(column, by < 0),
                View::PollTime => self.poll_time.wheel(by, hit),
            },
        }
    }

    fn click(&mut self, hit: Hit, column: u16) {
        match (&mut self.overlay, hit) {
            (Some(Overlay::Workers(picker)), Hit::Row(at)) => picker.toggle(at),
            (Some(_), _) => {}
            (None, Hit::Row(at)) => match self.view {
                // A second click on the row under the cursor opens it.
                View::Culprits if self.table.is_at(at) => self.go(View::Detail),
                View::Culprits => self.table.select_row(at),
                View::Detail => self.detail.click(at),
                View::PollTime => self.poll_time.click_tree(at),
                View::Flame | View::Timeline => {}
            },
            (None, Hit::Sort(sort)) if sort == self.sort => {
                self.table.reversed = !self.table.reversed;
            }
            (None, Hit::Sort(sort)) => {
                self.sort = sort;
                self.table.reversed = false;
            }
            (None, Hit::View(view)) => self.go(view),
            (None, Hit::Facts) => self.detail.focus_facts(),
            (None, Hit::Spot(at)) => self.poll_time.click(at),
            (None, Hit::Frame(path)) if self.view == View::PollTime => {
                self.poll_time.click_flame(path);
            }
            (None, Hit::Frame(path)) => self.flame.click(path),
            (None, hit @ (Hit::Lane(_) | Hit::Scrubber)) => self.timeline.click(column, hit),
            (None, Hit::Lanes) => {}
        }
    }
}
