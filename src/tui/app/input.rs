//! What keys do, in the views, in overlays and in prompts.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler;

use super::{App, Effect, Overlay, copy};
use crate::session::{Group, RowKey, Scope, Sort};
use crate::text;
use crate::tui::overlays::workers::{Choice, Picker};
use crate::tui::state::keys::{self, Action};
use crate::tui::state::{Handled, Prompt, View};

/// Thresholds of the view, milliseconds.
const THRESHOLDS_MS: [u64; 15] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000,
];
impl App {
    /// Handles an event; returns what the caller has to do.
    pub fn handle(&mut self, event: &Event) -> Option<Effect> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let effect = self.key(key);
                self.touch();
                effect
            }
            Event::Mouse(mouse) => self.on_mouse(mouse),
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
        // Keys may arrive faster than screens are drawn: each acts on the result of the one before.
        self.settle();
        let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
        if ctrl_c {
            return Some(Effect::Quit);
        }
        if self.prompt.is_some() {
            return self.prompt_key(key);
        }
        match &mut self.overlay {
            Some(Overlay::Help { scroll } | Overlay::Threads { scroll }) => {
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

    /// Applies the search while it is typed.
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
                self.culprits.table.select_first();
                self.go(View::Culprits);
            }
            Action::Sort => self.sort_by(1),
            Action::SortBack => self.sort_by(Sort::ALL.len() - 1),
            Action::Reverse => self.culprits.table.reversed = !self.culprits.table.reversed,
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
                    true => "mouse on: click and wheel",
                    false => "mouse off: the terminal selects text with it",
                });
                return Some(Effect::Mouse(self.mouse));
            }
            Action::AllPollTime => return self.switch_all_poll_time(),
            Action::Scope => self.switch_scope(),
            other => match self.view {
                View::Culprits => self.in_culprits(other),
                View::Detail => self.in_detail(other),
                View::Flame => self.in_flame(other),
                View::Timeline => self.in_timeline(other),
                View::PollTime => self.in_poll_time(other),
            },
        }
        None
    }

    fn in_culprits(&mut self, action: Action) {
        match action {
            Action::Open | Action::Right => self.go(View::Detail),
            Action::Back => self.search.clear(),
            other => self.culprits.act(other),
        }
    }

    fn in_detail(&mut self, action: Action) {
        match action {
            Action::Back => self.go(self.back),
            other => self.detail.act(other, &self.search),
        }
    }

    pub(super) fn in_flame(&mut self, action: Action) {
        match action {
            Action::Everything if self.flame.everything && self.subject.is_none() => {
                self.say("choose a culprit in the table first");
            }
            Action::Everything => self.flame.begin(!self.flame.everything),
            other => {
                if self.flame.act(other, &self.search) == Handled::Leave {
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
        if self.poll_time.act(action, &self.search) == Handled::Leave {
            match self.search.is_empty() {
                true => self.go(View::Culprits),
                false => self.search.clear(),
            }
        }
    }

    /// Asks for the switch. The view changes with the record that confirms it.
    fn switch_all_poll_time(&mut self) -> Option<Effect> {
        if self.options.replay || self.snap.ended.is_some() {
            self.say("all poll time can be sampled only while a process is watched");
            return None;
        }
        let on = !self.session().is_profiling();
        self.say(match on {
            true => "all poll time is sampled from now on: view 5 shows it, x switches it off",
            false => "all poll time is no longer sampled",
        });
        Some(Effect::AllPollTime(on))
    }

    /// Switches to a view; a view about one culprit gets the one under the cursor.
    pub(super) fn go(&mut self, view: View) {
        if self.view == View::Culprits
            && let Some(key) = self.culprits.table.selected_key()
        {
            self.open(key);
        }
        match (self.view, view) {
            (_, View::Detail) if self.subject.is_none() => {
                self.say("no culprit yet");
                return;
            }
            // The flame view is about what the previous view shows: one culprit, or all.
            (View::Detail, View::Flame) => self.flame.begin(false),
            (_, View::Flame) => self.flame.begin(true),
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

    /// Makes a row the subject of the drill-down.
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
                self.say(format!("polls of {} and longer", text::setting(ns)));
            }
            Some(_) => {
                self.min_held_ns = 0;
                self.say(format!(
                    "all slow polls: shorter ones than {} are not captured (--threshold)",
                    text::setting(captured)
                ));
            }
            None => {}
        }
    }

    fn switch_scope(&mut self) {
        if self.options.window.is_none() {
            self.say("there is no window beside the totals: start hud with --window SECS");
            return;
        }
        self.scope = match self.scope {
            Scope::Session => Scope::Window,
            Scope::Window => Scope::Session,
        };
    }

    /// The selection as text.
    fn selection_text(&mut self) -> Option<String> {
        let key = match self.view {
            View::Culprits => self.culprits.table.selected_key(),
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

    /// Opens the list of threads, and asks for a new one if the process is live.
    fn threads(&mut self) -> Option<Effect> {
        if self.options.replay || self.snap.ended.is_some() {
            if self.snap.census.is_none() {
                self.say("this recording has no list of the threads");
                return None;
            }
            self.overlay = Some(Overlay::Threads { scroll: 0 });
            return None;
        }
        self.overlay = Some(Overlay::Threads { scroll: 0 });
        Some(Effect::Census)
    }
}
